"""Incrementals that are WAL, on a real PostgreSQL: restored and compared by data, and refused when one byte of WAL is missing."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from strongroom.datastores import BackupRequest, DatabaseSpec, Server, Version, get
from strongroom.datastores.postgresql.files import wal as wal_module
from strongroom.errors import ArtifactCorrupt, LineageChanged, ServerFailed, StrongroomError, ToolFailed, WalGone
from support import postgresql, postgresql_versions, processes
from support.identity import run_as
from support.postgresql import FileLink, PostgreSQLServer, Writer, checksums, fill, proven

driver = get("postgresql")
TROVES_WORDS = "Cannot find parent backup WAL file."


def with_data(instance: PostgreSQLServer, rows: int = 300) -> None:
    driver.require_administration().databases.create(instance.server, [DatabaseSpec(name="db1")])
    with instance.connect() as connection:
        fill(connection, rows)


def data(server: Server, database: str = "db1") -> dict[str, tuple[int, str]]:
    """What a restored server holds; pages and indexes are looked at, too. The server is started for it, and stopped."""
    with postgresql.started(server) as instance:
        if instance.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'", database):
            amcheck = server.version.programs["server"].with_name("pg_amcheck")
            instance.sql("CREATE EXTENSION IF NOT EXISTS amcheck", database)
            argv = [amcheck, "--heapallindexed", f"--host={server.socket.parent}", "--username=postgres", database]  # type: ignore[union-attr]
            run_as(server.user, _check, argv)
        with instance.connect(database) as connection:
            return checksums(connection)


def _check(argv: Sequence[str | Path]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


VERSIONS = [
    pytest.param(postgresql.version, id="of-the-host"),
    pytest.param(lambda: postgresql_versions.version("16"), id="16"),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chain_under_writes_is_restored_to_each_backup(place: Path, version: Callable[[], Version]) -> None:
    ends: list[int] = []
    chain: list[FileLink] = []
    with postgresql.running(place, of=version()) as a:
        with_data(a)
        with Writer(a.connect()) as writer:
            for number in range(3):
                chain.append(postgresql.backup(a, place, f"b{number}", chain[-1] if chain else None))
                ends.append(writer.committed)
        with a.connect() as connection:
            expected = checksums(connection)
    assert [link.positions.wal_from for link in chain] == [None, *(link.positions.wal_stop for link in chain[:-1])]
    for number in (1, 2):
        server = postgresql.restore(chain[: number + 1], place, f"r{number}", of=version())
        left = {path.name for path in server.data_dir.iterdir()}
        assert not left & {"recovery.signal", "backup_label", "backup_label.old", "tablespace_map.old", "backup_manifest"}
        assert (server.data_dir / "postgresql.auto.conf").read_text() == ""
        with postgresql.started(server) as b, b.connect() as connection:
            proven(connection, ends[number - 1])
            assert {k: v for k, v in checksums(connection).items() if k != "public.sequence"} == {
                k: v for k, v in expected.items() if k != "public.sequence"
            }
            ((timeline,),) = b.sql("SELECT timeline_id FROM pg_control_checkpoint()")
            assert timeline == 2


def test_a_chain_of_ten_with_all_events_in_the_life_of_a_server(place: Path) -> None:
    def vacuum_full(a: PostgreSQLServer) -> None:
        a.sql("DELETE FROM orders WHERE id % 3 = 0")
        a.sql("VACUUM FULL orders")

    def new_database(a: PostgreSQLServer) -> None:
        driver.require_administration().databases.create(a.server, [DatabaseSpec(name="db2"), DatabaseSpec(name="gone")])
        with a.connect("db2") as connection:
            fill(connection, 50)

    def unlogged(a: PostgreSQLServer) -> None:
        a.sql("INSERT INTO cache SELECT generate_series(1, 100)")
        a.sql("CREATE UNLOGGED TABLE cache2 AS SELECT 1 AS id")

    def killed(a: PostgreSQLServer) -> None:
        a.sql("INSERT INTO sequence SELECT generate_series(100, 200)")
        a.end(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while True:
            try:
                return a.start()
            except StrongroomError:  # its children are still on their way out
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def restarted(a: PostgreSQLServer) -> None:
        a.end()
        a.start()

    def switched(a: PostgreSQLServer) -> None:
        for number in range(2):  # files of WAL that end with nothing
            a.sql(f"CREATE TABLE t{number} AS SELECT generate_series(1, 1000) AS id")
            a.sql("SELECT pg_switch_wal()")

    def truncated(a: PostgreSQLServer) -> None:
        a.sql("TRUNCATE t0")
        a.sql("DROP TABLE t1")
        a.sql("INSERT INTO t0 VALUES (7)")

    def large(a: PostgreSQLServer) -> None:
        a.sql("CREATE TABLE large AS SELECT i, md5(i::text) AS text FROM generate_series(1, 250000) AS i")
        a.sql("CREATE INDEX ON large (text)")

    def indexed(a: PostgreSQLServer) -> None:
        driver.require_administration().databases.drop(a.server, "gone")
        a.sql("REINDEX DATABASE db1")

    happens = [vacuum_full, new_database, unlogged, killed, restarted, lambda a: None, switched, truncated, large, indexed]
    with postgresql.running(place) as a:
        with_data(a)
        chain = [postgresql.backup(a, place)]
        for number, happen in enumerate(happens):
            happen(a)
            chain.append(postgresql.backup(a, place, f"b{number}", chain[-1]))
        with a.connect() as one, a.connect("db2") as two:
            expected = (checksums(one), checksums(two))
            unlogged_rows = dict.fromkeys(("public.cache", "public.cache2"), (0, expected[0]["public.cache"][1]))
        assert expected[0]["public.cache"][0] == 0  # the crash emptied it, as the restore will
        assert len(chain) == 11
    server = postgresql.restore(chain, place, "b")
    assert (data(server), data(server, "db2")) == (expected[0] | unlogged_rows, expected[1])
    with postgresql.started(server) as b:
        assert [d.name for d in driver.require_administration().databases.list_all(b.server)] == ["db1", "db2"]


def test_a_server_that_stops_and_begins_to_track_blocks(place: Path) -> None:
    """An incremental of WAL may follow one of blocks; after one of WAL, an incremental of blocks becomes a full."""
    eighteen = postgresql_versions.version("18")
    slots = "SELECT slot_name FROM pg_replication_slots WHERE NOT temporary"
    with postgresql.running(place, of=eighteen) as a:
        with_data(a)
        full = postgresql.backup(a, place)
        a.sql("CREATE TABLE one AS SELECT generate_series(1, 1000) AS id")
        blocks = postgresql.backup(a, place, "blocks", full)
        assert (blocks.positions.wal_from, a.sql(slots)) == (None, [])
        a.sql("ALTER SYSTEM SET summarize_wal = off")
        a.sql("SELECT pg_reload_conf()")
        a.sql("CREATE TABLE two AS SELECT generate_series(1, 1000) AS id")
        wal = postgresql.backup(a, place, "wal", blocks)
        a.sql("CREATE TABLE three AS SELECT generate_series(1, 1000) AS id")
        last = postgresql.backup(a, place, "last", wal)
        with a.connect() as connection:
            expected = checksums(connection)
        assert (wal.positions.wal_from, last.positions.wal_from) == (blocks.positions.wal_stop, wal.positions.wal_stop)
        assert a.sql(slots) == [("strongroom",)]
        a.sql("ALTER SYSTEM RESET summarize_wal")
        a.sql("SELECT pg_reload_conf()")
        postgresql.backup(a, place, "again")
        assert a.sql(slots) == []
    assert data(postgresql.restore([full, blocks, wal, last], place, "r", of=eighteen)) == expected


def test_two_children_of_one_parent_an_older_parent_and_restoring_twice(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        full = postgresql.backup(a, place)
        found = {}
        children = {}
        for name in ("one", "two", "three"):
            a.sql(f"CREATE TABLE {name} AS SELECT generate_series(1, 1000) AS id")
            children[name] = postgresql.backup(a, place, name, full)
            with a.connect() as connection:
                found[name] = checksums(connection)
    for name in ("one", "three"):
        assert data(postgresql.restore([full, children[name]], place, f"of-{name}")) == found[name]
    # The restored server continues, is backed up itself, and that backup is restored, too.
    server = postgresql.restore([full, children["two"]], place, "again")
    with postgresql.started(server) as b:
        base = postgresql.backup(b, place, "full-of-again")
        b.sql("CREATE TABLE later AS SELECT 1 AS id")
        child = postgresql.backup(b, place, "child-of-again", base)
        with b.connect() as connection:
            expected = checksums(connection)
    assert (base.positions.timeline, child.positions.timeline) == (2, 2)
    assert data(postgresql.restore([base, child], place, "last")) == expected


# --- parents that the server cannot continue from


def first_after(a: PostgreSQLServer, link: FileLink) -> Path:
    """The first file of WAL that an incremental on ``link`` needs."""
    assert link.positions.wal_stop is not None
    ((name,),) = a.sql(f"SELECT pg_walfile_name('{link.positions.wal_stop}'::pg_lsn + 16777216)")
    return a.server.data_dir / "pg_wal" / str(name)


def test_missing_wal_fails_the_backup_with_the_message_of_trove(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        full = postgresql.backup(a, place)
        a.sql("SELECT pg_create_restore_point('x'), pg_switch_wal()")
        path = first_after(a, full)
        path.rename(path.with_suffix(".away"))
        with pytest.raises(WalGone) as caught:
            postgresql.backup(a, place, "b", full)
        assert caught.value.message == TROVES_WORDS
        assert path.name in caught.value.remedy
        assert "Take a full backup" in caught.value.remedy
        path.with_suffix(".away").rename(path)
        # It vanishes, or is used again, while it is read.
        for number, harm in enumerate((Path.unlink, overwrite)):
            a.sql("SELECT pg_create_restore_point('x'), pg_switch_wal()")
            with pytest.raises(WalGone, match=re.escape(TROVES_WORDS)):
                run_as(a.server.user, take_while, a.server, postgresql.scratch(place, f"bad{number}"), full, harm)
            full = postgresql.backup(a, place, f"full{number}")


def overwrite(path: Path) -> None:
    """With WAL of another place."""
    other = min(each for each in path.parent.iterdir() if wal_module.NAME.fullmatch(each.name))
    shutil.copyfile(other, path)


def take_while(server: Server, work_dir: Path, parent: FileLink, harm: Callable[[Path], object]) -> None:
    """A backup to whose last file something happens before it is read."""
    request = BackupRequest("incremental", parent.positions, work_dir, parent_witness=parent.witness)
    session = driver.backups.begin(server, request)
    try:
        os.read(session.stdout, 512)  # the pipe holds less than one file
        names = session._source.names  # type: ignore[attr-defined]
        assert len(names) > 1
        harm(server.data_dir / "pg_wal" / names[-1])
        while os.read(session.stdout, 1 << 20):
            pass
        session.finish()
    finally:
        session.abort()


def test_a_slot_never_fills_the_disk_and_is_recreated_if_invalidated(place: Path) -> None:
    with postgresql.running(place) as a:
        a.server = a.server.model_copy(update={"wal_limit_mb": 64})
        a.end()
        a.start()
        with_data(a)
        slot = "SELECT slot_name, temporary, wal_status FROM pg_replication_slots"
        full = postgresql.backup(a, place)
        assert a.sql(slot) == [("strongroom", False, "reserved")]
        assert driver.servers.read_facts(a.server).warning == ""
        warned = ""
        for _ in range(6):  # a file of 16 MB at a time: the last quarter of the limit cannot be missed
            a.sql("SELECT pg_create_restore_point('x'), pg_switch_wal()")
            warned = warned or driver.servers.read_facts(a.server).warning
        assert "MB are left for WAL" in warned
        for _ in range(10):
            a.sql("SELECT pg_create_restore_point('x'), pg_switch_wal()")
        a.sql("CHECKPOINT")
        assert a.sql(slot) == [("strongroom", False, "lost")]
        assert "then dropped" in driver.servers.read_facts(a.server).warning
        wal = sum(path.stat().st_size for path in (a.server.data_dir / "pg_wal").iterdir() if path.is_file())
        assert wal < 224 << 20
        a.sql("CREATE TABLE t AS SELECT 1 AS id")
        with pytest.raises(WalGone, match=re.escape(TROVES_WORDS)):
            postgresql.backup(a, place, "b", full)
        assert a.sql(slot) == [("strongroom", False, "reserved")]
        full = postgresql.backup(a, place, "full2")
        assert driver.servers.read_facts(a.server).warning == ""
        a.sql("INSERT INTO t VALUES (2)")
        child = postgresql.backup(a, place, "c", full)
    with postgresql.started(postgresql.restore([full, child], place, "r")) as b:
        assert b.sql("SELECT sum(id) FROM t") == [(3,)]
        assert b.sql(slot) == []


def test_wal_before_the_newest_backups_is_released(place: Path) -> None:
    with postgresql.running(place) as a:
        a.server = a.server.model_copy(update={"wal_limit_mb": 128})
        a.end()
        a.start()
        link = postgresql.backup(a, place)
        for number in range(5):
            for _ in range(3):
                a.sql("SELECT pg_create_restore_point('x'), pg_switch_wal()", "postgres")
            link = postgresql.backup(a, place, f"b{number}", link)
        ((kept,),) = a.sql(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) / 1048576 FROM pg_replication_slots", "postgres"
        )
        assert 31 <= kept <= 64  # a quarter of the limit for older parents, and what came since


def promote(a: PostgreSQLServer) -> None:
    """Stop the server, and let it come up on a new timeline, as after a failover."""
    a.end()
    owner = a.server.data_dir.stat()
    settings = a.server.data_dir / "postgresql.auto.conf"
    (a.server.data_dir / "recovery.signal").touch()
    settings.write_text("restore_command = 'false'\n")
    for path in (settings, a.server.data_dir / "recovery.signal"):
        os.chown(path, owner.st_uid, owner.st_gid)
    a.start()
    settings.write_text("")


def test_a_promotion_between_parent_and_child(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        full = postgresql.backup(a, place)
        a.sql("CREATE TABLE before AS SELECT 1 AS id")
        one = postgresql.backup(a, place, "one", full)
        a.sql("CREATE TABLE between AS SELECT 2 AS id")
        promote(a)
        a.sql("CREATE TABLE after AS SELECT 3 AS id")
        two = postgresql.backup(a, place, "two", one)
        promote(a)
        a.sql("INSERT INTO after VALUES (4)")
        three = postgresql.backup(a, place, "three", two)
        over = postgresql.backup(a, place, "over", full)
        with a.connect() as connection:
            expected = checksums(connection)
    assert [link.positions.timeline for link in (full, one, two, three, over)] == [1, 1, 2, 3, 3]
    for number, chain in enumerate(([full, one, two, three], [full, over])):
        assert data(postgresql.restore(chain, place, f"r{number}")) == expected


def test_a_server_whose_timeline_branched_before_the_end_of_the_parent(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        full = postgresql.backup(a, place)
        a.end()
        copy = place / "copy"
        subprocess.run(["cp", "-a", a.server.data_dir, copy], check=True)
        a.start()
        a.sql("CREATE TABLE lost AS SELECT 1 AS id")
        one = postgresql.backup(a, place, "one", full)
        a.end()
        shutil.rmtree(a.server.data_dir)
        copy.rename(a.server.data_dir)
        a.start()
        with pytest.raises(LineageChanged, match="older copy"):
            postgresql.backup(a, place, "two", one)
        promote(a)
        for _ in range(3):
            a.sql("SELECT pg_create_restore_point('x'), pg_switch_wal()")
        with pytest.raises(LineageChanged, match="left timeline 1"):
            postgresql.backup(a, place, "three", one)
        other = one.positions.model_copy(update={"system_identifier": "7"})
        with pytest.raises(LineageChanged, match="another database"):
            postgresql.backup(a, place, "four", dataclasses.replace(one, positions=other))


@pytest.mark.parametrize(
    ("place_of_the_byte", "error"),
    [
        pytest.param(100_000, "incorrect resource manager data checksum", id="in-a-record"),
        pytest.param(3 * 8192, "damaged", id="in-a-header"),
    ],
)
def test_a_flipped_byte_in_the_wal_of_the_server_fails_the_backup(place: Path, place_of_the_byte: int, error: str) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        full = postgresql.backup(a, place)
        a.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS text FROM generate_series(1, 20000) AS i")
        a.sql("SELECT pg_switch_wal()")
        flip(first_after(a, full), place_of_the_byte)
        with pytest.raises(ServerFailed, match=error):
            postgresql.backup(a, place, "b", full)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


# --- what a restore refuses


@pytest.fixture(scope="module")
def kept() -> Iterator[list[FileLink]]:
    """A full and three incrementals of several files each, read by many tests."""
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    try:
        with postgresql.running(place) as a:
            with_data(a)
            chain = [postgresql.backup(a, place)]
            for number in range(3):
                a.sql(f"CREATE TABLE t{number} AS SELECT i, md5(i::text) AS text FROM generate_series(1, 10000) AS i")
                a.sql("SELECT pg_switch_wal()")
                a.sql(f"CREATE TABLE u{number} AS SELECT i, md5(i::text) AS text FROM generate_series(1, 10000) AS i")
                chain.append(postgresql.backup(a, place, f"b{number}", chain[-1]))
            yield chain
    finally:
        processes.end(place)
        shutil.rmtree(place)


Members = list[tuple[tarfile.TarInfo, bytes]]
Change = Callable[[Members], object]


def changed(link: FileLink, place: Path, change: Change) -> FileLink:
    """The incremental with members changed."""
    with tarfile.open(link.path) as source:
        members = [(info, file.read() if (file := source.extractfile(info)) else b"") for info in source]
    assert len(members) == 2
    change(members)
    path = place / "stream"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as target:
        for info, content in members:
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    path.chmod(0o644)
    return dataclasses.replace(link, path=path)


def flipped(number: int, offset: int) -> Change:
    def change(members: Members) -> None:
        info, content = members[number]
        members[number] = (info, content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])

    return change


def renamed(number: int, name: str) -> Change:
    return lambda members: setattr(members[number][0], "name", name)


def cut(number: int, size: int) -> Change:
    return lambda members: members.__setitem__(number, (members[number][0], members[number][1][:size]))


def emptied(members: Members) -> None:
    """The first file ends with nothing, but without the record that says so."""
    info, content = members[0]
    members[0] = (info, content[: 20 * 8192] + bytes(len(content) - 20 * 8192))


def exchanged(members: Members) -> None:
    members[0], members[1] = (members[0][0], members[1][1]), (members[1][0], members[0][1])


def doubled(members: Members) -> None:
    members.append(members[0])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        pytest.param(lambda members: members.pop(0), ArtifactCorrupt, "holds no WAL file", id="the-first-is-missing"),
        pytest.param(lambda members: members.pop(1), ArtifactCorrupt, "holds no WAL file", id="the-last-is-missing"),
        pytest.param(flipped(0, 100_000), ToolFailed, "cannot be replayed to its end", id="a-byte-of-a-record"),
        pytest.param(flipped(0, 8192 + 8), ArtifactCorrupt, "should be", id="a-byte-of-an-address"),
        pytest.param(flipped(0, 8192 + 4), ArtifactCorrupt, "of timeline", id="a-byte-of-a-timeline"),
        pytest.param(flipped(0, 24), ArtifactCorrupt, "of system", id="a-byte-of-the-system"),
        pytest.param(flipped(0, 15_000_000), ArtifactCorrupt, "hole", id="a-byte-in-what-is-empty"),
        pytest.param(emptied, ArtifactCorrupt, "ends before its end", id="an-end-without-its-mark"),
        pytest.param(cut(0, 1 << 20), ArtifactCorrupt, "has 1048576 bytes", id="cut-short"),
        pytest.param(exchanged, ArtifactCorrupt, "should be", id="exchanged"),
        pytest.param(doubled, ArtifactCorrupt, "twice", id="twice"),
        pytest.param(renamed(0, "pg_wal/../PG_VERSION"), ArtifactCorrupt, "outside", id="leads-outside"),
        pytest.param(renamed(0, "base/1/1259"), ArtifactCorrupt, "no WAL", id="not-wal"),
        pytest.param(renamed(0, "pg_wal/00000002.history"), ArtifactCorrupt, "bytes", id="no-history"),
    ],
)
def test_a_changed_incremental_is_refused(
    place: Path, kept: list[FileLink], change: Change, error: type[StrongroomError], said: str
) -> None:
    chain = [kept[0], changed(kept[1], place, change), kept[2]]
    with pytest.raises(error, match=said):
        postgresql.restore(chain, place, "b")
    with pytest.raises(ServerFailed, match="unfinished"):
        driver.servers.check_data(postgresql.describe(place, "b", None), place / "b" / "data")


def test_a_chain_with_a_gap_is_refused(place: Path, kept: list[FileLink]) -> None:
    for number, chain in enumerate(([kept[0], kept[2]], [kept[0], kept[1], kept[3]], [kept[0], kept[2], kept[1]])):
        with pytest.raises(ArtifactCorrupt, match="and the backup before it ends at"):
            postgresql.restore(chain, place, f"b{number}")


def test_a_recovery_that_does_not_reach_its_end_fails(place: Path, kept: list[FileLink]) -> None:
    """Whoever changes the manifest, too: a restore that ends early is never taken for a good one."""
    assert kept[1].positions.wal_stop is not None
    high, _, low = kept[1].positions.wal_stop.partition("/")
    later = kept[1].positions.model_copy(update={"wal_stop": f"{high}/{int(low, 16) + 0x800000:X}"})
    with pytest.raises(ToolFailed, match="before configured recovery target was reached"):
        postgresql.restore([kept[0], dataclasses.replace(kept[1], positions=later)], place, "b")


# --- which timeline a position is on


def test_histories() -> None:
    history = wal_module.History.parse(4, "# none\n1\t0/3000100\tno recovery target specified\n\n3\t1/0\tx\n")
    assert [history.at(position) for position in (0, 0x30000FF, 0x3000100, 0xFFFFFFFF, 1 << 32)] == [1, 1, 3, 3, 4]
    assert (history.left(1), history.left(3), history.left(4)) == (0x3000100, 1 << 32, None)
    assert history.files(0x2000000, 0x4000001, 1 << 24) == [
        "000000010000000000000002",
        "000000030000000000000003",
        "000000030000000000000004",
    ]
    assert history.files(0xFF000000, (1 << 32) + 1, 1 << 24) == ["0000000300000000000000FF", "000000040000000100000000"]
    with pytest.raises(wal_module.Unfit, match="does not come from"):
        history.left(2)
    for text in ("x", "1\t5\n", "3\t0/1\n1\t0/2\n", "1\t0/1\n1\t0/2\n", "4\t0/1\n"):
        with pytest.raises(wal_module.Unfit):
            wal_module.History.parse(4, text)


def test_files_that_were_created_but_not_written_are_not_damage(place: Path) -> None:
    with postgresql.running(place) as a:
        with_data(a)
        full = postgresql.backup(a, place)
        folder, owner = a.server.data_dir / "pg_wal", a.server.data_dir.stat()
        for number in range(0x40, 0x80):  # so many that a program that looks at any file finds one of them
            path = folder / f"0000000100000000000000{number:02X}"
            path.touch(mode=0o600)
            os.truncate(path, 16 << 20)
            os.chown(path, owner.st_uid, owner.st_gid)
        a.sql("CREATE TABLE later AS SELECT generate_series(1, 1000) AS id")
        inc = postgresql.backup(a, place, "inc", full)
        again = postgresql.backup(a, place, "again")
        with a.connect() as connection:
            expected = checksums(connection)
    assert data(postgresql.restore([full, inc], place, "r")) == expected
    assert data(postgresql.restore(again, place, "s")) == expected


def test_a_tablespace_created_or_dropped_prevents_an_incremental_of_wal(place: Path) -> None:
    with postgresql.running(place) as a:
        full = postgresql.backup(a, place)
        space = postgresql.scratch(place, "space")
        a.sql(f"CREATE TABLESPACE far LOCATION '{space}'", "postgres")
        with pytest.raises(LineageChanged, match="a tablespace was made or dropped"):
            postgresql.backup(a, place, "one", full)
        a.sql("DROP TABLESPACE far", "postgres")
        promote(a)  # the records are on the old timeline
        with pytest.raises(LineageChanged, match="a tablespace was made or dropped"):
            postgresql.backup(a, place, "two", full)
        again = postgresql.backup(a, place, "again")
        a.sql("CREATE TABLE t AS SELECT 1 AS id", "postgres")
        assert postgresql.backup(a, place, "three", again).positions.wal_from == again.positions.wal_stop
