"""Sets of GTIDs: their algebra against plain sets of numbers, and their text and binary forms."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.datastores.mariadb.binlog.gtids import Gtid, GtidList
from strongroom.datastores.mysql.binlog.gtids import GtidSet
from strongroom.errors import LogCorrupt

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
Numbers = frozenset[tuple[tuple[str, str], int]]
numbers = st.frozensets(st.tuples(st.tuples(st.sampled_from([A, B]), st.sampled_from(["", "t", "_x9"])), st.integers(1, 40)))
gtids = st.builds(Gtid, st.integers(0, 2), st.integers(1, 3), st.integers(0, 9))
lists = st.lists(gtids, max_size=8).map(GtidList)


def make(found: Numbers) -> GtidSet:
    parts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for source, number in found:
        parts.setdefault(source, []).append((number, number + 1))
    return GtidSet(parts)


@settings(max_examples=200, deadline=None)
@given(numbers, numbers)
def test_sets_of_mysql_are_sets(one: Numbers, other: Numbers) -> None:
    first, second = make(one), make(other)
    assert first | second == second | first == make(one | other)
    assert first - second == make(one - other)
    assert (first <= second) == (one <= other)
    assert (first == second) == (one == other) and (first != second or hash(first) == hash(second))
    assert len(first) == len(one) and bool(first) == bool(one)
    for (uuid, tag), number in one:
        assert f"{uuid}:{tag + ':' if tag else ''}{number}" in first
    assert GtidSet.parse(str(first)) == GtidSet.decode(first.encode()) == first


def test_text_of_sets_of_mysql() -> None:
    text = f"{A}:1-5:7:blue:1-3:red:2,{B}:9"
    assert str(GtidSet.parse(f" {B} : 9,\n{A.upper()}:7:3-5:1-4:RED:2:blue:1-3")) == text
    assert GtidSet.parse("") == GtidSet() and str(GtidSet()) == ""
    assert GtidSet({(A, ""): [(1, 3)]}).encode() == b"\1" + bytes(7) + bytes.fromhex(A.replace("-", "")) + b"".join(
        number.to_bytes(8, "little") for number in (1, 1, 3)
    )


@pytest.mark.parametrize("text", [A, f"{A}:", f"{A}:0", f"{A}:1-", f"{A}:9223372036854775807", "x:1", f"{A}:1:bad tag:2"])
def test_what_is_no_set_of_mysql(text: str) -> None:
    with pytest.raises(LogCorrupt, match="is not a set of GTIDs"):
        GtidSet.parse(text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_set_or_damage(data: bytes) -> None:
    for head in (b"", b"\2" + bytes(7), b"\1\2" + bytes(5) + b"\1"):
        with suppress(LogCorrupt):
            GtidSet.decode(head + data)


@settings(max_examples=200, deadline=None)
@given(lists, lists, gtids)
def test_lists_of_mariadb(one: GtidList, other: GtidList, gtid: Gtid) -> None:
    both = one | other
    assert one <= both and other <= both and both == other | one
    assert (gtid in both) == (gtid in one or gtid in other)
    assert (one <= other and other <= one) == (one == other)
    assert one | one == one and GtidList.parse(str(one)) == one
    assert gtid in one.add(gtid) and one.add(gtid).position <= one.add(gtid)
    assert gtid.domain in {each.domain for each in one.add(gtid).position}
    assert {each.server for each in one.add(gtid).position if each.domain == gtid.domain} == {gtid.server}


def test_text_of_lists_of_mariadb() -> None:
    found = GtidList.parse("0-1-5, 7-2-1,0-2-9")
    assert str(found) == "0-1-5,7-2-1,0-2-9" and str(found.position) == "0-2-9,7-2-1"
    assert str(found.add(Gtid(0, 1, 10)).position) == "0-1-10,7-2-1"
    assert Gtid(0, 1, 5) in found and Gtid(0, 1, 6) not in found and Gtid(1, 1, 1) not in found
    for text in ("0-1", "0-1-x", "0-1-2-3", "4294967296-1-1", "0-1-99999999999999999999", "0-1-1;"):
        with pytest.raises(LogCorrupt):
            GtidList.parse(text)
