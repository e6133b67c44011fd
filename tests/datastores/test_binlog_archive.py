"""The log archive of running servers of MariaDB and MySQL: what is stored, where it continues, and what is found in it."""

from __future__ import annotations

import multiprocessing
import random
import re
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from strongroom.archive import Target, find_window, load_log, remove_trimmed, trim_log
from strongroom.artifact import Positions
from strongroom.datastores import get
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.archive.receiver import LogReceiver
from strongroom.datastores.innodb.binlog import files
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.protocol.logs import Cut, Start, Transaction
from strongroom.errors import InvalidRequest, NotFound, Unsupported
from strongroom.storage import Store
from support.archives import LOG, open_directory
from support.binlog_archives import Archived, Archiving, open_archiver
from support.binlogs import closed
from support.logs import Log, logged_in_own_place
from support.mariadb import backup

LIMIT = 64 << 10
DOCS = Path(__file__).parents[2] / "docs" / "log-archive.md"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    with logged_in_own_place(request.param) as found:
        yield found


@pytest.fixture(autouse=True)
def small_segments(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"strongroom.datastores.{log.kind}.logs.LogReceiver", partial(LogReceiver, limit=LIMIT))


@pytest.fixture
def store(place: Path) -> Store:
    return open_directory(place / "store")


def test_an_archiver_that_dies_again_and_again(log: Log, store: Store, place: Path) -> None:
    """Killed at any moment, also within a transaction of many segments: the next one continues without a duplicate or a gap.

    The server dies as well, so that a file has no end.
    """
    forks = multiprocessing.get_context("fork")
    luck = random.Random(5)
    done = threading.Event()

    def write() -> None:
        for number in range(40):
            log.run("BEGIN", f"INSERT INTO d.t (b) VALUES (REPEAT('{number}', {luck.randint(1, 3000)}))", "COMMIT")
            if number % 11 == 5:
                log.run("FLUSH BINARY LOGS", "CREATE TABLE d.gone (a INT)", "DROP TABLE d.gone")
            if number == 25:
                log.running.kill()
                log.running.start()
            if number % 15 == 9:
                log.sql(f"INSERT INTO d.t (b) VALUES (REPEAT('{number}', 2000000))")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    deaths = 0
    while not done.is_set() or deaths < 5:
        child = forks.Process(target=lambda: open_archiver(log, store).run())
        child.start()
        child.join(luck.uniform(0.2, 1.2))
        child.kill()
        child.join()
        deaths += 1
    writer.join()
    with Archiving(log, store) as archiving:
        archiving.wait()
        log.sql("INSERT INTO d.t (b) VALUES ('live')")
        now = time.time_ns() // 1000
        archiving.wait()
        archiving.wait_until(lambda: (archiving.archiver.complete_until or 0) >= now)

    names = log.names()
    archived = Archived(store)
    assert archived.files() == log.files(names)
    segments = archived.segments()
    groups = log.groups(log.read(log.from_file(names[0])))
    assert sum(segment.transactions for segment in segments) == len(groups)
    assert max(segment.raw for segment in segments) <= LIMIT + (1 << 20)
    assert [(each.begin, each.end, each.name) for each in archived.transactions(log)] == [
        (str(group.first), str(group.end), group.start.gtid) for group in groups
    ]
    ends = {str(group.end): group for group in groups}
    for segment in segments:
        index = archived.reader.index(segment)
        for event in index.events:
            group = ends[event.end]
            assert event.begin == str(group.first)
            assert event.text in [f"{group.size} bytes", *(statement.text for statement in group.statements)]
        assert all(mark.position in ends for mark in index.marks)
        assert all(mark.time // 1_000_000 - ends[mark.position].end_time >= 0 for mark in index.marks)
    dropped = [event for segment in segments for event in archived.reader.index(segment).events if event.kind == "drop"]
    assert [event.objects for event in dropped].count(("d.gone",)) == 4
    assert segments[-1].covered_until and SegmentDetails.of(segments[-1]).gtids == str(log.state())
    times = [time for segment in segments for time in (segment.first_time, segment.last_time) if time is not None]
    assert times == sorted(times)

    found = re.search(r"<!-- script: files -->\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    by_hand = place / "by-hand"
    by_hand.mkdir()
    subprocess.run([sys.executable, "-c", found[1], place / "store" / LOG.series(0).prefix, by_hand], check=True)
    assert {path.name: closed(path) for path in by_hand.iterdir()} == log.files(names)
    check_cuts(log, archived, luck)
    check_trimmed(log, archived)


def check_trimmed(log: Log, archived: Archived) -> None:
    """The first segment that retention keeps is read without those before it."""
    every = archived.transactions(log)
    first = next(
        segment.number
        for segment in archived.segments()[4:]
        if segment.transactions > 1 and (details := SegmentDetails.of(segment)).start == f"{details.file}:{details.begin}"
    )
    trim_log(archived.store, LOG, 0, first, at=0)
    remove_trimmed(archived.store, LOG)
    kept = archived.transactions(log)
    assert 1 < len(kept) < len(every) and kept == every[-len(kept) :]
    moment = (EPOCH + timedelta(microseconds=kept[0].time)).isoformat()
    for target in (f"gtid:{kept[0].name}", f"before-gtid:{kept[1].name}", moment):
        cut = get(log.kind).require_logs().find_cut(Target.parse(target), archived.stretch)
        assert strip(cut.last) == kept[bisect_right([each.time for each in kept], kept[0].time) - 1 if target == moment else 0]
    cut = get(log.kind).require_logs().find_cut(Target.parse(f"before-gtid:{kept[0].name}"), archived.stretch)
    assert cut.last is None and cut.position == kept[0].begin


def check_cuts(log: Log, archived: Archived, luck: random.Random) -> None:
    """Every target leads to the cut that a search through all transactions finds."""
    every = archived.transactions(log)
    times = [each.time for each in every]
    end = str(SegmentDetails.of(archived.segments()[-1]).boundary)

    def find(target: str) -> Cut:
        return get(log.kind).require_logs().find_cut(Target.parse(target), archived.stretch)

    def check(target: str, count: int) -> None:
        cut = find(target)
        assert (cut.series, cut.position) == (0, every[count].begin if count < len(every) else end)
        for found, wanted in ((cut.last, count - 1), (cut.next, count)):
            assert strip(found) == (every[wanted] if 0 <= wanted < len(every) else None)

    moments = [luck.choice(times) + luck.choice([-1, 0, 1, 700]) for _ in range(12)]
    for moment in [*moments, times[-1], times[-1] + 60_000_000]:
        if moment >= times[0]:
            check((EPOCH + timedelta(microseconds=moment)).isoformat(), bisect_right(times, moment))
    for at in [0, len(every) - 1, *(luck.randrange(len(every)) for _ in range(8))]:
        check(f"gtid:{every[at].name}", at + 1)
        check(f"before-gtid:{every[at].name}", at)
    cut = find("latest")
    assert strip(cut.last) == every[-1] and cut.next is None and cut.position == end

    (dropped,) = [each for each in every if each.name == find_drop(log, archived)]
    assert (found := find(f"before-gtid:{dropped.name}").next) is not None and found.tables == ("d.gone",)
    unknown = "0-1-999999" if log.kind == "mariadb" else f"{log.sql('SELECT @@server_uuid')[0][0]}:999999"
    for target, match in ((f"gtid:{unknown}", "does not contain"), ("2001-01-01T00:00:00Z", "the log begins at")):
        with pytest.raises(NotFound, match=match):
            find(target)
    for target, match in (("lsn:0/5A28", "no LSNs"), ("point:x", "no restore points"), ("gtid:nonsense", "is not")):
        with pytest.raises(InvalidRequest, match=match):
            find(target)


def strip(found: Transaction | None) -> Transaction | None:
    return found and Transaction(found.begin, found.end, found.time, found.name)


def find_drop(log: Log, archived: Archived) -> str:
    """The GTID of the first DROP TABLE."""
    begin = next(
        event.begin for segment in archived.segments() for event in archived.reader.index(segment).events if event.kind == "drop"
    )
    return next(each.name for each in archived.transactions(log) if each.begin == begin)


def test_a_new_series_begins_after_a_gap(log: Log, store: Store, place: Path) -> None:
    """After a purge, a reset, and with another data directory. A backup is found only in the series of its own history."""
    logs = get(log.kind).require_logs()

    def start(positions: Positions) -> Start | None:
        return logs.find_start(positions, load_log(store, LOG)[0])

    log.reset()  # what earlier tests have left is long
    taken = []
    with Archiving(log, store) as archiving:
        log.run("INSERT INTO d.t (b) VALUES ('one')")
        archiving.wait(0)
        taken.append(backup(log.running, place, "zero").positions)
        log.run("INSERT INTO d.t (b) VALUES ('two')")
        archiving.wait(0)
    for _ in range(3):
        log.run("INSERT INTO d.t (b) VALUES ('unread')", "FLUSH BINARY LOGS")
    assert taken[0].binlog_created and start(taken[0])

    log.sql("PURGE BINARY LOGS TO %s", log.names()[-1])
    with Archiving(log, store) as archiving:
        log.run("INSERT INTO d.t (b) VALUES ('after')")
        archiving.wait(1)
        taken.append(backup(log.running, place, "one").positions)
        log.reset()
        log.run(*["INSERT INTO d.t (b) VALUES ('one')"] * 5)
        archiving.wait(2)
        taken.append(backup(log.running, place, "two").positions)
        log.running.stop()
        get(log.kind).servers.ensure_lineage(log.running.data_dir, renew=True)  # as a restore does
        (log.running.data_dir / "auto.cnf").unlink(missing_ok=True)
        log.running.start()
        log.run("INSERT INTO d.t (b) VALUES ('other')")
        archiving.wait(3)
        taken.append(backup(log.running, place, "three").positions)
        log.run("INSERT INTO d.t (b) VALUES ('end')")
        archiving.wait(3)

    contents, damaged = load_log(store, LOG)
    assert not damaged
    began = [each.series.record.began for each in contents]
    assert began == ["first", "lost", "restore", "restore"]
    gaps = find_window(contents, logs.precedes).gaps
    assert [(gap.series, gap.cause) for gap in gaps] == [(at, each.series.record.reason) for at, each in enumerate(contents)][1:]
    assert "deleted" in gaps[0].cause and "does not have the log that was read before" in gaps[1].cause
    for number, positions in enumerate(taken):
        at = f"{positions.binlog_file}:{positions.binlog_position}"
        upper = positions.binlog_upper or ""
        assert logs.precedes(at, upper)
        assert start(positions) == Start(number, at, upper if log.kind == "mysql" else "")
        assert Archived(store, number).files()
        for each in Archived(store, number).transactions(log):
            assert is_outside(Position(str(positions.binlog_file), positions.binlog_position or 0), each)
    other = taken[0].model_copy(update={"server_uuid": "00000000-0000-0000-0000-000000000000"})
    assert start(other) is None
    assert start(Positions()) is None
    assert start(taken[0].model_copy(update={"binlog_position": 1 << 30})) is None
    names = [each.binlog_file for each in taken]
    if names.count(names[0]) > 1:  # without the time of the file, names do not say which one it is
        assert start(taken[0].model_copy(update={"binlog_created": None, "server_uuid": None})) is None


def is_outside(position: Position, transaction: Transaction) -> bool:
    """Whether the log can be cut there: not within the transaction."""
    return position.precedes(Position.parse(transaction.begin)) or Position.parse(transaction.end).precedes(position)


def test_a_store_that_hangs_does_not_change_times(log: Log, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed meanwhile is read late; its time is that of the server."""
    works = threading.Event()
    works.set()
    real = store.put

    def put(*args: Any, **options: Any) -> Any:
        works.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(store, "put", put)
    with Archiving(log, store) as archiving:
        archiving.wait()
        works.clear()
        log.run("CREATE TABLE d.before (a INT)", *[f"INSERT INTO d.t (b) VALUES (REPEAT('x', {LIMIT}))"] * 4)
        time.sleep(2.5)
        moment = datetime.now(UTC)
        time.sleep(1.5)
        log.run("DROP TABLE d.before")
        time.sleep(2)
        assert (archiving.archiver.complete_until or 0) < moment.timestamp() * 1_000_000
        works.set()
        archiving.wait()
    archived = Archived(store)
    cut = get(log.kind).require_logs().find_cut(Target.parse(moment.isoformat()), archived.stretch)
    assert cut.next is not None and cut.next.tables == ("d.before",)
    assert abs(cut.next.time / 1_000_000 - moment.timestamp() - 1.5) <= 1.2


def test_a_log_within_innodb_is_refused(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB 12.3 can have one; there is no package of it for the tests."""
    real = files.read_variables

    def read(connection: Any, kind: str, names: str) -> dict[str, str]:
        return real(connection, kind, names) | {"binlog_storage_engine": "InnoDB"}

    monkeypatch.setattr(files, "read_variables", read)
    with log.running.connect() as connection, pytest.raises(Unsupported, match="keeps its binary log in InnoDB") as error:
        files.list_files(log.running.server, connection)
    assert "without binlog_storage_engine" in error.value.remedy


def test_a_server_without_a_complete_log(log: Log, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archiver says what to set, and archives when it is set."""
    servers = get(log.kind).servers
    command = servers.build_command(log.running.server)

    def restart(*options: str) -> None:
        log.running.stop()
        with monkeypatch.context() as patched:
            patched.setattr(servers, "build_command", lambda *_: [*command, *options])
            log.running.start()

    updates, change, words = "log_slave_updates", "CHANGE MASTER TO master_host", "SLAVE"
    if log.kind == "mysql":
        updates, change, words = "log_replica_updates", "CHANGE REPLICATION SOURCE TO source_host", "REPLICA"
    monkeypatch.setattr(f"{LogReceiver.__module__}._LONGEST_PAUSE", 0.3)
    restart("--skip-log-bin")
    with Archiving(log, store) as archiving:

        def expect(message: str, remedy: str) -> None:
            archiving.wait_until(lambda: message in getattr(archiving.archiver.trouble, "message", ""))
            assert remedy in getattr(archiving.archiver.trouble, "remedy", "")

        expect("log_bin is OFF", "log_bin = binlog")
        restart("--binlog-ignore-db=left", f"--{updates}=OFF", "--sync-binlog=0")
        expect("binlog_ignore_db is left", "Remove binlog_ignore_db")
        restart(f"--{updates}=OFF", "--sync-binlog=0")
        archiving.wait()
        assert archiving.archiver.trouble is None and any("sync_binlog" in each for each in archiving.archiver.warnings)
        log.run(f"{change}='127.9.9.9'")
        log.running.kill()
        log.running.start() if log.kind == "mariadb" else restart(f"--{updates}=OFF")
        expect("is a replica", f"{updates} = ON")
        log.run(f"STOP {words}", f"RESET {words} ALL")
        archiving.wait()
        assert archiving.archiver.trouble is None
