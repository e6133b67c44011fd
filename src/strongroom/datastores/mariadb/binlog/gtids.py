"""MariaDB's GTIDs: ``domain-server-sequence``, and lists of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from strongroom.errors import LogCorrupt

_GTID = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,20})")


@dataclass(frozen=True, slots=True, order=True)
class Gtid:
    domain: int
    server: int
    sequence: int

    def __post_init__(self) -> None:
        if not (0 <= self.domain < 1 << 32 and 0 <= self.server < 1 << 32 and 0 <= self.sequence < 1 << 64):
            raise LogCorrupt(f"{self} is not a valid GTID")

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Gtid:
        """Raises LogCorrupt if it is not a GTID."""
        found = _GTID.fullmatch(text.strip())
        if found is None:
            raise LogCorrupt(f"{text.strip()[:80]!r} is not a GTID of MariaDB (domain-server-sequence)")
        return cls(*(int(part) for part in found.groups()))


class GtidList:
    """The newest GTID of every server in every domain, as in ``gtid_binlog_state``. It does not change.

    The last one of a domain is where that domain is. Within a domain a server's numbers rise, so a list contains a GTID if it has
    one of its domain and server that is not older.
    """

    __slots__ = ("_newest",)

    def __init__(self, gtids: Iterable[Gtid] = ()) -> None:
        self._newest: dict[tuple[int, int], int] = {}
        for gtid in gtids:
            key = (gtid.domain, gtid.server)
            self._newest[key] = max(gtid.sequence, self._newest.pop(key, 0))

    @classmethod
    def parse(cls, text: str) -> GtidList:
        """``0-1-5,0-2-9``; an empty text is an empty list."""
        return cls(Gtid.parse(part) for part in text.split(",")) if text.strip() else cls()

    def __iter__(self) -> Iterator[Gtid]:
        return (Gtid(domain, server, sequence) for (domain, server), sequence in self._newest.items())

    def __len__(self) -> int:
        return len(self._newest)

    def __str__(self) -> str:
        return ",".join(str(gtid) for gtid in self)

    def __repr__(self) -> str:
        return f"GtidList({str(self)!r})"

    def __contains__(self, gtid: Gtid) -> bool:
        return self._newest.get((gtid.domain, gtid.server), -1) >= gtid.sequence

    def __eq__(self, other: object) -> bool:
        """Whether both contain the same GTIDs. The order, which says where a domain is, does not count."""
        return isinstance(other, GtidList) and self._newest == other._newest

    def __hash__(self) -> int:
        return hash(frozenset(self._newest.items()))

    def __le__(self, other: GtidList) -> bool:
        """Whether ``other`` contains every GTID of this list."""
        return all(gtid in other for gtid in self)

    def __or__(self, other: GtidList) -> GtidList:
        """The GTIDs of both. Domains are where ``other`` is."""
        return GtidList((*self, *other))

    def add(self, gtid: Gtid) -> GtidList:
        """The list after this transaction, which is where its domain is then."""
        return self | GtidList((gtid,))

    @property
    def position(self) -> GtidList:
        """Only where each domain is, as in ``gtid_slave_pos``: what a reader asks for to get all that follows."""
        return GtidList(sorted({gtid.domain: gtid for gtid in self}.values()))
