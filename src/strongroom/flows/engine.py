"""Runs DBOS with restrictions: one process, pinned versions, JSON only and no queues, because the launcher starts the jobs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from typing import Any

import structlog
from sqlalchemy import Connection, create_engine, event, select
from sqlalchemy.exc import DBAPIError

from strongroom.system.imports import defer_modules, defer_names

with (  # DBOS uses them with PostgreSQL, with files and databases of its own, and for schedules: 12 MB
    defer_modules("psycopg", "psycopg.errors", "yaml", "click"),
    defer_names("croniter", "croniter"),
    defer_names("dateutil.parser", "isoparse"),
    defer_names("sqlalchemy.ext.asyncio", "AsyncSession"),
    defer_names("dbos._datasource", "AsyncSQLAlchemyDatasource", "SQLAlchemyDatasource"),
):
    from dbos import DBOS, DBOSConfig, SetWorkflowID
    from dbos import _serialization as dbos_serialization
    from dbos._utils import INTERNAL_QUEUE_NAME

from strongroom.catalog import Job, database_url
from strongroom.catalog.find import find_job
from strongroom.errors import ConfigurationError, JobError
from strongroom.flows import dbos_pace, outcomes
from strongroom.flows.crashes import Crashes
from strongroom.flows.hosts.agents import ignore_host
from strongroom.flows.launcher import Launcher
from strongroom.flows.loop import Stages, begin_job, clean_up, run_job, run_step, settle_job
from strongroom.flows.site import Site

log = structlog.get_logger()

APPLICATION = "strongroom"
WORKFLOWS = f"{APPLICATION}-2"
"""Version of the workflows. Change it with the steps of a kind: a job that another version started begins again."""
KEEP = timedelta(days=7)
"""How long DBOS remembers a finished workflow; the catalog keeps the job."""


class _Running:
    """The site and the launcher of this process, for the workflows, which are global functions."""

    site: Site | None = None
    launcher: Launcher | None = None


def _the_site() -> Site:
    assert _Running.site is not None, "the engine is not running"
    return _Running.site


@DBOS.workflow(name="job")
async def job(job_id: str) -> str:
    """Run a job, see ``run_job``. DBOS stores the result of each stage."""
    try:
        return await run_job(job_id, Stages(begin=begin, step=step, clean=clean, settle=settle))
    finally:  # also for a job that was cancelled before it started
        if _Running.launcher is not None:
            _Running.launcher.ended(job_id)
        if _Running.site is not None:
            _Running.site.follow_policies()


@DBOS.step(name="begin")
async def begin(job_id: str) -> str | None:
    """See ``begin_job``."""
    return await begin_job(_the_site(), job_id)


@DBOS.step(name="step", preemptible=True)
async def step(job_id: str, kind: str, number: int) -> dict[str, str] | None:
    """See ``run_step``."""
    return await run_step(_the_site(), job_id, kind, number)


@DBOS.step(name="clean")
async def clean(job_id: str, kind: str) -> bool:
    """See ``clean_up``."""
    return await clean_up(_the_site(), job_id, kind)


@DBOS.step(name="settle")
async def settle(job_id: str, failure: dict[str, str] | None) -> None:
    """See ``settle_job``."""
    await settle_job(_the_site(), job_id, failure)


class _JSON(dbos_serialization.Serializer):
    """Plain JSON for everything that DBOS stores."""

    def name(self) -> str:
        return "strongroom_json"

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=str)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)


def _refuse_pickle(_self: object, _data: str) -> Any:
    raise ValueError("refused to load a pickled value from the engine's tables: it could run any code")


class Engine:
    """DBOS for one site. ``start`` resumes the jobs of the previous process; ``stop`` does not end running jobs."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock: TextIOWrapper | None = None
        self._alone: Connection | None = None  # PostgreSQL: holds the lock of the only service
        self._launcher: Launcher | None = None
        self._crashes = Crashes(site.settings.service.data_dir, site.catalog)

    def lock(self) -> None:
        """Ensure that no other service uses the state directory or the database; DBOS does not. Raises ConfigurationError."""
        data_dir = self._site.settings.service.data_dir
        self._lock = (data_dir / "engine.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError(
                f"another strongroom serve is running on {data_dir}", remedy="Stop it, or use another --data-dir."
            ) from None
        if database_url(self._site.settings) is not None:
            self._alone = self._site.catalog.acquire_service_lock()
            if self._alone is None:
                self._lock.close()
                raise ConfigurationError(
                    "another strongroom serve is running on the same database", remedy="Stop it, or use another database."
                )

    def start(self) -> None:
        """Launch DBOS and resume every unfinished job. The lock must be held."""
        data_dir = self._site.settings.service.data_dir
        self._crashes.begin()
        _Running.site = self._site
        dbos_serialization.DefaultSerializer.deserialize = _refuse_pickle  # type: ignore[method-assign, assignment]
        logging.getLogger("dbos").setLevel(logging.ERROR)
        url = database_url(self._site.settings)
        if url is None:
            path = data_dir / "engine.sqlite"
            path.touch(mode=0o600)
            _wal(str(path))
        config: DBOSConfig = {
            "name": APPLICATION,
            "executor_id": APPLICATION,
            "application_version": WORKFLOWS,
            "system_database_url": f"sqlite:///{path}" if url is None else url.render_as_string(hide_password=False),
            "serializer": _JSON(),
            "log_level": "ERROR",
            "scheduler_polling_interval_sec": dbos_pace.HARDLY_EVER,
        }
        dbos_pace.slow_down()
        DBOS(config=config)
        DBOS.listen_queues([])  # its internal queue, which recovers workflows, is always served
        launcher = self._launcher = _Running.launcher = Launcher(self._site, _start)
        self._site.agents.on_host = lambda _host, _limit: launcher.wake()
        self._site.queue.start = lambda _job: launcher.wake()  # before jobs resume, which may start others
        DBOS.launch()
        launcher.begin(self._find_running())

    def _find_running(self) -> set[str]:
        """Ids of the jobs that DBOS resumes. Jobs whose workflow has ended are settled.

        A workflow of another version, or in a queue of an earlier version of this service, is deleted, and its job starts again
        with the first step. Each step is idempotent and detects what was done before.
        """
        with self._site.catalog.read() as session:
            unfinished = list(session.scalars(select(Job).where(Job.finished.is_(None)).order_by(Job.id)))
        running = set()
        for row in unfinished:
            status = DBOS.get_workflow_status(row.id)
            if status is None:
                continue
            if status.status not in ("ENQUEUED", "PENDING", "DELAYED"):
                log.error("workflow ended without an outcome", job=row.id, workflow=status.status)
                with self._site.catalog.write() as session:
                    outcomes.settle(
                        session, find_job(session, None, row.id), JobError(f"{row.kind} job {row.id} was aborted").to_dict()
                    )
            elif status.app_version != WORKFLOWS or (status.status != "PENDING" and status.queue_name != INTERNAL_QUEUE_NAME):
                log.warning("restarting a job of an earlier version", job=row.id, kind=row.kind, version=status.app_version)
                DBOS.delete_workflows([row.id])
            else:
                running.add(row.id)
        return running

    def stay_alone(self) -> bool:
        """Whether this is still the only service on the database. A lock that was lost with its connection is acquired again."""
        if database_url(self._site.settings) is None:
            return True
        if self._alone is not None:
            try:
                self._alone.execute(select(1))
                return True
            except DBAPIError:
                with contextlib.suppress(DBAPIError):
                    self._alone.close()
                self._alone = None
        try:
            self._alone = self._site.catalog.acquire_service_lock()
        except DBAPIError:
            return True  # the database does not answer; the next check decides
        return self._alone is not None

    def stop(self) -> None:
        """Stop executing. Jobs on agents continue, and the next start finds them."""
        if self._launcher is not None:
            self._launcher.stop()
        DBOS.destroy(workflow_completion_timeout_sec=0)
        self._crashes.end()
        _Running.site = _Running.launcher = None
        self._site.agents.on_host = ignore_host
        if self._alone is not None:
            self._alone.close()
        if self._lock is not None:
            self._lock.close()


def purge_history() -> int:
    """Delete workflows that ended long ago; returns their number. The engine must be running."""
    before = (datetime.now(UTC) - KEEP).isoformat()
    old = DBOS.list_workflows(
        status=["SUCCESS", "ERROR", "CANCELLED"], end_time=before, limit=1000, load_input=False, load_output=False
    )
    if old:
        DBOS.delete_workflows([w.workflow_id for w in old])
    return len(old)


def _start(job_id: str) -> None:
    """Start the workflow of the job. Only the first call has an effect, because its id is that of the job."""
    with SetWorkflowID(job_id):
        DBOS.start_workflow(job, job_id)


def _wal(path: str) -> None:
    """WAL, set once on the file, stays: several times the throughput of the default journal."""
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA journal_mode=WAL"))
    with engine.connect():
        pass
    engine.dispose()
