"""Keeps the duties of servers running: starts their processes, finds them again, restarts those that end, and stops them."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from pydantic import ValidationError

from strongroom.agent.duties.record import DutyFiles, DutyRecord
from strongroom.agent.host.stores import store_group
from strongroom.agent.host.workers import send_work, start_worker
from strongroom.agent.models import DutyRequest, DutyState, DutyView
from strongroom.artifact import ID_PATTERN
from strongroom.datastores import Server
from strongroom.errors import Busy, ConfigurationError, Conflict, InvalidRequest, NotFound, ServerFailed, StrongroomError
from strongroom.settings import Settings
from strongroom.system.directories import make_directory, remove_tree
from strongroom.system.files import read_model, write_model
from strongroom.system.locks import take_lock
from strongroom.system.users import find_user
from strongroom.worker.duty import KINDS, REPORT, DutyReport, DutySpec, release
from strongroom.worker.spec import StorageSpec

log = structlog.get_logger()

DUTY = (sys.executable, "-P", "-m", "strongroom.worker.duty")
LOG_BYTES = 1024**2
"""A longer log is emptied at the next start."""
UNKILLABLE = 30.0
"""Seconds after SIGKILL."""


class _Duty:
    """A duty in memory."""

    def __init__(self, record: DutyRecord, files: DutyFiles) -> None:
        self.record = record
        self.files = files
        self.request: DutyRequest | None = None
        """None after a restart of the agent, until the control plane sends it again."""
        self.mutex = threading.RLock()


class Duties:
    """The duties of this host. Safe to use from many threads. ``server_of`` returns the server of an id."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        server_of: Callable[[str], Server],
        command: Sequence[str] = DUTY,
    ) -> None:
        self._settings = settings
        self._root = root
        self._server_of = server_of
        self._command = tuple(command)
        self._mutex = threading.Lock()
        self._duties: dict[str, _Duty] = {}

    def load(self) -> None:
        """Find the duties that are on disk, and the processes that outlived the agent."""
        make_directory(self._root, mode=0o711)
        for path in self._root.glob("*.json"):
            try:
                record = read_model(path, DutyRecord)
            except (OSError, ValueError) as error:
                log.error("cannot read the record of a duty", path=str(path), reason=str(error))
                continue
            self._duties[record.id] = _Duty(record, DutyFiles(self._root, record.id))

    def put(self, duty_id: str, request: DutyRequest) -> DutyView:
        """Make the duty as requested. Idempotent. Raises InvalidRequest, Conflict, NotFound.

        A process that runs with other options is restarted.
        """
        if not re.fullmatch(ID_PATTERN, duty_id):
            raise InvalidRequest(f"{duty_id!r} cannot be the id of a duty", remedy="Use letters, digits and hyphens.")
        if request.kind not in KINDS:
            raise InvalidRequest(
                f"this agent does not know duties of kind {request.kind}", remedy="Install the version of the control plane."
            )
        self._server_of(request.server)
        with self._mutex:
            duty = self._duties.get(duty_id)
            if duty is None:
                record = DutyRecord(id=duty_id, kind=request.kind, server=request.server)
                duty = self._duties[duty_id] = _Duty(record, DutyFiles(self._root, duty_id))
        with duty.mutex:
            record = duty.record
            if (record.kind, record.server) != (request.kind, request.server):
                raise Conflict(
                    f"duty {duty_id} is {record.kind} of server {record.server}; that cannot be changed", remedy="Use another id."
                )
            has_changed = record.process is not None and record.digest != request.digest
            duty.request = request
            record.wanted, record.restarts = request.wanted, []
            self._save(duty)
            if has_changed:
                self._tell_to_stop(duty)
            self._supervise(duty)
        return self.view(duty_id)

    def delete(self, duty_id: str, *, release_server: bool = True) -> None:
        """Stop the duty, wait until its process has ended, and remove what it left on its server and here.

        A missing duty is no error. Raises Busy, and ServerFailed or ConfigurationError if the server does not answer: call it
        again then.
        """
        duty = self._duties.get(duty_id)
        if duty is None:
            return
        with duty.mutex:
            duty.record.wanted = "stopped"
            self._save(duty)
        deadline = time.monotonic() + self._settings.agent.cancel_grace + UNKILLABLE
        while True:
            with duty.mutex:
                self._supervise(duty)
                if duty.record.process is None:
                    break
            if time.monotonic() > deadline:
                raise Busy(f"duty {duty_id} cannot be killed", remedy="It hangs in the kernel: check its disks.")
            time.sleep(0.05)
        if release_server:
            self._release(duty.record)
        with self._mutex, duty.mutex:
            if self._duties.get(duty_id) is not duty:  # another request removed it, and it may exist again
                return
            del self._duties[duty_id]
            remove_tree(duty.files.directory)
            for path in (duty.files.record, duty.files.lock, duty.files.log):
                path.unlink(missing_ok=True)

    def delete_all(self, server: str) -> None:
        """Remove the duties of a server that is removed itself. Raises Busy."""
        for duty in self._snapshot():
            if duty.record.server != server:
                continue
            if self._is_adopted(server):  # otherwise what they left goes with its data
                try:
                    self.delete(duty.record.id)
                    continue
                except (ServerFailed, ConfigurationError) as error:
                    log.warning(
                        "a duty left something on a server that does not answer",
                        duty=duty.record.id,
                        kind=duty.record.kind,
                        reason=error.message,
                        remedy="PostgreSQL: SELECT pg_drop_replication_slot('strongroom_log');",
                    )
            self.delete(duty.record.id, release_server=False)

    def _is_adopted(self, server: str) -> bool:
        try:
            return self._server_of(server).is_adopted
        except NotFound:
            return False

    def _release(self, record: DutyRecord) -> None:
        try:
            server = self._server_of(record.server)
        except NotFound:
            return
        release(record.kind, server)

    def view(self, duty_id: str) -> DutyView:
        """How the duty stands. Raises NotFound."""
        try:
            return self._describe(self._duties[duty_id])
        except KeyError:
            raise NotFound(f"duty {duty_id} is not on this host", remedy="Check the host.") from None

    def views(self) -> list[DutyView]:
        """All duties."""
        return [self._describe(duty) for duty in self._snapshot()]

    def pids(self) -> set[int]:
        """Processes whose end should be noticed at once."""
        return {duty.record.process.pid for duty in self._snapshot() if duty.record.process is not None}

    @property
    def is_busy(self) -> bool:
        """Whether a duty is being started or stopped."""
        return any(
            duty.record.kill_at is not None or (duty.record.wanted == "running" and duty.record.process is None)
            for duty in self._snapshot()
        )

    def tick(self) -> None:
        """Start, restart, stop and kill what is due."""
        for duty in self._snapshot():
            with duty.mutex:
                if duty.record.id in self._duties:
                    self._supervise(duty)

    # --- one duty; the caller holds its mutex

    def _supervise(self, duty: _Duty) -> None:
        record = duty.record
        if record.process is not None and record.process.is_alive():
            if record.wanted == "stopped":
                self._tell_to_stop(duty)
            if record.kill_at is not None and datetime.now(UTC) > record.kill_at:
                log.warning("killing a duty that does not stop", duty=record.id)
                record.process.kill_session()
            return
        if record.process is not None:
            if not record.process.kill_session():  # a second process must never run beside something that the first one started
                log.error("processes of a duty cannot be killed", duty=record.id, pids=record.process.list_session())
                return
            if record.kill_at is None and record.wanted == "running":
                log.warning("duty died", duty=record.id, status=record.process.exit_status(), restarts=len(record.restarts))
                record.note_death()
            record.process = record.kill_at = None
            self._save(duty)
        if record.wanted == "running" and duty.request is not None and record.may_start():
            self._start(duty, duty.request)

    def _tell_to_stop(self, duty: _Duty) -> None:
        record = duty.record
        if record.process is not None and record.kill_at is None:
            record.kill_at = datetime.now(UTC) + timedelta(seconds=self._settings.agent.cancel_grace)
            self._save(duty)
            record.process.terminate()

    def _start(self, duty: _Duty, request: DutyRequest) -> None:
        record, files = duty.record, duty.files
        lock = take_lock(files.lock)
        if lock is None:
            return  # its last process ends just now
        output = os.open(files.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(output).st_size > LOG_BYTES:
                os.ftruncate(output, 0)
            server = self._server_of(record.server)
            make_directory(files.directory, find_user(server.user).owner)
            spec = DutySpec(
                kind=record.kind,
                server=server,
                user=server.user,
                directory=files.directory,
                options=request.options,
                store_gid=_find_store_group(request),
            )
            record.process, line = start_worker(self._command, output)
            record.digest = request.digest
            self._save(duty)
            # Only now that its process is on record does it learn what to do.
            send_work(line, spec, output, [lock], record.id)
            log.info("duty started", duty=record.id, kind=record.kind, pid=record.process.pid)
        except (OSError, StrongroomError) as error:
            log.error("duty cannot be started", duty=record.id, reason=str(error))
            record.note_death()
            self._save(duty)
        finally:
            os.close(output)
            os.close(lock)

    def _describe(self, duty: _Duty) -> DutyView:
        with duty.mutex:
            record = duty.record
            is_alive = record.process is not None and record.process.is_alive()
            report = self._read_report(duty)
            state: DutyState = "starting" if record.wanted == "running" else "stopped"
            detail = report.detail if report is not None else ""
            if is_alive:
                state = "stopping" if record.kill_at is not None or record.wanted == "stopped" else "running"
            elif record.wanted == "running" and duty.request is None:
                state, detail = "waiting", "the agent was restarted and needs the options of this duty again"
            return DutyView(
                id=record.id,
                kind=record.kind,
                server=record.server,
                wanted=record.wanted,
                state=state,
                detail=detail,
                pid=record.process.pid if record.process is not None and is_alive else None,
                restarts=record.count_restarts(),
                report=report,
                has_options=duty.request is not None,
                digest=duty.request.digest if duty.request is not None else record.digest,
            )

    def _read_report(self, duty: _Duty) -> DutyReport | None:
        try:
            return read_model(duty.files.directory / REPORT, DutyReport)
        except (OSError, ValueError):
            return None

    def _snapshot(self) -> list[_Duty]:
        return list(self._duties.values())

    def _save(self, duty: _Duty) -> None:
        write_model(duty.files.record, duty.record)


def _find_store_group(request: DutyRequest) -> int | None:
    """The group of the directory store that the duty writes to, if it does."""
    if "storage" not in request.options:
        return None
    try:
        return store_group(StorageSpec.model_validate(request.options["storage"]))
    except ValidationError:  # the duty itself reports what is wrong
        return None
