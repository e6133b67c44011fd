"""Configurations of MariaDB as people run it, one line each. The next report from the field is the next line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A server of somebody else. ``query`` has to answer the same at the copy."""

    name: str
    options: Sequence[str] = ()
    sql: Sequence[str] = ()
    query: str = ""
    directories: Sequence[str] = ()
    groups: str = ""
    fresh: bool = False
    """Made with its options, which takes a second."""
    warns: Sequence[str] = ()
    """Items of the profile table that its profile tells of."""
    plugins: Sequence[str] = ()
    asks: Sequence[str] = ()
    """System variables that are to be equal."""


# fmt: off
T = ("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY, b VARCHAR(50))", "INSERT INTO d.t VALUES (1,'one'),(2,'two')")
X = "{place}/x"
CASES = (
    Case("page size", ("innodb_page_size=8k",), fresh=True, asks=("innodb_page_size",)),
    Case("two data files", ("innodb_data_file_path=ibdata1:12M;ibdata2:4M:autoextend",), fresh=True, asks=("innodb_data_file_path",)),
    Case("lower case", ("lower_case_table_names=1",), ("CREATE TABLE d.Mixed (a INT)",), "SELECT COUNT(*) FROM d.MIXED", fresh=True),
    Case(
        "directories",
        ("innodb_undo_directory={place}/u", "innodb_log_group_home_dir={place}/r", "aria_log_dir_path={place}/a")
        + ("innodb_data_home_dir={place}/h", "log_bin={place}/b/bin", "innodb_undo_tablespaces=2"),
        directories="urahb",
        fresh=True,
    ),
    Case("groups of the tool", groups="[mariabackup]\ndatabases-exclude=d\n[xtrabackup]\ndatabases-exclude=d\n[mariadb-backup]\ndatabases-exclude=d\n[client]\nuser=nobody"),
    Case("names like the tool's", (), ("CREATE DATABASE mariadb_backup_logs", "CREATE TABLE mariadb_backup_logs.t (a INT)", "CREATE DATABASE xtrabackup_test"), "SELECT COUNT(*) FROM mariadb_backup_logs.t"),
    Case("data directory", (), (f"CREATE TABLE d.o (a INT) DATA DIRECTORY='{X}'", "INSERT INTO d.o VALUES (7)", f"CREATE TABLE d.p (a INT) PARTITION BY HASH (a) (PARTITION p0 DATA DIRECTORY='{X}', PARTITION p1)", "INSERT INTO d.p VALUES (1),(2)", f"CREATE TABLE d.m (a INT) ENGINE=MyISAM DATA DIRECTORY='{X}' INDEX DIRECTORY='{X}'", "INSERT INTO d.m VALUES (3)"), "SELECT SUM(a) FROM (SELECT a FROM d.o UNION ALL SELECT a FROM d.p UNION ALL SELECT a FROM d.m) x", directories="x", warns=("InnoDB DATA DIRECTORY", "MyISAM and Aria DATA/INDEX DIRECTORY")),
    Case("answers", ("sql_mode=ANSI", "character_set_server=latin1", "ft_min_word_len=2", "group_concat_max_len=7", "default_week_format=3", "transaction_isolation=READ-COMMITTED", "default_time_zone=+05:00", "auto_increment_increment=3", "innodb_ft_min_token_size=1", "event_scheduler=ON"), asks=("sql_mode", "collation_server", "ft_min_word_len", "group_concat_max_len", "default_week_format", "tx_isolation", "time_zone", "auto_increment_increment", "innodb_ft_min_token_size")),
    Case("archive", ("plugin_load_add=ha_archive",), ("CREATE TABLE d.a (a INT) ENGINE=ARCHIVE", "INSERT INTO d.a VALUES (5)"), "SELECT a FROM d.a", warns=("engines from plugins",), plugins=("ARCHIVE",)),
    Case("installed archive", (), ("INSTALL SONAME 'ha_archive'", "CREATE TABLE d.a (a INT) ENGINE=ARCHIVE", "INSERT INTO d.a VALUES (5)"), "SELECT a FROM d.a", warns=("engines from plugins",), plugins=("ARCHIVE",)),
    Case("lz4 pages", ("plugin_load_add=provider_lz4", "innodb_compression_algorithm=lz4"), ("CREATE TABLE d.z (a INT, b TEXT) PAGE_COMPRESSED=1", "INSERT INTO d.z VALUES (5, REPEAT('x', 60000))"), "SELECT a, MD5(b) FROM d.z", plugins=("provider_lz4",), warns=("settings that are not carried",)),
    Case("password checks", ("plugin_load_add=simple_password_check",), plugins=("simple_password_check",)),
    Case("installed password checks", (), ("INSTALL SONAME 'simple_password_check'", "INSTALL SONAME 'password_reuse_check'"), plugins=("password_reuse_check", "simple_password_check")),
    Case("accounts", (), ("INSTALL SONAME 'auth_ed25519'", "CREATE USER e@localhost IDENTIFIED VIA ed25519 USING PASSWORD('Secret 1')", "CREATE USER h@db1.example.org", "CREATE USER s@'%' REQUIRE X509"), plugins=("ed25519",), warns=("accounts by plugin", "REQUIRE X509, ISSUER or SUBJECT"), asks=("skip_name_resolve",)),
    Case("memory tables", (), ("CREATE TABLE d.y (a INT) ENGINE=MEMORY",)),
    Case("other engines", (), ("CREATE TABLE d.aria (a INT) ENGINE=Aria", "CREATE TABLE d.c (a INT NOT NULL) ENGINE=CSV", "CREATE SEQUENCE d.s", "CREATE TABLE d.v (a INT) WITH SYSTEM VERSIONING", "CREATE TABLE d.my (a INT) ENGINE=MyISAM", "INSERT INTO d.my VALUES (4)", "CREATE VIEW d.view AS SELECT 1"), "SELECT a FROM d.my"),
)
