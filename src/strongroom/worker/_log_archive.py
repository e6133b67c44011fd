"""The duty ``log-archive``: archives the log of a server as long as it is wanted."""

from __future__ import annotations

import threading
from typing import Any

from pydantic import Field, ValidationError

from strongroom import datastores
from strongroom.archive import MAX_AGE, Head, LogLocation
from strongroom.datastores.protocol.logs import Archiver, LogRequest
from strongroom.errors import InvalidRequest
from strongroom.sections import Artifact
from strongroom.storage import open_store
from strongroom.worker.duty import Duty
from strongroom.worker.spec import Message, StorageSpec

_PACE = 2.0
"""Seconds between two reports."""


class LogArchiveOptions(Message):
    """What the duty needs."""

    log: LogLocation
    storage: StorageSpec
    artifact: Artifact
    recipients: list[str] = Field(default_factory=list)
    lineage: str = ""
    max_age: float = Field(MAX_AGE, gt=0, description="Seconds that the log waits before it is stored.")


def run(duty: Duty) -> None:
    """Archive until SIGTERM. Raises what another attempt does not repair."""
    try:
        options = LogArchiveOptions.model_validate(duty.spec.options)
    except ValidationError as error:  # its content is secret
        raise InvalidRequest(f"the options of the log archive are not valid: {error.error_count()} errors") from None
    store = open_store(options.storage, gid=duty.spec.store_gid)
    request = LogRequest(store, options.log, options.artifact, options.recipients, options.lineage, options.max_age)
    archiver = datastores.get(duty.spec.server.datastore).require_logs().open_archiver(duty.spec.server, request)
    errors: list[BaseException] = []

    def archive() -> None:
        try:
            archiver.run()
        except BaseException as cause:  # noqa: BLE001 - raised again below
            errors.append(cause)
            duty.stopped.set()

    thread = threading.Thread(target=archive, name="log-archive")
    thread.start()
    while not duty.stopped.wait(_PACE):
        _report(duty, archiver)
    archiver.stop()
    thread.join()
    archiver.close()
    store.close()
    if errors:
        raise errors[0]
    _report(duty, archiver)


def _report(duty: Duty, archiver: Archiver) -> None:
    trouble = archiver.trouble
    duty.report(trouble.message if trouble else "the log is archived", **_describe(archiver.durable))


def _describe(head: Head | None) -> dict[str, Any]:
    if head is None:
        return {}
    facts: dict[str, Any] = {"series": head.series.location.number, "segments": head.number, "position": head.position}
    if head.segment is not None and head.segment.last_time is not None:
        facts["last_time"] = head.segment.last_time
    return facts
