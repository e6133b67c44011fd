"""Fulls of MySQL by the clone protocol: under writes, whom they bother, what they refuse, and what is in the stream."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from pymysql import _auth

from strongroom.artifact.streams.tar import Tar
from strongroom.datastores import BackupRequest, BackupSession, Server, get
from strongroom.datastores.mysql.backup import full as full_module
from strongroom.datastores.mysql.backup.archive import NAMES, Archive
from strongroom.datastores.mysql.restore.unpack import unpack
from strongroom.datastores.toolkit.feed import write_all
from strongroom.datastores.toolkit.tar import make_header
from strongroom.errors import ArtifactCorrupt, Busy, ConfigurationError, ServerFailed, StrongroomError
from support import mysql
from support.identity import run_as
from support.mariadb import FileLink, backup, scratch
from support.mysql import MySQLServer
from support.own_mysql import OwnMySQL
from support.sessions import pieces

T = TypeVar("T")
driver = get("mysql")
DOCS = Path(__file__).parents[2] / "docs" / "recover-mysql-by-hand.md"
WRONG_NAME = b'{"format":1,"version":"9","settings":{},"names":{"a":"b"}}'
LONG = "数据" * 12
"""A name of 24 letters that is one of 120 bytes in the file system."""


@pytest.fixture(scope="module")
def own() -> Iterator[MySQLServer]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    with mysql.running(place, None) as running:
        running.fill(2000)
        running.sql("CREATE DATABASE `empty-one`")
        running.sql(f"CREATE TABLE db1.`{LONG}` (a INT PRIMARY KEY)")
        running.sql(f"INSERT INTO db1.`{LONG}` VALUES (7)")
        yield running
    shutil.rmtree(place)


def begin(server: Server, work_dir: Path) -> BackupSession:
    return driver.backups.begin(server, BackupRequest("full", None, work_dir))


class Statement:
    """One that runs beside the test; ``seconds`` is how long it took."""

    def __init__(self, own: MySQLServer, text: str) -> None:
        self.seconds = -1.0
        self._thread = threading.Thread(target=self._run, args=(own, text))
        self._thread.start()
        deadline = time.monotonic() + 30
        while self._thread.is_alive() and not own.sql("SHOW PROCESSLIST") and time.monotonic() < deadline:
            time.sleep(0.05)

    def _run(self, own: MySQLServer, text: str) -> None:
        began = time.monotonic()
        own.sql(text)
        self.seconds = time.monotonic() - began

    def done(self) -> None:
        self._thread.join(60)
        assert self.seconds >= 0, "it did not come to its end"


def waits(own: MySQLServer) -> bool:
    return any(row[6] == "Waiting for backup lock" for row in own.sql("SHOW PROCESSLIST"))


def until(what: Callable[[], T]) -> T:
    deadline = time.monotonic() + 30
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


# --- what is in the stream


def test_stock_tools_and_the_script_of_the_docs_restore_a_full(own: MySQLServer, place: Path) -> None:
    """No code of Strongroom: tar, the script, the server."""
    before = own.checksums()
    full = backup(own, place, "full")
    with full.path.open("rb") as file:
        tar = Tar()
        while data := file.read(1 << 20):
            tar.feed(data)
        tar.finish()
    found = re.search(r"<!-- script: pages -->\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    (place / "pages.py").write_text(found[1])
    other = mysql.make(place, None, name="other")
    shutil.rmtree(other.data_dir)
    scratch(place / "other", "data")
    full.path.parent.chmod(0o711)
    full.path.chmod(0o644)
    (place / "pages.py").chmod(0o644)

    def by_hand() -> None:
        subprocess.run(["tar", "-xf", full.path, "-C", other.data_dir], check=True)
        subprocess.run([sys.executable, place / "pages.py", other.data_dir], check=True)

    run_as(own.server.user, by_hand)
    assert not (other.data_dir / "strongroom").exists()
    other.start()
    try:
        assert other.checksums() == before
        assert LONG in before
        assert ("empty-one",) in other.sql("SHOW DATABASES")
        other.sql("CREATE TABLE `empty-one`.t (a INT)")
    finally:
        other.stop()


def test_members_with_long_names_get_short_ones(own: MySQLServer, place: Path) -> None:
    full = backup(own, place, "full")
    with tarfile.open(full.path) as tar:
        assert any(name.startswith(NAMES) for name in tar.getnames())


@pytest.mark.parametrize("size", [0, 511, 8**11 - 1, 8**11, 40 << 30])
def test_headers_of_all_sizes(size: int) -> None:
    member = tarfile.TarInfo.frombuf(make_header("db1/t.ibd", size), "utf-8", "strict")
    assert (member.name, member.size, member.isfile()) == ("db1/t.ibd", size, True)


def stream(*members: tuple[str, bytes], pages: bytes = b"", end: bool = True) -> list[bytes]:
    read, write = os.pipe()
    parts: list[bytes] = []

    def collect() -> None:
        with os.fdopen(read, "rb") as file:
            parts.append(file.read())

    reader = threading.Thread(target=collect)
    reader.start()
    archive = Archive(write)
    for path, data in members:
        archive.file(path, data)
    archive._pages += pages
    if end:
        archive.end({"format": 1, "version": "9.7.0", "settings": {}})
    else:
        write_all(write, bytes(1024))
    os.close(write)
    reader.join()
    return parts


def record(path: str, offset: int, data: bytes) -> bytes:
    return offset.to_bytes(8) + len(data).to_bytes(4) + len(path).to_bytes(2) + path.encode() + data


def test_records_are_written_over_files_in_order(tmp_path: Path) -> None:
    pages = record("db1/t.ibd", 2, b"xx") + record("db1/t.ibd", 3, b"yyyy")
    unpack(iter(stream(("db1/t.ibd", b"abcdef"), pages=pages)), tmp_path)
    assert (tmp_path / "db1" / "t.ibd").read_bytes() == b"abxyyyy"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db1"]


def test_facts_of_a_server_with_very_many_long_names(tmp_path: Path) -> None:
    facts = {"format": 1, "settings": {"x": "y" * (17 << 20)}, "names": {}}
    found = unpack(iter(stream(("strongroom/clone.json", json.dumps(facts).encode()), end=False)), tmp_path)
    assert found["settings"] == facts["settings"]


@pytest.mark.parametrize(
    ("members", "pages", "end", "words"),
    [
        ([("../out", b"x")], b"", True, "leads outside"),
        ([("a", b"x")], record("b", 0, b"x"), True, "page of 'b'"),
        ([("a", b"x")], record("../a", 0, b"x"), True, "page of '../a'"),
        ([("a", b"x")], record("a", 0, b"xyz")[:-1], True, "incomplete page"),
        ([("a", b"x")], b"\0" * 5, True, "incomplete page"),
        ([("a", b"x")], b"", False, "has no strongroom/clone.json"),
        ([("strongroom/clone.json", b"{}")], b"", False, "unreadable"),
        ([("strongroom/clone.json", b'{"format":1,"settings":{},"names":{},"master_keys":5}')], b"", False, "unreadable"),
        (
            [("a", b"x"), ("strongroom/clone.json", b'{"format":1,"version":"9","settings":{},"names":{"a":"b"}}')],
            b"",
            False,
            "wrong name",
        ),
    ],
)
def test_hostile_streams(tmp_path: Path, members: list[tuple[str, bytes]], pages: bytes, end: bool, words: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=re.escape(words)):
        unpack(iter(stream(*members, pages=pages, end=end)), tmp_path)
    assert not (tmp_path.parent / "out").exists()


# --- what is refused


def test_tables_that_a_clone_would_lose_are_refused_by_name(own: MySQLServer, place: Path) -> None:
    own.sql("CREATE TABLE db1.`my``isam` (a INT) ENGINE=MyISAM")
    try:
        with pytest.raises(ConfigurationError, match=r"`db1`\.`my``isam` \(MyISAM\)") as refused:
            run_as(own.server.user, begin, own.server, scratch(place, "w"))
        own.sql(refused.value.remedy.rstrip("."))
        assert backup(own, place, "full").positions.gtid
    finally:
        own.sql("DROP TABLE db1.`my``isam`")


def test_data_outside_of_the_data_directory_is_refused(own: MySQLServer, place: Path) -> None:
    other = own.server.model_copy(update={"data_dir": place})
    with pytest.raises(ConfigurationError, match="does not use"):
        run_as(own.server.user, begin, other, scratch(place, "w"))


def test_a_second_copy_at_the_same_time(own: MySQLServer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_module, "BUSY_PATIENCE", 1)
    first = begin(own.server, scratch(place, "one"))
    try:
        next(pieces(first.stdout, 1000))
        with pytest.raises(Busy, match="another clone"):
            begin(own.server, scratch(place, "two"))
    finally:
        first.abort()
    assert backup(own, place, "full").positions.gtid


def test_a_backup_waits_for_a_copy_that_is_about_to_end(own: MySQLServer, place: Path) -> None:
    """A server may still be ending the copy of a worker that died when the next attempt begins."""
    first = begin(own.server, scratch(place, "one"))
    next(pieces(first.stdout, 1000))
    timer = threading.Timer(1, first.abort)
    timer.start()
    second = begin(own.server, scratch(place, "two"))
    timer.join()
    finish(second)


# --- whom it bothers


def test_the_backup_is_aborted_if_ddl_waits_for_too_long(own: MySQLServer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_module, "DDL_PATIENCE", 2)
    session = begin(own.server, scratch(place, "w"))
    try:
        next(pieces(session.stdout, 1000))
        statement = Statement(own, "CREATE TABLE db1.ddl (a INT)")
        statement.done()
        own.sql("DROP TABLE db1.ddl")
        with pytest.raises(ServerFailed, match="was aborted"):
            finish(session)
    finally:
        session.abort()


def test_a_copy_without_progress_is_aborted(own: MySQLServer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_module, "STALL", 1)
    session = begin(own.server, scratch(place, "w"))
    try:
        next(pieces(session.stdout, 1000))
        time.sleep(2)
        Statement(own, "CREATE TABLE db1.ddl (a INT)").done()
        own.sql("DROP TABLE db1.ddl")
        with pytest.raises(ServerFailed, match="was aborted"):
            finish(session)
    finally:
        session.abort()


def test_an_aborted_backup_leaves_no_lock_on_the_server(own: MySQLServer, place: Path) -> None:
    session = begin(own.server, scratch(place, "w"))
    next(pieces(session.stdout, 1000))
    statement = Statement(own, "CREATE TABLE db1.ddl (a INT)")
    until(lambda: waits(own))
    session.abort()
    session.abort()
    statement.done()
    own.sql("DROP TABLE db1.ddl")
    assert not [row for row in own.sql("SHOW PROCESSLIST") if row[4] == "clone"]


def test_a_killed_receiver_leaves_nothing_behind(own: MySQLServer, place: Path) -> None:
    work_dir = scratch(place, "w")
    child = os.fork()
    if child == 0:
        try:
            session = begin(own.server, work_dir)
            next(pieces(session.stdout, 1000))
            (place / "runs").touch()
            signal.pause()
        finally:
            os._exit(1)
    until((place / "runs").exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    Statement(own, "CREATE TABLE db1.ddl (a INT)").done()
    own.sql("DROP TABLE db1.ddl")
    assert backup(own, place, "full").positions.gtid


def test_a_broken_connection(own: MySQLServer, place: Path) -> None:
    session = begin(own.server, scratch(place, "w"))
    try:
        next(pieces(session.stdout, 1000))
        first, *_ = until(lambda: sending(own))  # it may say so for a moment only
        own.sql(f"KILL {first}")
        with pytest.raises(StrongroomError, match=r"aborted the|refuses a copy"):
            finish(session)
    finally:
        session.abort()
    assert backup(own, place, "full").positions.gtid


def test_the_death_of_a_server_is_reported(own: MySQLServer, place: Path) -> None:
    session = begin(own.server, scratch(place, "w"))
    try:
        next(pieces(session.stdout, 1000))
        own.kill()
        with pytest.raises(ServerFailed, match="the server died during the backup"):
            finish(session)
    finally:
        session.abort()
        own.start()
    assert backup(own, place, "full").positions.gtid


def sending(own: MySQLServer) -> list[int]:
    return [row[0] for row in own.sql("SHOW PROCESSLIST") if row[4] == "clone" and row[6] == "Sending to client"]


def finish(session: BackupSession) -> None:
    for _ in pieces(session.stdout):
        pass
    session.finish()


# --- the ways in


@pytest.mark.parametrize("tls", [True, False])
def test_over_tcp(place: Path, pool: str, tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """caching_sha2_password, by which a password goes over TLS, or by the server's own key where it has none."""
    monkeypatch.setattr(_auth, "_have_cryptography", False)  # as in a service
    address = pool.replace("0/24", "1")
    settings = f"skip_networking=OFF\nbind-address={address}\nport=3306\nplugin-load-add=mysql_clone.so\ngtid_mode=OFF\n"
    own = OwnMySQL(place, settings=settings + ("require_secure_transport=ON\n" if tls else "tls_version=\n"))
    try:
        own.sql("CREATE USER far@'127.%' IDENTIFIED WITH caching_sha2_password BY 'p\u00e4ss'")
        own.sql("GRANT ALL ON *.* TO far@'127.%'", "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)")
        own.sql("INSERT INTO d.t VALUES (1), (2)")
        credentials = place / "far.cnf"
        credentials.write_text("[client]\nuser=far\npassword=p\u00e4ss\n")
        credentials.chmod(0o644)
        server = own.server(address, credentials)
        before = own.sql("CHECKSUM TABLE d.t")
        full = backup(MySQLServer(server), place, "full")
        assert full.positions.gtid is None and full.positions.binlog_file
    finally:
        own.end()
    other = mysql.make(place, None, name="other")
    restore(other, [full], place)
    other.start()
    assert other.sql("CHECKSUM TABLE d.t") == before
    other.stop()


def restore(other: MySQLServer, chain: list[FileLink], place: Path) -> None:
    """Into the place of the data of a server that was never started."""
    shutil.rmtree(other.data_dir)
    target = scratch(other.server.base_dir, "data")
    work_dir = scratch(place, f"restore-{other.server.name}")
    run_as(other.server.user, driver.restores.restore, other.server.version, chain, target, work_dir, len)
