"""Counts the crashes of the service during each job, and fails a job that crashes the service every time."""

from __future__ import annotations

from pathlib import Path

import structlog
from sqlalchemy import select

from strongroom.catalog import Catalog, Job

log = structlog.get_logger()

MOST_CRASHES = 5
"""Maximum number of crashes during a job without progress in between."""


class Crashes:
    """A file in the state directory exists while the service runs: if it exists at the start, the previous process crashed."""

    def __init__(self, data_dir: Path, catalog: Catalog) -> None:
        self._mark = data_dir / "engine.running"
        self._catalog = catalog

    def begin(self) -> None:
        """Count a crash of the previous process for each running job, and mark jobs with too many crashes."""
        if self._mark.exists():
            self._count()
        self._mark.touch(mode=0o600)

    def end(self) -> None:
        """Note that the service stops normally."""
        self._mark.unlink(missing_ok=True)

    def _count(self) -> None:
        with self._catalog.write() as session:
            for job in session.scalars(select(Job).where(Job.status == "running")):
                is_stuck = job.params.get("events_at_crash") == job.events
                crashes = job.params.get("crashes", 0) + 1 if is_stuck else 1
                job.params = {**job.params, "crashes": crashes, "events_at_crash": job.events}
                if crashes >= 2 * MOST_CRASHES:  # its cleanup crashes the service, too
                    job.params = {**job.params, "left_alone": True}
                if crashes >= MOST_CRASHES:
                    log.error("failing a job, because the service crashed repeatedly while it ran", job=job.id, kind=job.kind)
                    sentence = f"the service crashed {crashes} times during {job.kind} job {job.id}, which is not started again"
                    job.params = {**job.params, "given_up": sentence}
