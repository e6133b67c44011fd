"""A real PostgreSQL: backups are restored and compared by data, and what is damaged or hostile is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shutil
import signal
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from strongroom.artifact import Ranges
from strongroom.datastores import BackupRequest, DatabaseSpec, Server, UserChange, UserSpec, discover, get
from strongroom.datastores.postgresql.archive.access import connect_replication
from strongroom.errors import (
    AlreadyExists,
    ArtifactCorrupt,
    ArtifactError,
    InvalidRequest,
    NotFound,
    ServerFailed,
    StrongroomError,
    VersionMismatch,
)
from support import postgresql, processes
from support.identity import run_as
from support.postgresql import FileLink, PostgreSQLServer, Writer, checksums, fill, proven
from support.sessions import pieces

driver = get("postgresql")
sql = driver.require_administration()


def test_programs_are_found() -> None:
    version = postgresql.version()
    assert version.series == version.number.partition(".")[0]
    assert {path.name for path in version.programs.values()} == {"postgres", "pg_basebackup", "initdb"}
    assert version.number in {found.number for found in discover("postgresql", [Path("/nonexistent")])}


def with_data(instance: PostgreSQLServer) -> None:
    sql.databases.create(instance.server, [DatabaseSpec(name="db1")])
    with instance.connect() as connection:
        fill(connection)


def test_a_backup_under_writes_is_restored_row_for_row(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        before = driver.servers.ensure_lineage(a.server.data_dir)
        with Writer(a.connect()) as writer:
            committed = writer.committed
            link = postgresql.backup(a, place)
            with a.connect() as connection:
                expected = checksums(connection)
        assert a.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name <> 'strongroom'") == [(0,)]
    assert link.server_version == a.server.version.number
    assert link.positions.timeline == 1
    assert 0.5 < link.data_size / link.raw_size < 1.2
    with postgresql.started(postgresql.restore(link, place, "b")) as b:
        with b.connect() as connection:
            found = checksums(connection)
            proven(connection, committed)
        ((position,),) = b.sql(f"SELECT pg_current_wal_lsn() >= '{link.positions.wal_stop}'")
        assert position
        assert {name: found[name] for name in found if name != "public.sequence"} == {
            name: expected[name] for name in expected if name != "public.sequence"
        }
        left = {path.name for path in b.server.data_dir.iterdir()}
        assert not left & {"backup_manifest", "strongroom_restored", "strongroom_incomplete", "backup_label", "recovery.signal"}
        for path in b.server.data_dir.rglob("*"):
            assert path.owner() == b.server.user
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        assert driver.servers.ensure_lineage(b.server.data_dir) != before
        assert b.sql("SHOW data_checksums") == [("on",)]
        assert b.sql("SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]
        assert (b.server.data_dir / "postgresql.auto.conf").read_text() == ""


def test_settings_of_the_source_are_dropped_and_told(place: Path) -> None:
    with postgresql.running(place) as a:
        a.sql("ALTER SYSTEM SET port = 5999", "postgres")
        a.sql("ALTER SYSTEM SET archive_command = 'true'", "postgres")
        link = postgresql.backup(a, place)
    server = postgresql.describe(place, "b", None)
    postgresql._prepare(server)
    restored = run_as(
        server.user,
        driver.restores.restore,
        postgresql.version(),
        [link],
        server.data_dir,
        postgresql.scratch(place, "work"),
        str,
    )
    assert "port" in restored.facts["dropped_settings"]
    with postgresql.started(server) as b:
        assert b.sql("SHOW port", "postgres") == [("5432",)]


def test_the_owners_archive_and_target_do_not_lead_beyond_the_backup(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        link = postgresql.backup(a, place)
    server = postgresql.restore(link, place, "b")
    asked = place / "asked"
    settings = f"restore_command = 'touch {asked}; false'\nrecovery_target_xid = '3'\nwork_mem = '5MB'\nhot_standby = 'off'\n"
    owners = postgresql.describe(place, "owners", None)
    owners.data_dir.mkdir(parents=True)
    (owners.data_dir / "postgresql.auto.conf").write_text(settings)
    driver.restores.keep_configuration(owners.model_copy(update={"runtime": "adopted"}), server.data_dir)
    with postgresql.started(server) as b:
        assert b.sql("SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]
        assert b.sql("SHOW work_mem") == [("5MB",)]
        assert (server.data_dir / "postgresql.auto.conf").read_text() == settings
    assert not asked.exists()


def test_a_stop_does_not_wait_for_clients_and_a_killed_server_comes_back(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        with contextlib.closing(connect_replication(a.server)) as replication:
            assert (replication.identify().timeline, replication.file_size()) == (1, 16 << 20)
        with a.connect() as connection:
            expected = checksums(connection)
            began = time.monotonic()
            a.end()
            assert time.monotonic() - began < 10
        a.start()
        assert a.process is not None
        a.end(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while True:
            try:
                a.start()
                break
            except StrongroomError:  # its children are still on their way out
                assert time.monotonic() < deadline
        with a.connect() as connection:
            assert {k: v for k, v in checksums(connection).items() if "cache" not in k} == {
                k: v for k, v in expected.items() if "cache" not in k
            }


# --- what is refused


@pytest.mark.parametrize("by", ["us", "the tool"])
def test_a_server_that_dies_fails_the_backup(place: Path, by: str) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        work_dir = postgresql.scratch(place, "work")
        with pytest.raises(ServerFailed, match="died during the backup"):
            run_as(a.server.user, _take_of_a_dying_one, a.server, work_dir, by == "us")
        a.process = None


def _take_of_a_dying_one(server: Server, work_dir: Path, by_us: bool) -> None:
    with postgresql.taken_by(by_us):
        session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    try:
        next(pieces(session.stdout, 1 << 16))
        pid = int((server.data_dir / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        for _ in pieces(session.stdout):
            pass
        session.finish()
    finally:
        session.abort()


@pytest.fixture(scope="module")
def kept() -> Iterator[FileLink]:
    """A small backup, read by many tests."""
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    try:
        with postgresql.running(place) as a:
            yield postgresql.backup(a, place)
    finally:
        processes.end(place)
        shutil.rmtree(place)


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]


def changed(link: FileLink, place: Path, change: Change) -> FileLink:
    """The backup with members changed."""
    with tarfile.open(link.path) as source:
        members = [(info, file.read() if (file := source.extractfile(info)) else b"") for info in source]
    change(members)
    path = place / "stream"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as target:
        for info, data in members:
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    path.chmod(0o644)
    return dataclasses.replace(link, path=path)


class Unindexed(FileLink):
    """As one that another program wrote: its list of files is known when all of it was read."""

    def files(self) -> dict[str, Ranges]:
        raise NotFound("there is no index")


def unindexed(link: FileLink) -> FileLink:
    return Unindexed(**{field.name: getattr(link, field.name) for field in dataclasses.fields(link) if field.init})


def find(members: list[tuple[tarfile.TarInfo, bytes]], pattern: str) -> int:
    return next(n for n, (info, _) in enumerate(members) if re.fullmatch(pattern, info.name))


def drop(pattern: str) -> Change:
    return lambda members: members.pop(find(members, pattern))


def flip(pattern: str) -> Change:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        number = find(members, pattern)
        info, data = members[number]
        members[number] = (info, data[:-1] + bytes([data[-1] ^ 1]))

    return change


def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Change:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        members.insert(len(members) // 2, (info, b"" if link else b"evil"))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(drop("global/pg_control"), "pg_control", id="no-control-file"),
        pytest.param(drop("backup_manifest"), "backup_manifest", id="no-manifest"),
        pytest.param(drop(r"base/\d+/1259"), "No such file", id="a-file-is-missing"),
        pytest.param(drop(r"pg_wal/[0-9A-F]{24}"), "WAL", id="wal-is-missing"),
        pytest.param(drop("backup_label"), "backup_label", id="no-label"),
        pytest.param(flip(r"base/\d+/1259"), "1259 has a wrong CRC32C", id="a-byte-of-a-file"),
        pytest.param(flip("global/pg_control"), "pg_control has a wrong", id="a-byte-of-the-control-file"),
        pytest.param(flip("backup_manifest"), "backup_manifest", id="a-byte-of-the-manifest"),
        pytest.param(add("base/extra"), "base/extra is not in", id="a-file-too-many"),
        pytest.param(add("../evil"), "outside", id="parent-directory"),
        pytest.param(add("base/../../evil"), "outside", id="parent-directory-inside"),
        pytest.param(add("/tmp/evil"), "outside", id="absolute"),
        pytest.param(add("PG_VERSION"), "wrong place", id="twice"),
        pytest.param(add("nowhere/file"), "wrong place", id="no-directory"),
        pytest.param(add("pg_tblspc/1", tarfile.SYMTYPE, "/etc"), "link", id="symbolic-link"),
        pytest.param(add("evil", tarfile.LNKTYPE, "/etc/passwd"), "link", id="hard-link"),
        pytest.param(add("evil", tarfile.FIFOTYPE, ""), "type", id="fifo"),
    ],
)
def test_what_is_not_as_it_was_taken_is_refused(place: Path, kept: FileLink, change: Change, said: str) -> None:
    link = changed(kept, place, change)
    with pytest.raises(ArtifactCorrupt, match=said):
        postgresql.restore(unindexed(link), place, "b")
    with pytest.raises(ArtifactCorrupt):
        postgresql.restore(link, place, "c")
    for name in ("b", "c"):
        with pytest.raises(ServerFailed, match="unfinished"):
            driver.servers.check_data(postgresql.describe(place, name, None), place / name / "data")
        assert not (place / name / "evil").exists()
    assert not (place / "evil").exists()


@pytest.mark.parametrize("size", [0, 100, 512, 10_000, 30_000_000, -512, -1024])
def test_a_stream_that_is_cut_is_refused(place: Path, kept: FileLink, size: int) -> None:
    data = kept.path.read_bytes()
    path = place / "stream"
    path.write_bytes(data[: size if size >= 0 else len(data.rstrip(b"\0")) // 512 * 512 + size])
    path.chmod(0o644)
    link = dataclasses.replace(kept, path=path)
    for name, each in (("b", link), ("c", unindexed(link))):
        with pytest.raises(ArtifactError):
            postgresql.restore(each, place, name)


def test_another_backup_or_version_than_the_one_meant_is_refused(place: Path, kept: FileLink) -> None:
    other = kept.positions.model_copy(update={"wal_start": "0/9000028"})
    with pytest.raises(ArtifactCorrupt, match="instead of from 0/9000028"):
        postgresql.restore(unindexed(dataclasses.replace(kept, positions=other)), place, "b")
    with pytest.raises(ArtifactCorrupt, match="is of a backup from"):
        postgresql.restore(dataclasses.replace(kept, positions=other), place, "d")
    with pytest.raises(VersionMismatch):
        postgresql.restore(dataclasses.replace(kept, server_version="14.9"), place, "c")
    assert list((place / "c" / "data").iterdir()) == []


def test_a_server_that_did_not_come_as_far_as_its_backup_is_not_ready(place: Path) -> None:
    with postgresql.running(place) as a:
        note = a.server.data_dir / "strongroom_restored"
        note.write_text("FF/0 1\n")
        os.chown(note, a.server.data_dir.stat().st_uid, -1)
        with pytest.raises(ServerFailed, match="rows are missing"):
            driver.servers.read_facts(a.server)
        note.write_text("x")
        with pytest.raises(ServerFailed, match="damaged"):
            driver.servers.read_facts(a.server)
        note.write_text("0/1000000 1\n")
        driver.servers.read_facts(a.server)
        assert not note.exists()


# --- databases and users


def login(instance: PostgreSQLServer, user: str, password: str, database: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=instance.server.address, port=5432, user=user, password=password, dbname=database, autocommit=True
    )


def test_users_share_their_databases_and_nobody_else_comes_in(place: Path, pool: str) -> None:
    with postgresql.running(place, pool) as a:
        server = a.server
        sql.databases.create(
            server, [DatabaseSpec(name="db1"), DatabaseSpec(name="Sch\"ön 'x", character_set="UTF8", collate="C")]
        )
        one = UserSpec(name="one", password="p'w \\1", databases=["db1", "Sch\"ön 'x"])
        two = UserSpec(name='two"; DROP', password="pw2", databases=["db1"])
        sql.users.create(server, [one, two, UserSpec(name="three", password="pw3")])
        assert [(u.name, u.host, u.databases, u.password) for u in sql.users.list_all(server)] == [
            ("one", "%", ["Sch\"ön 'x", "db1"], None),
            ("three", "%", [], None),
            ('two"; DROP', "%", ["db1"], None),
        ]
        with login(a, "one", "p'w \\1", "db1") as c:
            assert c.execute("SELECT current_user, session_user").fetchall() == [("one", "one")]
            c.execute("CREATE TABLE t (x serial, y int)")
            c.execute("INSERT INTO t (y) VALUES (7)")
            c.execute("CREATE SCHEMA s CREATE TABLE s.t (x int)")
            c.execute('SET ROLE "db1:owner"')
            c.execute("CREATE TABLE ours (x int)")
        with login(a, 'two"; DROP', "pw2", "db1") as c:
            assert c.execute("SELECT current_user").fetchall() == [('two"; DROP',)]
            c.execute("INSERT INTO t (y) VALUES (8)")
            assert c.execute("DELETE FROM t WHERE y = 8 RETURNING x").fetchall() == [(2,)]
            c.execute("INSERT INTO s.t VALUES (1)")
            c.execute("ALTER TABLE ours ADD y int")
            assert c.execute("SELECT y FROM t").fetchall() == [(7,)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                c.execute("CREATE DATABASE mine")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            login(a, "three", "pw3", "db1")
        with pytest.raises(psycopg.OperationalError, match="password"):
            login(a, "one", "wrong", "db1")
        with pytest.raises(psycopg.OperationalError, match="password"):
            login(a, "postgres", "", "postgres")
        sql.users.grant(server, "three", "%", ["db1"])
        login(a, "three", "pw3", "db1").close()
        sql.users.revoke(server, "three", "%", "db1")
        with pytest.raises(NotFound):
            sql.users.revoke(server, "three", "%", "db1")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            login(a, "three", "pw3", "db1")
        sql.users.change(server, "one", "%", UserChange(name="uno", password="new"))
        with login(a, "uno", "new", "db1") as c:
            assert c.execute("SELECT count(*) FROM t").fetchall() == [(1,)]
        sql.users.drop(server, "uno", "%")
        assert a.sql("SELECT count(*) FROM t") == [(1,)]
        sql.databases.drop(server, "db1")
        assert [d.name for d in sql.databases.list_all(server)] == ["Sch\"ön 'x"]
        assert a.sql("SELECT rolname FROM pg_roles WHERE rolname = 'db1:owner'", "postgres") == []
        log = (server.base_dir / "log" / "error.log").read_text()
        assert "pw2" not in log and "p'w" not in log


def test_requests_that_cannot_be(place: Path) -> None:
    with postgresql.running(place) as a:
        server = a.server
        sql.databases.create(server, [DatabaseSpec(name="db1")])
        sql.users.create(server, [UserSpec(name="u", password="p")])
        for name in ("", "postgres", "template1", "pg_x", "a:owner", "x" * 64, "a\0b", "line\nbreak"):
            with pytest.raises(InvalidRequest):
                sql.databases.create(server, [DatabaseSpec(name=name)])
        for name in ("", "postgres", "Public", "pg_monitor", "db1:owner", "ü" * 32):
            with pytest.raises(InvalidRequest):
                sql.users.create(server, [UserSpec(name=name, password="p")])
        with pytest.raises(InvalidRequest, match="host"):
            sql.users.create(server, [UserSpec(name="v", host="10.0.0.1", password="p")])
        with pytest.raises(InvalidRequest):
            sql.users.create(server, [UserSpec(name="v")])
        with pytest.raises(InvalidRequest, match="encoding"):
            sql.databases.create(server, [DatabaseSpec(name="x", character_set="utf8mb4")])
        with pytest.raises(AlreadyExists):
            sql.databases.create(server, [DatabaseSpec(name="db2"), DatabaseSpec(name="db1")])
        with pytest.raises(AlreadyExists):
            sql.users.create(server, [UserSpec(name="u", password="p")])
        with pytest.raises(NotFound):
            sql.users.create(server, [UserSpec(name="v", password="p", databases=["none"])])
        with pytest.raises(NotFound):
            sql.databases.drop(server, "none")
        for call in (
            lambda: sql.users.drop(server, "nobody", "%"),
            lambda: sql.users.grant(server, "nobody", "%", ["db1"]),
            lambda: sql.users.grant(server, "u", "%", ["none"]),
            lambda: sql.users.change(server, "nobody", "%", UserChange(password="x")),
            lambda: sql.superuser.disable(server),
        ):
            with pytest.raises(NotFound):
                call()
        assert [d.name for d in sql.databases.list_all(server)] == ["db1"]
        assert [u.name for u in sql.users.list_all(server)] == ["u"]


def test_a_login_of_an_earlier_version_stays_as_it_is(place: Path, pool: str) -> None:
    with postgresql.running(place, pool) as a:
        sql.databases.create(a.server, [DatabaseSpec(name="db1")])
        sql.users.create(a.server, [UserSpec(name="u", password="p", databases=["db1"])])
        a.sql('ALTER ROLE u IN DATABASE db1 SET role TO "db1:owner"', "postgres")
        a.sql("CREATE ROLE root LOGIN", "postgres")
        with login(a, "u", "p", "db1") as c:
            assert c.execute("SELECT current_user, session_user").fetchall() == [("db1:owner", "u")]
        sql.users.revoke(a.server, "u", "%", "db1")
        assert sql.users.list_all(a.server)[1].databases == []
        with pytest.raises(AlreadyExists, match="not a superuser"):
            sql.superuser.enable(a.server, "hush")
        assert [u.name for u in sql.users.list_all(a.server)] == ["root", "u"]
        with pytest.raises(InvalidRequest, match="reserved"):
            sql.users.change(a.server, "u", "%", UserChange(name="root"))
        sql.users.drop(a.server, "root", "%")
        a.sql("ALTER ROLE postgres PASSWORD 'hush'", "postgres")
        assert sql.superuser.is_enabled(a.server)
        sql.superuser.disable(a.server)
        with pytest.raises(psycopg.OperationalError):
            login(a, "postgres", "hush", "postgres")
        driver.servers.read_facts(a.server)


def test_the_superuser_is_opened_and_closed(place: Path, pool: str) -> None:
    with postgresql.running(place, pool) as a:
        assert not sql.superuser.is_enabled(a.server)
        for password in ("hush", "hu'sh"):
            assert sql.superuser.enable(a.server, password) == "root"
            assert sql.superuser.is_enabled(a.server)
            with login(a, "root", password, "postgres") as c:
                assert c.execute("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user").fetchall() == [
                    ("root", True)
                ]
        with pytest.raises(psycopg.OperationalError):
            login(a, "postgres", "hush", "postgres")
        assert sql.users.list_all(a.server) == []
        with pytest.raises(NotFound):
            sql.users.drop(a.server, "root", "%")
        sql.superuser.disable(a.server)
        assert not sql.superuser.is_enabled(a.server)
        with pytest.raises(psycopg.OperationalError):
            login(a, "root", "hu'sh", "postgres")
        with pytest.raises(NotFound):
            sql.superuser.disable(a.server)
        sql.superuser.enable(a.server, "again")
        login(a, "root", "again", "postgres").close()
        driver.servers.read_facts(a.server)
