"""Starts queued jobs as soon as there is capacity for them. The catalog is the queue; an idle service does not poll it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from strongroom.catalog import Host, Job
from strongroom.flows.kind import Lane, kind_of
from strongroom.flows.site import Site

log = structlog.get_logger()

LIGHT_LIMIT = 32
"""Other jobs of a host at a time: start, stop and delete never wait for a backup of another instance."""
CLUSTER_LIMIT = 16
STORE_LIMIT = 4
FALLBACK = 30.0
"""Seconds after which the queue is read even without a notification."""
RETRY = 2.0
"""Seconds until the next attempt while the catalog's database does not answer."""

Place = tuple[Lane, str]
"""A lane, and the host if each host has its own."""


class Launcher:
    """Decides which queued job starts next. ``start`` starts a job without waiting; it may be called twice for one job."""

    def __init__(self, site: Site, start: Callable[[str], None]) -> None:
        self._site = site
        self._start = start
        self._running: set[str] = set()
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="launcher", daemon=True)

    def begin(self, running: set[str]) -> None:
        """Start the thread. ``running`` are the jobs that were resumed."""
        self._running |= running
        self._wake.set()
        self._thread.start()

    def wake(self) -> None:
        """Read the queue now: a job was queued, or a host accepts more jobs. From any thread."""
        self._wake.set()

    def ended(self, job_id: str) -> None:
        """Note that a job has ended, so that another may start. From any thread."""
        with self._mutex:
            self._running.discard(job_id)
        self._wake.set()

    def stop(self) -> None:
        """Start no further jobs."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():  # it did not start if the engine failed to start
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            pause = FALLBACK
            try:
                self._start_jobs()
            except DBAPIError as error:
                log.warning("the database does not answer", reason=str(error.orig).strip())
                pause = RETRY
            except Exception:
                log.exception("unexpected error in the launcher")
            self._wake.wait(pause)
            self._wake.clear()

    def _start_jobs(self) -> None:
        """Start jobs in the order of their requests; one at a time on an instance, a cluster or a chain."""
        with self._site.catalog.read() as session:
            unfinished = list(session.scalars(select(Job).where(Job.finished.is_(None)).order_by(Job.created, Job.id)))
            limits = self._host_limits(session)
        with self._mutex:
            running = set(self._running)
        lanes = Counter(lane_of(job) for job in unfinished if job.id in running)
        taken = {partition_of(job) for job in unfinished if job.id in running}
        for job in unfinished:
            lane, partition = lane_of(job), partition_of(job)
            if job.id in running or self._stopping:
                continue
            if partition in taken or lanes[lane] >= _limit_of(lane, limits):
                taken.add(partition)  # later jobs on the same instance or cluster stay behind it
                continue
            lanes[lane] += 1
            taken.add(partition)
            with self._mutex:
                self._running.add(job.id)
            try:
                self._start(job.id)
            except Exception:
                log.exception("cannot start a job; it will be retried", job=job.id)
                with self._mutex:
                    self._running.discard(job.id)

    def _host_limits(self, session: Session) -> dict[str, int]:
        default = self._site.settings.agent.jobs
        return {row.name: (row.view or {}).get("jobs_limit", default) for row in session.scalars(select(Host))}


def lane_of(job: Job) -> Place:
    """The lane of a job, with its host where each host has its own."""
    lane = kind_of(job.kind).lane
    return lane, (job.host or "") if lane in ("heavy", "light") else ""


def partition_of(job: Job) -> str:
    """The id of the instance, cluster or chain that runs one job at a time."""
    return job.instance_id or job.params.get("partition") or job.id


def _limit_of(place: Place, hosts: dict[str, int]) -> int:
    lane, host = place
    if lane == "heavy":
        return hosts.get(host, 1)
    return {"light": LIGHT_LIMIT, "clusters": CLUSTER_LIMIT, "stores": STORE_LIMIT}[lane]
