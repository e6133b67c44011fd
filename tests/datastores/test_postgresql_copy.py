"""A full that Strongroom reads itself equals one of pg_basebackup: the same files, verified by the server's own programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from strongroom.datastores import BackupRequest, Server
from strongroom.datastores.postgresql.backup import copy as copy_module
from strongroom.datastores.postgresql.files.tree import walk
from strongroom.datastores.toolkit.feed import Piped
from strongroom.errors import Cancelled, ServerFailed
from strongroom.system.directories import make_directory
from strongroom.system.files import write_file
from strongroom.system.users import find_owner
from support import postgresql, processes
from support.identity import run_as
from support.postgresql import PostgreSQLServer, Writer, checksums, driver, fill, proven, take
from support.sessions import pieces

TOKENS = ("strongroom_", "global/600")
"""Each backup leaves a token: in a file of its own, and in pg_replication_origin with its indexes."""
CHANGES = ("tablespace_map", "backup_label", "backup_manifest", "global/pg_control", "pg_wal")
"""What two backups of one server, one after the other, do not have in common."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    try:
        yield from _filled(place)
    finally:
        processes.end(place)
        shutil.rmtree(place)


def _filled(place: Path) -> Iterator[PostgreSQLServer]:
    with postgresql.running(place) as instance:
        instance.sql("CREATE DATABASE db1", "postgres")
        with instance.connect() as connection:
            fill(connection)
        yield instance


def taken(server: Server, place: Path, *, by_us: bool) -> Path:
    work = postgresql.scratch(place, "us" if by_us else "tool")
    result, _ = run_as(server.user, partial(take, by_us=by_us), server, work, work / "stream")
    assert result.tool == ("strongroom" if by_us else "pg_basebackup")
    return work / "stream"


def put(path: Path, content: bytes) -> None:
    """A file of the server that no server made."""
    owner = find_owner(path.parent.parent)
    make_directory(path.parent, owner)
    write_file(path, content.decode(), owner)


def members(stream: Path) -> dict[str, bytes | None]:
    """Content of the files, none for directories."""
    with tarfile.open(stream) as tar:
        return {
            member.name.removeprefix("./"): (file.read() if (file := tar.extractfile(member)) else None)
            for member in tar
            if member.name.removeprefix("./")
        }


def test_the_stream_is_what_the_tool_would_have_sent(server: PostgreSQLServer, place: Path) -> None:
    data = server.server.data_dir
    with server.connect() as connection:
        connection.execute("CREATE TEMPORARY TABLE fleeting AS SELECT generate_series(1, 1000) AS id")
        connection.execute("CHECKPOINT")
        stray = [data / "base" / "pgsql_tmp" / "pgsql_tmp1.0", data / "pg_internal.init.7", data / "pg_stat_tmp" / "x"]
        for path in stray:
            put(path, b"x")
        try:
            taken(
                server.server, place, by_us=True
            )  # each backup leaves its token in the data directory, the first makes the file
            theirs = members(taken(server.server, place, by_us=False))
            actual = members(taken(server.server, place, by_us=True))
        finally:
            for path in stray:
                path.unlink()
    wal = re.compile(r"pg_wal/(archive_status/)?0")
    alike = {name for name in theirs if not wal.match(name)} - {"tablespace_map"}  # an empty one
    assert {name for name in actual if not wal.match(name)} == alike
    for name, content in theirs.items():
        if not name.startswith((*CHANGES, *TOKENS)) and not name.startswith("pg_xact"):
            assert actual[name] == content, name
    ((unlogged,),) = server.sql("SELECT pg_relation_filepath('cache')")
    assert unlogged not in actual
    assert f"{unlogged}_init" in actual
    assert not [name for name in actual if re.search(r"/t\d+_", name)]


@pytest.mark.parametrize("flag", [[], ["--no-parse-wal"]])
def test_the_servers_own_program_verifies_it(server: PostgreSQLServer, place: Path, flag: list[str]) -> None:
    program = server.server.version.programs["server"].with_name("pg_verifybackup")
    if not program.is_file():
        pytest.skip("no pg_verifybackup beside this server")
    top = place / "unpacked"
    top.mkdir()
    subprocess.run(["tar", "-xf", taken(server.server, place, by_us=True), "-C", top], check=True)
    run = subprocess.run([program, *flag, top], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    changed = next((top / "base").glob("*/PG_VERSION"))
    changed.write_text("14\n")
    assert subprocess.run([program, *flag, top], capture_output=True, check=False).returncode == 1


def test_tables_come_and_go_meanwhile(server: PostgreSQLServer, place: Path) -> None:
    """Files vanish, are cut off and grow while they are read."""
    over = threading.Event()

    def churn() -> None:
        with server.connect() as connection:
            n = 0
            while not over.is_set():
                n += 1
                connection.execute(f"CREATE TABLE t{n} AS SELECT g AS id, repeat('x', 500) AS t FROM generate_series(1, 300) g")
                if n > 3:
                    connection.execute(f"DROP TABLE t{n - 3}")
                connection.execute(f"TRUNCATE t{n}")
                connection.execute("VACUUM FULL orders")
                with connection.transaction():
                    connection.execute("INSERT INTO customers SELECT id + 1000000, name FROM customers WHERE id < 100")
                    connection.execute("DELETE FROM customers WHERE id >= 1000000")

    thread = threading.Thread(target=churn, daemon=True)
    thread.start()
    try:
        with Writer(server.connect()) as writer:
            committed = writer.committed
            work = postgresql.scratch(place, "full")
            result, pages = run_as(server.server.user, slowly, server.server, work, work / "stream")
    finally:
        over.set()
        thread.join()
    assert pages is not None
    assert pages.damaged == 0
    link = postgresql.FileLink(work / "stream", result.positions, result.server_version, result.data_bytes)
    restored = postgresql.restore(link, place, "b")
    with postgresql.started(restored) as copy, copy.connect() as connection:
        proven(connection, committed)
        found = checksums(connection)
        connection.execute("CREATE EXTENSION amcheck")
        connection.execute("SELECT bt_index_check(c.oid, true) FROM pg_class c WHERE relkind = 'i' AND relpersistence = 'p'")
    with server.connect() as connection:
        expected = checksums(connection)
    for table in ("public.orders", "public.customers"):
        assert found[table] == expected[table]


def slowly(server: Server, work: Path, stream: Path) -> object:
    """With pauses between files, so that much happens meanwhile."""
    listed = walk(server.data_dir)

    def dawdle(top: Path) -> Iterator[tuple[str, bool]]:
        for n, entry in enumerate(listed):
            if n % 20 == 0:
                threading.Event().wait(0.03)
            yield entry

    copy_module.walk = dawdle  # type: ignore[assignment]  # in a process of its own
    return take(server, work, stream)


def test_an_unreadable_file_fails_the_backup(server: PostgreSQLServer, place: Path) -> None:
    path = server.server.data_dir / "base" / "secret"
    put(path, b"x")
    path.chmod(0)
    try:
        with pytest.raises(ServerFailed, match="base/secret of the server cannot be read: Permission denied"):
            taken(server.server, place, by_us=True)
    finally:
        path.unlink()
    assert server.sql("SELECT count(*) FROM pg_replication_slots WHERE temporary") == [(0,)]


def test_a_file_that_is_truncated_while_it_is_read_is_filled_with_zeros(server: PostgreSQLServer, place: Path) -> None:
    path = server.server.data_dir / "base" / "shrinks"
    put(path, b"x" * 3_000_000)
    try:
        stream = postgresql.scratch(place, "work") / "stream"
        run_as(server.server.user, _cut, server.server, path, stream)
    finally:
        path.unlink()
    content = members(stream)["base/shrinks"]
    assert content is not None
    assert len(content) == 3_000_000
    assert content.strip(b"x").strip(b"\0") == b""
    assert content.endswith(b"\0" * 1_000_000)


def _cut(server: Server, path: Path, stream: Path) -> None:
    session = driver.backups.begin(server, BackupRequest("full", None, stream.parent))
    try:
        with stream.open("wb") as file:
            for piece in pieces(session.stdout):
                file.write(piece)
                if b"xxx" in bytes(piece):
                    with path.open("r+b") as shrinking:
                        shrinking.truncate(1_000_000)
        session.finish()
    finally:
        session.abort()


def test_finish_before_the_end_of_the_stream_fails(server: PostgreSQLServer, place: Path) -> None:
    with pytest.raises(psycopg.OperationalError), server.connect() as connection:
        connection.execute("SELECT pg_backup_stop(false)")  # nothing of the tests before is left
    with pytest.raises(Exception, match="the backup ended before its end"):
        run_as(server.server.user, _half, server.server, postgresql.scratch(place, "half"))


def _half(server: Server, work: Path) -> None:
    session = driver.backups.begin(server, BackupRequest("full", None, work))
    try:
        next(pieces(session.stdout))
        session.finish()
    finally:
        session.abort()


def test_rules(tmp_path: Path) -> None:
    kept = ["PG_VERSION", "base/5/1", "base/5/1.1", "base/5/2_init", "base/5/2_fsm.1x", "base/5/3_vm", "global/2", "pg_xact/0000"]
    left = ["postmaster.pid", "base/5/2", "base/5/2.3", "base/5/2_fsm", "base/5/t3_4", "base/5/t3_4_vm.1"]
    left += ["base/5/pg_internal.init", "global/pg_control", "pg_wal/000000010000000000000001", "pg_notify/0000"]
    left += ["base/pgsql_tmp/pgsql_tmp1.2", "x/backup_label"]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("PG_VERSION")
    (tmp_path / "pg_wal" / "archive_status").mkdir()
    found = list(walk(tmp_path))
    assert sorted(path for path, is_directory in found if not is_directory) == sorted(kept)
    assert {path for path, is_directory in found if is_directory} == {
        *("base", "base/5", "global", "pg_xact", "pg_wal", "pg_wal/archive_status", "pg_notify", "x")
    }


@pytest.mark.parametrize("one", ["file", "pipe"])
def test_a_cancellation_during_a_close_closes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str) -> None:
    close = os.close

    def cancelled(fd: int) -> None:
        close(fd)
        raise Cancelled("now")

    held: copy_module._Reading | Piped
    if one == "file":
        held = copy_module._Reading("it", os.open(tmp_path, os.O_RDONLY), 0)
        end = held.close
    else:
        held = Piped()
        close(held._open())
        end = held._close
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", cancelled)
        with pytest.raises(Cancelled):
            end()
    end()
