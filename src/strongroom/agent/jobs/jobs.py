"""Runs jobs: each has a directory and a worker process that outlives the agent and is found again by the directory."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from strongroom import datastores
from strongroom.agent.host.stores import stall_timeout, store_group
from strongroom.agent.host.users import choose_server_user
from strongroom.agent.host.versions import list_program_places
from strongroom.agent.host.workers import send_work
from strongroom.agent.jobs.directory import Ended, JobDir, JobRecord
from strongroom.agent.jobs.spare import Spare
from strongroom.agent.swap.layout import NewData
from strongroom.artifact import ID_PATTERN
from strongroom.datastores import Server
from strongroom.errors import Busy, InvalidRequest, JobError, NotFound, StrongroomError
from strongroom.settings import Settings
from strongroom.system.directories import make_directory, remove_tree
from strongroom.system.files import create_log, read_model, write_model, write_new
from strongroom.system.locks import take_lock
from strongroom.system.users import User, find_user
from strongroom.worker.spec import (
    Failure,
    ImportJob,
    InitializeJob,
    JobRequest,
    JobView,
    RestoreJob,
    Result,
    VerifyJob,
    WorkerSpec,
)

log = structlog.get_logger()

WORKER = (sys.executable, "-P", "-m", "strongroom.worker")
REST = 2.0
"""Seconds without a job before a worker is started that waits for the next one."""
UNKILLABLE = 30.0
"""Seconds after SIGKILL."""
LEAVE = 10.0
"""Seconds that a worker may take to exit after it wrote its result."""


class _Job:
    """A job in memory."""

    def __init__(self, record: JobRecord, directory: JobDir) -> None:
        self.record = record
        self.directory = directory
        self.mutex = threading.RLock()


class Jobs:
    """The jobs of this host. Safe to use from many threads.

    ``server_of`` returns the server of an id, ``datastores_here`` the names of the datastores of all servers, ``new_data`` makes
    the empty directories that a restore fills; ``on_end`` is called with every job that ended.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        server_of: Callable[[str], Server],
        datastores_here: Callable[[], Iterable[str]] = tuple,
        new_data: Callable[[Server, str, Mapping[str, Path]], NewData],
        server_lock: Callable[[str], Path],
        on_end: Callable[[JobRecord], None],
        worker: Sequence[str] = WORKER,
    ) -> None:
        self._settings = settings
        self._root = root
        self._server_of = server_of
        self._datastores_here = datastores_here
        self._new_data = new_data
        self._server_lock = server_lock
        self._on_end = on_end
        self._spare = Spare(worker)
        self._rests_since: float | None = None
        self._mutex = threading.Lock()
        self._jobs: dict[str, _Job] = {}

    def load(self) -> None:
        """Find the jobs that are on disk, and remove those that are too old."""
        make_directory(self._root, mode=0o711)
        for path in self._root.glob("*.json"):
            try:
                record = read_model(path, JobRecord)
            except (OSError, ValueError) as error:
                log.error("job record cannot be read", path=str(path), reason=str(error))
                continue
            self._jobs[record.id] = _Job(record, JobDir(self._root / record.id))
        self.sweep()

    def put(self, job_id: str, request: JobRequest) -> JobView:
        """Start the job, or find it. Raises Busy, NotFound, InvalidRequest, ConfigurationError."""
        if not re.fullmatch(ID_PATTERN, job_id):
            raise InvalidRequest(f"{job_id!r} cannot be the id of a job")
        with self._mutex:
            if job_id not in self._jobs:
                self._jobs[job_id] = self._begin(job_id, request)
        return self.view(job_id)

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job."""
        return job_id in self._jobs

    def view(self, job_id: str) -> JobView:
        """The state of the job. Raises NotFound."""
        return self._update_view(self._get(job_id))

    def views(self) -> list[JobView]:
        """All jobs that are kept, oldest first."""
        return [self._update_view(job) for job in sorted(self._snapshot(), key=lambda j: j.record.created)]

    def cancel(self, job_id: str) -> JobView:
        """SIGINT now, SIGKILL after the grace period. Idempotent; raises NotFound.

        A job that has ended is not changed, but a directory that it prepared and that was not swapped in is removed.
        """
        job = self._get(job_id)
        with job.mutex:
            if self._update_view(job).status == "running" and job.record.kill_at is None:
                job.record.kill_at = datetime.now(UTC) + timedelta(seconds=self._settings.agent.cancel_grace)
                self._save(job)
                if job.record.process is not None:
                    job.record.process.interrupt()
            elif job.record.target_dir is not None and job.record.target_dir.exists():
                _remove([job.record.target_dir, *job.record.staging])
        return self._update_view(job)

    def end_all(self, server: str) -> None:
        """Cancel the running jobs of a server and wait until they have ended. Raises Busy if one cannot be killed."""
        running = [job for job in self._snapshot() if job.record.server == server and job.record.ended is None]
        for job in running:
            self.cancel(job.record.id)
        deadline = time.monotonic() + self._settings.agent.cancel_grace + UNKILLABLE
        while stuck := [job.record.id for job in running if self._update_view(job).status == "running"]:
            if time.monotonic() > deadline:
                raise Busy(f"job {stuck[0]} cannot be killed", remedy="It hangs in the kernel: check its disks.")
            time.sleep(0.05)

    def record(self, job_id: str) -> JobRecord:
        """What the agent keeps of the job. Raises NotFound."""
        return self._get(job_id).record

    def running_on(self, server: str) -> str | None:
        """Id of the job that runs on the server."""
        for job in self._snapshot():
            if job.record.server == server and job.record.ended is None and self._update_view(job).status == "running":
                return job.record.id
        return None

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(self._update_view(job).status == "running" for job in self._snapshot() if job.record.ended is None)

    def tick(self) -> None:
        """Notice ends, kill cancelled jobs that do not end, and keep a worker ready while nothing runs."""
        for job in self._snapshot():
            if job.record.ended is None:
                self._update_view(job)
        if any(job.record.ended is None for job in self._snapshot()):
            self._rests_since = None
        elif self._rests_since is None:
            self._rests_since = time.monotonic()
        elif time.monotonic() - self._rests_since > REST:
            with contextlib.suppress(OSError):  # the next job reports what is wrong
                self._spare.keep(sorted(set(self._datastores_here())))

    def close(self) -> None:
        """Start no more jobs. Running ones continue."""
        self._spare.dismiss()

    def sweep(self) -> None:
        """Remove what remains of jobs that ended long ago."""
        limit = datetime.now(UTC) - timedelta(days=self._settings.agent.keep_jobs)
        for job in self._snapshot():
            if job.record.ended is not None and (job.record.finished or job.record.created) < limit:
                with contextlib.suppress(OSError):
                    remove_tree(job.directory.path)
                    (self._root / f"{job.record.id}.json").unlink(missing_ok=True)
                    self._jobs.pop(job.record.id, None)

    # --- the end of a job

    def _update_view(self, job: _Job) -> JobView:
        with job.mutex:
            job.directory.read_events()
            if job.record.ended is None:
                self._notice_end(job)
            record = job.record
            result = None if record.ended in (None, "lost") else job.directory.result()
            if record.ended == "cancelled" and result is None:
                end = record.finished or record.created
                message = f"job {record.id} was cancelled; its worker had to be killed"
                result = Result(
                    status="cancelled", started=record.created, finished=end, failure=Failure(code="Cancelled", message=message)
                )
            return JobView(
                id=record.id,
                status=record.ended or "running",
                event=job.directory.last,
                events=job.directory.events,
                result=result,
            )

    def _notice_end(self, job: _Job) -> None:
        record, directory = job.record, job.directory
        held = directory.held()
        result = directory.result()
        process = record.process
        if held and process is not None:
            overdue = record.kill_at is not None and datetime.now(UTC) > record.kill_at
            if not overdue and not (result is not None and directory.result_age() > LEAVE):
                return
            log.warning("killing a worker", job=record.id, reason="cancelled" if overdue else "does not exit")
        elif held:
            return
        # The worker has ended or must end, and with it all that it started: a second tool must never run beside an orphan.
        if process is not None and not process.kill_session():
            log.error("processes of a job cannot be killed", job=record.id, pids=process.list_session())
            return
        directory.read_events()
        result = directory.result()
        if result is not None and result.status == "cancelled" and record.kill_at is None:
            result = None  # nobody cancelled it: the host shuts down, or another process sent the signal
        if result is not None:
            self._end(job, result.status)
        else:
            self._end(job, "cancelled" if record.kill_at is not None else "lost")
            log.warning("worker died without a result", job=record.id, status=record.ended, log=directory.log_tail())

    def _end(self, job: _Job, status: Ended) -> None:
        job.record.ended = status
        job.record.finished = datetime.now(UTC)
        self._save(job)
        leftovers = [job.directory.work]
        if status != "succeeded" and job.record.target_dir is not None:
            leftovers += [job.record.target_dir, *job.record.staging]
        threading.Thread(target=_remove, args=(leftovers,), name=f"remove-{job.record.id}", daemon=True).start()
        self._on_end(job.record)

    # --- the beginning of a job

    def _begin(self, job_id: str, request: JobRequest) -> _Job:
        if self.running >= self._ceiling:
            raise Busy(f"{self.running} jobs run on this host, which is its limit", remedy="Wait for one to end.")
        kind = request.job.kind
        server = self._server_of(request.server) if request.server is not None else None
        account = self._account(request, server)
        locks: list[int] = []
        try:
            if server is not None:
                locks.append(self._take_server(server))
            directory = JobDir(self._root / job_id)
            if directory.path.exists():  # of an attempt that died before its record was written
                remove_tree(directory.path)
            make_directory(directory.path, account.owner)
            make_directory(directory.work, account.owner)
            mine = take_lock(directory.lock)
            assert mine is not None
            locks.append(mine)
            new: NewData | None = None
            if server is not None and isinstance(request.job, RestoreJob | InitializeJob):
                choices = request.job.tablespaces if isinstance(request.job, RestoreJob) else {}
                new = self._new_data(server, job_id, choices)
            public = request.model_dump(mode="json", exclude={"job": {"storage", "identities"}})
            record = JobRecord(id=job_id, server=request.server, kind=kind, request=public)
            if new is not None:
                record.target_dir, record.staging = new.directory, list(new.staging.values())
            job = _Job(record, directory)
            self._save(job)
            self._run(job, request, server, account, locks, new)
            return job
        finally:
            for descriptor in locks:
                os.close(descriptor)

    @property
    def _ceiling(self) -> int:
        """The queue of the control plane respects ``jobs``; this only protects the host from a defective control plane."""
        return max(16, 4 * self._settings.agent.jobs)

    def _account(self, request: JobRequest, server: Server | None) -> User:
        if server is not None:
            if isinstance(request.job, RestoreJob | VerifyJob) and request.job.datastore != server.datastore:
                raise InvalidRequest(
                    f"backup of {request.job.datastore} cannot be used on server {server.id} ({server.datastore})"
                )
            return find_user(server.user)
        if not isinstance(request.job, VerifyJob | ImportJob):
            raise InvalidRequest(f"a {request.job.kind} job needs a server")
        return choose_server_user(self._settings, datastores.get(request.job.datastore))

    def _take_server(self, server: Server) -> int:
        for job in self._snapshot():
            if job.record.server == server.id and job.record.ended is None:
                self._update_view(job)  # a dead worker's tools are killed here, before anything else may touch the server
        lock = take_lock(self._server_lock(server.id))
        if lock is None:
            holder = self.running_on(server.id)
            raise Busy(
                f"server {server.name or server.id} is busy with {f'job {holder}' if holder else 'another operation'}",
                remedy="Wait for it, or cancel it.",
            )
        return lock

    def _run(
        self, job: _Job, request: JobRequest, server: Server | None, account: User, locks: Sequence[int], new: NewData | None
    ) -> None:
        path = job.directory.path
        try:
            body = request.job
            if not isinstance(body, InitializeJob) and body.storage.driver == "directory" and body.storage.path is None:
                storage = body.storage.model_copy(update={"path": self._settings.store_path.resolve()})
                body = body.model_copy(update={"storage": storage})
            group = None if isinstance(body, InitializeJob) else store_group(body.storage)
            spec = WorkerSpec(
                id=job.record.id,
                job=body,
                server=server,
                user=account.name,
                programs_places={name: list_program_places(self._settings, name) for name in datastores.list_names()},
                work_dir=job.directory.work,
                target_dir=job.record.target_dir,
                places=new.places if new else [],
                staging=new.staging if new else {},
                cancel_grace=self._settings.agent.cancel_grace,
                stall_timeout=stall_timeout(self._settings, None if isinstance(body, InitializeJob) else body.storage),
                store_gid=group,
            )
            public = job.record.model_dump_json(include={"id", "server", "kind", "request", "created"})
            write_new(path / "request.json", public, account.owner)
            output = create_log(path / "worker.log", account.owner)
            try:
                job.record.process, line = self._spare.take(output)
                self._save(job)
                # Only now that its process is on record does the worker learn what to do.
                send_work(line, spec, output, locks, job.record.id)
            finally:
                os.close(output)
        except (OSError, StrongroomError) as error:
            if job.record.process is not None:
                job.record.process.kill_session()
            self._not_started(job, error)

    def _not_started(self, job: _Job, error: OSError | StrongroomError) -> None:
        failure = (
            error if isinstance(error, StrongroomError) else JobError(f"the worker of job {job.record.id} cannot start: {error}")
        )
        now = datetime.now(UTC)
        result = Result(status="failed", started=now, finished=now, failure=Failure(**failure.to_dict()))
        write_model(job.directory.path / "result.json", result)
        self._end(job, "failed")

    def _get(self, job_id: str) -> _Job:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFound(f"job {job_id} is not on this host") from None

    def _snapshot(self) -> list[_Job]:
        return list(self._jobs.values())

    def _save(self, job: _Job) -> None:
        write_model(self._root / f"{job.record.id}.json", job.record)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            remove_tree(path)
        except OSError as error:
            log.warning("cannot remove what a job left", path=str(path), reason=str(error))
