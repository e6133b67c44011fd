"""Tablespaces, links and large WAL files on real PostgreSQL servers: backed up, restored, and compared by data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from strongroom.artifact import Positions, Profile
from strongroom.datastores import BackupRequest, DatabaseSpec, Place, Server, Version, get, set_stall_timeout
from strongroom.datastores.postgresql.files import tree
from strongroom.errors import InvalidRequest, NoSpace, ServerFailed, ToolFailed, Unsupported
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from support import postgresql, postgresql_versions
from support.identity import run_as
from support.postgresql import FileLink, PostgreSQLServer, checksums, fill, taken_by
from support.sessions import pieces

driver = get("postgresql")
VERSIONS = [
    pytest.param(postgresql.version, id="of-the-host"),
    pytest.param(lambda: postgresql_versions.version("16"), id="16"),
    pytest.param(lambda: postgresql_versions.version("18"), id="18"),
]


def data(server: Server) -> dict[str, tuple[int, str]]:
    """What a restored server holds. It is started for it, and stopped in good order."""
    with postgresql.started(server) as instance:
        with instance.connect() as connection:
            found = checksums(connection)
        instance.end()
    return found


def with_tablespaces(a: PostgreSQLServer, place: Path) -> dict[str, Path]:
    """Two tablespaces outside and one inside the data directory, with tables and an index; the directories outside."""
    spaces = {name: postgresql.scratch(place, f"space-{name}") for name in ("one", "two")}
    for name, path in spaces.items():
        a.sql(f"CREATE TABLESPACE {name} LOCATION '{path}'", "postgres")
    with psycopg.connect(host=str(a.server.socket.parent), user="postgres", dbname="postgres", autocommit=True) as connection:  # type: ignore[union-attr]
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute("CREATE TABLESPACE inside LOCATION ''")
    driver.require_administration().databases.create(a.server, [DatabaseSpec(name="db1")])
    with a.connect() as connection:
        fill(connection, 300)
    a.sql("ALTER TABLE orders SET TABLESPACE one")
    a.sql("CREATE INDEX ON customers (name) TABLESPACE two")
    a.sql("CREATE TABLE large TABLESPACE two AS SELECT i, md5(i::text) AS text FROM generate_series(1, 30000) AS i")
    a.sql("CREATE TABLE small TABLESPACE inside AS SELECT generate_series(1, 100) AS id")
    a.sql("CREATE UNLOGGED TABLE unlogged TABLESPACE one AS SELECT 1 AS id")
    return spaces


def change(a: PostgreSQLServer, number: int) -> None:
    a.sql(f"CREATE TABLE new{number} TABLESPACE one AS SELECT generate_series(1, 500) AS id")
    a.sql(f"UPDATE large SET text = 'changed {number}' WHERE i % 100 = {number}")
    a.sql(f"DELETE FROM orders WHERE id % 7 = {number}")
    a.sql(f"INSERT INTO small VALUES ({number})")


@pytest.mark.parametrize("version", VERSIONS)
def test_tablespaces_are_backed_up_and_restored_into_the_data_directory(place: Path, version: Callable[[], Version]) -> None:
    found = []
    with postgresql.running(place, of=version()) as a:
        spaces = with_tablespaces(a, place)
        chain = [postgresql.backup(a, place)]
        for number in (1, 2):
            with a.connect() as connection:
                found.append(checksums(connection))
            change(a, number)
            chain.append(postgresql.backup(a, place, f"inc{number}", chain[-1]))
        with a.connect() as connection:
            found.append(checksums(connection))
        blocks = int(version().series) >= 17
        assert [link.positions.blocks_from is not None for link in chain] == [False, blocks, blocks]
        assert chain[0].data_size > 4 << 20
        with taken_by(False):  # over the replication protocol
            sent = run_as(a.server.user, take_full, a.server, postgresql.scratch(place, "sent"))
    for path in spaces.values():  # nothing of the restored servers is there
        shutil.rmtree(path)
    empty = {"public.unlogged": (0, found[0]["public.cache"][1])}
    for number in (1, 2):
        server = postgresql.restore(chain[: number + 1], place, f"r{number}", of=version())
        assert data(server) == found[number] | empty
        assert not any(path.is_symlink() for path in (server.data_dir / "pg_tblspc").iterdir())
    assert data(postgresql.restore(chain[0], place, "full-alone", of=version())) == found[0] | empty
    server = postgresql.restore(sent, place, "of-sent", of=version())
    assert data(server) == found[2] | empty
    # The restored server is backed up, and that is restored, too.
    with postgresql.started(server) as b:
        full = postgresql.backup(b, place, "again")
        change(b, 3)
        inc = postgresql.backup(b, place, "again-inc", full)
        with b.connect() as connection:
            expected = checksums(connection)
    assert data(postgresql.restore([full, inc], place, "twice", of=version())) == expected


def take_full(server: Server, work_dir: Path, by_us: bool = False) -> FileLink:
    result, found = postgresql.take(server, work_dir, work_dir / "stream", by_us=by_us)
    return FileLink(work_dir / "stream", result.positions, result.server_version, result.data_bytes, "full", found)


def test_unsupported_tablespaces_are_refused_by_name(place: Path) -> None:
    with postgresql.running(place) as a:
        driver.require_administration().databases.create(a.server, [DatabaseSpec(name="db1")])
        full = postgresql.backup(a, place)
        inside = postgresql.scratch(a.server.data_dir, "inside")
        a.sql(f"CREATE TABLESPACE far LOCATION '{inside}'", "postgres")
        with pytest.raises(Unsupported, match=f"far in {inside}, which is inside the data directory"):
            postgresql.backup(a, place, "one")
        a.sql("DROP TABLESPACE far", "postgres")
        # A directory that was moved away: pg_basebackup omits it and reports success.
        ((oid,),) = a.sql("SELECT oid FROM pg_database WHERE datname = 'db1'", "postgres")
        folder, away = a.server.data_dir / "base" / str(oid), place / "away"
        folder.rename(away)
        folder.symlink_to(away)
        owner = a.server.data_dir.stat()
        os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
        for parent in (None, full):
            with pytest.raises(Unsupported, match=f"behind symbolic links: base/{oid} in "):
                postgresql.backup(a, place, f"linked{parent is None}", parent)
        folder.unlink()
        away.rename(folder)
        # What is no data may be a link; and a tablespace whose directory is gone is named.
        (a.server.data_dir / "log").symlink_to(place)
        stats = a.server.data_dir / "pg_stat_tmp"
        stats.rmdir()
        stats.symlink_to(place)
        assert set(postgresql.backup(a, place, "good").files()) >= {"PG_VERSION", "global/pg_control"}
        space = postgresql.scratch(place, "space")
        a.sql(f"CREATE TABLESPACE far LOCATION '{space}'", "postgres")
        # Of backups by other programs, only the archive of the data directory may exist: its list names files of others.
        a.sql("CREATE TABLE spread TABLESPACE far AS SELECT 1 AS id", "postgres")
        whole = postgresql.backup(a, place, "whole")
        sizes = {path: sum(length for _, length in ranges) for path, ranges in whole.files().items()}
        side_files = {path: whole.read(path) for path in driver.capabilities.side_files}
        assert driver.backups.describe(side_files, sizes, Positions()).kind == "full"
        alone = {path: size for path, size in sizes.items() if not path.startswith("pg_tblspc/")}
        with pytest.raises(Unsupported, match="only the archive of the data directory"):
            driver.backups.describe(side_files, alone, Positions())
        with pytest.raises(Unsupported, match="only the archive of the data directory"):
            driver.backups.describe(side_files, sizes | {"tablespace_map": 1024}, Positions())
        space.rename(place / "gone")
        with pytest.raises(Unsupported, match=f"far in {space}: No such file"):
            postgresql.backup(a, place, "two")


@pytest.mark.parametrize("by_us", [True, False], ids=["by-us", "by-the-tool"])
def test_a_tablespace_created_or_dropped_during_a_backup_fails_it(place: Path, by_us: bool) -> None:
    with postgresql.running(place) as a:
        driver.require_administration().databases.create(a.server, [DatabaseSpec(name="db1")])
        space = postgresql.scratch(place, "space")
        make = f"CREATE TABLESPACE far LOCATION '{space}'"
        for number, statements in enumerate(([make, "DROP TABLESPACE far"], [make], ["DROP TABLESPACE far"])):
            with pytest.raises(ServerFailed, match=r"a tablespace of .* was made"):
                run_as(a.server.user, take_while, a, postgresql.scratch(place, f"b{number}"), statements, by_us)
        assert run_as(a.server.user, take_while, a, postgresql.scratch(place, "good"), [], by_us) is not None


def test_tablespaces_come_and_go_between_incrementals_of_blocks(place: Path) -> None:
    eighteen = postgresql_versions.version("18")
    found = []
    with postgresql.running(place, of=eighteen) as a:
        with_tablespaces(a, place)
        chain = [postgresql.backup(a, place)]
        for name, old in (("three", "one"), ("four", "three")):
            a.sql(f"CREATE TABLESPACE {name} LOCATION '{postgresql.scratch(place, f'space-{name}')}'", "postgres")
            a.sql(f"ALTER TABLE orders SET TABLESPACE {name}")
            a.sql("DROP TABLE IF EXISTS unlogged")
            a.sql(f"CREATE TABLE at_{name} TABLESPACE {name} AS SELECT generate_series(1, 100) AS id")
            a.sql(f"DROP TABLE IF EXISTS at_{old}")
            a.sql(f"DROP TABLESPACE {old}", "postgres")
            chain.append(postgresql.backup(a, place, f"with-{name}", chain[-1]))
            with a.connect() as connection:
                found.append(checksums(connection))
    assert [link.positions.blocks_from for link in chain[1:]] == [link.positions.wal_start for link in chain[:-1]]
    assert data(postgresql.restore(chain[:2], place, "r1", of=eighteen)) == found[0]
    assert data(postgresql.restore(chain, place, "r2", of=eighteen)) == found[1]


def test_damaged_pages_of_a_tablespace_are_named(place: Path) -> None:
    with postgresql.running(place) as a:
        with_tablespaces(a, place)
        ((path,),) = a.sql("SELECT pg_relation_filepath('large')")
        assert str(path).startswith("pg_tblspc/")
        a.end()
        with (a.server.data_dir / path).open("r+b") as file:
            file.seek(3 * 8192 + 4000)
            file.write(b"damage")
        a.start()
        for by_us in (True, False):
            link = run_as(a.server.user, take_full, a.server, postgresql.scratch(place, f"b{by_us}"), by_us)
            assert link.pages is not None
            assert [(page.path, page.block) for page in link.pages.named] == [(path, 3)]


def test_a_base_backup_of_a_hanging_server_is_aborted(place: Path) -> None:
    with postgresql.running(place) as a:
        with_tablespaces(a, place)
        a.sql(
            "CREATE TABLE huge TABLESPACE one AS SELECT i, repeat(md5(i::text), 20) AS text FROM generate_series(1, 60000) AS i"
        )
        with pytest.raises(ToolFailed, match="made no progress in the base backup for 2 s"):
            run_as(a.server.user, take_from_stopped, a.server, postgresql.scratch(place, "b"))


def take_from_stopped(server: Server, work_dir: Path) -> None:
    """A backup whose server process is stopped after the first bytes, and continued when that was noticed."""
    set_stall_timeout(2)
    with taken_by(False):
        session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    pid = session._wire.backend_pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in pieces(session.stdout):
            pass
        session.finish()
    finally:
        os.kill(pid, signal.SIGCONT)
        session.abort()


def take_while(a: PostgreSQLServer, work_dir: Path, statements: list[str], by_us: bool) -> Positions:
    """A backup; the statements run after it has begun."""
    kept: dict[str, bytes] = {}
    with taken_by(by_us):
        session = driver.backups.begin(a.server, BackupRequest("full", None, work_dir, kept=kept))
    try:
        stream = pieces(session.stdout)
        next(stream)
        for statement in statements:
            a.sql(statement, "postgres")
        for _ in stream:
            pass
        return session.finish().positions
    finally:
        session.abort()


# --- WAL in another place, and in other sizes


@contextmanager
def made(place: Path, name: str, of: Version, *options: str) -> Iterator[PostgreSQLServer]:
    """A running server that was made with these options of initdb."""
    server = postgresql.describe(place, name, None, of)
    place.chmod(0o711)
    for path in (server.base_dir, server.data_dir):
        make_directory(path, find_user(server.user).owner)
    command = [of.programs["initialize"], f"--pgdata={server.data_dir}", "--username=postgres", "--no-sync", *options]
    run_as(server.user, run, [str(part) for part in command])
    with postgresql.started(server) as instance:
        yield instance


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, cwd="/")


def test_wal_in_another_place_is_backed_up_and_restored_into_the_data_directory(place: Path) -> None:
    wal = place / "wal"
    with made(place, "a", postgresql.version(), f"--waldir={postgresql.scratch(place, 'wal')}") as a:
        driver.require_administration().databases.create(a.server, [DatabaseSpec(name="db1")])
        with a.connect() as connection:
            fill(connection, 300)
        for _ in range(5):
            a.sql("SELECT pg_create_restore_point('x'), pg_switch_wal()")
        full = postgresql.backup(a, place)
        a.sql("CREATE TABLE later AS SELECT generate_series(1, 1000) AS id")
        inc = postgresql.backup(a, place, "inc", full)
        for link in (full, inc):
            assert 15 << 20 < link.data_size < 60 << 20
        used = driver.servers.measure(a.server.data_dir).data_bytes
        assert used > full.data_size + (16 << 20)
        with a.connect() as connection:
            expected = checksums(connection)
    shutil.rmtree(wal)
    server = postgresql.restore([full, inc], place, "r")
    assert (server.data_dir / "pg_wal").is_dir()
    assert not (server.data_dir / "pg_wal").is_symlink()
    assert data(server) == expected


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[2]])
def test_large_wal_files(place: Path, version: Callable[[], Version]) -> None:
    with made(place, "a", version(), "--wal-segsize=64") as a:
        driver.require_administration().databases.create(a.server, [DatabaseSpec(name="db1")])
        with a.connect() as connection:
            fill(connection, 300)
        chain = [postgresql.backup(a, place)]
        for number in (1, 2):
            a.sql(f"CREATE TABLE new{number} AS SELECT generate_series(1, 1000) AS id")
            chain.append(postgresql.backup(a, place, f"inc{number}", chain[-1]))
        with a.connect() as connection:
            expected = checksums(connection)
    assert data(postgresql.restore(chain, place, "r", of=version())) == expected
    full = postgresql.restore(chain[0], place, "f", of=version())
    assert "public.new1" not in data(full)


def test_lost_and_found_is_not_backed_up(place: Path) -> None:
    eighteen = postgresql_versions.version("18")
    with postgresql.running(place, of=eighteen) as a:
        driver.require_administration().databases.create(a.server, [DatabaseSpec(name="db1")])
        with a.connect() as connection:
            fill(connection, 100)
        (a.server.data_dir / "lost+found").mkdir(mode=0o700)
        if os.geteuid() != 0:  # root's own, elsewhere
            (a.server.data_dir / "lost+found").chmod(0)
        full = postgresql.backup(a, place)
        a.sql("CREATE TABLE later AS SELECT 1 AS id")
        inc = postgresql.backup(a, place, "inc", full)
        assert inc.positions.wal_from == full.positions.wal_stop  # the server's own base backup would fail
        with a.connect() as connection:
            expected = checksums(connection)
        with pytest.raises(Unsupported, match="lost"), taken_by(False):
            run_as(a.server.user, take_full, a.server, postgresql.scratch(place, "sent"))
    assert data(postgresql.restore([full, inc], place, "r", of=eighteen)) == expected


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[2]])
def test_a_chain_is_written_directly_to_the_directory_that_a_user_chose(
    place: Path, version: Callable[[], Version], request: pytest.FixtureRequest
) -> None:
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))  # another file system than that of the data
    request.addfinalizer(lambda: shutil.rmtree(elsewhere))
    elsewhere.chmod(0o711)
    with postgresql.running(place, of=version()) as a:
        spaces = with_tablespaces(a, place)
        profile = driver.profiles.read(a.server)
        chain = [postgresql.backup(a, place)]
        for number in (1, 2):
            change(a, number)
            chain.append(postgresql.backup(a, place, f"inc{number}", chain[-1]))
        with a.connect() as connection:
            expected = checksums(connection) | {"public.unlogged": (0, checksums(connection)["public.cache"][1])}
    for path in spaces.values():
        shutil.rmtree(path)
    server = postgresql.describe(place, "r", None, version())
    place.chmod(0o711)
    for path in (server.base_dir, server.data_dir):
        make_directory(path, find_user(server.user).owner)
    chosen = {"one": postgresql.scratch(elsewhere, "one"), str(spaces["two"]): postgresql.scratch(place, "chosen-two")}
    staging = {path: postgresql.scratch(path.parent, f"{path.name}.new") for path in chosen.values()}
    places = driver.placement.choose_places(server, chosen)
    run_as(server.user, restore_to, server, places, staging, profile, chain, postgresql.scratch(place, "work"))
    for path, filled in staging.items():
        (inner,) = filled.iterdir()
        shutil.move(inner, path / inner.name)
        for each in (path / inner.name, *(path / inner.name).rglob("*")):
            os.chown(each, *find_user(server.user).owner)
    assert data(server) == expected
    kinds = {path.name: path.is_symlink() for path in (server.data_dir / "pg_tblspc").iterdir()}
    assert sorted(kinds.values()) == [False, True, True]
    for name, said in (("three", "has no tablespace three; it has one"), (str(spaces["one"]), "two directories")):
        with pytest.raises(InvalidRequest, match=said):
            wrong = driver.placement.choose_places(server, {"one": place, name: place})
            driver.placement.prepare(server, wrong, scratch_directory(place, name), {}, profile)


def scratch_directory(place: Path, name: str) -> Path:
    return postgresql.scratch(place, f"scratch-{name.replace('/', '-')}")


def restore_to(
    server: Server, places: list[Place], staging: dict[Path, Path], profile: Profile, chain: list[FileLink], work_dir: Path
) -> None:
    """As the worker does it."""
    found = driver.placement.prepare(server, places, server.data_dir, staging, profile)
    driver.restores.restore(server.version, chain, server.data_dir, work_dir, str)
    assert driver.placement.lay_out(server, found, server.data_dir, staging) == []


def test_space_is_checked_on_all_file_systems_of_a_restore(place: Path) -> None:
    shared = Path("/dev/shm")
    target = postgresql.scratch(place, "target")
    (target / "pg_tblspc").mkdir()
    free = os.statvfs(target)
    needed = free.f_bavail * free.f_frsize + (1 << 20)
    with pytest.raises(NoSpace):
        tree.require_space_for(target, needed)
    (target / "pg_tblspc" / "16384").symlink_to(shared)
    if target.stat().st_dev != shared.stat().st_dev:
        tree.require_space_for(target, needed - (1 << 20))
    with pytest.raises(NoSpace, match="restore needs about"):
        tree.require_space_for(target, 1 << 60)
