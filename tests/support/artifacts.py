"""Artifacts of made-up streams, for tests that need stored backups but no database."""

from __future__ import annotations

import os
import random
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from strongroom.artifact import ForeignReader, Location, Manifest, Positions, Reader, Writer
from strongroom.sections import Artifact
from strongroom.storage import Store

FIELDS: dict[str, Any] = {
    "kind": "full",
    "datastore": "mariadb",
    "datastore_version": "10.11",
    "server_version": "10.11.19",
    "tool": "mariadb-backup",
    "tool_version": "10.11.19",
    "lineage": "lineage",
    "instance_id": "instance",
    "positions": Positions(from_lsn=0, to_lsn=100),
    "data_size": 1,
}
SMALL = Artifact(segment_size=64 * 1024, threads=2)
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that compress a little, the same for the same seed."""
    source = random.Random(seed)
    return b"".join(source.randbytes(24) + b"the same again, " for _ in range(size // 40 + 1))[:size]


def feed(data: bytes | Sequence[bytes], read: Callable[[int], None]) -> None:
    """Call ``read`` with the reading end of a pipe into which ``data`` goes."""
    ours, theirs = os.pipe()

    def write() -> None:
        try:
            with os.fdopen(theirs, "wb", buffering=0) as pipe:
                for piece in [data] if isinstance(data, bytes) else data:
                    view = memoryview(piece)
                    while view:
                        view = view[pipe.write(view) :]
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        read(ours)
    finally:
        os.close(ours)
        writer.join()


def take(reader: Reader | ForeignReader) -> bytes:
    """The whole stream."""
    return b"".join(reader.chunks())


def write_artifact(
    store: Store,
    location: Location,
    data: bytes | Sequence[bytes],
    settings: Artifact = SMALL,
    recipients: Sequence[str] = (),
    *,
    stream: Any = "plain",
    owner: str = "",
    on_progress: Callable[[int, int], None] | None = None,
    **fields: Any,
) -> Manifest:
    """A finished backup of ``data``."""
    with Writer(store, location, settings, recipients, stream=stream, owner=owner, on_progress=on_progress) as writer:
        feed(data, writer.copy_from)
        return writer.finish(**{**FIELDS, "chain": location.id, **fields})


def _head(kind: bytes, path: str, flags: int = 0) -> bytes:
    name = path.encode()
    return b"XBSTCK01" + bytes([flags]) + kind + struct.pack("<I", len(name)) + name


def mb_payload(path: str, data: bytes, offset: int = 0, flags: int = 0) -> bytes:
    """A chunk of an mbstream with a piece of a file."""
    return _head(b"P", path, flags) + struct.pack("<QQI", len(data), offset, zlib.crc32(data)) + data


def mb_end(path: str) -> bytes:
    """The chunk that ends a file."""
    return _head(b"E", path)


def mb_seek(path: str, offset: int) -> bytes:
    """The chunk that moves on in a file."""
    return _head(b"S", path) + struct.pack("<Q", offset)


def mb_rename(old: str, new: str) -> bytes:
    """The chunk that renames a finished file."""
    return _head(b"R", old) + struct.pack("<I", len(new.encode())) + new.encode()


def mb_remove(path: str) -> bytes:
    """The chunk that removes a finished file."""
    return _head(b"D", path)


def mb_file(path: str, data: bytes, piece: int = 10_000) -> list[bytes]:
    """All chunks of one file."""
    return [*(mb_payload(path, data[at : at + piece], at) for at in range(0, len(data), piece)), mb_end(path)]
