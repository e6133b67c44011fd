"""Reads the spec from stdin, runs the job and writes ``result.json``."""

from __future__ import annotations

import errno
import json
import re
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from strongroom import datastores, storage
from strongroom.datastores import Server
from strongroom.errors import Cancelled, ConfigurationError, InvalidRequest, JobError, NoSpace, StrongroomError
from strongroom.system.files import write_file
from strongroom.system.users import become_user
from strongroom.worker import _signals
from strongroom.worker._events import EventLog
from strongroom.worker._stdin import receive_spec
from strongroom.worker.jobs import run_job
from strongroom.worker.spec import Failure, ImportJob, InitializeJob, RestoreJob, Result, VerifyJob, WorkerSpec


def main(preload: Sequence[str] = ()) -> int:
    """Run a job. ``preload`` names datastores to import while the worker waits for it.

    Returns the exit status: 0 if the job succeeded, 1 if it did not, 2 if the spec is not valid.
    """
    _signals.reset_signals()
    for name in preload:
        datastores.get(name).restores.load()
    spec = _parse_spec(receive_spec())
    if spec is None:
        return 2
    started = datetime.now(UTC)
    output: dict[str, Any] = {}
    failure: StrongroomError | None = None
    try:
        _import_modules(spec)
        become_user(spec.user, spec.store_gid)
        datastores.set_stall_timeout(spec.stall_timeout)
        try:
            _signals.raise_on_signals()
            output = run_job(spec, EventLog(spec.job_dir / "events.jsonl"))
        finally:
            _signals.ignore_signals()
    except (Exception, _signals.Interrupted) as error:  # noqa: BLE001 - it becomes part of the result
        _signals.ignore_signals()  # the first call may have been interrupted
        failure = _translate_error(error)
        output = dict(failure.output or {})
    status: Literal["succeeded", "failed", "cancelled"] = "succeeded"
    if failure is not None:
        status = "cancelled" if isinstance(failure, Cancelled) else "failed"
    result = Result(
        status=status,
        started=started,
        finished=datetime.now(UTC),
        failure=Failure(**failure.to_dict()) if failure else None,
        output=output,
        max_rss=_measure_peak_memory(),
    )
    write_file(spec.job_dir / "result.json", result.model_dump_json())  # a missing result means that the worker died
    return 0 if failure is None else 1


def _parse_spec(data: bytes) -> WorkerSpec | None:
    """Parse the spec. It is incomplete if the agent died. Its content is never printed, because it contains secrets."""
    try:
        return WorkerSpec.model_validate_json(data)
    except ValidationError as error:
        problems = [{"where": e["loc"], "what": e["type"]} for e in error.errors(include_url=False, include_input=False)]
        print(f"the job on stdin is not valid: {json.dumps(problems)}", file=sys.stderr)  # noqa: T201 - the log of the worker
        return None


def _import_modules(spec: WorkerSpec) -> None:
    """Import only the modules that the job needs: imports take most of the time until the first byte."""
    job = spec.job
    datastores.get(
        job.datastore if isinstance(job, RestoreJob | VerifyJob | ImportJob) else _require_server(spec).datastore
    ).restores.load()
    if not isinstance(job, InitializeJob):
        import pyrage  # noqa: F401 - strongroom.artifact loads it at its first use

        storage.load(job.storage.driver)


def _require_server(spec: WorkerSpec) -> Server:
    if spec.server is None:
        raise InvalidRequest(f"a {spec.job.kind} job needs a server")
    return spec.server


def _translate_error(error: BaseException) -> StrongroomError:
    if _signals.is_interrupted(error):
        if not isinstance(error, _signals.Interrupted):
            traceback.print_exception(error)
        return Cancelled("the job was cancelled")
    if isinstance(error, StrongroomError):
        return error
    traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left: {error}", remedy="Free space on this file system.")
    if isinstance(error, PermissionError):
        return ConfigurationError(f"permission denied: {error}", remedy="Check the owner and mode of the file.")
    return JobError(f"{type(error).__name__}: {error}", remedy="This is a bug in Strongroom; see worker.log of the job.")


def _measure_peak_memory() -> int:
    """Peak resident bytes of this process. ``getrusage`` would include the agent's memory before the exec."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
