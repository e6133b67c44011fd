"""Incrementals of MySQL under settings and statements of all kinds: each replays to the same rows, or a full is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.artifact import Profile
from strongroom.datastores import get
from strongroom.datastores.mysql.backup import fingerprint
from strongroom.datastores.mysql.backup import witness as witness_module
from strongroom.datastores.mysql.backup.events import Changed, Mark, Statement
from strongroom.datastores.mysql.backup.fidelity import Judge
from strongroom.datastores.mysql.backup.full import read_position
from strongroom.errors import ArtifactCorrupt, WalGone
from support import mysql
from support.identity import run_as
from support.mariadb import FileLink, backup, scratch
from support.mysql import MySQLServer
from support.own_mysql import Owned

driver = get("mysql")
SETTINGS = """
plugin-load-add=mysql_clone.so;mysql_no_login.so
log_bin=binlog
gtid_mode=ON
enforce_gtid_consistency=ON
partial_revokes=ON
restrict_fk_on_non_standard_key=OFF
innodb_strict_mode=OFF
innodb_default_row_format=compact
innodb_page_size=8k
innodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend
lower_case_table_names=1
sql_mode=ANSI,NO_BACKSLASH_ESCAPES
sql_generate_invisible_primary_key=ON
explicit_defaults_for_timestamp=OFF
character_set_server=latin1
innodb_ft_min_token_size=2
ngram_token_size=3
default_time_zone=+05:30
binlog_transaction_compression=ON
mandatory_roles='some_role@%'
max_allowed_packet=33554432
"""

COLUMNS = """
SELECT column_name, column_default, column_type, extra, collation_name, HEX(column_default) FROM information_schema.columns
WHERE table_schema = 'db1' ORDER BY table_name, ordinal_position
"""

HASH = "$A$005$" + "salt" * 5 + "0" * 43
"""Of no password. A salt of the server's own may hold a backslash, which makes the next backup a full in this mode."""


@pytest.fixture(scope="module")
def odd() -> Iterator[Owned]:
    owned = Owned(SETTINGS)
    yield owned
    owned.end()


def as_parent(owned: Owned) -> FileLink:
    """What a full that was taken right now would be for an incremental."""
    server, user = owned.running.server, owned.running.server.user
    profile = run_as(user, driver.profiles.read, server)
    found = run_as(user, read_position, server)
    run_as(user, driver.servers.ensure_lineage, server.data_dir)
    witness, _ = run_as(user, witness_module.leave_witness, server)
    number = owned.own.version.number
    return FileLink(Path("/dev/null"), "full", found, number, 0, stream="tar", profile=profile, witness=witness)


def test_a_chain_under_odd_settings(odd: Owned, place: Path) -> None:
    """All statements of this test broke the replay, or came to other rows, before the private server had the settings."""
    own = odd.own
    own.sql(
        "SET GLOBAL default_collation_for_utf8mb4 = utf8mb4_general_ci",
        "CREATE DATABASE db1",
        "CREATE TABLE db1.Parent (a INT, b INT, KEY (a))",
        "INSERT INTO db1.parent VALUES (1, 1), (2, 2)",
        "CREATE USER 'some_role', partial@localhost IDENTIFIED BY 'secret'",
        "GRANT SELECT, INSERT ON *.* TO partial@localhost",
    )
    full = backup(odd.running, place, "full")
    wide = ", ".join(f"c{number} CHAR(250)" for number in range(40))
    own.sql(
        "REVOKE INSERT ON mysql.* FROM partial@localhost",
        "CREATE TABLE db1.Child (a INT, CONSTRAINT f FOREIGN KEY (a) REFERENCES db1.Parent (a) ON DELETE CASCADE)",
        "INSERT INTO db1.child VALUES (1), (2)",
        "DELETE FROM db1.parent WHERE a = 2",
        f"CREATE TABLE db1.wide (id INT PRIMARY KEY, {wide}) ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 4 CHARACTER SET latin1",
        "CREATE TABLE db1.fixed (id INT PRIMARY KEY) ROW_FORMAT = FIXED",
        "CREATE TABLE db1.stamps (a TIMESTAMP, b TIMESTAMP, c VARCHAR(20) DEFAULT 'ab')",
        "INSERT INTO db1.stamps (a) VALUES (NULL)",
        "CREATE TABLE db1.words (t TEXT, FULLTEXT (t), u TEXT, FULLTEXT INDEX n (u) WITH PARSER ngram)",
        "INSERT INTO db1.words VALUES ('ab cd', 'abcdef')",
        "CREATE TABLE db1.chosen SELECT * FROM db1.stamps",
        "CREATE TABLESPACE ts ADD DATAFILE 'ts.ibd'",
        "CREATE TABLE db1.spaced (a INT PRIMARY KEY) TABLESPACE ts",
        "INSERT INTO db1.spaced VALUES (7)",
        f"CREATE USER later@localhost IDENTIFIED WITH caching_sha2_password AS '{HASH}'",
        "CREATE EVENT db1.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM db1.stamps",
        "XA START 'x'",
        "INSERT INTO db1.spaced VALUES (8)",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
    )
    first = backup(odd.running, place, "first", full)
    tables = [f'db1."{name}"' for (name,) in own.sql("SHOW TABLES IN db1")]
    before = own.sql(f"CHECKSUM TABLE {', '.join(tables)}"), own.sql("SHOW GRANTS FOR partial@localhost")
    found = [own.sql("SELECT COUNT(*) FROM db1.words WHERE MATCH (t) AGAINST ('ab')"), own.sql(COLUMNS)]
    assert len(tables) == 8
    other = mysql.restored([full, first], place)
    other.start()
    after = other.sql(f"CHECKSUM TABLE {', '.join(tables)}"), other.sql("SHOW GRANTS FOR partial@localhost")
    assert after == before
    assert [
        other.sql("SELECT COUNT(*) FROM db1.words WHERE MATCH (t) AGAINST ('ab')"),
        other.sql(COLUMNS),
    ] == found
    kept = "lower_case_table_names, @@innodb_page_size, @@sql_mode, @@partial_revokes, @@character_set_server, @@time_zone"
    assert other.sql(f"SELECT @@{kept}") == own.sql(f"SELECT @@{kept}")
    notices = driver.profiles.check(other.server, first.profile or Profile(), isolated=True)
    assert [notice for notice in notices if notice.effect != "warn"] == []
    assert "settings" not in {notice.item for notice in notices}
    assert other.sql("SELECT @@event_scheduler") == [("OFF",)]
    log = (other.server.base_dir / "log" / "error.log").read_text()
    assert re.findall(r"unknown (?:variable|option) '(?!loose_group_replication).*", log) == []
    with other.connect() as connection, connection.cursor() as cursor:
        for statement in ("XA START {}", "DELETE FROM db1.spaced", "XA END {}", "XA PREPARE {}"):
            cursor.execute(statement.format("'left', X'00ff', 7"))
    other.stop()
    number = run_as(other.server.user, mysql.rehearse, other.server, scratch(place, "rehearsal"), first.profile)
    assert number > 40
    other.start()
    assert other.sql("XA RECOVER") == []  # nothing may hold locks while tables are read


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO db2.t VALUES (1)"], "logged as text"),
        (["SET SESSION binlog_format = 'STATEMENT'", "SET @a = 7", "INSERT INTO db2.t VALUES (@a)"], "logged as text"),
        (["CREATE TABLE db2.memory (a INT) ENGINE = MEMORY", "INSERT INTO db2.memory VALUES (1)"], "restored empty"),
        (["INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'", "CREATE USER s IDENTIFIED WITH auth_socket"], "auth_socket"),
        (["CREATE TABLE db2.slashes (a VARCHAR(20) DEFAULT 'a\\b')"], "NO_BACKSLASH_ESCAPES"),
        (["UNINSTALL PLUGIN auth_socket"], "plugins were installed or removed"),
        (["CREATE TABLESPACE far ADD DATAFILE '{data}/far.ibd'", "DROP TABLESPACE far"], "directory of its host"),
        (["CREATE TABLE db2.far (a INT PRIMARY KEY) DATA DIRECTORY '{far}'", "DROP TABLE db2.far"], "DATA DIRECTORY"),
        (["SET GLOBAL innodb_default_row_format = dynamic"], "innodb_default_row_format"),
        (["CREATE FUNCTION service_get_read_locks RETURNS INTEGER SONAME 'locking_service.so'"], "shared library"),
    ],
)
def test_logs_that_cannot_be_replayed_are_noticed_when_taken(odd: Owned, place: Path, statements: list[str], reason: str) -> None:
    far = scratch(odd.place, "far")
    odd.own.sql("CREATE DATABASE IF NOT EXISTS db2", "CREATE TABLE IF NOT EXISTS db2.t (a INT)")
    parent = as_parent(odd)
    odd.own.sql(*(statement.format(data=odd.own.data, far=far) for statement in statements))
    with pytest.raises(WalGone, match=reason):
        backup(odd.running, place, "first", parent)


def test_a_replay_that_leads_to_other_rows_is_noticed(odd: Owned, place: Path) -> None:
    """Rows that the binary log does not hold, in a table that it changes, and a client that drops a part of the log."""
    odd.own.sql("CREATE DATABASE db3", "CREATE TABLE db3.t (a INT PRIMARY KEY)")
    full = backup(odd.running, place, "full")
    odd.own.sql("INSERT INTO db3.t VALUES (1)", "SET sql_log_bin = 0", "INSERT INTO db3.t VALUES (2)")
    first = backup(odd.running, place, "first", full)
    with pytest.raises(ArtifactCorrupt, match=r"`db3`\.`t` has other rows"):
        mysql.restored([full, first], place)
    # A restore is not refused for this reason.
    target, work, version = scratch(place, "for-a-server"), scratch(place, "for-a-server-work"), odd.running.server.version
    phase, server = [].append, odd.running.server
    found = run_as(server.user, lambda: driver.restores.restore(version, [full, first], target, work, phase, server))
    assert "`db3`.`t` has other rows" in found.warnings[0]


def test_a_decision_about_a_prepared_transaction_is_no_alarm() -> None:
    checksums = fingerprint.Fingerprint({("d", "t"): 1, ("d", "u"): 2})
    checksums.forget([Statement("d", "INSERT INTO x VALUES (1)"), Changed("d", "u")])
    assert len(checksums) == 1
    checksums.forget([Statement("", "XA COMMIT X'61',X'',1")])
    assert len(checksums) == 0


def test_changes_right_after_the_end_raise_no_alarm(odd: Owned, place: Path) -> None:
    """Tables that change all the time are left out of the fingerprint."""
    odd.own.sql("CREATE DATABASE db4", "CREATE TABLE db4.quiet (a INT PRIMARY KEY)", "CREATE TABLE db4.busy (a INT PRIMARY KEY)")
    full = backup(odd.running, place, "full")
    odd.own.sql("INSERT INTO db4.quiet VALUES (1)", "INSERT INTO db4.busy VALUES (1)")
    program = place / "slow"
    real = odd.own.programs["binlog"]
    client = f"{odd.own.programs['client']} --no-defaults -uroot -S{odd.own.socket}"
    program.write_text(
        f"#!/bin/sh\n{client} -e 'INSERT INTO db4.busy SELECT MAX(a) + 1 FROM db4.busy' || exit 9\nexec {real} \"$@\"\n"
    )
    program.chmod(0o755)
    server = odd.running.server
    version = server.version.model_copy(update={"programs": server.version.programs | {"binlog": program}})
    busy = MySQLServer(server.model_copy(update={"version": version}))
    first = backup(busy, place, "first", full)
    other = mysql.restored([full, first], place)
    other.start()
    assert other.sql("SELECT COUNT(*) FROM db4.quiet") == [(1,)]
    other.stop()


def test_long_sets_of_gtids(place: Path) -> None:
    """As many as two arguments of a program can hold."""
    owned = Owned("plugin-load-add=mysql_clone.so\ngtid_mode=ON\nenforce_gtid_consistency=ON")
    try:
        many = ",".join(f"{number:08x}-1111-1111-1111-111111111111:1-3:5-9" for number in range(3500))
        owned.own.sql(f"SET GLOBAL gtid_purged = '+{many}'", "CREATE DATABASE db1", "CREATE TABLE db1.t (a INT PRIMARY KEY)")
        full = backup(owned.running, place, "full")
        owned.own.sql("INSERT INTO db1.t VALUES (1), (2)")
        first = backup(owned.running, place, "first", full)
        owned.own.sql("INSERT INTO db1.t VALUES (3)")
        second = backup(owned.running, place, "second", first)
        assert len(first.positions.gtid or "") > 140_000
        other = mysql.restored([full, first, second], place)
        other.start()
        assert other.sql("CHECKSUM TABLE db1.t") == owned.own.sql("CHECKSUM TABLE db1.t")
        other.stop()
    finally:
        owned.end()


@pytest.mark.parametrize("setting", ["binlog_ignore_db=db9", "binlog_do_db=db8"])
def test_a_binary_log_with_gaps(place: Path, setting: str) -> None:
    owned = Owned(f"plugin-load-add=mysql_clone.so\ngtid_mode=ON\nenforce_gtid_consistency=ON\n{setting}")
    try:
        with pytest.raises(WalGone, match="excludes databases from its binary log"):
            backup(owned.running, place, "first", as_parent(owned))
    finally:
        owned.end()


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Statement("db1", "/* ROW */ insert into t values (1)"), "logged as text"),
        (Statement("db1", "CREATE TABLE t (a INT COMMENT 'a /* b') DATA/* */DIRECTORY='/x' COMMENT '*/'"), "DATA DIRECTORY"),
        (
            Statement("db1", "CREATE TABLE t (a INT) /*!50100 PARTITION BY HASH(a) (PARTITION p DATA DIRECTORY='/x') */"),
            "DIRECTORY",
        ),
        (Statement("db1", "ALTER TABLE t IMPORT TABLESPACE"), "IMPORT TABLESPACE"),
        (Statement("db1", "ALTER TABLE t DISCARD PARTITION p1 TABLESPACE"), "IMPORT TABLESPACE"),
        (Statement("", "CREATE USER a IDENTIFIED WITH 'authentication_ldap_sasl' AS 'x'"), "authentication_ldap_sasl"),
        (Statement("", "create fulltext index i on t (a) with parser `mecab`"), "a parser that is a plugin"),
        (Statement("", "CREATE TEMPORARY TABLE t (a INT)"), "logged as text"),
        (Statement("", "INSTALL COMPONENT 'file://x'"), "it is unknown how to replay INSTALL COMPONENT"),
        (Statement("", "CREATE FUNCTION f() RETURNS INT LANGUAGE JAVASCRIPT AS $$ 1 $$"), "another language"),
        (Statement("", "GRANT ODD_ADMIN ON *.* TO a"), "component_odd"),
        (Statement("db1", "ALTER TABLE Heap ENGINE = InnoDB"), "restored empty"),
        (Changed("db1", "heap"), "restored empty"),
        (Mark(5), "logged as text"),
        (Mark(26), "lost events"),
        (Mark(34), "no GTIDs"),
        (Mark(160), "unknown kind"),
        (Statement("db1", "CREATE VIEW v AS SELECT MATCH (a) AGAINST ('x' IN NATURAL LANGUAGE MODE) FROM t"), None),
        (Statement("db1", "CREATE TABLESPACE `ts` ADD DATAFILE 'ts.ibd' ENGINE=INNODB"), None),
        (Statement("", "XA START X'78',X'',1"), None),
        (Statement("", "CREATE USER 'a'@'%' IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$x'"), None),
        (Changed("db1", "t"), None),
        (Mark(33), None),
    ],
)
def test_events_and_statements(event: Changed | Statement | Mark, reason: str | None) -> None:
    judge = Judge(Profile(plugins=["clone", "component_odd"]), by_gtid=True, empty={"db1.heap"})
    judge.look([event])
    if reason is None:
        assert judge.reason is None
    else:
        assert judge.reason is not None and reason in judge.reason


def test_a_parent_without_a_profile(odd: Owned, place: Path) -> None:
    with pytest.raises(WalGone, match="does not contain the settings"):
        backup(odd.running, place, "first", replace(as_parent(odd), profile=None))
