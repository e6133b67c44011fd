"""Incrementals of changed blocks on a real PostgreSQL 18: against its own tool file by file, and by data."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from strongroom.artifact import Positions, Witness
from strongroom.datastores import BackupRequest, DatabaseSpec, Server, Version, get
from strongroom.datastores.postgresql.backup import blocks as blocks_module
from strongroom.datastores.postgresql.files.increment import find_relation, find_whole_path, increment_path
from strongroom.datastores.postgresql.files.manifest import Manifest
from strongroom.datastores.postgresql.restore import blocks as block_restore
from strongroom.datastores.toolkit.witness import WITNESS_FILE
from strongroom.errors import (
    ArtifactCorrupt,
    CannotDecrypt,
    LineageChanged,
    StrongroomError,
    ToolFailed,
    VersionMismatch,
    WalGone,
)
from support import postgresql, postgresql_debian, postgresql_versions
from support.identity import run_as
from support.postgresql import FileLink, PostgreSQLServer, Writer, checksums, fill, proven
from support.postgresql_streams import BLOCK, archive

driver = get("postgresql")


@pytest.fixture(scope="session")
def eighteen() -> Version:
    return postgresql_versions.version("18")


@pytest.fixture
def server(place: Path, eighteen: Version) -> Iterator[PostgreSQLServer]:
    with postgresql.running(place, of=eighteen) as instance:
        driver.require_administration().databases.create(instance.server, [DatabaseSpec(name="db1")])
        yield instance


def of(server: PostgreSQLServer, database: str = "db1") -> dict[str, tuple[int, str]]:
    with server.connect(database) as connection:
        return checksums(connection)


def data(server: Server, database: str = "db1") -> dict[str, tuple[int, str]]:
    """What a restored server holds; the checksums of all pages are looked at, too. The server is started for it, and stopped."""
    with postgresql.started(server) as instance:
        found = of(instance, database)
        instance.end()
    program = server.version.programs["server"].with_name("pg_checksums")
    done = subprocess.run([program, "--check", "-D", server.data_dir], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return found


def rows(server: PostgreSQLServer, table: str, first: int, last: int, width: int = 400) -> None:
    """By COPY: it extends a table by several pages at once, some of which stay empty."""
    with server.connect() as connection, connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for number in range(first, last):
            copy.write_row((number, f"{number} " * (width // len(f"{number} "))))


# --- against the tool


def combined(chain: Sequence[FileLink], place: Path) -> dict[str, bytes]:
    """What pg_combinebackup makes of a chain: two by two, so that a cut in the middle of the chain counts."""
    program = postgresql_versions.programs("18") / "pg_combinebackup"
    folders = []
    for number, link in enumerate(chain):
        folder = place / f"unpacked-{number}"
        folder.mkdir(mode=0o700)
        subprocess.run(
            ["tar", "-xf", link.path, "-C", folder, *([] if link is chain[-1] else ["--exclude=pg_wal/0*"])], check=True
        )
        folders.append(folder)
    whole, *rest = folders
    for number, folder in enumerate(rest):
        out = place / f"combined-{number}"
        options = ["--no-sync", "--link", "--manifest-checksums=NONE"]
        subprocess.run([program, *options, "--output", out, whole, folder], check=True, capture_output=True)
        shutil.rmtree(whole)
        shutil.rmtree(folder)
        whole = out
    found = {str(path.relative_to(whole)): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    shutil.rmtree(whole)
    return found


def differences(chain: Sequence[FileLink], restored: Path, place: Path) -> list[str]:
    """Where Strongroom's result differs from the tool's.

    If a table lost pages and got them again without any WAL, the tool takes them from the older backup. In truth they are empty,
    and so they are in Strongroom's result. Such differences are ignored.
    """
    theirs = combined(chain, place)
    actual = {str(path.relative_to(restored)): path.read_bytes() for path in restored.rglob("*") if path.is_file()}
    cut = {name for link in chain for name in link.positions.truncated or {}}
    added = ("recovery.signal", "strongroom_lineage", "strongroom_restored", WITNESS_FILE)
    assert not any(block_restore.reports_maps(link.server_version) for link in chain)
    maps = {find_whole_path(path) for path in chain[-1].files() if path.endswith("_vm")} - {None}
    assert not maps & actual.keys()
    for name in ("backup_manifest", "postgresql.auto.conf", "tablespace_map", *added, *maps):
        theirs.pop(name, None)
        actual.pop(name, None)
    wrong = sorted(theirs.keys() ^ actual.keys())
    for path in theirs.keys() & actual.keys():
        a, b = theirs[path], actual[path]
        relation = find_relation(path)
        if a == b:
            continue
        if len(a) == len(b) and relation and str(relation[0]) in cut:
            blocks = [n for n in range(0, len(a), BLOCK) if a[n : n + BLOCK] != b[n : n + BLOCK]]
            wrong += [f"{path} {n // BLOCK}" for n in blocks if any(b[n : n + BLOCK])]
        else:
            wrong.append(path)
    return wrong


STEPS: list[Callable[[PostgreSQLServer, random.Random, int], object]] = [
    lambda a, r, n: a.sql(f"CREATE TABLE t{n} (id int, text text); CREATE INDEX ON t{n} (id)"),
    lambda a, r, n: rows(a, some(a, r), 0, r.randrange(4000)),
    lambda a, r, n: rows(a, some(a, r), 0, r.randrange(4000)),
    lambda a, r, n: a.sql(f"UPDATE {some(a, r)} SET text = 'changed {n}' WHERE id % 97 = {r.randrange(97)}"),
    lambda a, r, n: a.sql(f"UPDATE {some(a, r)} SET id = id + 1 WHERE id < {r.randrange(300)}"),
    lambda a, r, n: a.sql(f"DELETE FROM {some(a, r)} WHERE id > {r.randrange(3000)}"),
    lambda a, r, n: [a.sql(f"DELETE FROM {(t := some(a, r))} WHERE id > {r.randrange(3000)}"), a.sql(f"VACUUM (FREEZE) {t}")],
    lambda a, r, n: a.sql("VACUUM (FREEZE)"),
    lambda a, r, n: a.sql(f"VACUUM FULL {some(a, r)}"),
    lambda a, r, n: a.sql(f"TRUNCATE {some(a, r)}"),
    lambda a, r, n: a.sql(f"DROP TABLE {(t := some(a, r))}; CREATE TABLE {t} AS SELECT 7 AS id, 'again'::text AS text"),
    lambda a, r, n: a.sql(f"CREATE UNLOGGED TABLE u{n} AS SELECT generate_series(1, 500) AS id, 'lost'::text AS text"),
    lambda a, r, n: a.sql(f"ALTER TABLE {some(a, r)} SET UNLOGGED"),
    lambda a, r, n: a.sql(f"ALTER TABLE {some(a, r)} SET LOGGED"),
    lambda a, r, n: a.sql(f"CREATE DATABASE more{n} TEMPLATE db1 STRATEGY {r.choice(('file_copy', 'wal_log'))}", "postgres"),
    lambda a, r, n: a.sql(f"REINDEX TABLE {some(a, r)}"),
    lambda a, r, n: a.sql("CHECKPOINT"),
    lambda a, r, n: a.sql("SELECT pg_switch_wal()"),
]


def some(a: PostgreSQLServer, r: random.Random) -> str:
    return r.choice([name for (name,) in a.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")])


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_are_merged_as_the_tool_does(
    server: PostgreSQLServer, place: Path, eighteen: Version, seed: int
) -> None:
    source = random.Random(seed)
    server.sql("CREATE TABLE t (id int, text text)")
    server.sql("CREATE TABLE still (id int, text text)")
    rows(server, "t", 0, 3000)
    rows(server, "still", 0, 3000)
    server.sql("VACUUM (FREEZE)")
    chain = [postgresql.backup(server, place)]
    for number in range(3):
        for step in range(source.randrange(1, 9)):
            source.choice(STEPS)(server, source, 10 * number + step)
        chain.append(postgresql.backup(server, place, f"i{number}", chain[-1]))
    logged = {
        f"public.{name}" for (name,) in server.sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 'p'")
    }
    expected = {table: found for table, found in of(server).items() if table in logged}
    server.end()
    assert all(link.positions.blocks_from for link in chain[1:])
    restored = postgresql.restore(chain, place, "r", of=eighteen)
    assert differences(chain, restored.data_dir, place) == []
    assert {table: found for table, found in data(restored).items() if table in logged} == expected


def test_a_chain_of_ten_under_writes_is_restored_to_any_backup(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    with server.connect() as connection:
        fill(connection, 500)
    ends = []
    with Writer(server.connect()) as writer:
        chain = [postgresql.backup(server, place)]
        for number in range(10):
            server.sql(f"UPDATE orders SET amount = {number} WHERE id % 50 = {number}")
            ends.append(writer.committed)
            chain.append(postgresql.backup(server, place, f"i{number}", chain[-1]))
    expected = of(server)
    assert {link.positions.system_identifier for link in chain} == {chain[0].positions.system_identifier}
    assert [link.positions.blocks_from for link in chain[1:]] == [link.positions.wal_start for link in chain[:-1]]
    assert not server.sql("SELECT * FROM pg_replication_slots")
    newest = postgresql.restore(chain, place, "newest", of=eighteen)
    with postgresql.started(newest) as b:
        assert {p.name for p in newest.data_dir.iterdir()}.isdisjoint({"backup_manifest", "recovery.signal", "standby.signal"})
        assert b.sql("SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]
        with b.connect() as connection:
            proven(connection, ends[-1])
        assert {k: v for k, v in of(b).items() if k != "public.sequence"} == {
            k: v for k, v in expected.items() if k != "public.sequence"
        }
        # a restored server is backed up again, and continues from there
        full = postgresql.backup(b, place, "full-of-restored")
        b.sql("CREATE TABLE after AS SELECT 1 AS id")
        expected = of(b)
        chain_of_restored = [full, postgresql.backup(b, place, "incremental-of-restored", full)]
    assert data(postgresql.restore(chain_of_restored, place, "again", of=eighteen)) == expected
    middle = postgresql.restore(chain[:4], place, "middle", of=eighteen)
    with postgresql.started(middle) as b, b.connect() as connection:
        proven(connection, ends[2])


def test_two_children_of_one_parent_and_a_chain_restored_twice(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    server.sql("CREATE TABLE t (id int, text text)")
    rows(server, "t", 0, 3000)
    full = postgresql.backup(server, place)
    states = []
    children = []
    for number in range(2):
        server.sql(f"UPDATE t SET text = 'child {number}' WHERE id % 100 = {number}")
        children.append(postgresql.backup(server, place, f"i{number}", full))
        states.append(of(server))
    for number in (0, 1, 0):
        name = f"r{number}{len(list(place.glob('r*')))}"
        assert data(postgresql.restore([full, children[number]], place, name, of=eighteen)) == states[number]
    with pytest.raises(ArtifactCorrupt, match="holds the blocks since"):
        postgresql.restore([full, *children], place, "wrong", of=eighteen)


def test_a_truncated_table_that_grew_again_gets_no_old_rows(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    """By pages that are not in the WAL: pg_combinebackup fills them with what was there before."""
    for name in ("one", "two"):
        server.sql(f"CREATE TABLE {name} (id int, text text)")
        rows(server, name, 0, 10_000)
    server.sql("VACUUM (FREEZE)")
    chain = [postgresql.backup(server, place)]
    server.sql("DELETE FROM one WHERE id >= 5000")
    server.sql("DELETE FROM two WHERE id >= 5000")
    server.sql("VACUUM (FREEZE)")
    rows(server, "one", 20_000, 21_500, 100)  # within one incremental
    chain.append(postgresql.backup(server, place, "i1", chain[-1]))
    rows(server, "two", 20_000, 21_500, 100)  # over two of them
    chain.append(postgresql.backup(server, place, "i2", chain[-1]))
    assert set((chain[1].positions.truncated or {}).values()) >= {
        *(blocks for (blocks,) in server.sql("SELECT count(DISTINCT (ctid::text::point)[0]) FROM one WHERE id < 5000"))
    }
    expected = of(server)
    empty = server.sql("SELECT pg_relation_size('one') / 8192 - 1 - max((ctid::text::point)[0])::int FROM one")
    server.end()
    assert empty[0][0] > 0, "no page of the table is empty, so that this test proves nothing"
    assert data(postgresql.restore(chain, place, "r", of=eighteen)) == expected


def by_index(server: PostgreSQLServer) -> int:
    """Rows of ``t`` as an index-only scan finds them, which relies on the visibility map."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        (plan,) = cursor.execute("EXPLAIN SELECT count(id) FROM t WHERE id > 0").fetchmany(2)[1:]
        assert "Index Only Scan" in plan[0]
        return int(cursor.execute("SELECT count(id) FROM t WHERE id > 0").fetchall()[0][0])


def switch_checksums(server: PostgreSQLServer, how: str) -> None:
    program = server.server.version.programs["server"].with_name("pg_checksums")
    server.end()
    run_as(server.server.user, subprocess.check_output, [program, how, "-D", server.server.data_dir])
    server.start()


@pytest.mark.parametrize(
    "find",
    [
        pytest.param(lambda: postgresql_versions.version("18"), id="18.4"),
        pytest.param(lambda: postgresql_debian.version("17"), id="17.12"),
    ],
)
def test_index_only_scans_find_no_deleted_rows(place: Path, find: Callable[[], Version]) -> None:
    """Deletions clear bits of the visibility map, which servers before 17.12 and 18.6 do not note as changes of its blocks.

    Nor do they note it when a table is cut while checksums are off, whatever they are when backups are taken.
    """
    of = find()
    with postgresql.running(place, of=of) as server:
        driver.require_administration().databases.create(server.server, [DatabaseSpec(name="db1")])
        server.sql("CREATE TABLE t (id int PRIMARY KEY, text text) WITH (autovacuum_enabled = off)")
        rows(server, "t", 0, 10_000)
        server.sql("VACUUM (FREEZE) t")
        chain = [postgresql.backup(server, place)]
        server.sql("DELETE FROM t WHERE id % 100 = 1")
        server.sql("CHECKPOINT")
        chain.append(postgresql.backup(server, place, "deleted", chain[-1]))
        assert chain[-1].positions.blocks_from
        counts = [by_index(server)]
        server.sql("DELETE FROM t WHERE id >= 5000")
        server.sql("VACUUM (TRUNCATE off) t")
        chain.append(postgresql.backup(server, place, "empty", chain[-1]))
        counts.append(by_index(server))
        switch_checksums(server, "--disable")
        server.sql("VACUUM t")  # cuts it, and changes nothing else
        switch_checksums(server, "--enable")
        chain.append(postgresql.backup(server, place, "cut", chain[-1]))
        assert chain[-1].positions.blocks_from and chain[-1].positions.truncated
        counts.append(grow_and_delete(server))
        ((path,),) = server.sql("SELECT pg_relation_filepath('t')")
    for end in (2, 4):
        restored = postgresql.restore(chain[:end], place, f"r{end}", of=of)
        assert (restored.data_dir / f"{path}_vm").exists() == block_restore.reports_maps(chain[0].server_version)
        with postgresql.started(restored) as copy:
            assert (grow_and_delete(copy) if end == 4 else by_index(copy)) == counts[end - 2]


def grow_and_delete(server: PostgreSQLServer) -> int:
    """What an old map makes wrong when a table grows again into pages that were cut off."""
    rows(server, "t", 20_000, 23_000)
    server.sql("DELETE FROM t WHERE id >= 21000")
    return by_index(server)


@pytest.mark.slow
def test_a_table_of_more_than_one_file(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    """Cut back to one file of 1 GiB, and grown beyond it again."""
    total = "SELECT count(*), sum(id), md5(string_agg(rtrim(text), ',' ORDER BY id)) FROM t"
    server.sql("CREATE TABLE t (id int, text char(5000))")
    server.sql("ALTER TABLE t ALTER text SET STORAGE plain")
    server.sql("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 131500) i")
    server.sql("VACUUM (FREEZE)")
    chain = [postgresql.backup(server, place)]
    server.sql("DELETE FROM t WHERE id > 131000")
    server.sql("VACUUM (FREEZE) t")
    server.sql("UPDATE t SET text = 'changed' WHERE id % 1000 = 0")
    chain.append(postgresql.backup(server, place, "i1", chain[-1]))
    server.sql("INSERT INTO t SELECT i, 'new' FROM generate_series(200000, 200800) i")
    chain.append(postgresql.backup(server, place, "i2", chain[-1]))
    server.sql("UPDATE t SET text = 'newer' WHERE id > 200700")
    chain.append(postgresql.backup(server, place, "i3", chain[-1]))
    expected = server.sql(total)
    server.end()
    restored = postgresql.restore(chain, place, "r", of=eighteen)
    assert any(path.name.endswith(".1") for path in (restored.data_dir / "base").glob("*/*"))
    assert differences(chain, restored.data_dir, place) == []
    with postgresql.started(restored) as instance:
        assert instance.sql(total) == expected


# --- parents of an incremental


class Backup:
    """Calls the driver as the server's user; what begins is ended at once."""

    def __init__(self, server: PostgreSQLServer, place: Path) -> None:
        self._server, self._place = server, place
        self._number = 0

    def begin(self, positions: Positions, read: Callable[[str], bytes] | None, witness: Witness | None) -> None:
        self._number += 1
        work_dir = postgresql.scratch(self._place, f"begin-{self._number}")
        run_as(self._server.server.user, self._begin, work_dir, positions, read, witness)

    def _begin(self, work_dir: Path, positions: Positions, read: Callable[[str], bytes] | None, witness: Witness | None) -> None:
        request = BackupRequest("incremental", positions, work_dir, parent_file=read, parent_witness=witness)
        driver.backups.begin(self._server.server, request).abort()


def locked(path: str) -> bytes:
    raise CannotDecrypt("no identity opens backup box/full")


def test_without_the_key_the_list_of_the_parent_is_read_from_the_local_copy(
    server: PostgreSQLServer, place: Path, eighteen: Version
) -> None:
    full = postgresql.backup(server, place)
    backup = Backup(server, place)
    copies = server.server.base_dir / "backups"
    (copy,) = copies.iterdir()
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.name == f"{full.positions.backup_manifest_sha256}.manifest"
    backup.begin(full.positions, locked, full.witness)
    copy.write_bytes(copy.read_bytes().replace(b"PG_VERSION", b"PG_VERSIOM"))
    with pytest.raises(LineageChanged, match="the parent's list of files is damaged"):
        backup.begin(full.positions, locked, full.witness)
    backup.begin(full.positions, full.read, full.witness)  # the store comes first
    copy.unlink()
    with pytest.raises(LineageChanged, match=r"no identity opens backup box/full, and .* has no copy of it any more"):
        backup.begin(full.positions, locked, full.witness)


def test_few_copies_are_kept(server: PostgreSQLServer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "_MOST_COPIES", 2)
    links = [postgresql.backup(server, place, f"b{number}") for number in range(3)]
    kept = {path.stem for path in (server.server.base_dir / "backups").iterdir()}
    assert kept == {link.positions.backup_manifest_sha256 for link in links[1:]}


def test_a_server_with_too_many_files_needs_fulls(server: PostgreSQLServer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of files of an incremental would not be kept; then nothing said on which backup it is based."""
    full = postgresql.backup(server, place)
    request = BackupRequest(kind="incremental", parent=full.positions, work_dir=place)
    with pytest.raises(ToolFailed, match="has no list of files"):
        blocks_module.complete_positions(server.server, request, full.positions)
    monkeypatch.setattr(blocks_module, "_LARGEST_LIST", 1 << 10)
    with pytest.raises(LineageChanged, match="the parent's list of files has"):
        Backup(server, place).begin(full.positions, full.read, full.witness)


def test_invalid_parents_of_an_incremental(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    server.sql("CREATE TABLE t (id int, text text)")
    full = postgresql.backup(server, place)
    other = postgresql.backup(server, place, "other")
    backup = Backup(server, place)

    def parent(**change: object) -> Positions:
        return full.positions.model_copy(update=change)

    with pytest.raises(LineageChanged, match="is of database system 5"):
        backup.begin(parent(system_identifier="5"), full.read, full.witness)
    with pytest.raises(LineageChanged, match="was promoted: it is on timeline 1, and the parent backup is of timeline 2"):
        backup.begin(parent(timeline=2), full.read, full.witness)
    with pytest.raises(LineageChanged, match="damaged"):
        backup.begin(parent(), other.read, full.witness)
    with pytest.raises(LineageChanged, match="belongs to another backup"):
        backup.begin(parent(backup_manifest_sha256=None), other.read, full.witness)
    with pytest.raises(LineageChanged, match="does not record where its WAL begins"):
        backup.begin(parent(wal_start=None), full.read, full.witness)
    with pytest.raises(LineageChanged, match="cannot be read: there is no parent, and"):
        backup.begin(parent(backup_manifest_sha256=None), None, full.witness)
    backup.begin(parent(), full.read, full.witness)


def test_a_parent_older_than_the_summaries_is_refused_before_the_start(server: PostgreSQLServer, place: Path) -> None:
    full = postgresql.backup(server, place)
    server.sql("CREATE TABLE t (id int, text text)")
    first = postgresql.backup(server, place, "i", full)
    server.sql("CREATE TABLE t2 (id int, text text)")
    postgresql.backup(server, place, "i2", first)
    start = re.sub(r"(.+)/(.+)", lambda m: f"{int(m[1], 16):08X}{int(m[2], 16):08X}", full.positions.wal_start or "")
    (summary,) = (server.server.data_dir / "pg_wal" / "summaries").glob(f"00000001{start}*.summary")
    summary.unlink()
    backup = Backup(server, place)
    with pytest.raises(WalGone, match=f"has no summary of the WAL at {full.positions.wal_start}"):
        backup.begin(full.positions, full.read, full.witness)
    backup.begin(first.positions, first.read, first.witness)
    for summary in (server.server.data_dir / "pg_wal" / "summaries").iterdir():
        summary.unlink()
    with pytest.raises(WalGone, match=f"has no summary of the WAL at {first.positions.wal_start}"):
        backup.begin(first.positions, first.read, first.witness)


def settings(server: PostgreSQLServer, **values: str) -> None:
    for name, value in values.items():
        server.sql(f"ALTER SYSTEM SET {name} = '{value}'", "postgres")
    server.end()
    server.start()


def test_a_server_that_does_not_report_all_changes_sends_its_wal(
    server: PostgreSQLServer, place: Path, eighteen: Version
) -> None:
    server.sql("CREATE TABLE t (id int, text text)")
    rows(server, "t", 0, 500)
    chain = [postgresql.backup(server, place)]
    rows(server, "t", 500, 600)
    chain.append(postgresql.backup(server, place, "blocks", chain[-1]))
    program = eighteen.programs["server"].with_name("pg_checksums")
    server.end()
    subprocess.run([program, "--disable", "-D", server.server.data_dir], check=True, capture_output=True)
    server.start()
    with server.connect() as connection:
        assert not blocks_module.has_summaries(connection, server.server)
    settings(server, wal_log_hints="on")
    with server.connect() as connection:
        assert blocks_module.has_summaries(connection, server.server)
    assert blocks_module.is_possible(server.server, chain[-1].positions)
    assert not blocks_module.is_possible(server.server, chain[-1].positions.model_copy(update={"wal_from": "0/1"}))


# --- what must not be restored


def rewritten(link: FileLink, path: str, change: Callable[[bytes], bytes], place: Path) -> FileLink:
    """The backup with another content of one file, its lists corrected: only pages can tell."""
    files = {name: link.read(name) for name in link.files()}
    files[path] = change(files[path])
    listing = files.pop("backup_manifest")
    old = next(file for file in Manifest.parse(listing).files if file.name == path)
    new = old.hash()
    new.update(files[path])
    listing = listing.replace(old.checksum.encode(), new.hexdigest().encode())
    body = listing[: listing.rindex(b'"Manifest-Checksum"')]
    listing = body + b'"Manifest-Checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    stream = place / f"rewritten-{link.path.parent.name}"
    stream.write_bytes(archive({**files, "backup_manifest": listing}))
    stream.chmod(0o644)
    positions = link.positions.model_copy(update={"backup_manifest_sha256": hashlib.sha256(listing).hexdigest()})
    return dataclasses.replace(link, path=stream, positions=positions)


def test_misplaced_blocks_are_noticed_by_their_checksums(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    server.sql("CREATE TABLE t (id int, text text)")
    rows(server, "t", 0, 5000)
    server.sql("VACUUM (FREEZE)")
    full = postgresql.backup(server, place)
    server.sql("UPDATE t SET text = 'x' WHERE id IN (100, 2000)")
    child = postgresql.backup(server, place, "i", full)
    ((path,),) = server.sql("SELECT pg_relation_filepath('t')")
    server.end()
    increment = increment_path(path)

    def moved(data: bytes) -> bytes:
        count, first = struct.unpack_from("<II", data, 4)[0], struct.unpack_from("<I", data, 12)[0]
        assert count >= 2 and first > 0
        return data[:12] + struct.pack("<I", first - 1) + data[16:]

    wrong = rewritten(child, increment, moved, place)
    with pytest.raises(ArtifactCorrupt, match=rf"block \d+ of {path} has a wrong checksum after the merge"):
        postgresql.restore([full, wrong], place, "wrong", of=eighteen)
    postgresql.restore([full, rewritten(child, increment, bytes, place)], place, "right", of=eighteen)


def test_another_version_is_refused_before_anything_is_written(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    chain = [postgresql.backup(server, place)]
    chain.append(postgresql.backup(server, place, "i", chain[-1]))
    other = eighteen.model_copy(update={"series": "17", "number": "17.11"})
    target = postgresql.scratch(place, "target")
    with pytest.raises(VersionMismatch):
        run_as(server.server.user, driver.restores.restore, other, chain, target, postgresql.scratch(place, "work"), str)
    assert not list(target.iterdir())


def test_a_server_killed_between_two_backups_loses_nothing(server: PostgreSQLServer, place: Path, eighteen: Version) -> None:
    server.sql("CREATE TABLE t (id int, text text)")
    chain = [postgresql.backup(server, place)]
    for number in range(2):
        rows(server, "t", 1000 * number, 1000 * number + 700)
        server.end(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while True:
            try:
                server.start()
                break
            except StrongroomError:  # its children are still on their way out
                assert time.monotonic() < deadline
                time.sleep(0.1)
        chain.append(postgresql.backup(server, place, f"i{number}", chain[-1]))
    expected = of(server)
    server.end()
    assert data(postgresql.restore(chain, place, "r", of=eighteen)) == expected
