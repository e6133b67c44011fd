"""Events that only MariaDB has."""

from __future__ import annotations

import struct

from strongroom.datastores.innodb.binlog.bodies import explain_damage
from strongroom.datastores.innodb.binlog.groups import Grouper, Payload, Start
from strongroom.datastores.innodb.binlog.header import Header
from strongroom.datastores.mariadb.binlog.gtids import Gtid, GtidList

GTID, GTID_LIST = 162, 163
_SINGLE, _HAS_COMMIT_ID, _TRANSACTIONAL, _DDL = 1, 2, 4, 32
_COUNT = 0x0FFFFFFF
_ENTRY = struct.Struct("<IIQ")


class MariaDBDialect:
    """See ``groups.Dialect``."""

    starts = frozenset({GTID})
    payload: int | None = None
    state = GTID_LIST

    def parse_start(self, header: Header, body: bytes) -> Start:
        with explain_damage("gtid"):
            sequence, domain, flags = struct.unpack_from("<QIB", body)
            commit_id = struct.unpack_from("<Q", body, 13)[0] if flags & _HAS_COMMIT_ID else None
            return Start(
                gtid=str(Gtid(domain, header.server_id, sequence)),
                is_single=bool(flags & _SINGLE),
                is_ddl=bool(flags & _DDL),
                is_transactional=bool(flags & _TRANSACTIONAL),
                commit_id=commit_id,
            )

    def open_payload(self, grouper: Grouper) -> Payload:
        raise AssertionError("MariaDB compresses events, not transactions")

    def open_state(self, text: str) -> LoggedGtids:
        return LoggedGtids(GtidList.parse(text))

    def parse_gtid(self, text: str) -> str:
        return str(Gtid.parse(text))


class LoggedGtids:
    """See ``groups.State``."""

    def __init__(self, gtids: GtidList) -> None:
        self._gtids = gtids
        self._newest: Gtid | None = None
        """Of the server and domain that wrote last; it is not in the list yet."""

    def load(self, body: bytes) -> None:
        self._gtids, self._newest = parse_gtid_list(body), None

    def add(self, gtid: str) -> None:
        found, last = Gtid.parse(gtid), self._newest
        if last is not None and ((found.domain, found.server) != (last.domain, last.server) or found.sequence < last.sequence):
            self._merge()
        self._newest = found

    def __contains__(self, gtid: str) -> bool:
        self._merge()
        return Gtid.parse(gtid) in self._gtids

    def __str__(self) -> str:
        self._merge()
        return str(self._gtids)

    def _merge(self) -> None:
        if self._newest is not None:
            self._gtids, self._newest = self._gtids.add(self._newest), None


def parse_gtid_list(body: bytes) -> GtidList:
    """A GTID_LIST event: the state of the log before the file that it is in."""
    with explain_damage("gtid list"):
        count = struct.unpack_from("<I", body)[0] & _COUNT
        if len(body) < 4 + count * _ENTRY.size:
            raise ValueError
        entries = (_ENTRY.unpack_from(body, 4 + index * _ENTRY.size) for index in range(count))
        return GtidList(Gtid(domain, server, sequence) for domain, server, sequence in entries)
