"""Restored data of MariaDB and MySQL that is rolled forward along an archived log: exact at every moment, or an error."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from strongroom.archive import Stretch
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.archive.receiver import LogReceiver
from strongroom.datastores.innodb.binlog.header import FORMAT, MAGIC, ROTATE, parse_header
from strongroom.datastores.innodb.binlog.pieces import Piece, Position
from strongroom.datastores.innodb.replay.batches import Batch, BatchWriter, Repeat
from strongroom.datastores.innodb.replay.events import LogEvents
from strongroom.datastores.innodb.replay.replica import SERVER_ID
from strongroom.datastores.innodb.replay.scan import Scanner
from strongroom.datastores.mariadb.binlog.dialect import GTID as MARIADB_GTID
from strongroom.datastores.mariadb.binlog.gtids import GtidList
from strongroom.datastores.mariadb.replay.rewrite import MariaDBRewriter
from strongroom.datastores.mariadb.replay.state import MARGIN
from strongroom.datastores.mysql.binlog.dialect import GTID
from strongroom.datastores.mysql.binlog.gtids import GtidSet
from strongroom.datastores.mysql.replay.rewrite import MySQLRewriter
from strongroom.datastores.protocol.logs import Start
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, LogCorrupt, ServerFailed
from support.archives import open_directory
from support.binlog_archives import Archived, Archiving
from support.logs import logged
from support.replays import Source, begun, kill_servers, read_tables

BATCH = 300_000
LARGE = 6 << 20


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def source(request: pytest.FixtureRequest) -> Iterator[Source]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    patch = pytest.MonkeyPatch()
    patch.setenv("TZ", "Asia/Tokyo")  # of the host: statements of a log may depend on it
    patch.setattr(f"strongroom.datastores.{request.param}.logs.LogReceiver", partial(LogReceiver, limit=64 << 10))
    try:
        with logged(request.param, place) as log:
            log.run(
                "CREATE TABLE d.ledger (client INT, number INT, note TEXT, PRIMARY KEY (client, number))",
                "CREATE TABLE d.m (a INT, b TEXT) ENGINE=MyISAM",
                "INSERT INTO d.t (b) VALUES ('0'), ('1'), ('2'), ('3')",
            )
            with begun(log, place) as found:
                store = open_directory(place / "store")
                with Archiving(log, store) as archiving:
                    work(found, archiving)
                    archiving.wait()
                log.running.stop()
                yield found
    finally:
        patch.undo()
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.datastores.innodb.replay.batches.BATCH", BATCH)


@pytest.fixture
def stretch(source: Source) -> Stretch:
    return Archived(open_directory(source.place / "store")).stretch


def work(source: Source, archiving: Archiving) -> None:
    """Moments: ``plain`` (only InnoDB), ``definitions`` (DDL and MyISAM), ``all``."""
    log = source.log
    with source.written_to(3):
        log.run("BEGIN", *(f"INSERT INTO d.t (b) VALUES (REPEAT('{n}', {LARGE // 6}))" for n in range(6)), "COMMIT")
        log.sql("FLUSH BINARY LOGS")
        time.sleep(0.5)
        with source.quiet():
            archiving.wait()  # so that the moment is within a file
        log.run("BEGIN", "INSERT INTO d.t (b) VALUES ('s')", "SAVEPOINT s", "DELETE FROM d.t", "ROLLBACK TO s", "COMMIT")
        source.note("plain")
        log.run(
            "INSERT INTO d.m VALUES (1, 'one')",
            "CREATE TABLE d.u AS SELECT a, LEFT(b, 10) AS b FROM d.t",
            "ALTER TABLE d.u ADD c INT DEFAULT 5, ADD INDEX (b)",
            "CREATE TABLE d.v LIKE d.u",
            "RENAME TABLE d.u TO d.w, d.v TO d.u",
            "INSERT INTO d.u SELECT * FROM d.w WHERE a < 3",
            "CREATE USER reader@localhost",
            "GRANT SELECT ON d.* TO reader@localhost",
        )
        source.note("definitions")
        log.run("XA START 'x'", "INSERT INTO d.t (b) VALUES ('xa')", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'")
        log.sql(f"SET GLOBAL server_id = {SERVER_ID}")
        log.run(*compress(log.kind))
        log.sql("SET GLOBAL server_id = 77")
        log.run(
            "CREATE TABLE d.z (a INT, moment TIMESTAMP)",
            "INSERT INTO d.z VALUES (1, NOW())",
            "ALTER TABLE d.z MODIFY moment DATETIME, ADD COLUMN other DATETIME DEFAULT NOW()",
        )
    use_temporary(source)
    log.running.kill()  # a file without an end, and another start of the source
    log.running.start()
    log.sql("SET GLOBAL binlog_checksum = NONE")
    log.run("INSERT INTO d.t (b) VALUES ('none')", "DROP TABLE d.w", "TRUNCATE d.u")
    log.sql("SET GLOBAL binlog_checksum = CRC32")
    log.run("INSERT INTO d.m VALUES (2, 'two')", "INSERT INTO d.t (b) VALUES ('end')")
    source.note("all")
    log.run("DELETE FROM d.t", "DROP TABLE d.ledger")


def compress(kind: str) -> list[str]:
    """Compressed transactions, long events, and GTIDs with tags."""
    noise = random.Random(1).randbytes(1 << 21).hex()
    insert, long_insert = "INSERT INTO d.t (b) VALUES (REPEAT('z', 5000))", f"INSERT INTO d.t (b) VALUES ('{noise}')"
    long = ["SET SESSION binlog_format = 'STATEMENT'", long_insert, "SET SESSION binlog_format = 'ROW'"]
    if kind == "mysql":
        compressed = ["SET binlog_transaction_compression = ON", insert, long_insert]
        return [*long, *compressed, "SET gtid_next = 'AUTOMATIC:tag_1'", insert]
    return [
        *long,
        "SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10",
        insert,
        f"CREATE TABLE d.c (a INT) COMMENT '{'c' * 100}'",
        "SET GLOBAL log_bin_compress = OFF",
    ]


def use_temporary(source: Source) -> None:
    """A temporary table that is logged by its statements, and is used in several batches and files.

    Before, the account of the private server is deleted, as when a dump of the system tables is loaded.
    """
    log = source.log
    accounts = "user" if log.kind == "mysql" else "global_priv"
    with log.running.connect() as connection, connection.cursor() as cursor:
        for statement in (
            "SET SESSION binlog_format = 'STATEMENT'",
            f"DELETE FROM mysql.{accounts} WHERE User = 'strongroom_restore'",
            "FLUSH PRIVILEGES",
            "CREATE TEMPORARY TABLE d.scratch (a INT, b TEXT)",
            "INSERT INTO d.scratch VALUES (1, 'temporary')",
        ):
            cursor.execute(statement)
        log.run(f"INSERT INTO d.t (b) VALUES (REPEAT('f', {2 * BATCH}))", "FLUSH BINARY LOGS")
        log.run(f"INSERT INTO d.t (b) VALUES (REPEAT('g', {2 * BATCH}))")
        cursor.execute("INSERT INTO d.t (b) SELECT b FROM d.scratch")


def test_the_data_is_exact(source: Source, stretch: Stretch) -> None:
    """The server starts on it, and knows the GTIDs of the source."""
    wanted = source.moments["all"]
    other, done = source.replay(stretch, wanted.position, "all")
    assert str(wanted.position) == f"{done.positions.binlog_file}:{done.positions.binlog_position}"
    state = wanted.state if source.log.kind == "mysql" else str(GtidList.parse(wanted.state).position)
    assert done.positions.gtid == state
    assert done.facts == {"binlog": f"{wanted.position.file} {wanted.position.offset} {state}"}
    try:
        other.start()
        assert read_tables(other) == wanted.tables
        if source.log.kind == "mysql":
            assert other.sql("SELECT @@gtid_executed")[0][0].replace("\n", "") == wanted.state
            assert not other.sql("SHOW REPLICA STATUS")
        else:
            assert other.sql("SELECT @@gtid_slave_pos")[0][0] == state
            assert not other.sql("SHOW ALL SLAVES STATUS")
            other.sql("INSERT INTO d.t (b) VALUES ('new')")
            found = GtidList.parse(other.sql("SELECT @@gtid_binlog_state")[0][0])
            last = [segment for _, segment in stretch.segments()][-1]
            archived = GtidList.parse(SegmentDetails.of(last).gtids)
            assert archived <= found  # the source wrote more after the moment: no GTID of that is used again
            new = GtidList.parse(other.sql("SELECT @@gtid_binlog_pos")[0][0])
            assert [gtid.sequence for gtid in new] == [max(gtid.sequence for gtid in archived) + MARGIN + 1]
        assert not other.sql("SELECT 1 FROM mysql.user WHERE user = 'strongroom_restore'")
    finally:
        other.kill()


def kill_at(size: int, mark: Path, *, times: int = 1) -> Callable[[int, int | None], None]:
    """Kills the private server when so many bytes of the log are applied, and notes it in ``mark``."""

    def on_progress(done: int, _: int | None) -> None:
        killed = len(mark.read_bytes())
        if killed < times and done > size:
            kill_servers()
            mark.write_bytes(b"x" * (killed + 1))

    mark.write_bytes(b"")
    mark.chmod(0o666)
    return on_progress


def measure(stretch: Stretch, end: Position) -> int:
    """Bytes of the log up to a position."""
    raws = [segment.raw for _, segment in stretch.segments() if Position.parse(segment.end).precedes(end)]
    return sum(raws)


def test_a_killed_server_is_replaced(source: Source, stretch: Stretch) -> None:
    wanted = source.moments["plain"]
    mark = source.place / "mark-killed"
    size = int(random.Random(3).uniform(0.3, 0.9) * measure(stretch, wanted.position))
    other, done = source.replay(stretch, wanted.position, "killed", on_progress=kill_at(size, mark))
    assert len(mark.read_bytes()) == 1
    assert done.transactions
    try:
        other.start()
        assert read_tables(other) == wanted.tables
    finally:
        other.kill()


def test_a_server_that_dies_again(source: Source, stretch: Stretch) -> None:
    wanted = source.moments["plain"]
    with pytest.raises(ServerFailed, match=r"died twice: .*killed by SIGKILL"):
        source.replay(stretch, wanted.position, "twice", on_progress=kill_at(0, source.place / "mark-twice", times=2))


def test_tables_without_transactions_are_not_guessed(source: Source, stretch: Stretch) -> None:
    """A kill after a change of a MyISAM table: what is in it is not known."""
    size = measure(stretch, source.moments["definitions"].position)
    with pytest.raises(ServerFailed, match="not known exactly what it applied: tables without transactions"):
        on_progress = kill_at(size, source.place / "mark-guess")
        source.replay(stretch, source.moments["all"].position, "guess", on_progress=on_progress)


def open_writer(source: Source, stretch: Stretch, end: Position, start: Position | None = None) -> BatchWriter:
    rewriter = MariaDBRewriter() if source.log.kind == "mariadb" else MySQLRewriter()
    folder = Path(tempfile.mkdtemp(dir=source.place))
    begin = Start(stretch.pieces[0].series, str(start or source.begin.position))
    return BatchWriter(LogEvents(stretch, begin, str(end)), rewriter, folder)


def write_batches(source: Source, stretch: Stretch, end: Position, start: Position | None = None) -> list[Batch]:
    """What would be applied."""
    return list(open_writer(source, stretch, end, start).write())


def test_damaged_segments(source: Source, stretch: Stretch) -> None:
    segments = [segment for _, segment in stretch.segments()]
    damaged = source.place / "store" / segments[len(segments) // 2].data_key
    data = damaged.read_bytes()
    end = source.moments["all"].position
    try:
        damaged.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        with pytest.raises(ArtifactCorrupt, match="is damaged"):
            write_batches(source, stretch, end)
        damaged.unlink()
        with pytest.raises(ArtifactMissing, match="is missing"):
            source.replay(stretch, end, "missing")
    finally:
        damaged.write_bytes(data)


def test_positions_that_do_not_fit(source: Source, stretch: Stretch) -> None:
    """After the end of the log, and within a transaction."""
    with pytest.raises(ArtifactMissing, match="the archived log ends at"):
        write_batches(source, stretch, Position("binlog.000099", 4))
    begin, end = source.begin.position, source.moments["plain"].position
    with pytest.raises(LogCorrupt, match="within the transaction"):
        write_batches(source, stretch, end, Position(begin.file, begin.offset + 1))


def test_a_backup_after_a_transaction_of_several_segments(source: Source, stretch: Stretch) -> None:
    """The segment of the backup begins within a transaction, which the data has."""
    transactions = Archived(stretch.store).transactions(source.log)
    ends = [Position.parse(each.end) for each in transactions]
    at = next(n for n, each in enumerate(transactions) if ends[n].offset - Position.parse(each.begin).offset > LARGE // 2)
    segments = [segment for _, segment in stretch.segments()]
    number = next(n for n, each in enumerate(segments) if ends[at].precedes(Position.parse(each.end)))
    assert Position.parse(transactions[at].begin).precedes(Position.parse(segments[number - 1].end))
    rest = replace(stretch, pieces=(replace(stretch.pieces[0], first=number, begin=segments[number].begin),))
    end = source.moments["plain"].position
    (batches, last) = write_batches(source, rest, end, ends[at]), ends.index(end)
    assert sum(len(batch.offsets) for batch in batches) == last - at
    with pytest.raises(LogCorrupt, match="within the transaction"):
        write_batches(source, rest, end, Position(ends[at].file, ends[at].offset - 31))


def test_a_moment_at_which_the_data_is_already(source: Source, stretch: Stretch) -> None:
    """Nothing is applied, and the GTIDs are known: also at the end of a segment."""
    segments = [segment for _, segment in stretch.segments()]
    for position in (source.begin.position, source.moments["plain"].position, Position.parse(segments[-1].end)):
        writer = open_writer(source, stretch, position, position)
        assert list(writer.write()) == []
        assert writer.state is not None
    assert str(writer.state) == SegmentDetails.of(segments[-1]).gtids


def test_relay_logs_begin_with_a_rotate_event(source: Source, stretch: Stretch) -> None:
    """MariaDB crashes without it when several threads apply them. They have whole transactions, numbered without a gap."""
    batches = write_batches(source, stretch, source.moments["all"].position)
    assert [batch.first for batch in batches[1:]] == [batch.last + 1 for batch in batches[:-1]]
    for batch in batches:
        data, kinds, at = batch.path.read_bytes(), list[int](), len(MAGIC)
        while at < len(data):
            header = parse_header(data, at)
            if at in batch.offsets or header.kind == ROTATE or at == len(MAGIC):
                kinds.append(header.kind)
            at += header.length
        start = GTID if source.log.kind == "mysql" else MARIADB_GTID
        assert kinds == [FORMAT, ROTATE, *([start] * len(batch.offsets))]


def test_what_a_kill_leaves_is_known_for_each_transaction(source: Source, stretch: Stretch) -> None:
    plain, definitions = (source.moments[name].position for name in ("plain", "definitions"))
    assert {each for batch in write_batches(source, stretch, plain) for each in batch.repeats} == {Repeat.EXACT}
    later = [each for batch in write_batches(source, stretch, definitions, plain) for each in batch.repeats]
    assert later.count(Repeat.DAMAGING) == 1  # the row of a MyISAM table
    assert later.count(Repeat.UNCLEAR) == 6  # DDL and rights
    assert later.count(Repeat.EXACT) > 1


def test_files_are_cut_at_any_bytes(source: Source, stretch: Stretch) -> None:
    """However the bytes arrive, none is lost or twice; damage of other events than rows is noticed."""
    luck = random.Random(11)
    for file, data in Archived(stretch.store).files().items():
        scanner, found, at = Scanner(file), bytearray(MAGIC), 0
        while at < len(data):
            size = luck.choice((1, 7, 19, 300, 70_000, 1 << 20))
            for each in scanner.feed(data[at : at + size]):
                if isinstance(each, Piece):
                    assert each.start.offset == len(found) or not each.is_first
                found += each.data
            at += size
            if at > 100_000 and size < 300:
                at_once = scanner.feed(data[at : at + (2 << 20)])
                found += b"".join(each.data for each in at_once)
                at += 2 << 20
        assert found == data
        broken = bytearray(data)
        broken[40] ^= 1  # in the format description
        with pytest.raises(LogCorrupt):
            list(Scanner(file).feed(bytes(broken)))


def test_transactions_that_the_data_has_are_skipped(source: Source, stretch: Stretch) -> None:
    """A backup of MySQL may contain more than the log up to its position."""
    if source.log.kind == "mariadb":
        pytest.skip("the position of a backup of MariaDB is exact")
    wanted = source.moments["plain"]
    other, done = source.replay(stretch, wanted.position, "skipped", start=Position("binlog.000001", 4))
    assert done.transactions == len(GtidSet.parse(wanted.state)) - len(GtidSet.parse(source.begin.state))
    try:
        other.start()
        assert read_tables(other) == wanted.tables
    finally:
        other.kill()


def test_data_that_is_rolled_forward_again(source: Source, stretch: Stretch) -> None:
    """The second part of the log begins with the segment of the first moment, in the middle of a file."""
    first, second = source.moments["plain"], source.moments["definitions"]
    other, _ = source.replay(stretch, first.position, "first")
    segments = [segment for _, segment in stretch.segments()]
    number = next(at for at, each in enumerate(segments) if first.position.precedes(Position.parse(each.end)))
    assert SegmentDetails.of(segments[number]).begin > 0
    rest = replace(stretch, pieces=(replace(stretch.pieces[0], first=number, begin=segments[number].begin),))
    source.replay(rest, second.position, "second", data=other, start=first.position)
    try:
        other.start()
        assert read_tables(other) == second.tables
    finally:
        other.kill()
