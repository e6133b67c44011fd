"""Private GTIDs in place of those of the source, which may be repeated or out of order in a log."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

from strongroom.datastores.innodb.binlog.bodies import explain_damage
from strongroom.datastores.innodb.binlog.groups import Dialect
from strongroom.datastores.innodb.binlog.header import Header
from strongroom.datastores.mariadb.binlog.dialect import MariaDBDialect

DOMAIN = 4_294_967_290
SERVER = 1
_HAS_COMMIT_ID, _XA = 2, 64 | 128
_MORE_ENGINES, _START_ALTER, _END_ALTER = 1, 2, 4 | 8


class MariaDBRewriter:
    """See ``batches.Rewriter``."""

    head: Sequence[tuple[Header, bytes]] = ()

    def __init__(self) -> None:
        self.dialect: Dialect = MariaDBDialect()
        self._alters: dict[int, int] = {}
        """Numbers of ALTER statements that have begun, by their sequence in the log."""

    def has(self, gtid: str) -> bool:
        """Never: the position of a backup is exact."""
        return False

    def rewrite(self, header: Header, body: bytes, number: int) -> tuple[Header, bytes]:
        with explain_damage("gtid"):
            (sequence,) = struct.unpack_from("<Q", body)
            rest = self._renumber_alter(sequence, body, number)[12:]
            return replace(header, server_id=SERVER), struct.pack("<QI", number, DOMAIN) + rest

    def _renumber_alter(self, sequence: int, body: bytes, number: int) -> bytes:
        """An ALTER in two phases (binlog_alter_two_phase): its end names the sequence of its beginning."""
        flags, at = body[12], 13
        if flags & _HAS_COMMIT_ID:
            at += 8
        if flags & _XA:
            at += 6 + body[at + 4] + body[at + 5]
        more = body[at] if at < len(body) else 0
        at += 1
        if more & _MORE_ENGINES:
            at += 1
        if more & _START_ALTER:
            self._alters[sequence] = number
        elif more & _END_ALTER:
            (begun,) = struct.unpack_from("<Q", body, at)
            body = body[:at] + struct.pack("<Q", self._alters.pop(begun, 0)) + body[at + 8 :]
        return body
