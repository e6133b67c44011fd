"""MySQL's sets of GTIDs: ``uuid[:tag]:1-5:7, …``, and their binary form in the log and the replication protocol."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

from strongroom.datastores.innodb.binlog.bodies import explain_damage
from strongroom.errors import LogCorrupt

Source = tuple[str, str]
"""The UUID of a server, and a tag or ""."""
Interval = tuple[int, int]
"""The first number, and the one after the last."""
MOST = (1 << 63) - 1
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_INTERVAL = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")
_TAGGED = 1
_SHORTEST_ENTRY = 24


class GtidSet:
    """An immutable set of GTIDs. Its text is the server's own, in order of UUID and tag."""

    __slots__ = ("_intervals",)

    def __init__(self, intervals: Mapping[Source, Iterable[Interval]] | None = None) -> None:
        found = {source: _merge(parts) for source, parts in (intervals or {}).items()}
        self._intervals = {source: found[source] for source in sorted(found) if found[source]}

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Raises LogCorrupt if it is not a set of GTIDs; an empty text is an empty set."""
        found: dict[Source, list[Interval]] = {}
        for entry in text.split(","):
            if not entry.strip():
                continue
            uuid, *parts = (part.strip() for part in entry.split(":"))
            tag = ""
            source = _parse_uuid(uuid)
            if not parts:
                raise _invalid(entry)
            for part in parts:
                if _TAG.fullmatch(part.lower()):
                    tag = part.lower()
                elif interval := _INTERVAL.fullmatch(part):
                    first = int(interval[1])
                    last = int(interval[2] or first)
                    if not 0 < first <= MOST or last >= MOST:
                        raise _invalid(entry)
                    found.setdefault((source, tag), []).append((first, last + 1))
                else:
                    raise _invalid(entry)
        return cls(found)

    @classmethod
    def decode(cls, data: bytes) -> GtidSet:
        """A set in binary form. Raises LogCorrupt."""
        with explain_damage("set of GTIDs"):
            is_tagged = data[7] == _TAGGED
            count = int.from_bytes(data[1:7] if is_tagged else data[:7], "little")
            if count * _SHORTEST_ENTRY > len(data):
                raise ValueError
            at = 8
            found: dict[Source, list[Interval]] = {}
            for _ in range(count):
                uuid, tag = str(UUID(bytes=bytes(data[at : at + 16]))), ""
                at += 16
                if is_tagged:
                    length = data[at] >> 1
                    tag = data[at + 1 : at + 1 + length].decode("ascii")
                    if data[at] & 1 or (tag and not _TAG.fullmatch(tag)):
                        raise ValueError
                    at += 1 + length
                (parts,) = struct.unpack_from("<Q", data, at)
                at += 8
                if parts * 16 > len(data) - at:
                    raise ValueError
                intervals = [struct.unpack_from("<QQ", data, at + 16 * index) for index in range(parts)]
                if any(not 0 < first < after <= MOST for first, after in intervals):
                    raise ValueError
                found.setdefault((uuid, tag), []).extend((int(first), int(after)) for first, after in intervals)
                at += 16 * parts
            return cls(found)

    def encode(self) -> bytes:
        """The binary form: the older one unless there are tags."""
        is_tagged = any(tag for _, tag in self._intervals)
        count = len(self._intervals)
        head = struct.pack("<Q", count << 8 | _TAGGED | _TAGGED << 56) if is_tagged else struct.pack("<Q", count)
        parts = [head]
        for (uuid, tag), intervals in self._intervals.items():
            parts.append(UUID(uuid).bytes)
            if is_tagged:
                parts.append(bytes([len(tag) << 1]) + tag.encode())
            parts.append(struct.pack("<Q", len(intervals)))
            parts += (struct.pack("<QQ", *interval) for interval in intervals)
        return b"".join(parts)

    @property
    def intervals(self) -> Mapping[Source, tuple[Interval, ...]]:
        return self._intervals

    def __iter__(self) -> Iterator[Source]:
        return iter(self._intervals)

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def __len__(self) -> int:
        """How many GTIDs."""
        return sum(after - first for intervals in self._intervals.values() for first, after in intervals)

    def __str__(self) -> str:
        texts: dict[str, str] = {}
        for (uuid, tag), intervals in self._intervals.items():
            numbers = ":".join(str(first) if after == first + 1 else f"{first}-{after - 1}" for first, after in intervals)
            texts[uuid] = texts.get(uuid, uuid) + (f":{tag}" if tag else "") + f":{numbers}"
        return ",".join(texts.values())

    def __repr__(self) -> str:
        return f"GtidSet({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self._intervals == other._intervals

    def __hash__(self) -> int:
        return hash(tuple(self._intervals.items()))

    def __or__(self, other: GtidSet) -> GtidSet:
        return GtidSet(
            {source: (*self._of(source), *other._of(source)) for source in (*self._intervals, *other._intervals)},
        )

    def __sub__(self, other: GtidSet) -> GtidSet:
        return GtidSet({source: _subtract(parts, other._of(source)) for source, parts in self._intervals.items()})

    def __le__(self, other: GtidSet) -> bool:
        """Whether ``other`` contains every GTID of this set."""
        return not self - other

    def __contains__(self, gtid: str) -> bool:
        """Whether it contains ``uuid[:tag]:number``."""
        return GtidSet.parse(gtid) <= self

    def _of(self, source: Source) -> tuple[Interval, ...]:
        return self._intervals.get(source, ())


def _parse_uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise _invalid(text) from None


def _invalid(text: str) -> LogCorrupt:
    return LogCorrupt(f"{text.strip()[:80]!r} is not a set of GTIDs of MySQL (uuid:1-5)")


def _merge(parts: Iterable[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for first, after in sorted(parts):
        if first >= after:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(after, merged[-1][1]))
        else:
            merged.append((first, after))
    return tuple(merged)


def _subtract(parts: Iterable[Interval], others: tuple[Interval, ...]) -> list[Interval]:
    """Both are in order and do not overlap."""
    left: list[Interval] = []
    index = 0
    for first, after in parts:
        while index < len(others) and others[index][1] <= first:
            index += 1
        at = index
        while at < len(others) and others[at][0] < after:
            if others[at][0] > first:
                left.append((first, others[at][0]))
            first = max(first, others[at][1])
            at += 1
        if first < after:
            left.append((first, after))
    return left
