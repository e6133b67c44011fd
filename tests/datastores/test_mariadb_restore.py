"""A chain is restored, and what it holds is compared with what was there. What cannot be right is refused."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.datastores import Restored, Version, get
from strongroom.errors import ArtifactCorrupt, NoSpace, ServerFailed, StorageError, ToolFailed, VersionMismatch
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from support import mariadb, processes, slow
from support.identity import run_as, server_user
from support.load import Writer, proven
from support.mariadb import FileLink, MariaDBServer

driver = get("mariadb")


def restore(
    place: Path, chain: Sequence[FileLink], name: str = "restored", version: Version | None = None
) -> tuple[Path, Restored]:
    """Restore as the server's user; the directory and what the driver says of it."""
    target, work_dir = mariadb.scratch(place, name), mariadb.scratch(place, f"{name}-work")
    return target, run_as(server_user(), _restore, version or mariadb.version(), list(chain), target, work_dir)


def _restore(version: Version, chain: Sequence[FileLink], target: Path, work_dir: Path) -> Restored:
    return driver.restores.restore(version, chain, target, work_dir, lambda name: None)


def start_on(place: Path, pool: str, data: Path, name: str, number: int) -> MariaDBServer:
    """A server on a restored directory."""
    server = mariadb.make(place, pool, name=name, number=number)
    shutil.rmtree(server.data_dir)
    data.rename(server.data_dir)
    server.start()
    return server


@pytest.fixture(scope="module")
def chain() -> Iterator[list[FileLink]]:
    """A full and two incrementals, with a checkpoint before each, of a server that was written to meanwhile and is gone."""
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    try:
        with mariadb.running(place, None) as a:
            a.fill(300)
            chain: list[FileLink] = []
            with Writer(a.connect):
                for name in ("full", "first", "second"):
                    a.checkpoint()
                    chain.append(mariadb.backup(a, place, name, chain[-1] if chain else None))
        yield chain
    finally:
        processes.end(place)
        shutil.rmtree(place)


def test_full_and_incrementals_under_load(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        a.fill(500)
        chain: list[FileLink] = []
        committed: list[int] = []
        with Writer(a.connect) as writer:
            for name in ("full", "first", "second"):
                a.sql(f"CREATE TABLE db1.at_{name} SELECT * FROM db1.customers")
                if name == "second":
                    a.sql("DROP TABLE db1.at_full")
                    a.sql("DELETE FROM db1.orders WHERE id %% 7 = %s", 0)
                committed.append(writer.committed)
                chain.append(mariadb.backup(a, place, name, chain[-1] if chain else None))
        still = {table: sums for table, sums in a.checksums().items() if table not in ("accounts", "sequence")}
        for length, number in ((3, 2), (1, 3)):
            target, restored = restore(place, chain[:length], f"restored-{length}")
            assert restored.positions == chain[length - 1].positions
            assert restored.facts["binlog"].startswith("binlog.000001 ")
            b = start_on(place, pool, target, f"b{length}", number)
            with b.connect() as connection:
                proven(connection, committed[length - 1])
            tables = b.checksums()
            if length == 3:
                assert {table: tables[table] for table in still} == still
                assert "at_full" not in tables
            else:
                assert "at_full" in tables and "at_first" not in tables
            assert b.sql("CHECK TABLE db1.accounts, db1.orders EXTENDED")[0][3] == "OK"
            b.stop()


def test_the_position_is_that_of_the_data(place: Path) -> None:
    """If InnoDB is later in the binary log than the backup says, the log continues there."""
    with mariadb.running(place, None) as a:
        a.sql("CREATE DATABASE d")
        a.sql("CREATE TABLE d.t (a INT) ENGINE=InnoDB")
        ((_, before, *_),) = a.sql("SHOW MASTER STATUS")
        a.sql("INSERT INTO d.t VALUES (1)")
        ((_, after, *_),) = a.sql("SHOW MASTER STATUS")
        full = mariadb.backup(a, place, "full")
    assert full.positions.binlog_position == after
    earlier = full.positions.model_copy(update={"binlog_position": before})
    _, restored = restore(place, [replace(full, positions=earlier)])
    assert restored.positions == full.positions.model_copy(update={"gtid": None})


def test_only_the_data_is_left(place: Path, chain: list[FileLink]) -> None:
    target, _ = restore(place, chain)
    left = {path.name for path in target.iterdir()}
    assert left <= {
        *(
            "aria_log.00000001",
            "aria_log_control",
            "db1",
            "ib_buffer_pool",
            "ib_logfile0",
            "ibdata1",
            "mysql",
            "performance_schema",
        ),
        *("sys", "undo001", "undo002", "undo003", "xtrabackup_checkpoints"),
    }
    uid, _ = find_user(server_user()).owner
    assert {path.stat().st_uid for path in target.rglob("*")} == {uid}
    assert not list((place / "restored-work").glob("incremental-*"))
    assert not processes.below(place)
    driver.servers.check_data(mariadb.describe(place, "x", None, user=server_user()), target)


def test_stray_files_of_a_cluster_and_binary_logs_are_removed(place: Path, chain: list[FileLink]) -> None:
    """mariadb-backup --galera-info brings them; a server would join its old cluster by them."""
    target, work_dir = mariadb.scratch(place, "target"), mariadb.scratch(place, "work")
    run_as(server_user(), _restore_with_strays, list(chain[:1]), target, work_dir)
    left = {path.name for path in target.iterdir()}
    assert not left & {"grastate.dat", "donor_galera_info", "binlog.000001", "binlog.index", "backup-my.cnf", "xtrabackup_info"}
    assert "binlogs" in left


def _restore_with_strays(chain: list[FileLink], target: Path, work_dir: Path) -> None:
    def phase(name: str) -> None:
        if name == "sync":
            for stray in ("grastate.dat", "donor_galera_info", "binlog.000001", "binlog.index", "binlogs"):
                (target / stray).write_text("stray")

    driver.restores.restore(mariadb.version(), chain, target, work_dir, phase)


def test_an_extracted_backup_is_not_a_database(place: Path, pool: str, chain: list[FileLink]) -> None:
    server = mariadb.make(place, pool, name="b", number=2)
    shutil.rmtree(server.data_dir)
    make_directory(server.data_dir, find_user(server.server.user).owner)
    with chain[0].path.open("rb") as stream:
        subprocess.run(["mbstream", "-x", "-C", server.data_dir], stdin=stream, check=True)
    with pytest.raises(ServerFailed, match="not prepared"):
        server.start()


@pytest.mark.parametrize("number", ["10.6.20", "10.11.2", "11.4.5"])
def test_a_tool_that_does_not_fit_is_refused_before_anything_is_written(
    place: Path, pool: str, chain: list[FileLink], number: str
) -> None:
    server = mariadb.describe(place, "x", None, user=server_user())
    version = slow.other_version(server, place, number).version
    with pytest.raises(VersionMismatch, match=number):
        restore(place, chain, version=version)
    assert list((place / "restored").iterdir()) == []


def test_a_backup_of_a_later_server_is_refused(place: Path, chain: list[FileLink]) -> None:
    with pytest.raises(VersionMismatch, match=r"10\.11\.99"):
        restore(place, [*chain[:2], replace(chain[2], server_version="10.11.99")])


class Huge(FileLink):
    """Says that it is larger than any disk."""

    @property
    def raw_size(self) -> int:
        return 1 << 60


def test_unsuitable_backups_are_refused_before_anything_is_written(place: Path, chain: list[FileLink]) -> None:
    link = chain[0]
    with pytest.raises(NoSpace, match="MiB are free"):
        restore(place, [Huge(link.path, link.kind, link.positions, link.server_version, link.data_size)])
    assert list((place / "restored").iterdir()) == []


def test_a_missing_backup_of_a_chain_is_noticed(place: Path, chain: list[FileLink]) -> None:
    full, _, second = chain
    assert full.positions.to_lsn != second.positions.from_lsn
    with pytest.raises(ArtifactCorrupt, match="begins at LSN"):
        restore(place, [full, second])


def test_backups_in_the_wrong_order_are_noticed(place: Path, chain: list[FileLink]) -> None:
    full, first, second = chain
    with pytest.raises(ArtifactCorrupt, match="holds incremental instead of full-backuped"):
        restore(place, [replace(full, path=first.path)], "one")
    with pytest.raises(ArtifactCorrupt, match="holds full-backuped instead of incremental"):
        restore(place, [full, replace(first, path=full.path)], "two")
    with pytest.raises(ArtifactCorrupt, match="ends at LSN"):
        restore(place, [full, first, replace(second, path=first.path)], "three")


class Broken(FileLink):
    """Fails in the middle, as a store may."""

    def chunks(self) -> Generator[bytes, None, None]:
        yield self.path.read_bytes()[:40_000]
        raise StorageError("segment 3 is gone")


def test_the_cause_of_a_broken_stream_is_reported(place: Path, chain: list[FileLink]) -> None:
    link = chain[0]
    with pytest.raises(StorageError, match="segment 3 is gone"):
        restore(place, [Broken(link.path, link.kind, link.positions, link.server_version, link.data_size)])
    link = chain[1]
    with pytest.raises(StorageError, match="segment 3 is gone"):
        restore(place, [chain[0], Broken(link.path, link.kind, link.positions, link.server_version, link.data_size)], "second")
    assert not processes.below(place)


def test_a_truncated_stream_fails(place: Path, chain: list[FileLink]) -> None:
    cut = place / "cut"
    cut.write_bytes(chain[0].path.read_bytes()[:-50_000])
    cut.chmod(0o644)
    with pytest.raises(ArtifactCorrupt):
        restore(place, [replace(chain[0], path=cut)])


def test_an_existing_file_fails_the_restore(place: Path, chain: list[FileLink]) -> None:
    target, work_dir = mariadb.scratch(place, "restored"), mariadb.scratch(place, "restored-work")
    in_the_way = target / "ib_logfile0"
    in_the_way.write_text("not of this backup")
    with pytest.raises(ArtifactCorrupt, match="ib_logfile0"):
        run_as(server_user(), _restore, mariadb.version(), [chain[0]], target, work_dir)


@pytest.mark.parametrize(("word", "length"), [("--prepare", 1), ("--incremental-dir", 2)])
def test_a_server_does_not_start_after_a_killed_prepare(place: Path, chain: list[FileLink], word: str, length: int) -> None:
    """An apply that is repeated loses tables and says that all is well, so its directory must never be used."""
    server = mariadb.describe(place, "x", None, user=server_user())
    version = slow.late(server, place, "backup", word).version
    target, work_dir = mariadb.scratch(place, "target"), mariadb.scratch(place, "work")
    with pytest.raises(ToolFailed, match="SIGKILL"):
        run_as(server_user(), _restore_and_kill, version, list(chain[:length]), target, work_dir, word)
    with pytest.raises(ServerFailed, match="unfinished"):
        driver.servers.check_data(server, target)
    assert not processes.below(place)


def _restore_and_kill(version: Version, chain: list[FileLink], target: Path, work_dir: Path, word: str) -> None:
    killer = subprocess.Popen(
        ["bash", "-c", f"until pid=$(pgrep -f -- '^/bin/bash {work_dir.parent}/.*{word}'); do sleep 0.05; done; kill -9 $pid"]
    )
    try:
        driver.restores.restore(version, chain, target, work_dir, lambda name: None)
    finally:
        killer.wait(10)
