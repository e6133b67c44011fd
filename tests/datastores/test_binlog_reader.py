"""Binary logs read from running servers by the replication protocol, compared with the servers' own files and functions."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.datastores import get
from strongroom.datastores.innodb.binlog.files import list_files
from strongroom.datastores.innodb.binlog.groups import Group, Grouper
from strongroom.datastores.innodb.binlog.header import XID
from strongroom.datastores.innodb.binlog.pieces import Piece, Splitter
from strongroom.datastores.innodb.binlog.reader import DumpReader, Idle
from strongroom.datastores.innodb.binlog.tail import Tail, TailKeeper
from strongroom.datastores.innodb.connection import connect
from strongroom.datastores.mariadb.binlog.dialect import GTID_LIST, parse_gtid_list
from strongroom.datastores.mariadb.binlog.gtids import GtidList
from strongroom.datastores.mysql.binlog.dialect import PREVIOUS_GTIDS
from strongroom.datastores.mysql.binlog.gtids import GtidSet
from strongroom.errors import ConfigurationError, LineageChanged, WalGone
from support import mariadb
from support.binlogs import join
from support.logs import READER, Log, add, logged_in_own_place
from support.own_mariadb import have_plugins, with_plugins

TOOLS = f"{os.environ['PATH']}:{Path(__file__).parents[2] / '.tools/mariadb/bin'}"
LARGE = 17 << 20
"""A value whose event is sent in two packets."""


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    with logged_in_own_place(request.param) as found:
        yield found


def work(log: Log) -> None:
    """All kinds of transactions, in files with and without checksums."""
    log.run(
        "INSERT INTO d.t (b) VALUES ('x'), ('y')",
        "BEGIN", "UPDATE d.t SET b = 'z'", "SAVEPOINT s", "DELETE FROM d.t", "ROLLBACK TO s", "COMMIT",
        "XA START 'one'", "INSERT INTO d.t (b) VALUES ('xa')", "XA END 'one'", "XA PREPARE 'one'", "XA COMMIT 'one'",
        "CREATE TABLE d.u AS SELECT * FROM d.t",
        "FLUSH BINARY LOGS",
    )  # fmt: skip
    if log.kind == "mariadb":
        log.sql("SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10")
        log.run(
            "INSERT INTO d.t (b) VALUES (REPEAT('z', 5000))", f"CREATE TABLE d.c (a INT) COMMENT '{'c' * 100}'", "DROP TABLE d.c"
        )
        log.sql("SET GLOBAL log_bin_compress = OFF")
    else:
        log.run("SET binlog_transaction_compression = ON", "INSERT INTO d.t (b) VALUES (REPEAT('z', 5000))")
        log.run("SET gtid_next = 'AUTOMATIC:tag_1'", "INSERT INTO d.t (b) VALUES ('tagged')", "SET gtid_next = 'AUTOMATIC'")
    log.sql("SET GLOBAL binlog_checksum = NONE")
    log.run(
        "TRUNCATE d.u",
        "FLUSH BINARY LOGS",
        f"INSERT INTO d.t (b) VALUES (REPEAT('l', {LARGE}))",
        "INSERT INTO d.u VALUES (1, '')",
    )
    log.sql("SET GLOBAL binlog_checksum = CRC32")
    log.run("DROP TABLE d.u", "INSERT INTO d.t (b) VALUES ('end')")


def test_files_are_those_of_the_server(log: Log) -> None:
    work(log)
    names = log.names()
    assert len(names) >= 5
    found = join(log.read(log.from_file(names[0])))
    assert found == log.files(names)
    assert join(log.read(log.after(""))) == found  # by GTID, from the first one on

    groups = log.groups(log.read(log.from_file(names[0])))
    assert all(group.is_complete for group in groups)
    assert all(one.end.file != other.first.file or one.end == other.first for one, other in itertools.pairwise(groups))
    ddl = [statement.described.verb for group in groups for statement in group.statements]
    assert [verb for verb in ddl if verb != "DROP TABLE"][:4] == ["CREATE DATABASE", "CREATE TABLE", "CREATE TABLE", (
        "CREATE TABLE" if log.kind == "mariadb" else "TRUNCATE TABLE")]  # fmt: skip
    assert ddl[-1] == "DROP TABLE"
    assert [group.xa for group in groups if group.xa] == ["prepared", "completed"]
    assert max(change.inserts for group in groups for change in group.tables.values()) > LARGE
    assert len({group.start.gtid for group in groups}) == len(groups)
    assert sum(group.size for group in groups) > LARGE


def test_the_stock_tool_reads_the_files(log: Log, place: Path) -> None:
    """mariadb-binlog or mysqlbinlog, on what was read: it verifies the checksums, and finds as many transactions."""
    program = log.running.server.version.programs.get("binlog") or shutil.which("mariadb-binlog", path=TOOLS)
    if program is None:
        pytest.skip("scripts/setup could not get mariadb-binlog")
    pieces = list(log.read(log.from_file(log.names()[0])))
    groups = log.groups(iter(pieces))
    for name, data in join(pieces).items():
        path = place / name
        path.write_bytes(data)
        read = subprocess.run([program, "--verify-binlog-checksum", path], capture_output=True, check=True, text=True)
        mark = "\tGTID 0-" if log.kind == "mariadb" else "\tlast_committed="
        assert read.stdout.count(mark) == sum(1 for each in groups if each.first.file == name)


def test_gtids_are_those_of_the_server(log: Log) -> None:
    """The state that is kept while reading is the server's, at the end and at each head of a file."""
    names = log.names()
    heads: list[tuple[str, str]] = []
    mine: GtidList | GtidSet = GtidList() if log.kind == "mariadb" else GtidSet()
    grouper = Grouper(log.dialect)
    for piece in log.read(log.from_file(names[0])):
        body = piece.data[19 : len(piece.data) - piece.checksum]
        if piece.header.kind in (GTID_LIST, PREVIOUS_GTIDS):
            stored = parse_gtid_list(body) if log.kind == "mariadb" else GtidSet.decode(body)
            assert stored == mine
            heads.append((piece.start.file, str(mine)))
        for group in grouper.feed(piece):
            mine = add(mine, group.start.gtid)
    assert len(heads) == len(names) and str(mine) != heads[-1][1] and mine == log.state()
    if isinstance(mine, GtidList):
        for file, state in heads:
            assert GtidList.parse(log.sql("SELECT BINLOG_GTID_POS(%s, 4)", file)[0][0]) == GtidList.parse(state).position
        return
    assert str(mine) == log.sql("SELECT @@gtid_executed")[0][0].replace("\n", "")
    luck = random.Random(17)
    for _ in range(100):
        one, other = (_pick(luck) for _ in range(2))
        ((subset, left),) = log.sql("SELECT GTID_SUBSET(%s, %s), GTID_SUBTRACT(%s, %s)", *map(str, (one, other, one, other)))
        assert (bool(subset), GtidSet.parse(left)) == (one <= other, one - other)
        assert left.replace("\n", "") == str(one - other)


def _pick(luck: random.Random) -> GtidSet:
    sources = [(f"{letter * 8}-71ca-11e1-9e33-c80aa9429562", tag) for letter in "ab" for tag in ("", "x", "y_2")]
    return GtidSet({luck.choice(sources): [(first := luck.randint(1, 20), first + luck.randint(1, 9))] for _ in range(4)})


@contextmanager
def writing(log: Log) -> Iterator[threading.Event]:
    """While clients write and the log rotates. The event is set when they are done."""
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            log.run("BEGIN", *(f"INSERT INTO d.t (b) VALUES ('{number}')" for _ in range(3)), "COMMIT")
            if number % 13 == 5:
                log.sql("FLUSH BINARY LOGS")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    yield done
    writer.join()


def test_reading_continues_at_any_event(log: Log) -> None:
    """Also within a transaction: by file and offset, after the proof that it is the same log. No byte is missing or twice."""
    log.sql("FLUSH BINARY LOGS")
    first = log.names()[-1]
    luck = random.Random(1)
    kept: list[Piece] = []
    keeper = TailKeeper()
    reads = 0
    with writing(log) as done:
        while not done.is_set() or keeper.tail is None or keeper.tail.position != log.end():
            reads += 1
            source = log.from_file(first)
            if keeper.tail is not None:
                log.check_tail(keeper.tail)
                keeper = TailKeeper(Tail.model_validate_json(keeper.tail.model_dump_json()))
                source = log.from_file(keeper.tail.file, keeper.tail.end) if keeper.tail else source
            for piece in itertools.islice(log.read(source), luck.randint(1, 120)):
                kept.append(piece)
                keeper.feed(piece)
    assert reads > 3
    assert join(kept) == log.files([name for name in log.names() if name >= first])


def test_reading_continues_by_gtid(log: Log) -> None:
    """After the last whole transaction: none is missing or twice, and each is as it is in the file."""
    log.sql("FLUSH BINARY LOGS")
    first = log.names()[-1]
    state = log.state()
    luck = random.Random(2)
    found: list[tuple[Group, bytes]] = []
    reads = 0
    with writing(log) as done:
        while not done.is_set() or state != log.state():
            reads += 1
            for group, data in itertools.islice(log.transactions(log.read(log.after(str(state)))), luck.randint(1, 20)):
                found.append((group, data))
                state = add(state, group.start.gtid)
    assert reads > 3
    assert found == list(log.transactions(log.read(log.from_file(first))))


def test_a_reader_that_follows(log: Log) -> None:
    """It reports idle times, delivers events immediately, and ends within a second; over TLS if the server has it."""
    end = log.end()
    seen: list[Piece | Idle] = []
    with connect(log.running.server, tls=log.kind == "mysql") as connection:
        source = log.from_file(end.file, end.offset)
        reader = DumpReader(log.running.server, connection, source, server_id=READER, heartbeat=0.2)
        thread = threading.Thread(target=lambda: [seen.append(each) for each in reader.read()])
        thread.start()
        _until(lambda: any(isinstance(each, Idle) for each in seen))
        assert seen[0] == Idle(end)
        replicas = log.sql("SHOW SLAVE HOSTS" if log.kind == "mariadb" else "SHOW REPLICAS")
        assert [row[1] for row in replicas if row[0] == READER] == ["strongroom"]
        log.sql("INSERT INTO d.t (b) VALUES ('now')")
        _until(lambda: any(isinstance(each, Piece) and each.header.kind == XID for each in seen))
        begin = time.monotonic()
        reader.stop()
        thread.join(5)
        assert time.monotonic() - begin < 1


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_account_without_the_right(log: Log, place: Path) -> None:
    log.run("CREATE USER reader@localhost IDENTIFIED BY 'x'")
    path = place / "reader.cnf"
    path.write_text("[client]\nuser=reader\npassword=x\n")
    path.chmod(0o600)
    server = log.running.server.model_copy(update={"credentials_file": path})
    with connect(server) as connection, pytest.raises(ConfigurationError, match="may not read the binary log") as error:
        list(DumpReader(server, connection, log.from_file(log.names()[0]), server_id=READER).read())
    assert "REPLICATION SLAVE" in error.value.remedy
    with connect(server) as connection, pytest.raises(ConfigurationError, match="lacks a right"):
        list_files(server, connection)


def test_an_encrypted_log(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB sends it decrypted, with the offsets of its file. All tools ignore the event that says that it is encrypted."""
    if not have_plugins():
        pytest.skip("scripts/setup could not get MariaDB's plugins")
    keys = place / "keys"
    keys.write_text(f"1;{'ab' * 32}\n")
    running = mariadb.make(place, None, of=with_plugins(place))
    servers = get("mariadb").servers
    command = servers.build_command(running.server)
    options = ["--plugin-load-add=file_key_management", f"--file-key-management-filename={keys}", "--encrypt-binlog"]
    monkeypatch.setattr(servers, "build_command", lambda *_: [*command, *options])
    running.start()
    log = Log(running, "mariadb")
    log.run("CREATE DATABASE secret", "CREATE TABLE secret.t (a INT)", "INSERT INTO secret.t VALUES (1)", "FLUSH BINARY LOGS")
    first, second = log.names()
    found = join(log.read(log.from_file(first)))
    original = log.files([first, second])
    assert {name: len(data) for name, data in found.items()} == {name: len(data) for name, data in original.items()}
    assert b"secret" in found[first] and b"secret" not in original[first]
    keeper, splitter = TailKeeper(), Splitter(first)
    pieces = list(splitter.feed(found[first]))
    splitter.finish()
    assert [group.start.gtid.rpartition("-")[2] for group in log.groups(iter(pieces))] == ["1", "2", "3"]
    for piece in pieces:
        keeper.feed(piece)
    assert keeper.tail is not None
    log.check_tail(keeper.tail)
    running.kill()


def test_another_log_is_noticed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted, shorter, and with the same names but of another history: by files and by GTIDs."""
    log.sql("FLUSH BINARY LOGS")
    oldest = log.names()[0]
    keeper = TailKeeper()
    for piece in itertools.islice(log.read(log.from_file(oldest)), 7):
        keeper.feed(piece)
    tail = keeper.tail
    assert tail is not None
    log.check_tail(tail)
    other = tail.model_copy(update={"sha256": "0" * 64})
    for wrong in (other, tail.model_copy(update={"head": "0" * 64}), tail.model_copy(update={"begin": tail.begin + 1})):
        with pytest.raises(LineageChanged, match="does not have the log that was read before"):
            log.check_tail(wrong)
    with pytest.raises(LineageChanged):
        log.check_tail(tail.model_copy(update={"end": 1 << 30}))
    with pytest.raises(LineageChanged):
        list(log.read(log.from_file(oldest, 1 << 30)))

    log.sql("PURGE BINARY LOGS TO %s", log.names()[-1])
    with pytest.raises(WalGone, match="deleted"):
        log.check_tail(tail)
    with pytest.raises(WalGone, match="deleted"):
        list(log.read(log.from_file(oldest)))
    with pytest.raises(WalGone, match="deleted"):
        list(log.read(log.after("")))
    ahead = "0-99-1000000" if log.kind == "mariadb" else f"{log.sql('SELECT @@server_uuid')[0][0]}:1-1000000"
    with pytest.raises(LineageChanged):
        list(log.read(log.after(ahead)))

    log.reset()
    log.run(*(f"INSERT INTO d.t (b) VALUES ('{number}')" for number in range(30)))
    assert log.names()[0] == oldest and (log.running.data_dir / oldest).stat().st_size > tail.end
    with pytest.raises(LineageChanged, match="begins otherwise"):
        log.check_tail(tail)

    servers = get(log.kind).servers
    command = servers.build_command(log.running.server)
    monkeypatch.setattr(servers, "build_command", lambda *_: [*command, "--skip-log-bin"])
    log.running.stop()
    log.running.start()
    with log.running.connect() as connection, pytest.raises(ConfigurationError, match="log_bin is OFF") as error:
        list_files(log.running.server, connection)
    assert "log_bin = binlog" in error.value.remedy
