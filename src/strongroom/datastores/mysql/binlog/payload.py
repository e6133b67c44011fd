"""Compressed transactions of MySQL (``binlog_transaction_compression``), read with bounded memory."""

from __future__ import annotations

from typing import Protocol

import zstandard

from strongroom.datastores.innodb.binlog.bodies import explain_damage
from strongroom.datastores.innodb.binlog.header import SIZE, Header
from strongroom.datastores.innodb.binlog.pieces import Splitter
from strongroom.datastores.innodb.binlog.statements import LONGEST
from strongroom.errors import LogCorrupt

_TYPE = 2
_ZSTD, _PLAIN = 0, 255
_MOST_FIELDS = 1024
_LONGEST_WINDOW = 1 << 27


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class Looker(Protocol):
    """Looks at the events of a transaction. Their bodies may be cut."""

    def look(self, header: Header, body: bytes) -> bool: ...


class CompressedTransaction:
    """Receives the body of the event that holds the transaction, and shows its events to the looker."""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._splitter = Splitter(None)
        self._fields = b""
        self._body = b""
        self._sink: _Sink | None = None

    def feed(self, data: bytes) -> None:
        if self._sink is None:
            self._fields += data
            length = self._open()
            if self._sink is None:
                return
            data, self._fields = self._fields[length:], b""
        try:
            self._sink.write(data)
        except zstandard.ZstdError as error:
            raise LogCorrupt(f"the binary log has a compressed transaction with damaged data: {error}") from error

    def finish(self) -> None:
        if self._sink is None:
            raise LogCorrupt("the binary log has a compressed transaction that ends within its fields")
        self._splitter.finish()

    def write(self, data: bytes, /) -> int:
        """Events that were uncompressed."""
        for piece in self._splitter.feed(bytes(data)):
            if piece.is_first:
                self._body = b""
            if len(self._body) < LONGEST + SIZE:
                self._body += piece.data[SIZE:] if piece.is_first else piece.data
            if piece.is_last:
                self._looker.look(piece.header, self._body)
        return len(data)

    def _open(self) -> int:
        """Begin to uncompress when all fields are there. Returns their length."""
        found: dict[int, int] = {}
        with explain_damage("compressed transaction"):
            at = 0
            try:
                while True:
                    kind, at = _read_number(self._fields, at)
                    if kind == 0:
                        break
                    length, at = _read_number(self._fields, at)
                    found[kind], _ = _read_number(self._fields, at)
                    at += length
            except IndexError:
                if len(self._fields) > _MOST_FIELDS:
                    raise
                return 0
            if found.get(_TYPE) == _ZSTD:
                limited = zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW)
                self._sink = limited.stream_writer(self, write_size=1 << 17, closefd=False)  # type: ignore[arg-type]
            elif found.get(_TYPE) == _PLAIN:
                self._sink = self
            else:
                raise ValueError
            return at


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number in the encoding of the client protocol, and the offset after it. IndexError: more data is needed."""
    first = data[at]
    if first < 251:
        return first, at + 1
    length = {252: 2, 253: 3, 254: 8}[first]
    if at + 1 + length > len(data):
        raise IndexError
    return int.from_bytes(data[at + 1 : at + 1 + length], "little"), at + 1 + length
