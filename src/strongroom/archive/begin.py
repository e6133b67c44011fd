"""Begins a series: its record is created with the next free number, by exactly one writer."""

from __future__ import annotations

import hashlib
import secrets

from strongroom.archive.load import Head, list_series, load_trimmed
from strongroom.archive.location import LogLocation
from strongroom.archive.put import create
from strongroom.archive.records import Seam, Series, Time
from strongroom.storage import Store


def begin_series(
    store: Store,
    log: LogLocation,
    *,
    datastore: str,
    identity: str,
    began: str,
    begin: str,
    started: Time,
    server_version: str = "",
    lineage: str = "",
    reason: str = "",
    continues: Seam | None = None,
    details: str = "",
) -> Head:
    """Create the series after the last one. Raises LogTaken if another writer created one at the same time, StorageError."""
    known, trimmed = list_series(store, log), load_trimmed(store, log)
    after = max(known[-1].number if known else -1, trimmed.series if trimmed is not None else -1)
    location = log.series(after + 1)
    series = Series(
        location=location,
        datastore=datastore,
        server_version=server_version,
        identity=identity,
        lineage=lineage,
        began=began,
        reason=reason,
        begin=begin,
        started=started,
        continues=continues,
        writer=secrets.token_hex(8),
        details=details,
    )
    data = series.model_dump_json(exclude_none=True).encode()
    create(store, location.series, data)
    return Head(series, None, hashlib.sha256(data).hexdigest())
