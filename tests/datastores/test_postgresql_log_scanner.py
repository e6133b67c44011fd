"""The WAL that a real server writes, as the index of the log archive sees it and as pg_waldump does."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.archive import (
    Piece,
    SegmentWriter,
    Stretch,
    Target,
    begin_series,
    find_window,
    load_log,
    remove_trimmed,
    trim_log,
)
from strongroom.datastores.postgresql.archive.continuation import SeriesDetails
from strongroom.datastores.postgresql.archive.records import RecordDamaged, RestorePoint, TransactionEnd, parse_record
from strongroom.datastores.postgresql.archive.scanner import WalScanner, find_record_end
from strongroom.datastores.postgresql.archive.span import SpanBuilder
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.wal import History, Unfit, find_address
from strongroom.datastores.postgresql.replay.cut import find_cut
from strongroom.sections import Artifact
from support import processes
from support.archives import open_directory
from support.own_postgresql import OwnPostgreSQL
from support.wal_receiver import LOG

SIZE = 1 << 20
WORK = """
CREATE TABLE item (id int PRIMARY KEY, t text);
CREATE TABLE other AS SELECT g, repeat(md5(g::text), 40) AS t FROM generate_series(1, 3000) g;
DO $$ BEGIN FOR n IN 1..3000 LOOP INSERT INTO item VALUES (n, repeat('x', n % 50)); COMMIT; END LOOP; END $$;
BEGIN; SAVEPOINT a; INSERT INTO item VALUES (-1, 'a'); SAVEPOINT b; INSERT INTO item VALUES (-2, 'b'); COMMIT;
BEGIN; INSERT INTO item VALUES (-3, 'c'); ROLLBACK;
BEGIN; CREATE TABLE gone (id int); INSERT INTO gone VALUES (1); ROLLBACK;
BEGIN; INSERT INTO item VALUES (-4, 'd'); PREPARE TRANSACTION 'one'; COMMIT PREPARED 'one';
BEGIN; INSERT INTO item VALUES (-5, 'e'); PREPARE TRANSACTION 'two'; ROLLBACK PREPARED 'two';
SELECT pg_create_restore_point('before the release');
TRUNCATE other;
CREATE TABLE wide (a text, b int UNIQUE);
SELECT pg_switch_wal();
DROP TABLE other, wide;
SELECT pg_logical_emit_message(false, 'large', repeat('y', 3000000));
DO $$ BEGIN FOR n IN 1..300 LOOP EXECUTE format('CREATE TABLE many%s (id int PRIMARY KEY)', n); END LOOP; END $$;
DO $$ DECLARE t text; BEGIN FOR t IN SELECT relname FROM pg_class WHERE relname LIKE 'many%' AND relkind = 'r'
 LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$;
SELECT pg_create_restore_point('last');
"""


@dataclass
class Wal:
    """Files of WAL, and what pg_waldump prints of them."""

    system: int
    start: int
    data: bytes
    dump: str

    def scanner(self, **other: int) -> WalScanner:
        values = {"position": self.start, "size": SIZE, "system": self.system, **other}
        return WalScanner(values["position"], values["size"], values["system"], History(1))


@pytest.fixture(scope="module")
def wal() -> Iterator[Wal]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    try:
        yield _write_wal(place)
    finally:
        processes.end(place)
        shutil.rmtree(place, ignore_errors=True)


def _write_wal(place: Path) -> Wal:
    own = OwnPostgreSQL(place, settings="max_prepared_transactions = 2\nmin_wal_size = 2MB", initdb=["--wal-segsize=1"])
    own.sql("SELECT pg_switch_wal()")
    own.sql("SELECT pg_create_physical_replication_slot('keep', true)")
    first = own.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    work = place / "work.sql"
    work.write_text(WORK)
    own.command("psql", "-XAtq", "-h", own.run, "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-f", work)
    last = own.sql("SELECT pg_walfile_name(pg_switch_wal())")
    system = int(own.sql("SELECT system_identifier FROM pg_control_system()"))
    own.end()
    folder = own.data / "pg_wal"
    names = sorted(path.name for path in folder.iterdir() if first <= path.name <= last and len(path.name) == 24)
    data = b"".join((folder / name).read_bytes() for name in names)
    start = find_address(first, SIZE)
    span = (f"--start={lsn.format_lsn(start)}", f"--end={lsn.format_lsn(start + len(data))}")
    return Wal(system, start, data, own.command("pg_waldump", f"--path={folder}", *span))


def test_every_end_of_a_transaction_is_found(wal: Wal) -> None:
    found = list(wal.scanner().feed(wal.data))
    ends = [record for record in found if isinstance(record, TransactionEnd)]
    lines = re.findall(
        r"^rmgr: Transaction .*tx: +(\d+), lsn: (\S+), prev \S+, desc: (COMMIT|ABORT)(?:_PREPARED)?(?: \d+:)? ?(.*)$",
        wal.dump,
        re.MULTILINE,
    )
    assert len(ends) == len(lines) > 3000
    for end, (transaction, start, kind, text) in zip(ends, lines, strict=True):
        assert lsn.format_lsn(end.start) == _short(start)
        assert (end.transaction, end.commits) == (int(transaction), kind == "COMMIT")
        shown = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", text)
        assert shown is not None
        assert datetime.fromisoformat(f"{shown[0]}+00:00").timestamp() == pytest.approx(end.time / 10**6, abs=1e-6)
        files = re.search(r"rels: ([^;]*)", text)
        assert end.files == (tuple(files[1].split()) if files else ())
    assert sum(len(end.files) for end in ends) > 600
    assert {end.commits for end in ends if end.files} == {True, False}


def test_restore_points_are_found(wal: Wal) -> None:
    found = [record for record in wal.scanner().feed(wal.data) if isinstance(record, RestorePoint)]
    lines = re.findall(r"lsn: (\S+), prev \S+, desc: RESTORE_POINT (.*)$", wal.dump, re.MULTILINE)
    assert [(lsn.format_lsn(each.start), each.name) for each in found] == [(_short(start), name) for start, name in lines]
    assert [each.name for each in found] == ["before the release", "last"]
    later = wal.dump.partition("RESTORE_POINT before")[2]
    following = re.search(r"lsn: (\S+),", later)
    assert following is not None
    assert lsn.format_lsn(found[0].end) == _short(following[1])


def test_the_last_record_is_known(wal: Wal) -> None:
    scanner = wal.scanner()
    list(scanner.feed(wal.data))
    assert scanner.last is not None
    assert lsn.format_lsn(scanner.last) == _short(re.findall(r"lsn: (\S+),", wal.dump)[-1])
    assert scanner.position == wal.start + len(wal.data)


@given(cuts=st.lists(st.integers(0, 3 * SIZE), max_size=40), small=st.integers(1, 9000), at=st.integers(0, 2 * SIZE))
@settings(max_examples=15, deadline=None)
def test_pieces_of_any_size_give_the_same(wal: Wal, cuts: list[int], small: int, at: int) -> None:
    data = wal.data[: 3 * SIZE]
    whole = list(wal.scanner().feed(data))
    bounds = sorted({0, len(data), *cuts, *range(at, min(at + 60 * small, len(data)), small)})
    scanner = wal.scanner()
    assert [each for a, b in itertools.pairwise(bounds) for each in scanner.feed(data[a:b])] == whole


def test_a_scan_may_begin_at_any_file(wal: Wal) -> None:
    whole = list(wal.scanner().feed(wal.data))
    for offset in range(SIZE, len(wal.data), SIZE):
        found = list(wal.scanner(position=wal.start + offset).feed(wal.data[offset:]))
        assert found == [each for each in whole if each.start >= wal.start + offset]


def test_a_transaction_over_which_the_archive_began_again_is_found(wal: Wal, place: Path) -> None:
    """The second archiver began at a file: it saw the end of a commit, and not what it was the end of."""
    ends = [each for each in wal.scanner().feed(wal.data) if isinstance(each, TransactionEnd)]
    commit = next(each for each in ends if each.start // SIZE < (each.end - 1) // SIZE)
    border, stop = commit.end // SIZE * SIZE, ends[-1].end
    bounds = [*range(wal.start, stop, SIZE), commit.end, stop]
    store = open_directory(place / "store")
    details = SeriesDetails(system=wal.system, timeline=1, file_size=SIZE).model_dump_json()
    options = {"identity": "x", "began": "first", "started": 0, "begin": lsn.format_lsn(wal.start), "details": details}
    head = begin_series(store, LOG, datastore="postgresql", **options)  # type: ignore[arg-type]
    for begin, end in ((wal.start, border), (border, stop)):
        with SegmentWriter(store, head, Artifact()) as writer:
            for at, after in itertools.pairwise(sorted(each for each in bounds if begin <= each <= end)):
                builder = SpanBuilder()
                for each in ends:
                    if begin <= each.start and at < each.end <= after:
                        builder.add(each)
                writer.append(wal.data[at - wal.start : after - wal.start])
                writer.cut(*builder.finish(after, covered_until=None, details=""))
                assert writer.wait(30)
            head = writer.durable
    (interval,) = find_window(load_log(store, LOG)[0], lambda one, other: lsn.parse_lsn(one) <= lsn.parse_lsn(other)).intervals
    before = datetime.fromtimestamp((commit.time - 1) / 10**6, UTC).isoformat()
    cut = find_cut(Target.parse(before), Stretch(store, LOG, interval.pieces))
    assert cut.next is not None
    assert (cut.next.name, cut.next.end) == (str(commit.transaction), lsn.format_lsn(commit.end))
    # The segments before it are not needed any more.
    first = (border - wal.start) // SIZE
    (piece,) = interval.pieces
    rest = Stretch(store, LOG, [Piece(0, first, piece.stop, lsn.format_lsn(border), piece.end)])
    targets = [Target.parse(text) for text in ("latest", f"lsn:{lsn.format_lsn(commit.end)}")]
    cuts = [find_cut(target, rest) for target in targets]
    trim_log(store, LOG, 0, first, at=0)
    remove_trimmed(store, LOG)
    assert [find_cut(target, rest).position for target in targets] == [each.position for each in cuts]


def test_a_scan_may_begin_at_any_page(wal: Wal) -> None:
    whole = list(wal.scanner().feed(wal.data))
    for offset in range(0, len(wal.data), 61 * 8192):
        found = list(wal.scanner(position=wal.start + offset).feed(wal.data[offset:]))
        assert found == [each for each in whole if each.start >= wal.start + offset]


def test_the_end_of_the_last_whole_record_is_known(wal: Wal) -> None:
    starts = [lsn.parse_lsn(start) for start in re.findall(r"lsn: (\S+), prev", wal.dump)]
    ends = [find_record_end(start, SIZE) for start in starts[1:]]
    chance = random.Random(16)
    for limit in [*chance.sample(range(ends[0], ends[-1]), 100), *chance.sample(ends, 50)]:
        first = chance.choice([0, max(0, limit - wal.start - 2 * SIZE) // 8192 * 8192])
        scanner = wal.scanner(position=wal.start + first)
        list(scanner.feed(wal.data[first : limit - wal.start]))
        known = max(end for end in ends if end <= limit)
        assert scanner.is_lost or scanner.end == known or known < scanner.end == -(-limit // SIZE) * SIZE, limit


def test_wal_of_another_place_or_server_is_refused(wal: Wal) -> None:
    for other in ({"position": wal.start + SIZE}, {"system": wal.system + 1}, {"size": 2 * SIZE, "position": 0}):
        with pytest.raises(Unfit):
            list(wal.scanner(**other).feed(wal.data))
    with pytest.raises(Unfit, match="timeline"):
        list(WalScanner(wal.start, SIZE, wal.system, History(2)).feed(wal.data))


def test_lost_and_swapped_pages_are_refused(wal: Wal) -> None:
    pages = [wal.data[at : at + 8192] for at in range(SIZE, SIZE + 64 * 8192, 8192)]
    assert all(map(any, pages))
    for changed in (
        [*pages[:5], *pages[6:]],
        [*pages[:5], pages[6], pages[5], *pages[7:]],
        [*pages[:5], bytes(8192), *pages[6:]],
    ):
        with pytest.raises(Unfit):
            list(wal.scanner(position=wal.start + SIZE).feed(b"".join(changed)))


def test_a_changed_header_of_a_record_is_refused(wal: Wal) -> None:
    first = int(re.findall(r"lsn: \d+/(\S+),", wal.dump)[200], 16) + (wal.start >> 32 << 32) - wal.start
    for offset, value in ((0, struct.pack("<I", 3)), (0, bytes(4)), (0, struct.pack("<I", 1 << 30)), (8, struct.pack("<Q", 1))):
        data = bytearray(wal.data)
        data[first + offset : first + offset + len(value)] = value
        with pytest.raises(Unfit):
            list(wal.scanner().feed(bytes(data)))


@given(data=st.binary(max_size=200), info=st.sampled_from([0x00, 0x20, 0x30, 0x40, 0x80, 0xA0, 0xB0, 0xC0]))
def test_a_damaged_record_is_an_error_of_one_kind(data: bytes, info: int) -> None:
    header = struct.pack("<IIQBBxxI", 24 + len(data), 5, 0, info, 1, 0)
    with contextlib.suppress(RecordDamaged):
        assert isinstance(parse_record(header + data, 0, 8), TransactionEnd)


def _short(position: str) -> str:
    return lsn.format_lsn(lsn.parse_lsn(position))
