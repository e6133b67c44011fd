"""From a spec on stdin to ``result.json``."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
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
from strongroom.worker import _signals
from strongroom.worker._events import EventLog
from strongroom.worker._privileges import become
from strongroom.worker.jobs import perform
from strongroom.worker.spec import Failure, ImportJob, InitializeJob, RestoreJob, Result, VerifyJob, WorkerSpec

_DESCRIPTORS = 8
"""More than ever come at once."""


def main(preload: Sequence[str] = ()) -> int:
    """``preload`` names datastores that the job will be about, probably: there is time to load them before it comes.

    Exit status: 0 when the job succeeded, 1 when not, 2 when there was no job that could be understood.
    """
    for name in preload:
        datastores.get(name).load()
    spec = _read(_receive())
    if spec is None:
        return 2
    started = datetime.now(UTC)
    output: dict[str, Any] = {}
    failure: StrongroomError | None = None
    try:
        _load(spec)
        become(spec.user, spec.store_gid)
        datastores.set_stall_timeout(spec.stall_timeout)
        _signals.raise_cancelled()
        output = perform(spec, EventLog(spec.job_dir / "events.jsonl"))
    except Exception as error:  # noqa: BLE001 - it becomes the result
        failure = _explain(error)
        output = dict(failure.output or {})
    _signals.ignore()
    status: Literal["succeeded", "failed", "cancelled"] = "succeeded"
    if failure is not None:
        status = "cancelled" if isinstance(failure, Cancelled) else "failed"
    result = Result(
        status=status,
        started=started,
        finished=datetime.now(UTC),
        failure=Failure(**failure.to_dict()) if failure else None,
        output=output,
        max_rss=_peak_memory(),
    )
    _write(spec.job_dir / "result.json", result)
    return 0 if failure is None else 1


def _receive() -> bytes:
    """The order. Descriptors that come with it by a socket are our log, then what is held by them as long as we live."""
    if not stat.S_ISSOCK(os.fstat(sys.stdin.fileno()).st_mode):
        return sys.stdin.buffer.read()
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as line:
        order, descriptors, *_ = socket.recv_fds(line, 1, _DESCRIPTORS)
        if descriptors:
            for ours in (sys.stdout, sys.stderr):
                os.dup2(descriptors[0], ours.fileno())
            os.close(descriptors[0])
        while piece := line.recv(1 << 16):
            order += piece
    return order


def _read(data: bytes) -> WorkerSpec | None:
    """An agent that died while it wrote leaves half a spec. Nothing of its content is printed: it holds secrets."""
    try:
        return WorkerSpec.model_validate_json(data)
    except ValidationError as error:
        problems = [{"where": e["loc"], "what": e["type"]} for e in error.errors(include_url=False, include_input=False)]
        print(f"no usable job on stdin: {json.dumps(problems)}", file=sys.stderr)  # noqa: T201 - the log of the worker
        return None


def _load(spec: WorkerSpec) -> None:
    """Import what the job needs, and no more: it takes longer than anything else before the first byte."""
    job = spec.job
    datastores.get(job.datastore if isinstance(job, RestoreJob | VerifyJob | ImportJob) else _server(spec).datastore).load()
    if not isinstance(job, InitializeJob):
        storage.load(job.storage.driver)


def _server(spec: WorkerSpec) -> Server:
    if spec.server is None:
        raise InvalidRequest(f"a {spec.job.kind} job needs a server")
    return spec.server


def _explain(error: Exception) -> StrongroomError:
    if isinstance(error, StrongroomError):
        return error
    traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left: {error}", remedy="Free space on this file system.")
    if isinstance(error, PermissionError):
        return ConfigurationError(f"not allowed: {error}", remedy="Check owner and mode of the file.")
    return JobError(f"{type(error).__name__}: {error}", remedy="This is a defect of Strongroom; worker.log of the job has more.")


def _peak_memory() -> int:
    """Peak resident bytes. ``getrusage`` would count what the agent had when it started us."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _write(path: Path, result: Result) -> None:
    """At once or not at all, and durable: no result means that the worker died."""
    temporary = path.with_name(".result.json")
    with temporary.open("wb") as file:
        file.write(result.model_dump_json().encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
