"""Incrementals of MySQL, which are its binary log: chains, what breaks them, and replays that do not come to their end."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.datastores import Server, get
from strongroom.datastores.mysql.restore import private
from strongroom.datastores.toolkit.mark import is_unfinished
from strongroom.errors import ArtifactCorrupt, LineageChanged, StrongroomError, ToolFailed, VersionMismatch, WalGone
from support import mysql
from support.identity import run_as
from support.load import Writer, proven
from support.mariadb import FileLink, backup, scratch
from support.mysql import MySQLServer
from support.own_mysql import OwnMySQL

driver = get("mysql")


@pytest.fixture(scope="module")
def own() -> Iterator[MySQLServer]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    with mysql.running(place, None) as running:
        running.fill(1000)
        yield running
    shutil.rmtree(place)


def restored(chain: list[FileLink], place: Path, name: str = "copy", **programs: Path) -> MySQLServer:
    """A server on the restored chain, not started yet."""
    other = mysql.make(place, None, name=name)
    shutil.rmtree(other.data_dir)
    target = scratch(other.server.base_dir, "data")
    version = other.server.version.model_copy(update={"programs": other.server.version.programs | programs})
    run_as(other.server.user, driver.restores.restore, version, chain, target, scratch(place, f"restore-{name}"), len)
    return other


def changed(link: FileLink, name: str, size: int) -> FileLink:
    """The incremental with one of its logs cut to ``size`` bytes."""
    path = link.path.with_name("changed")
    with tarfile.open(link.path) as old, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old.getmembers():
            file = old.extractfile(member)
            assert file is not None
            data = file.read()
            if member.name == name:
                data = data[:size]
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return replace(link, path=path)


def test_a_chain_under_writes(own: MySQLServer, place: Path) -> None:
    """Every transaction that was committed before a backup is in it, once; what came later is not."""
    with Writer(own.connect) as writer:
        at_full = writer.committed
        full = backup(own, place, "full")
        own.sql("CREATE DATABASE `nach-her`")
        own.sql("CREATE TABLE `nach-her`.`t-1` (a INT PRIMARY KEY, b BLOB)")
        own.sql("INSERT INTO `nach-her`.`t-1` VALUES (1, x'00ff0a0d1a27'), (2, NULL)")
        own.sql("CREATE USER later@localhost IDENTIFIED BY 'x'")
        at_first = writer.committed
        first = backup(own, place, "first", full)
        time.sleep(0.2)
    second = backup(own, place, "second", first)
    before = own.checksums(), own.checksums("nach-her")
    assert full.positions.gtid and first.positions.gtid_from == full.positions.gtid
    assert second.positions.gtid_from == first.positions.gtid
    other = restored([full, first, second], place)
    other.start()
    assert (other.checksums(), other.checksums("nach-her")) == before
    assert other.sql("SELECT User FROM mysql.user WHERE User LIKE 'later' OR User LIKE 'strongroom\\_restore'") == [("later",)]
    assert other.sql("SELECT GTID_SUBTRACT(%s, @@gtid_executed)", second.positions.gtid) == [("",)]
    assert other.sql("SELECT @@server_uuid") != own.sql("SELECT @@server_uuid")
    other.stop()
    for number, (chain, least) in enumerate([([full], at_full), ([full, first], at_first)]):
        part = restored(chain, place, f"part{number}")
        part.start()
        with part.connect() as connection:
            assert proven(connection, least) <= writer.committed
        part.stop()


def test_two_children_of_one_parent(own: MySQLServer, place: Path) -> None:
    full = backup(own, place, "full")
    own.sql("CREATE TABLE db1.twins (a INT PRIMARY KEY)")
    backup(own, place, "elder", full)
    own.sql("INSERT INTO db1.twins VALUES (1), (2)")
    younger = backup(own, place, "younger", full)
    before = own.checksums()
    other = restored([full, younger], place)
    other.start()
    assert other.checksums() == before
    other.stop()
    own.sql("DROP TABLE db1.twins")


def test_when_nothing_has_changed(own: MySQLServer, place: Path) -> None:
    full = backup(own, place, "full")
    nothing = backup(own, place, "nothing", full)
    ((added,),) = own.sql("SELECT GTID_SUBTRACT(%s, %s)", nothing.positions.gtid, full.positions.gtid)
    assert added  # the token of the full
    before = own.checksums()
    other = restored([full, nothing], place)
    other.start()
    assert other.checksums() == before
    other.stop()


def test_invalid_chains(own: MySQLServer, place: Path) -> None:
    full = backup(own, place, "full")
    own.sql("CREATE TABLE db1.one (a INT PRIMARY KEY)")
    first = backup(own, place, "first", full)
    own.sql("DROP TABLE db1.one")
    second = backup(own, place, "second", first)
    for chain in ([full, second], [first], [full, full]):
        with pytest.raises(ArtifactCorrupt):
            restored(chain, place, f"wrong{len(chain)}{chain[-1].path.parent.name}")
    newer = replace(full, server_version="9.99.0")
    with pytest.raises(VersionMismatch):
        restored([newer], place, "newer")


@pytest.mark.parametrize(
    ("role", "script"),
    [
        ("client", "kill -9 $$"),
        ("client", "head -c 100 >/dev/null; exit 1"),
        ("binlog", "kill -9 $$"),
        ("binlog", "exit 3"),
        ("binlog", "exit 0"),
    ],
)
def test_a_replay_that_does_not_complete(own: MySQLServer, place: Path, chain: list[FileLink], role: str, script: str) -> None:
    """The last of them lies: it says that all is well."""
    program = place / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(ToolFailed, match=r"cannot be replayed|rows are missing"):
        restored(chain, place, **{role: program})
    assert is_unfinished(place / "copy" / "data")


@pytest.fixture(scope="module")
def chain(own: MySQLServer) -> Iterator[list[FileLink]]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    full = backup(own, place, "full")
    own.sql("CREATE TABLE db1.more (a INT PRIMARY KEY)")
    for number in range(20):
        own.sql(f"INSERT INTO db1.more VALUES ({number})")
    yield [full, backup(own, place, "first", full)]
    shutil.rmtree(place)


def test_a_truncated_log(own: MySQLServer, place: Path, chain: list[FileLink]) -> None:
    full, first = chain
    with tarfile.open(first.path) as tar:
        member = max(tar.getmembers(), key=lambda member: member.size)
    broken = changed(first, member.name, member.size * 3 // 4)
    broken.path.chmod(0o644)
    with pytest.raises(StrongroomError, match=r"cannot be replayed|rows are missing"):
        restored([full, broken], place)
    broken.path.unlink()


# --- when the server cannot continue from the parent


def test_a_purged_log(own: MySQLServer, place: Path) -> None:
    full = backup(own, place, "full")
    own.sql("CREATE TABLE db1.gone (a INT)")
    own.sql("FLUSH BINARY LOGS")
    own.sql("DROP TABLE db1.gone")
    ((last, *_),) = own.sql("SHOW BINARY LOGS")[-1:]
    own.sql(f"PURGE BINARY LOGS TO '{last}'")
    with pytest.raises(WalGone, match="has purged"):
        backup(own, place, "first", full)


def test_a_format_that_is_not_row(own: MySQLServer, place: Path) -> None:
    full = backup(own, place, "full")
    own.sql("SET GLOBAL binlog_format = 'STATEMENT'")
    try:
        with pytest.raises(WalGone, match="STATEMENT"):
            backup(own, place, "first", full)
    finally:
        own.sql("SET GLOBAL binlog_format = 'ROW'")


def test_another_server_or_another_history(own: MySQLServer, place: Path) -> None:
    full = backup(own, place, "full")
    other = full.positions.model_copy(update={"server_uuid": "11111111-1111-1111-1111-111111111111"})
    with pytest.raises(LineageChanged, match="is of server 1111"):
        backup(own, place, "other", replace(full, positions=other))
    uuid = str(full.positions.server_uuid)
    ahead = full.positions.model_copy(update={"gtid": f"{uuid}:1-99999999"})
    with pytest.raises(LineageChanged, match="has not executed"):
        backup(own, place, "ahead", replace(full, positions=ahead))
    off = full.positions.model_copy(update={"gtid": None})
    with pytest.raises(LineageChanged, match="before the server had GTIDs"):
        backup(own, place, "off", replace(full, positions=off))


def test_without_gtids(place: Path) -> None:
    """By files and positions; the copy itself says where the replay has to begin."""
    plain = OwnMySQL(place, settings="plugin-load-add=mysql_clone.so\ngtid_mode=OFF\nenforce_gtid_consistency=OFF")
    try:
        credentials = place / "own.cnf"
        credentials.write_text("[client]\nuser=root\n")
        credentials.chmod(0o644)
        server: Server = plain.server(credentials=credentials)
        running = MySQLServer(server)
        plain.sql("CREATE DATABASE db1", "CREATE TABLE db1.t (a INT PRIMARY KEY AUTO_INCREMENT, b INT)", "FLUSH BINARY LOGS")
        plain.sql(*["INSERT INTO db1.t (b) VALUES (1)"] * 10)
        full = backup(running, place, "full")
        plain.sql(*["INSERT INTO db1.t (b) VALUES (2)"] * 10, "UPDATE db1.t SET b = b + 1")
        first = backup(running, place, "first", full)
        plain.sql("UPDATE db1.t SET b = b + 1")
        second = backup(running, place, "second", first)
        before = plain.sql("CHECKSUM TABLE db1.t")
        assert full.positions.gtid is None and second.positions.binlog_from == first.positions.binlog_file
        plain.sql(f"PURGE BINARY LOGS TO '{second.positions.binlog_file}'")
        with pytest.raises(WalGone, match=r"has purged|is gone"):
            backup(running, place, "third", first)
    finally:
        plain.end()
    other = restored([full, first, second], place)
    other.start()
    assert other.sql("CHECKSUM TABLE db1.t") == before
    other.stop()


def test_the_private_server_dies(own: MySQLServer, place: Path, chain: list[FileLink]) -> None:
    """In the middle of a replay, of which nothing may look finished."""
    program = place / "program"
    program.write_text(f"#!/bin/sh\nkill -9 $(cat {place}/restore-copy/private.pid)\nsleep 0.3\ncat >/dev/null\n")
    program.chmod(0o755)
    with pytest.raises(StrongroomError):
        restored(chain, place, client=program)
    assert is_unfinished(place / "copy" / "data")


def test_a_private_server_that_cannot_start_leaves_no_socket_directory(
    own: MySQLServer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    work_dir = place / ("long" * 30)  # a socket cannot be in it
    work_dir.mkdir()
    monkeypatch.setattr(private, "Tool", refuse)
    server = private.PrivateServer(own.server.version, place, work_dir, settings={}, gtid=True)
    assert server.socket.parent != work_dir
    with pytest.raises(RuntimeError), server:
        pass
    assert not server.socket.parent.exists()
