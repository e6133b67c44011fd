"""The duty ``log-archive``: archives the log of a server as long as it is wanted."""

from __future__ import annotations

import threading
from contextlib import suppress

from pydantic import ValidationError

from strongroom import datastores
from strongroom.archive import Head, LogLocation, list_series
from strongroom.datastores.protocol.logs import Archiver, LogRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import InvalidRequest, StorageError, StrongroomError
from strongroom.storage import Store, open_store
from strongroom.system.files import read_text, write_file
from strongroom.system.imports import hide_packages
from strongroom.worker.duty import Duty
from strongroom.worker.spec import ArchivedSeries, Failure, LogArchiveFacts, LogArchiveOptions

_PACE = 2.0
"""Seconds between two reports."""
_KNOWN = "known"
"""A file in the directory of the duty: the store has a series of this archive."""
_LONGEST = 1000


def run(duty: Duty) -> None:
    """Archive until SIGTERM. Raises what another attempt does not repair."""
    try:
        options = LogArchiveOptions.model_validate(duty.spec.options)
    except ValidationError as error:  # its content is secret
        raise InvalidRequest(f"the options of the log archive are not valid: {error.error_count()} errors") from None
    store = open_store(options.storage, gid=duty.spec.store_gid)
    _require_known(duty, store, options.log)
    request = LogRequest(store, options.log, options.artifact, options.recipients, options.lineage, options.max_age)
    with hide_packages("cryptography"):  # it takes 8 MB; connections that need it load it
        logs = datastores.get(duty.spec.server.datastore).require_logs()
    archiver = logs.open_archiver(duty.spec.server, request)
    errors: list[BaseException] = []

    def archive() -> None:
        try:
            archiver.run()
        except BaseException as cause:  # noqa: BLE001 - raised again below
            errors.append(cause)
            duty.stopped.set()

    thread = threading.Thread(target=archive, name="log-archive")
    thread.start()
    try:
        while not duty.stopped.wait(_PACE):
            with suppress(StrongroomError):  # the disk may be full: all the more reason to continue
                _report(duty, archiver)
                _note_known(duty, archiver, store.url(options.log.prefix))
            if not duty.spec.directory.exists():
                break
    finally:
        archiver.stop()
        thread.join()
        archiver.close()
        store.close()
    if errors:
        raise errors[0]
    with suppress(StrongroomError):
        _report(duty, archiver)


def release(server: Server) -> None:
    """Remove what the duty leaves on the server. Raises ServerFailed, ConfigurationError."""
    logs = datastores.get(server.datastore).logs
    if logs is not None:
        logs.release(server)


def _require_known(duty: Duty, store: Store, log: LogLocation) -> None:
    """Raise StorageError if the store shows nothing of an archive that exists: its file system is not mounted."""
    where = store.url(log.prefix)
    if read_text(duty.spec.directory / _KNOWN) in (where, "") and not list_series(store, log):  # empty: of an older version
        raise StorageError(
            f"the store does not show the log archive {where}, which exists",
            remedy="Check that the store is mounted, and that it is the store of this archive.",
        )


def _note_known(duty: Duty, archiver: Archiver, where: str) -> None:
    path = duty.spec.directory / _KNOWN
    if archiver.durable is not None and read_text(path) != where:
        write_file(path, where)


def _report(duty: Duty, archiver: Archiver) -> None:
    facts = describe_archive(archiver)
    duty.report(facts.trouble.message if facts.trouble else "the log is archived", **facts.model_dump(mode="json"))


def describe_archive(archiver: Archiver) -> LogArchiveFacts:
    """Where the archive stands."""
    head, trouble = archiver.durable, archiver.trouble
    return LogArchiveFacts(
        series=_describe_series(head) if head is not None else None,
        segments=head.number if head is not None else 0,
        position=head.position if head is not None else "",
        last_time=head.segment.last_time if head is not None and head.segment is not None else None,
        complete_until=archiver.complete_until,
        trouble=Failure(**trouble.to_dict()) if trouble is not None else None,
        warnings=[warning[:_LONGEST] for warning in archiver.warnings],
    )


def _describe_series(head: Head) -> ArchivedSeries:
    series = head.series
    return ArchivedSeries(
        number=series.location.number,
        began=series.began,
        reason=series.reason,
        started=series.started,
        continues=series.continues.series if series.continues is not None else None,
    )
