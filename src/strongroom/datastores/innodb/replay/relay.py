"""Files of events for the applier of a server: relay logs that are not written by its receiver."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from strongroom.datastores.innodb.binlog.bodies import parse_format
from strongroom.datastores.innodb.binlog.header import ARTIFICIAL, CHECKSUM, IN_USE, MAGIC, ROTATE, SIZE, Header

_HEADER = struct.Struct("<IBIIIH")
_FLAGS = 17
_CREATED = SIZE + 2 + 50
_BUFFER = 1 << 20
_SOURCE = b"replay.000001"


@dataclass(frozen=True, slots=True)
class LogFormat:
    """The format description of a file of the source."""

    event: bytes

    @property
    def has_checksums(self) -> bool:
        return parse_format(self.event).has_checksums

    @property
    def begins_server(self) -> bool:
        """Whether the source started with this file: its temporary tables are gone."""
        return parse_format(self.event).created != 0

    def describes_like(self, other: LogFormat) -> bool:
        """Whether files of both have events of the same form."""
        return self.without_start()[SIZE:-CHECKSUM] == other.without_start()[SIZE:-CHECKSUM]

    def without_start(self) -> bytes:
        """The event as in a file that the source began while it ran: a server keeps its temporary tables there."""
        return _seal(self.event[:_CREATED] + bytes(4) + self.event[_CREATED + 4 : -CHECKSUM])

    def as_found(self) -> bytes:
        return _seal(self.event[:-CHECKSUM])


def _seal(event: bytes) -> bytes:
    """Without the flag of a file in use; with its checksum, which this event always has."""
    event = event[:_FLAGS] + bytes([event[_FLAGS] & ~IN_USE]) + event[_FLAGS + 1 :]
    return event + struct.pack("<I", zlib.crc32(event))


def make_event(header: Header, body: bytes, *, checksum: bool) -> bytes:
    """An event with this header, whose length is replaced by the right one."""
    length = SIZE + len(body) + (CHECKSUM if checksum else 0)
    data = _HEADER.pack(header.time, header.kind, header.server_id, length, header.end, header.flags) + body
    return data + struct.pack("<I", zlib.crc32(data)) if checksum else data


class RelayLog:
    """One file. It begins with a format description, ``head`` and a rotate event, without which MariaDB crashes."""

    def __init__(self, path: Path, form: LogFormat, head: Sequence[tuple[Header, bytes]], *, keeps_temporary: bool) -> None:
        self._file = path.open("xb", buffering=_BUFFER)
        self.has_checksums = form.has_checksums
        self.size = 0
        rotate = Header(time=0, kind=ROTATE, server_id=1, length=0, end=0, flags=ARTIFICIAL)
        self.write(MAGIC + (form.without_start() if keeps_temporary else form.as_found()))
        for header, body in (*head, (rotate, struct.pack("<Q", len(MAGIC)) + _SOURCE)):
            self.write(make_event(header, body, checksum=self.has_checksums))

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def cut(self, size: int) -> None:
        """Remove what was written after the first ``size`` bytes."""
        if size == self.size:
            return
        self._file.flush()
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def __enter__(self) -> RelayLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
