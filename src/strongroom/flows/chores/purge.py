"""Deletes the engine's history of jobs that ended long ago. The catalog keeps the jobs."""

from __future__ import annotations

import structlog

from strongroom.flows.chores.chore import DAY, Chore
from strongroom.flows.engine import purge_history
from strongroom.flows.site import Site

log = structlog.get_logger()


def _purge(_site: Site) -> None:
    if count := purge_history():
        log.info("purged the history of the engine", workflows=count)


PURGE = Chore(name="purge", interval=DAY, run=_purge)
