"""MySQL servers as people run them: each line goes through backups and restores, and its data is compared.

Adding a server configuration takes one line in a group; see ``support.matrix_lines``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.matrix import run_group
from support.matrix_lines import Group, Line, Refused
from support.matrix_servers import OwnMySQL

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

INTO_X = "INSERT INTO db1.x SELECT * FROM db1.t"
CASCADE = (
    "CREATE TABLE db1.a (id INT PRIMARY KEY)",
    "CREATE TABLE db1.b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES db1.a (id) ON DELETE CASCADE)",
    "CREATE TABLE db1.c (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES db1.a (id) ON DELETE SET NULL)",
    "INSERT INTO db1.a VALUES (1), (2), (3)",
    "INSERT INTO db1.b VALUES (1, 1), (2, 1), (3, 3)",
    "INSERT INTO db1.c VALUES (1, 1), (2, 2), (3, 3)",
)

GROUPS = [
    Group(
        "default options, features made by SQL",
        (
            Line("plain"),
            Line(
                "undo tablespace in the data directory",
                prepare=("CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu'",),
            ),
            Line(
                "persisted settings",
                prepare=("SET PERSIST group_concat_max_len = 77777",),
                in_place_has=(("SELECT @@group_concat_max_len", "77777"),),
            ),
            Line(
                "events",
                prepare=(
                    "CREATE TABLE db1.e (id INT AUTO_INCREMENT PRIMARY KEY)",
                    "CREATE EVENT db1.tick ON SCHEDULE EVERY 1 DAY STARTS CURRENT_TIMESTAMP + INTERVAL 1 DAY"
                    " DO INSERT INTO db1.e VALUES ()",
                ),
                new_has=(("SELECT @@event_scheduler", "OFF"),),
                in_place_has=(("SELECT @@event_scheduler", "ON"),),
                warnings=("event",),
            ),
            Line(
                "replica",
                prepare=(
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{peer}', SOURCE_PORT={peer_port}, SOURCE_USER='r',"
                    " SOURCE_PASSWORD='r', SOURCE_CONNECT_RETRY=1",
                    "START REPLICA",
                ),
                warnings=("repl",),
            ),
            Line(
                "MEMORY tables",
                prepare=("CREATE TABLE db1.inmem (id INT) ENGINE=MEMORY", "INSERT INTO db1.inmem VALUES (1)"),
                emptied=("db1.inmem",),
                warnings=("db1.inmem",),
            ),
            Line(
                "password checks (component)",
                prepare=("INSTALL COMPONENT 'file://component_validate_password'",),
                warnings=(),
            ),
            Line(
                "prepared XA transaction",
                prepare=(
                    "CREATE TABLE db1.xa (id INT PRIMARY KEY)",
                    "XA START 'a'",
                    "INSERT INTO db1.xa VALUES (1)",
                    "XA END 'a'",
                    "XA PREPARE 'a'",
                ),
                warnings=("XA",),
            ),
            Line(
                "odd names of databases and tables",
                prepare=(
                    "CREATE DATABASE `a-b.c d`",
                    "CREATE TABLE `a-b.c d`.`ü#x` (id INT PRIMARY KEY)",
                    "INSERT INTO `a-b.c d`.`ü#x` VALUES (1)",
                    "CREATE DATABASE `undo_x`",
                    "CREATE TABLE `undo_x`.`ibdata1` (id INT PRIMARY KEY)",
                ),
            ),
        ),
    ),
    Group(
        "made with other page size, system data files and case",
        (
            Line(
                "page size 8k",
                "innodb_page_size=8k",
                init=("--innodb-page-size=8k",),
                new_has=(("SELECT @@innodb_page_size", "8192"),),
            ),
            Line(
                "two system data files",
                "innodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend",
                init=("--innodb-data-file-path=ibdata1:12M;ibdata2:12M:autoextend",),
            ),
            Line(
                "lower_case_table_names=1",
                "lower_case_table_names=1",
                init=("--lower-case-table-names=1",),
                prepare=("CREATE TABLE db1.Mixed (id INT PRIMARY KEY)", "INSERT INTO db1.MIXED VALUES (1)"),
                new_has=(("SELECT COUNT(*) FROM db1.MiXeD", "1"),),
            ),
            Line(
                "sql_mode and time zone of the owner",
                "sql_mode=ANSI_QUOTES\ndefault_time_zone=+03:00\ncollation_server=utf8mb4_bin",
                new_has=(("SELECT @@global.sql_mode", "ANSI_QUOTES"), ("SELECT @@global.time_zone", "+03:00")),
                in_place_has=(("SELECT @@global.time_zone", "+03:00"),),
            ),
            Line(
                "invisible primary keys",
                "sql_generate_invisible_primary_key=ON\nsql_require_primary_key=ON",
                change=("CREATE TABLE db1.g (note TEXT)", "INSERT INTO db1.g VALUES ('x')"),
            ),
            Line(
                "groups of clients",
                groups="[client]\nhost=192.0.2.1\nuser=nobody\n[mysql]\nprotocol=tcp\n[mysqlbinlog]\nhost=192.0.2.1",
            ),
            Line("read only server", "read_only=ON"),
        ),
    ),
    Group(
        "files outside",
        (
            Line(
                "undo logs outside",
                "innodb_undo_directory={base}/undo",
                directories=("undo",),
                layout="mv {data}/undo_0* {base}/undo/",
            ),
            Line(
                "redo log outside",
                "innodb_log_group_home_dir={base}/redo",
                directories=("redo",),
                layout="mv {data}/#innodb_redo {base}/redo/",
                crash=True,
            ),
            Line(
                "doublewrite files outside",
                "innodb_doublewrite_dir={base}/dblwr",
                directories=("dblwr",),
            ),
            Line("binary log outside", "log_bin={base}/binlog/own", directories=("binlog",)),
            Line(
                "rows that foreign keys of InnoDB change",
                "innodb_native_foreign_keys=ON",
                prepare=CASCADE,
                change=("DELETE FROM db1.a WHERE id < 3",),
            ),
        ),
    ),
    Group(
        "options that permit more",
        (
            Line(
                "partial revokes",
                "partial_revokes=ON",
                change=(
                    "CREATE USER p@localhost",
                    "GRANT SELECT ON *.* TO p@localhost",
                    "REVOKE SELECT ON db1.* FROM p@localhost",
                ),
            ),
            Line(
                "foreign key without a unique index",
                "restrict_fk_on_non_standard_key=OFF",
                prepare=("CREATE TABLE db1.a (id INT PRIMARY KEY, k INT, KEY (k))",),
                change=("CREATE TABLE db1.b (k INT, FOREIGN KEY (k) REFERENCES db1.a (k))",),
            ),
            Line(
                "innodb_strict_mode off",
                "innodb_strict_mode=OFF",
                change=("CREATE TABLE db1.s (id INT PRIMARY KEY) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=32",),
            ),
        ),
    ),
    Group(
        "no incremental, by changes",
        (
            Line(
                "general tablespace made after the full",
                change=(
                    "CREATE TABLESPACE g ADD DATAFILE '{data}/g.ibd'",
                    "CREATE TABLE db1.in_g (id INT PRIMARY KEY) TABLESPACE g",
                    "INSERT INTO db1.in_g VALUES (1)",
                ),
                full_because="TABLESPACE",
            ),
            Line(
                "a plugin installed after the full",
                change=(
                    "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'",
                    "CREATE USER s@localhost IDENTIFIED WITH auth_socket",
                ),
                full_because="plugins",
            ),
            Line(
                "session with binlog_format STATEMENT",
                prepare=("CREATE TABLE db1.u (id INT AUTO_INCREMENT PRIMARY KEY, u CHAR(36))",),
                change=("SET SESSION binlog_format = STATEMENT", "INSERT INTO db1.u (u) VALUES (UUID()), (UUID())"),
                full_because="statement",
            ),
            Line(
                "table outside that was made after the full",
                "innodb_directories={base}/tables",
                directories=("tables",),
                change=(
                    "CREATE TABLE db1.dropped_later (id INT PRIMARY KEY, note TEXT) DATA DIRECTORY='{base}/tables'",
                    "DROP TABLE db1.dropped_later",
                ),
                full_because="DATA DIRECTORY",
            ),
            Line(
                "RESET BINARY LOGS AND GTIDS",
                change=("RESET BINARY LOGS AND GTIDS", "INSERT INTO db1.t VALUES (5000, 'after the reset')"),
                full_because="nothing proves",
            ),
            Line(
                "table outside that was made and stays",
                "innodb_directories={base}/tables",
                directories=("tables",),
                change=("CREATE TABLE db1.stays (id INT PRIMARY KEY, note TEXT) DATA DIRECTORY='{base}/tables'",),
                refused=(Refused("outside", at="incremental"),),
                undo=("DROP TABLE db1.stays",),
            ),
            Line(
                "table outside (DATA DIRECTORY)",
                "innodb_directories={base}/tables",
                directories=("tables",),
                prepare=("CREATE TABLE db1.x (id INT PRIMARY KEY, note TEXT) DATA DIRECTORY='{base}/tables'", INTO_X),
                refused=(Refused("db1/x.ibd"),),
                undo=("DROP TABLE db1.x",),
            ),
            Line(
                "MyISAM tables",
                prepare=("CREATE TABLE db1.x (id INT PRIMARY KEY, note TEXT) ENGINE=MyISAM", INTO_X),
                refused=(Refused("MyISAM"),),
                undo=("DROP TABLE db1.x",),
            ),
        ),
    ),
    Group(
        "no incremental, by binlog_format",
        (Line("server with binlog_format STATEMENT", "binlog_format=STATEMENT", full_because="binlog_format"),),
    ),
    Group(
        "no incremental, without a binary log",
        (Line("no binary log", "skip_log_bin\ngtid_mode=OFF", full_because="binary log"),),
    ),
]


def test_matrix(group: Group, place: Path, pool: str) -> None:
    run_group(group, OwnMySQL(group, place), place, pool)
