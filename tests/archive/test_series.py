"""A series as bytes: what was appended is read back, by whoever wrote it last; damage and a second writer are noticed."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.archive import (
    Event,
    LogSegment,
    SegmentIndex,
    SegmentReader,
    SegmentWriter,
    SeriesLocation,
    Span,
    delete_series,
    list_records,
    load_covered,
    load_head,
    load_segment,
    trim_log,
)
from strongroom.archive.records import MAX_RAW, MAX_RECORD, Activity
from strongroom.artifact import list_artifacts, new_identity
from strongroom.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, CannotDecrypt, LogTaken, StorageError, StorageFull
from strongroom.sections import Artifact
from strongroom.storage import Stat, Store
from support.archives import LOG, append, begin, open_directory
from support.stores import Wrapped

IDENTITY, RECIPIENT = new_identity()
SERIES = LOG.series(0)
INDEX = SegmentIndex(
    events=(Event(kind="drop", begin="1", end="2", time=3, text="DROP TABLE `shöp`.items", objects=("shöp.items",)),),
    activity=(Activity(table="shop.items", kind="delete", bytes=12),),
    omitted=1,
)


@pytest.fixture
def store(place: Path) -> Store:
    return open_directory(place / "store")


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6),
    stops=st.sets(st.integers(0, 6)),
    codec=st.sampled_from(["zstd", "gzip"]),
    encrypted=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_what_several_writers_appended_is_read_back(pieces: list[bytes], stops: set[int], codec: Any, encrypted: bool) -> None:
    recipients, identities = ([RECIPIENT], [IDENTITY]) if encrypted else ([], [])
    with tempfile.TemporaryDirectory() as top:
        store = open_directory(Path(top))
        head = begin(store)
        bounds = sorted({0, len(pieces), *(stop for stop in stops if stop < len(pieces))})
        for first, stop in itertools.pairwise(bounds):
            head = append(store, load_head(store, SERIES), pieces[first:stop], Artifact(codec=codec), recipients, INDEX)
        assert load_head(store, SERIES) == head
        assert (head.number, head.position) == (len(pieces), str(sum(map(len, pieces))))
        assert list_records(store, SERIES) == list(range(len(pieces)))
        reader = SegmentReader(store, SERIES, identities)
        segments = list(reader.segments(0, len(pieces)))
        assert [reader.read(segment) for segment in segments] == pieces
        assert all(reader.index(segment) == INDEX for segment in segments)
        assert all(("DROP" in segment.index) is False for segment in segments)
        assert list(reader.segments(len(pieces) - 1, len(pieces))) == segments[-1:]
        if encrypted:
            with pytest.raises(CannotDecrypt):
                SegmentReader(store, SERIES).read(segments[0])


def test_stock_tools_unpack_a_series(store: Store, place: Path) -> None:
    append(store, begin(store), [b"one", b"two" * 1000, b"three"])
    shell = f"cat {place}/store/{SERIES.data}/* | zstd -dc"
    assert subprocess.run(shell, shell=True, check=True, capture_output=True).stdout == b"one" + b"two" * 1000 + b"three"


def test_a_log_archive_is_not_taken_for_a_backup(store: Store) -> None:
    append(store, begin(store), [b"one"])
    assert list(list_artifacts(store)) == []


def test_of_two_writers_one_continues(store: Store) -> None:
    head = begin(store)
    first, second = (SegmentWriter(store, head, Artifact()) for _ in range(2))
    with first, second:
        outcomes = []
        for writer, data in ((first, b"one"), (second, b"another")):
            writer.append(data)
            writer.cut(Span(end=str(len(data))))
        for writer in (first, second):
            try:
                assert writer.wait(30)
                outcomes.append(writer.durable.number)
            except LogTaken as error:
                assert "Only one process" in error.remedy
                outcomes.append(-1)
    assert sorted(outcomes) == [-1, 1]
    segment = load_segment(store, SERIES, 0).record
    assert SegmentReader(store, SERIES).read(segment) == (b"one" if outcomes[0] == 1 else b"another")


def test_two_series_never_get_the_same_number(store: Store) -> None:
    barrier, numbers = threading.Barrier(4), []

    def start() -> None:
        barrier.wait()
        try:
            numbers.append(begin(store).series.location.number)
        except LogTaken:
            numbers.append(-1)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [number for number in numbers if number >= 0]
    assert taken and len(taken) == len(set(taken))


class Failing(Wrapped):
    """Puts fail while ``error`` is set: before they are stored, or after (the response is lost)."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.error: StorageError | None = None
        self.stores = False
        self.failed = threading.Event()

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        if self.error is None:
            return super().put(key, data, create=create)
        if self.stores:
            super().put(key, data, create=create)
        self.failed.set()
        raise self.error


@pytest.mark.parametrize("stores", [False, True])
def test_a_store_that_fails_is_tried_again(store: Store, stores: bool) -> None:
    failing = Failing(store)
    told = threading.Event()
    with SegmentWriter(failing, begin(store), Artifact(), on_stored=told.set) as writer:
        failing.error, failing.stores = StorageFull("the store is full"), stores
        writer.append(b"one")
        writer.cut(Span(end="3"))
        assert failing.failed.wait(30)
        assert not writer.wait(0)
        assert (writer.durable.position, writer.position, writer.is_busy) == ("0", "3", True)
        assert writer.trouble is failing.error
        failing.error = None
        assert writer.wait(30)
        assert told.wait(30)
        assert (writer.durable.position, writer.is_busy, writer.trouble) == ("3", False, None)
    assert load_head(store, SERIES) == writer.durable


def test_what_was_not_stored_when_the_writer_ended_is_not_durable(store: Store) -> None:
    failing = Failing(store)
    head = begin(store)
    failing.error = StorageFull("the store is full")
    with SegmentWriter(failing, head, Artifact()) as writer:
        writer.append(b"one")
        writer.cut(Span(end="3"))
        assert failing.failed.wait(30)
    assert load_head(store, SERIES) == head
    append(store, head, [b"another"])
    assert [SegmentReader(store, SERIES).read(s) for s in SegmentReader(store, SERIES).segments(0, 1)] == [b"another"]


def test_a_segment_is_due_when_it_is_full_or_old(store: Store) -> None:
    now = [100.0]
    with SegmentWriter(store, begin(store), Artifact(), limit=10, max_age=5, clock=lambda: now[0]) as writer:
        assert (writer.due_in, writer.remaining) == (None, 10)
        writer.append(b"one")
        now[0] += 2
        writer.append(b"two")
        assert (writer.due_in, writer.remaining, writer.size) == (3.0, 4, 6)
        now[0] += 4
        assert writer.due_in == 0.0
        writer.cut(Span(end="6"))
        writer.append(b"0123456789")
        assert (writer.due_in, writer.remaining) == (0.0, 0)


def test_an_idle_log_is_covered(store: Store) -> None:
    with SegmentWriter(store, begin(store), Artifact()) as writer:
        writer.cover(50)
        assert writer.wait(30)
        covered = load_covered(store, SERIES)
        assert covered is not None and (covered.number, covered.record, covered.time) == (-1, writer.durable.sha256, 50)
        writer.append(b"one")
        writer.cover(60)
        assert load_covered(store, SERIES) == covered, "what was appended is not covered"


# --- a hostile store

OTHER = LOG.series(7)


def _damage(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "begin", "1"
    yield "previous", "0" * 64
    yield "series", OTHER.model_dump()
    yield "series", {"log": {"container": "..", "database": "a", "source": "b"}, "number": 0}
    yield "number", 3
    yield "raw", record["raw"] + 1
    yield "raw", MAX_RAW + 1
    yield "raw", record["raw"] - 1
    yield "stored", record["stored"] + 1
    yield "stored", 2**40
    yield "sha256", "f" * 64
    yield "sha256", "../../etc/passwd"
    yield "codec", "gzip"
    yield "format", 2
    yield "first_time", 10**18
    yield "index", base64.b64encode(zstandard.compress(bytes(100 * 1024**2))).decode()
    yield "index", base64.b64encode(zstandard.compress(b"{}")[:-2]).decode()
    yield "index", "never base64"


def test_no_damage_is_returned_as_log(store: Store) -> None:
    append(store, begin(store), [b"one" * 100, b"two" * 100])
    key = SERIES.record_of(1)
    good = store.get(key)
    record = json.loads(good)
    data_key = LogSegment.model_validate_json(good).data_key
    data = store.get(data_key)

    def read() -> None:
        reader = SegmentReader(store, SERIES)
        for segment in reader.segments(0, 2):
            reader.read(segment)
            reader.index(segment)

    read()
    for name, value in _damage(record):
        store.put(key, json.dumps({**record, name: value}).encode())
        with pytest.raises(ArtifactError):
            read()
    for bad in (b"", b"[]", b"\xff", b"{" * 100_000, good[:-1], b" " * (MAX_RECORD + 1)):
        store.put(key, bad)
        with pytest.raises(ArtifactCorrupt):
            read()
    store.put(key, good)
    for bad in (b"", data[:-1], data + b"x", data[:-1] + bytes([data[-1] ^ 1]), zstandard.compress(bytes(300))):
        store.put(data_key, bad)
        with pytest.raises(ArtifactCorrupt):
            read()
    store.delete([data_key])
    with pytest.raises(ArtifactMissing):
        read()
    store.put(data_key, data)
    read()
    store.delete([SERIES.record_of(0)])
    with pytest.raises(ArtifactMissing):
        read()


@given(key=st.text(max_size=60), number=st.integers(0, 10**10 - 1))
def test_only_keys_of_the_series_are_parts_of_it(key: str, number: int) -> None:
    for part in (SERIES.series, SERIES.covered, SERIES.record_of(number), SERIES.data_of(number, "a" * 64)):
        assert SERIES.parse_part(part) == part
        assert OTHER.parse_part(part) is None
        assert SERIES.parse_part(f"{part}{key}") in (None, part)
    assert SERIES.parse_part(f"{SERIES.prefix}/{key}") in (None, SERIES.series, SERIES.covered)
    assert SERIES.parse_record(SERIES.record_of(number)) == number
    assert SERIES.parse_record(SERIES.data_of(number, "a" * 64)) is None


def test_a_deleted_series_leaves_only_what_is_not_its_own(store: Store) -> None:
    append(store, begin(store), [b"one", b"two"])
    other = append(store, begin(store), [b"three"])
    strange = [f"{SERIES.records}/0000000001.json.bak", f"{SERIES.data}/notes/a", f"{SERIES.prefix}/readme"]
    for key in strange:
        store.put(key, b"mine")
    delete_series(store, SERIES)
    assert sorted(stat.key for stat in store.list(SERIES.prefix)) == sorted(strange)
    assert load_head(store, LOG.series(1)) == other
    delete_series(store, SERIES)


def test_locations_are_checked() -> None:
    for database in ("", "../x", "a/b", "_logs", "a" * 65):
        with pytest.raises(ValueError, match="database"):
            LOG.model_validate({"container": "box", "database": database, "source": "a"})
    assert LOG.parse_series("00000003") == SeriesLocation(log=LOG, number=3)
    assert [LOG.parse_series(name) for name in ("3", "0000000x", "..", "000000001")] == [None] * 4


def test_a_writer_that_got_nothing_has_no_thread(store: Store) -> None:
    before = threading.active_count()
    writer = SegmentWriter(store, begin(store), Artifact())
    assert threading.active_count() == before
    writer.close()


def test_a_series_is_never_numbered_before_the_beginning_that_retention_left(store: Store) -> None:
    """Its folders may be gone, as after a removal that was interrupted."""
    for at in (0, 1):
        begin(store, at)
    trim_log(store, LOG, 1, 0, at=0)
    for number in (0, 1):
        delete_series(store, LOG.series(number))
    assert begin(store, 2).series.location.number == 2
