"""Encrypted tablespaces of MySQL: what comes over the wire in clear and must not be in a backup, and what a restore needs."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from crc32c import crc32c

from strongroom.datastores import BackupRequest, BackupResult, Server, Version, get
from strongroom.datastores.innodb.connection import connect
from strongroom.datastores.mysql.backup import keys as keys_module
from strongroom.datastores.mysql.backup.archive import FACTS
from strongroom.datastores.mysql.backup.clone import ENCRYPTED, FILES, PAGES, REDO, Block, Clone, File
from strongroom.datastores.mysql.server import keyring
from strongroom.datastores.toolkit.mark import is_unfinished
from strongroom.errors import ConfigurationError, ServerFailed, ToolFailed, WalGone
from support import mariadb
from support.identity import run_as
from support.keyring import installation, ring
from support.load import Writer, proven
from support.mariadb import FileLink, backup, scratch
from support.mysql import MySQLServer

driver = get("mysql")
INFO = 111
"""Bytes of what a page says of its key."""
ALWAYS = {"mysql.ibd", "undo_001", "undo_002", "#innodb_redo", "gen.ibd", "db1/accounts.ibd", "db1/zip.ibd", "db1/holes.ibd"}
"""Some of what is encrypted in ``own``."""


@dataclass
class Own:
    """A server of which everything is encrypted."""

    running: MySQLServer
    place: Path
    keys: Path


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    keys = ring(place, "ring")
    with mariadb.running(place, None, of=installation(place, "usr", keys)) as running:
        for statement in (
            "SET GLOBAL default_table_encryption = ON",
            "SET PERSIST innodb_redo_log_encrypt = ON",
            "SET PERSIST innodb_undo_log_encrypt = ON",
            "ALTER TABLESPACE mysql ENCRYPTION = 'Y'",
            "CREATE TABLESPACE gen ADD DATAFILE 'gen.ibd' ENCRYPTION = 'Y'",
        ):
            running.sql(statement)
        running.fill(500)
        for table, options in (
            ("zip", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
            ("holes", "COMPRESSION='zlib'"),
            ("shared", "TABLESPACE gen"),
            ("parts", "PARTITION BY HASH (id) PARTITIONS 2"),
        ):
            running.sql(f"CREATE TABLE db1.{table} (id INT PRIMARY KEY, name VARCHAR(80), note TEXT) {options}")
            running.sql(f"INSERT INTO db1.{table} SELECT * FROM db1.customers")
        running.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")
        flushed(running, "gen.ibd", *(f"db1/{path.name}" for path in (running.data_dir / "db1").iterdir()))
        yield Own(running, place, keys)
    shutil.rmtree(place)


def flushed(running: MySQLServer, *names: str) -> None:
    """Until the server, having nothing to do, has written the first pages of these files."""
    deadline = time.monotonic() + 60
    while not all(b"lCC" in (running.data_dir / name).read_bytes()[:16384] for name in names):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def restore(chain: list[FileLink], version: Version, place: Path, name: str) -> MySQLServer:
    """A server on the restored data, not started yet."""
    other = mariadb.make(place, None, name=name, of=version)
    shutil.rmtree(other.data_dir)
    target = scratch(other.server.base_dir, "data")
    run_as(other.server.user, driver.restores.restore, version, chain, target, scratch(place, f"restore-{name}"), len)
    return other


def written(path: Path) -> tuple[int, int]:
    """Which file it is, and when it was written."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def facts(full: FileLink) -> dict[str, list[str]]:
    with tarfile.open(full.path) as tar:
        file = tar.extractfile(FACTS)
        assert file is not None
        return dict(json.load(file))


def sent_in_clear(server: Server) -> dict[str, bytes]:
    """Keys as the server sends them to another server, by file."""
    found: dict[str, bytes] = {}
    files: dict[tuple[int, int], File] = {}
    with connect(server, tls=True) as main, connect(server, tls=True) as second:
        clone = Clone(main, second)
        clone.begin(60)
        for event in clone.events():
            if isinstance(event, File):
                files[event.state, event.index] = event
            elif isinstance(event, Block):
                data = clone.take(event.length)
                file = files[FILES if event.state == PAGES else event.state, event.index]
                at = data.find(b"lCC") if event.offset == 0 else -1
                if at >= 0 and crc32c(data[at + 43 : at + 107]) == int.from_bytes(data[at + 107 : at + 111]):
                    found[file.name.removeprefix("./") or "#innodb_redo"] = data[at + 43 : at + 75]
        clone.end()
    return found


# --- with the keyring


def test_a_backup_under_writes_is_restored_where_the_keyring_is(own: Own, place: Path) -> None:
    with Writer(own.running.connect) as writer:
        at_full = writer.committed
        full = backup(own.running, place, "full")
    own_tables = {name: sums for name, sums in own.running.checksums().items() if name not in ("accounts", "sequence")}
    before = written(own.keys)
    other = restore([full], own.running.server.version, place, "other")
    assert written(own.keys) == before, "the private server has written into the keyring of others"
    assert not list(place.rglob("restore-other/**/keys")), "a copy of the keyring is left"
    assert b"customer 1 " not in (other.data_dir / "db1" / "customers.ibd").read_bytes()
    other.start()
    try:
        assert {name: sums for name, sums in other.checksums().items() if name in own_tables} == own_tables
        with other.connect() as connection:
            assert proven(connection, at_full) <= writer.committed
        spaces = "SELECT name FROM information_schema.innodb_tablespaces WHERE encryption = 'Y' AND name NOT LIKE '%undo%'"
        assert sorted(other.sql(spaces)) == sorted(own.running.sql(spaces))
        assert other.sql("SELECT @@server_uuid") != own.running.sql("SELECT @@server_uuid")
    finally:
        other.stop()


def test_no_unencrypted_key_is_in_the_stream(own: Own, place: Path) -> None:
    sent = sent_in_clear(own.running.server)
    assert sent.keys() >= ALWAYS, "the server sends keys in another way than this test knows"
    full = backup(own.running, place, "full")
    stream = full.path.read_bytes()
    assert not [name for name, secret in sent.items() if secret in stream]
    ((uuid,),) = own.running.sql("SELECT @@server_uuid")
    assert facts(full)["master_keys"] == [f"INNODBKey-{uuid}-2"]


def test_the_key_of_a_new_table_is_in_the_redo_log_only(place: Path) -> None:
    """The server has not written the first page of the table since it made it."""
    version = installation(place, "usr", ring(place, "ring"))
    with mariadb.running(place, None, of=version) as running:
        running.sql("SET GLOBAL innodb_idle_flush_pct = 0")
        running.sql("CREATE DATABASE db1")
        full, name = new_table(running, place)
        assert sent_in_clear(running.server)[f"db1/{name}.ibd"] not in full.path.read_bytes()
        before = running.checksums()
        other = restore([full], version, place, "other")
        other.start()
        assert other.checksums() == before
        other.stop()


def new_table(running: MySQLServer, place: Path) -> tuple[FileLink, str]:
    """A backup, and a table whose first page was not written until its end, though the server may do so at any time."""
    for number in range(20):
        name = f"new{number}"
        running.sql(f"CREATE TABLE db1.{name} (id INT PRIMARY KEY, a TEXT) ENCRYPTION = 'Y'")
        running.sql(f"INSERT INTO db1.{name} VALUES (1, 'x')")
        full = backup(running, place, f"full{number}")
        if b"lCC" not in (running.data_dir / "db1" / f"{name}.ibd").read_bytes()[:16384]:
            return full, name
    raise AssertionError("the server writes every page at once")


def test_the_key_of_a_new_table_that_cannot_be_found(own: Own, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the redo log only, which is encrypted."""
    monkeypatch.setattr(keys_module, "_PATIENCE", 0)
    own.running.sql("SET GLOBAL innodb_idle_flush_pct = 0")
    own.running.sql("CREATE DATABASE new ENCRYPTION = 'Y'")
    try:
        with pytest.raises(ServerFailed, match=r"key of new/new\d+\.ibd is not on the server's disk"):
            for number in range(20):  # it may be written all the same
                own.running.sql(f"CREATE TABLE new.new{number} (id INT PRIMARY KEY)")
                backup(own.running, place, f"full{number}")
    finally:
        own.running.sql("DROP DATABASE new")
        own.running.sql("SET GLOBAL innodb_idle_flush_pct = 100")
    assert backup(own.running, place, "again").positions.gtid


def test_a_backup_reports_that_it_lacks_the_keyring(own: Own, place: Path) -> None:
    (warning,) = run_as(own.running.server.user, warnings, own.running.server, scratch(place, "w"))
    assert "keyring is not part of a backup" in warning
    findings = list(driver.servers.examine(own.running.server))
    assert all(finding.level != "error" for finding in findings)
    said = " ".join(finding.message for finding in findings)
    assert "each backup is a full" in said and "keyring is not part of a backup" in said


def warnings(server: Server, work_dir: Path) -> list[str]:
    session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    try:
        while os.read(session.stdout, 1 << 20):
            pass
        result: BackupResult = session.finish()
        return result.warnings
    finally:
        session.abort()


# --- without


def test_tables_that_cannot_be_opened_fail_a_restore(place: Path) -> None:
    """A server starts without the keyring, too, when its log has nothing for what is encrypted."""
    with mariadb.running(place, None, of=installation(place, "usr", ring(place, "ring"))) as running:
        running.sql("CREATE DATABASE db1")
        running.sql("CREATE TABLE db1.old (id INT PRIMARY KEY) ENCRYPTION = 'Y'")
        flushed(running, "db1/old.ibd")
        full = backup(running, place, "full")
        running.stop()
        none = installation(place, "none", None)
        for name, version in (("without", none), ("wrong", installation(place, "other", ring(place, "other-ring")))):
            refused(full, version, place, name)
        running.server = running.server.model_copy(update={"version": none})
        running.start()
        with pytest.raises(ConfigurationError, match="keyring is not a component"):
            backup(running, place, "blind")


def test_a_server_that_does_not_start_without_the_keyring(own: Own, place: Path) -> None:
    full = backup(own.running, place, "full")
    refused(full, installation(place, "none", None), place, "without")
    refused(full, installation(place, "wrong", ring(place, "ring")), place, "other")


def test_keys_that_a_replay_would_create_fail_a_restore(own: Own, place: Path) -> None:
    """Of a log that was taken when there was no keyring: nobody would have the key of what was encrypted in its replay."""
    keys = ring(place, "ring")
    version = installation(place, "usr", keys)
    with mariadb.running(place, None, of=installation(place, "none", None)) as running:
        running.sql("CREATE DATABASE db1")
        full = backup(running, place, "full")
        running.stop()
        running.server = running.server.model_copy(update={"version": version})
        running.start()
        running.sql("CREATE TABLE db1.t (id INT PRIMARY KEY) ENCRYPTION = 'Y'")
        running.sql("DROP TABLE db1.t")
        running.stop()
        running.server = running.server.model_copy(update={"version": installation(place, "again", None)})
        running.start()
        child = backup(running, place, "child", full)
    before = written(keys)
    with pytest.raises(ToolFailed, match="created a master key"):
        restore([full, child], version, place, "other")
    assert written(keys) == before
    assert is_unfinished(place / "other" / "data")


def refused(full: FileLink, version: Version, place: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"lacks the master key INNODBKey-[0-9a-f-]{36}-\d") as error:
        restore([full], version, place, name)
    assert f"{version.programs['server']}.my" in error.value.remedy
    assert is_unfinished(place / name / "data")


def test_a_server_without_tls_is_refused(own: Own, place: Path) -> None:
    with connect(own.running.server) as main, connect(own.running.server) as second:
        clone = Clone(main, second)
        with pytest.raises(ServerFailed, match="needs SSL") as refusal:
            clone.begin(60)
            for event in clone.events():
                if isinstance(event, Block):
                    clone.take(event.length)
        assert "encrypted meanwhile" in refusal.value.remedy
    own.running.sql("SET GLOBAL tls_version = ''")
    own.running.sql("ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR")
    try:
        with pytest.raises(ConfigurationError, match="does not support TLS"):
            backup(own.running, place, "full")
    finally:
        own.running.sql("SET GLOBAL tls_version = 'TLSv1.2,TLSv1.3'")
        own.running.sql("ALTER INSTANCE RELOAD TLS")
    assert backup(own.running, place, "again").positions.gtid


def test_a_keyring_in_the_data_directory_is_refused(own: Own) -> None:
    server = own.running.server.model_copy(update={"data_dir": own.keys.parent})
    with own.running.connect() as connection, pytest.raises(ConfigurationError, match="which a restore would replace"):
        keyring.require_keyring(connection, server)


def test_there_are_no_incrementals(own: Own, place: Path) -> None:
    """The replay would make keys in the keyring of the host; and an encrypted log would come in clear."""
    full = backup(own.running, place, "full")
    with pytest.raises(WalGone, match="has a keyring"):
        backup(own.running, place, "child", full)
    own.running.sql("SET GLOBAL binlog_encryption = ON")
    try:
        with pytest.raises(WalGone, match="binlog_encryption"):
            backup(own.running, place, "clear", full)
    finally:
        own.running.sql("SET GLOBAL binlog_encryption = OFF")


# --- keys, one by one


def info(secret: bytes, number: int = 0, crc: int | None = None) -> bytes:
    """As in a page: in clear when it is of no master key."""
    return struct.pack(">3sI36s64sI", b"lCC", number, b"u" * 36, secret, crc32c(secret) if crc is None else crc)


SECRET = bytes(range(64))
WRAPPED = info(b"\x99" * 64, 3, crc32c(SECRET))
FILE = File(FILES, 1, "./t.ibd", 16384, ENCRYPTED)


def page(key: bytes) -> bytes:
    return bytes(300) + key + bytes(1024 - 300 - len(key))


def hide(keys: keys_module.Keys, data: bytes, *, state: int = PAGES, offset: int = 0, file: File = FILE) -> bytes | None:
    return keys.hide("t.ibd", file, Block(state, 1, offset, len(data)), data)


@pytest.mark.parametrize(
    ("state", "data"),
    [(PAGES, page(b"")), (PAGES, page(WRAPPED)), (PAGES, page(info(SECRET) + info(SECRET))), (FILES, page(info(SECRET)))],
    ids=["none", "encrypted already", "two", "of a file as it is"],
)
def test_unknown_forms_of_keys_are_refused(tmp_path: Path, state: int, data: bytes) -> None:
    with pytest.raises(ServerFailed, match="in an unknown form"):
        hide(keys_module.Keys(tmp_path), data, state=state)


@pytest.mark.parametrize(
    "disk", [info(SECRET), info(b"\x99" * 64, 0, crc32c(SECRET)), info(b"\x99" * 64, 3, 1), b"lCD" + WRAPPED[3:]]
)
def test_a_key_is_replaced_by_its_encrypted_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: bytes) -> None:
    """Not in clear, not by the master key that everybody knows, not another one, not of another form."""
    monkeypatch.setattr(keys_module, "_PATIENCE", 0)
    (tmp_path / "t.ibd").write_bytes(page(disk))
    with pytest.raises(ServerFailed, match="is not on the server's disk"):
        hide(keys_module.Keys(tmp_path), page(info(SECRET)))
    (tmp_path / "t.ibd").write_bytes(page(WRAPPED))
    keys = keys_module.Keys(tmp_path)
    hidden = hide(keys, page(info(SECRET)))
    assert hidden is not None and WRAPPED in hidden and SECRET not in hidden
    assert keys.masters == {f"INNODBKey-{'u' * 36}-3"}


def test_keys_that_look_the_same(tmp_path: Path) -> None:
    for name in ("t.ibd", "u.ibd"):
        (tmp_path / name).write_bytes(page(b""))
    keys = keys_module.Keys(tmp_path)
    for _ in range(2):  # what comes again takes the place of what came before
        assert hide(keys, page(info(SECRET))) is None
    with pytest.raises(ServerFailed, match=r"t\.ibd and u\.ibd"):
        keys.hide("u.ibd", FILE, Block(PAGES, 2, 0, 1024), page(info(SECRET)))


def test_a_key_that_never_comes(tmp_path: Path) -> None:
    keys = keys_module.Keys(tmp_path)
    assert hide(keys, page(WRAPPED), state=FILES) == page(WRAPPED)
    with pytest.raises(ServerFailed, match=r"has not sent the key of t\.ibd"):
        list(keys.late())


def test_unencrypted_files_are_searched_for_keys_too(tmp_path: Path) -> None:
    plain = File(FILES, 1, "./t.ibd", 16384, 0)
    keys = keys_module.Keys(tmp_path)
    assert keys.concern(plain, Block(PAGES, 1, 0, 1024)) and not keys.concern(plain, Block(FILES, 1, 0, 1024))
    assert hide(keys, page(b""), file=plain) == page(b"")
    (tmp_path / "t.ibd").write_bytes(page(WRAPPED))
    assert SECRET not in (hide(keys, page(info(SECRET)), file=plain) or b"")


@pytest.mark.parametrize("before", [0, 300, 450, 500])
def test_a_key_in_the_redo_log(tmp_path: Path, before: int) -> None:
    """Wherever it lies: in one block or two, in one piece or two."""
    (tmp_path / "t.ibd").write_bytes(page(b""))
    keys = keys_module.Keys(tmp_path)
    assert hide(keys, page(info(SECRET))) is None
    payload = (b"." * before + WRAPPED).ljust(992, b".")
    for number in range(2):
        block = b"h" * 12 + payload[number * 496 : number * 496 + 496] + b"tail"
        assert keys.concern(FILE, Block(REDO, 0, 2048 + 512 * number, 512))
        assert hide(keys, block, state=REDO, offset=2048 + 512 * number) == block
    ((path, block_of_page, data),) = keys.late()
    assert (path, block_of_page.offset) == ("t.ibd", 0)
    assert WRAPPED in data and SECRET not in data
