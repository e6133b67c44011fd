"""The log archive of a real PostgreSQL server: complete whatever is killed, stopped, promoted or restored."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.archive import LogLocation, SegmentReader, Window, find_window, load_log
from strongroom.datastores.postgresql.archive.files import assemble_files
from strongroom.datastores.postgresql.archive.records import TransactionEnd
from strongroom.datastores.postgresql.archive.scanner import WalScanner
from strongroom.datastores.postgresql.files.lsn import list_segments, parse_lsn
from strongroom.datastores.postgresql.files.wal import History, find_address
from strongroom.errors import LogTaken, StorageFull
from strongroom.storage import Stat, Store
from support import processes
from support.archives import open_directory
from support.own_postgresql import OwnPostgreSQL
from support.stores import Wrapped
from support.wal_receiver import LOG, SLOT, Running, target

SIZE = 1 << 20
TRUST = "local all all trust\nlocal replication all trust\n"
SETTINGS = "wal_keep_size = 200MB\nmax_wal_size = 200MB\nwal_buffers = 64kB\nfsync = off\nautovacuum = off"
WRITE = "DO $$ BEGIN FOR n IN 1..{} LOOP INSERT INTO item VALUES (DEFAULT, repeat(md5(n::text), 30)); COMMIT; END LOOP; END $$"


class Server(OwnPostgreSQL):
    def write(self, rows: int = 300) -> str:
        """Rows, each in a transaction of its own; the position after them."""
        self.sql(WRITE.format(rows))
        return self.sql("SELECT pg_current_wal_flush_lsn()")

    def begin(self) -> None:
        subprocess.run([str(self.start)], check=True)

    def make_standby(self) -> None:
        """Restart as a standby of nobody: ``pg_promote`` makes it a server again, on another timeline."""
        self.end()
        (self.data / "standby.signal").touch()
        os.chown(self.data / "standby.signal", *self._ids())
        self.begin()

    def promote(self) -> None:
        assert self.sql("SELECT pg_promote()") == "t"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    try:
        server = Server(place, settings=SETTINGS, hba=TRUST, initdb=["--wal-segsize=1"])
        server.sql("CREATE TABLE item (id bigserial PRIMARY KEY, t text)")
        yield server
    finally:
        processes.end(place)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def store(place: Path, server: Server) -> Iterator[Store]:
    yield open_directory(place / "store")
    with contextlib.suppress(subprocess.CalledProcessError):
        server.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")


def window(store: Store, log: LogLocation = LOG) -> Window:
    contents, damaged = load_log(store, log)
    assert not damaged
    return find_window(contents, lambda first, second: parse_lsn(first) <= parse_lsn(second))


def require_files(store: Store, server: Server, series: int, timeline: int) -> bytes:
    """The WAL of a series: its files are exactly those of the server, and its index has every end of a transaction."""
    reader = SegmentReader(store, LOG.series(series))
    contents = load_log(store, LOG)[0][series]
    segments = list(reader.segments(0, len(contents.segments)))
    data = bytearray()
    for name, content in assemble_files(reader, segments, timeline, SIZE):
        assert (server.data / "pg_wal" / name).read_bytes()[: len(content)] == content, name
        data += content
    start = parse_lsn(segments[0].begin)
    assert list_segments(timeline, start, start + 1, SIZE)[0] == min(
        name for name, _ in assemble_files(reader, segments, timeline, SIZE)
    )
    text = (server.data / "pg_wal" / f"{timeline:08X}.history").read_text() if timeline > 1 else ""
    system = int(server.sql("SELECT system_identifier FROM pg_control_system()"))
    found = list(WalScanner(start, SIZE, system, History.parse(timeline, text)).feed(data))
    ends = [record for record in found if isinstance(record, TransactionEnd)]
    assert sum(segment.transactions for segment in segments) == len(ends)
    for segment in segments:
        within = [end.time for end in ends if parse_lsn(segment.begin) < end.end <= parse_lsn(segment.end)]
        assert (segment.first_time, segment.last_time) == (min(within, default=None), max(within, default=None))
    return bytes(data)


def start_process(server: Server, place: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "support.wal_receiver", str(server.run), str(place / "store")]
    return subprocess.Popen(command, env=environment, cwd="/")


def test_killed_again_and_again_the_archive_is_the_servers_wal(server: Server, store: Store, place: Path) -> None:
    chance = random.Random(16)
    for _ in range(4):
        process = start_process(server, place)
        deadline = time.monotonic() + chance.uniform(1, 6)
        while time.monotonic() < deadline:
            server.write(50)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    with Running(target(server.run, store)) as running:
        server.sql("SELECT pg_create_restore_point('before-release')")
        server.sql("CREATE TABLE gone (id int); INSERT INTO gone VALUES (1); SELECT pg_switch_wal(); DROP TABLE gone;")
        running.wait_for(server.write())
    require_files(store, server, 0, 1)
    (interval,) = window(store).intervals
    assert window(store).gaps == ()
    assert [piece.series for piece in interval.pieces] == [0]
    reader = SegmentReader(store, LOG.series(0))
    events = [event for each in load_log(store, LOG)[0][0].segments.values() for event in reader.index(each.record).events]
    (point,) = [event for event in events if event.kind == "restore-point"]
    (drop,) = [event for event in events if event.kind == "drop" and parse_lsn(event.begin) > parse_lsn(point.end)]
    assert point.text == "before-release"
    assert [path.partition("/")[0] for path in drop.objects] == ["base"]


def test_the_window_of_an_idle_server_advances(server: Server, store: Store) -> None:
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write(1))
        end = window(store).intervals[-1].end_time
        assert end is not None
        running.wait_until(lambda: (window(store).intervals[-1].end_time or 0) > end)
        now = float(server.sql("SELECT extract(epoch FROM clock_timestamp())"))
        covered = window(store).intervals[-1].end_time
        assert covered is not None and now - 60 < covered / 10**6 < now


class Full(Wrapped):
    """A store that takes nothing while ``is_full``."""

    is_full = False

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        if self.is_full:
            raise StorageFull("the store is full")
        return super().put(key, data, create=create)


def test_a_full_store_delays_no_shutdown_and_loses_nothing(server: Server, store: Store) -> None:
    full = Full(store)
    with Running(target(server.run, full)) as running:
        running.wait_for(server.write())
        assert "max_slot_wal_keep_size is not set" in running.receiver.warnings[0]
        server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '2MB'")
        full.is_full = True
        before = running.position
        server.write(1500)
        running.wait_until(lambda: running.receiver.trouble is not None)
        began = time.monotonic()
        server.end()
        assert time.monotonic() - began < 25, "the server waited for the archive"
        assert not (server.data / "postmaster.pid").exists()
        assert running.position == before
        server.begin()
        running.wait_until(lambda: any("the archive has a gap" in warning for warning in running.receiver.warnings))
        full.is_full = False
        server.sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
        running.wait_for(server.write())
        running.wait_until(lambda: not running.receiver.warnings)
    server.sql("SELECT pg_reload_conf()")
    require_files(store, server, 0, 1)
    assert (len(window(store).intervals), window(store).gaps) == (1, ())


def test_a_receiver_that_is_stopped_delays_the_shutdown_for_seconds_only(server: Server, place: Path, store: Store) -> None:
    process = start_process(server, place)
    while not load_log(store, LOG)[0]:
        time.sleep(0.1)
    process.send_signal(signal.SIGSTOP)
    server.write(500)
    began = time.monotonic()
    server.end()
    assert time.monotonic() - began < 30, "the server waited for the receiver"
    process.kill()
    process.wait(30)
    server.begin()
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write())
    require_files(store, server, 0, 1)


def test_a_record_that_a_crash_cut_off_is_overwritten(server: Server, store: Store) -> None:
    folder = server.data / "pg_wal"
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write(10))
        files = len(list(folder.iterdir()))
        large = "SELECT pg_logical_emit_message(false, 'large', repeat('x', 200000000))"
        process = subprocess.Popen(
            [str(server.bin / "psql"), "-h", str(server.run), "-U", "postgres", "-c", large], cwd="/", stderr=subprocess.DEVNULL
        )
        running.wait_until(lambda: len(list(folder.iterdir())) > files + 3)
        server.command("pg_ctl", "-D", server.data, "stop", "-m", "immediate")
        process.wait(30)
        server.begin()
        running.wait_for(server.write(10))
    require_files(store, server, 0, 1)
    begin = load_log(store, LOG)[0][0].series.record.begin
    command = [str(server.bin / "pg_waldump"), f"--path={folder}", f"--start={begin}", "--rmgr=XLOG"]
    assert "OVERWRITE_CONTRECORD" in subprocess.run(command, check=False, capture_output=True, text=True).stdout
    assert window(store).gaps == ()


def test_a_receiver_ends_when_another_one_writes(server: Server, store: Store) -> None:
    with Running(target(server.run, store)) as first:
        first.wait_for(server.write(10))
        head = first.receiver.durable
        assert head is not None
        store.put(LOG.series(0).record_of(head.number), b"{}")
        with pytest.raises(LogTaken):
            first.wait_for(server.write(10))


def test_log_that_the_server_deleted_is_a_gap(server: Server, store: Store) -> None:
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write())
    end = window(store).intervals[-1].end
    server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '2MB'")
    server.sql("ALTER SYSTEM SET wal_keep_size = 0")
    server.sql("SELECT pg_reload_conf()")
    try:
        for _ in range(30):
            server.write(1000)
            server.sql("CHECKPOINT")
            gone = server.sql("SELECT restart_lsn IS NULL OR wal_status = 'lost' FROM pg_replication_slots")
            if gone == "t":
                break
        server.write(3000)
        server.sql("CHECKPOINT")
    finally:
        server.sql("ALTER SYSTEM RESET ALL")
        server.sql("SELECT pg_reload_conf()")
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write())
    shown = window(store)
    assert len(shown.intervals) == 2
    (gap,) = shown.gaps
    assert (gap.after, gap.before) == (end, shown.intervals[1].begin)
    assert parse_lsn(end) < parse_lsn(shown.intervals[1].begin)
    assert "has already been removed" in gap.cause
    require_files(store, server, 1, 1)


def test_the_log_follows_promotions(server: Server, store: Store) -> None:
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write())
    server.make_standby()
    server.promote()  # while nobody receives
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write())
        server.make_standby()
        running.wait_until(lambda: running.receiver.trouble is None)
        with contextlib.closing(target(server.run, store).connect()) as replication:
            assert replication.identify().is_standby
        server.promote()  # while it receives
        running.wait_for(server.write())
    shown = window(store)
    assert shown.gaps == ()
    assert [[piece.series for piece in interval.pieces] for interval in shown.intervals] == [[0, 1, 2]]
    for series, timeline in ((1, 2), (2, 3)):
        require_files(store, server, series, timeline)


def test_data_of_an_older_copy_is_another_series(server: Server, store: Store) -> None:
    timeline = int(server.sql("SELECT timeline_id FROM pg_control_checkpoint()"))
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write(10))
    server.end()
    copy = server.base / "copy"
    subprocess.run(["cp", "-a", server.data, copy], check=True)
    server.begin()
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write(1000))
        stored = running.position
    server.end()
    shutil.rmtree(server.data)
    copy.rename(server.data)
    server.begin()
    with Running(target(server.run, store)) as running:  # it is behind
        running.wait_for(server.write(1))
        running.wait_until(lambda: running.receiver.durable is not None and running.receiver.durable.series.location.number == 1)
        while parse_lsn(position := server.write(300)) < stored:
            pass
        running.wait_for(position)
    causes = [gap.cause for gap in window(store).gaps]
    assert len(causes) == 1
    assert "before the end of the archive" in causes[0]
    require_files(store, server, 1, timeline)
    assert find_address(list_segments(1, stored, stored + 1, SIZE)[0], SIZE) <= stored


def test_other_wal_at_the_same_place_is_another_series(server: Server, store: Store) -> None:
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write(10))
    server.end()
    copy = server.base / "copy"
    subprocess.run(["cp", "-a", server.data, copy], check=True)
    server.begin()
    with Running(target(server.run, store)) as running:
        stop = server.write(100)
        running.wait_for(stop)
    server.end()
    shutil.rmtree(server.data)
    copy.rename(server.data)
    server.begin()
    while parse_lsn(server.write(300)) <= parse_lsn(stop):
        pass
    with Running(target(server.run, store)) as running:
        running.wait_for(server.write(1))
    (gap,) = window(store).gaps
    assert "is not the archived one" in gap.cause
