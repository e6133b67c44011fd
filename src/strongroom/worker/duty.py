"""A long-lived duty of a server in a process of its own: ``python -m strongroom.worker.duty``.

The agent sends a ``DutySpec``, restarts the process if it ends, and stops it with SIGTERM. To add a kind of duty, write its
program in a module of its own and name it in ``KINDS``.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.datastores import Server
from strongroom.errors import StrongroomError
from strongroom.system.files import write_model
from strongroom.system.users import become_user
from strongroom.worker._stdin import receive_spec
from strongroom.worker.spec import Failure, Message

KINDS = {"log-archive": "strongroom.worker._log_archive:run"}
"""The program of each kind, as ``module:function``. It gets a ``Duty`` and returns when it is stopped."""
RELEASES = {"log-archive": "strongroom.worker._log_archive:release"}
"""Removes what a duty of this kind leaves on its server, as ``module:function``. The agent calls it after the duty has ended."""
REPORT = "report.json"


class DutySpec(Message):
    """What the process of a duty reads from stdin."""

    kind: str
    server: Server
    user: str = Field(description="OS user to become before the duty begins.")
    directory: Path = Field(description="The duty's own directory, owned by the user. It is kept as long as the duty exists.")
    options: dict[str, Any] = Field(description="What the kind needs; may hold secrets.")
    store_gid: int | None = Field(None, description="Group that may write to the directory store, if the process is not root.")


class DutyReport(Message):
    """The state of a duty, written by its process."""

    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    detail: str = ""
    facts: dict[str, Any] = Field(default_factory=dict, description="What the kind reports.")
    failure: Failure | None = Field(None, description="Why the process ended last.")


class Duty:
    """The interface of a program: its spec, the request to stop, and its reports."""

    def __init__(self, spec: DutySpec) -> None:
        self.spec = spec
        self.stopped = threading.Event()
        """Set by SIGTERM: the program returns soon."""

    def report(self, detail: str = "", **facts: Any) -> None:
        """Report the state of the duty."""
        self._write(DutyReport(detail=detail, facts=facts))

    def report_failure(self, error: Exception) -> None:
        """Report why the process ends."""
        known = isinstance(error, StrongroomError)
        failure = error.to_dict() if isinstance(error, StrongroomError) else {"code": "JobError", "message": str(error)}
        self._write(DutyReport(detail=failure["message"], failure=Failure(**failure)))
        if not known:
            traceback.print_exception(error)

    def _write(self, report: DutyReport) -> None:
        write_model(self.spec.directory / REPORT, report)


def release(kind: str, server: Server) -> None:
    """Remove what the duty leaves on its server. Raises ServerFailed, ConfigurationError."""
    if kind in RELEASES:
        _load(RELEASES[kind])(server)


def main() -> int:
    """Run a duty until SIGTERM. Returns the exit status: 0 if it was stopped, 1 if it failed, 2 if the spec is not valid."""
    try:
        spec = DutySpec.model_validate_json(receive_spec())
    except ValidationError as error:  # the agent died while it sent it; its content is secret
        print(f"the duty on stdin is not valid: {error.error_count()} errors", file=sys.stderr)  # noqa: T201 - the log
        return 2
    duty = Duty(spec)
    try:
        program = _load(KINDS[spec.kind])
        become_user(spec.user, spec.store_gid)
        signal.signal(signal.SIGTERM, lambda *_: duty.stopped.set())
        program(duty)
    except Exception as error:  # noqa: BLE001 - it becomes the report
        duty.report_failure(error)
        return 1
    return 0 if duty.stopped.is_set() else 1


def _load(name: str) -> Callable[[Any], None]:
    module, _, function = name.partition(":")
    found: Callable[[Any], None] = getattr(import_module(module), function)
    return found


if __name__ == "__main__":
    sys.exit(main())
