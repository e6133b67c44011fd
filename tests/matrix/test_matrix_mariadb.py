"""MariaDB servers as people run them: each line goes through backups and restores, and its data is compared.

Adding a server configuration takes one line in a group; see ``support.matrix_lines``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.matrix import run_group
from support.matrix_lines import Group, Line, Refused
from support.matrix_servers import OwnMariaDB

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

KEYS = "1;" + "a7" * 32 + "\\n"
ENCRYPTION = "plugin_load_add=file_key_management\nfile_key_management_filename={base}/keys/keys.txt\n"
MAKE_KEYS = "printf '" + KEYS + "' > {base}/keys/keys.txt"


def into(table: str) -> str:
    return f"INSERT INTO {table} SELECT * FROM db1.t"


GROUPS = [
    Group(
        "default options, features made by SQL",
        (
            Line("plain"),
            Line(
                "databases named like the tool's files",
                prepare=(
                    "CREATE DATABASE mariadb_backup_logs",
                    "CREATE TABLE mariadb_backup_logs.l (id INT PRIMARY KEY)",
                    "INSERT INTO mariadb_backup_logs.l VALUES (1)",
                    "CREATE DATABASE xtrabackup_test",
                    "CREATE TABLE xtrabackup_test.x (id INT PRIMARY KEY)",
                    "INSERT INTO xtrabackup_test.x VALUES (1)",
                ),
            ),
            Line(
                "odd names of databases and tables",
                prepare=(
                    "CREATE DATABASE `a-b.c d`",
                    "CREATE TABLE `a-b.c d`.`ü#x` (id INT PRIMARY KEY)",
                    "INSERT INTO `a-b.c d`.`ü#x` VALUES (1)",
                    "CREATE DATABASE `data`",
                    "CREATE TABLE `data`.`undo001` (id INT PRIMARY KEY)",
                    "CREATE DATABASE `x#y`",
                    "CREATE TABLE `x#y`.ibdata1 (id INT PRIMARY KEY)",
                ),
            ),
            Line(
                "MEMORY tables",
                prepare=("CREATE TABLE db1.inmem (id INT) ENGINE=MEMORY", "INSERT INTO db1.inmem VALUES (1)"),
                emptied=("db1.inmem",),
                warnings=("db1.inmem",),
            ),
            Line(
                "MyISAM and Aria tables",
                prepare=(
                    "CREATE TABLE db1.x (id INT PRIMARY KEY, note TEXT, FULLTEXT (note)) ENGINE=MyISAM",
                    into("db1.x"),
                    "CREATE TABLE db1.y (id INT PRIMARY KEY, note TEXT) ENGINE=Aria",
                    "INSERT INTO db1.y SELECT * FROM db1.t",
                ),
                change=("UPDATE db1.x SET note = 'changed' WHERE id < 9", "DELETE FROM db1.y WHERE id < 9"),
            ),
            Line(
                "page compression (zlib)",
                prepare=("CREATE TABLE db1.packed (id INT PRIMARY KEY, note TEXT) PAGE_COMPRESSED=1", into("db1.packed")),
            ),
            Line("no account mysql@localhost with host names", prepare=("CREATE USER app@'db.example.com' IDENTIFIED BY 'x'",)),
            Line(
                "table outside (DATA DIRECTORY)",
                directories=("tables",),
                prepare=(
                    "CREATE TABLE db1.outside (id INT PRIMARY KEY, note TEXT) ENGINE=InnoDB DATA DIRECTORY='{base}/tables'",
                    into("db1.outside"),
                ),
            ),
            Line(
                "partition outside (DATA DIRECTORY)",
                directories=("tables",),
                prepare=(
                    "CREATE TABLE db1.parts (id INT PRIMARY KEY, note TEXT) ENGINE=InnoDB PARTITION BY RANGE (id)"
                    " (PARTITION a VALUES LESS THAN (100) DATA DIRECTORY='{base}/tables', PARTITION b VALUES LESS THAN MAXVALUE)",
                    into("db1.parts"),
                ),
            ),
            Line(
                "MyISAM table outside",
                directories=("tables",),
                prepare=(
                    "CREATE TABLE db1.my_outside (id INT PRIMARY KEY, note TEXT) ENGINE=MyISAM"
                    " DATA DIRECTORY='{base}/tables' INDEX DIRECTORY='{base}/tables'",
                    into("db1.my_outside"),
                ),
                warnings=("db1/my_outside",),
            ),
            Line(
                "prepared XA transaction",
                prepare=(
                    "CREATE TABLE db1.xa (id INT PRIMARY KEY) ENGINE=InnoDB",
                    "XA START 'a'",
                    "INSERT INTO db1.xa VALUES (1)",
                    "XA END 'a'",
                    "XA PREPARE 'a'",
                ),
                warnings=("XA",),
                new_has=(("SELECT COUNT(*) FROM db1.xa", "0"),),
            ),
        ),
    ),
    Group(
        "made with pages of 8k, system data files and case",
        (
            Line("page size 8k", "innodb_page_size=8k", init=("--innodb-page-size=8k",)),
            Line(
                "two system data files",
                "innodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend",
                init=("--innodb-data-file-path=ibdata1:12M;ibdata2:12M:autoextend",),
            ),
            Line(
                "lower_case_table_names=1",
                "lower_case_table_names=1",
                prepare=("CREATE TABLE db1.Mixed (id INT)", "INSERT INTO db1.MIXED VALUES (1)"),
                new_has=(("SELECT COUNT(*) FROM db1.MiXeD", "1"),),
                in_place_has=(("SELECT COUNT(*) FROM db1.MiXeD", "1"),),
            ),
            Line(
                "sql_mode and time zone of the owner",
                "sql_mode=ANSI_QUOTES\ndefault_time_zone=+03:00\ncollation_server=utf8mb4_bin\ngroup_concat_max_len=77777",
                new_has=(
                    ("SELECT @@global.sql_mode", "ANSI_QUOTES"),
                    ("SELECT @@global.time_zone", "+03:00"),
                    ("SELECT @@collation_server", "utf8mb4_bin"),
                    ("SELECT @@global.group_concat_max_len", "77777"),
                ),
                in_place_has=(("SELECT @@global.time_zone", "+03:00"),),
            ),
            Line("read only server", "read_only=ON"),
            Line(
                "lost+found in the data directory", layout="mkdir -m 0700 {data}/lost+found", options="ignore_db_dirs=lost+found"
            ),
            Line(
                "groups of the backup tool exclude a database",
                groups="[mariabackup]\ndatabases-exclude=logs\n[mariadb-backup]\ndatabases-exclude=logs\n[xtrabackup]\ndatabases-exclude=logs",
                prepare=("CREATE DATABASE logs", "CREATE TABLE logs.l (id INT) ENGINE=InnoDB", "INSERT INTO logs.l VALUES (1)"),
            ),
        ),
    ),
    Group(
        "made with pages of 64k, undo logs and binary log outside",
        (
            Line("page size 64k", "innodb_page_size=64k", init=("--innodb-page-size=64k",)),
            Line(
                "undo logs outside",
                "innodb_undo_directory={base}/undo\ninnodb_undo_tablespaces=2",
                init=("--innodb-undo-tablespaces=2",),
                directories=("undo",),
                layout="mv {data}/undo0* {base}/undo/",
            ),
            Line("binary log outside", "log_bin={base}/binlog/own", directories=("binlog",)),
            Line(
                "replica",
                "log_slave_updates=ON",
                prepare=(
                    "CHANGE MASTER TO MASTER_HOST='{peer}', MASTER_PORT={peer_port}, MASTER_USER='r', MASTER_PASSWORD='r',"
                    " MASTER_CONNECT_RETRY=1",
                    "START SLAVE",
                ),
                warnings=("repl",),
            ),
            Line(
                "events",
                "event_scheduler=ON",
                prepare=(
                    "CREATE TABLE db1.e (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB",
                    "CREATE EVENT db1.tick ON SCHEDULE EVERY 1 DAY STARTS CURRENT_TIMESTAMP + INTERVAL 1 DAY"
                    " DO INSERT INTO db1.e VALUES ()",
                ),
                new_has=(("SELECT @@event_scheduler", "OFF"),),
                in_place_has=(("SELECT @@event_scheduler", "ON"),),
                warnings=("event",),
            ),
            Line(
                "groups of the backup tool stream elsewhere",
                groups="[client]\nprotocol=tcp\nport=1\n[mariabackup]\nparallel=1\nno-lock\ncompress",
            ),
        ),
    ),
    Group(
        "crash with files outside",
        (
            Line(
                "system data files outside",
                "innodb_data_home_dir={base}/home",
                directories=("home",),
                layout="mv {data}/ibdata1 {base}/home/",
                crash=True,
            ),
            Line(
                "redo log outside",
                "innodb_log_group_home_dir={base}/redo",
                directories=("redo",),
                layout="mv {data}/ib_logfile0 {base}/redo/",
                crash=True,
            ),
            Line(
                "Aria log outside",
                "aria_log_dir_path={base}/aria",
                directories=("aria",),
                layout="mv {data}/aria_log* {base}/aria/",
                prepare=("CREATE TABLE db1.x (id INT PRIMARY KEY, note TEXT) ENGINE=Aria TRANSACTIONAL=1", into("db1.x")),
                spoil=("UPDATE db1.x SET note = 'spoilt'", "INSERT INTO db1.x SELECT id + 1000, note FROM db1.x"),
                crash=True,
            ),
        ),
    ),
    Group(
        "plugins by option",
        (
            Line(
                "ARCHIVE engine from a plugin",
                plugins=True,
                options="plugin_load_add=ha_archive",
                prepare=("CREATE TABLE db1.x (id INT, note TEXT) ENGINE=ARCHIVE", into("db1.x")),
            ),
            Line(
                "password checks",
                plugins=True,
                options="plugin_load_add=simple_password_check\nsimple_password_check_minimal_length=20",
            ),
        ),
    ),
    Group(
        "plugins by SQL",
        (
            Line(
                "BLACKHOLE engine from a plugin",
                plugins=True,
                options="plugin_load_add=ha_blackhole",
                prepare=("CREATE TABLE db1.x (id INT, note TEXT) ENGINE=BLACKHOLE",),
            ),
            Line(
                "ed25519 accounts",
                plugins=True,
                prepare=(
                    "INSTALL SONAME 'auth_ed25519'",
                    "CREATE USER ed@localhost IDENTIFIED VIA ed25519 USING PASSWORD('secret')",
                ),
                new_has=(("SELECT plugin_status FROM information_schema.all_plugins WHERE plugin_name = 'ed25519'", "ACTIVE"),),
            ),
            Line(
                "password checks installed by SQL",
                plugins=True,
                prepare=("INSTALL SONAME 'simple_password_check'",),
            ),
        ),
    ),
    Group(
        "FEDERATEDX tables",
        (
            Line(
                "FEDERATEDX tables",
                plugins=True,
                options="plugin_load_add=ha_federatedx",
                prepare=(
                    "CREATE TABLE db1.local (id INT)",
                    "CREATE USER far@localhost IDENTIFIED BY 'p'",
                    "GRANT ALL ON db1.* TO far@localhost",
                    "CREATE SERVER far FOREIGN DATA WRAPPER mysql"
                    " OPTIONS (SOCKET '{base}/own.sock', USER 'far', PASSWORD 'p', DATABASE 'db1')",
                    "CREATE TABLE db1.f (id INT) ENGINE=FEDERATED CONNECTION='far/local'",
                ),
                refused=(Refused("FEDERATED", at="new"),),
            ),
        ),
    ),
    Group(
        "encrypted tables, keys outside",
        (
            Line(
                "encrypted tables, keys outside",
                plugins=True,
                options=ENCRYPTION,
                directories=("keys",),
                layout=MAKE_KEYS,
                prepare=("CREATE TABLE db1.x (id INT PRIMARY KEY, note TEXT) ENCRYPTED=YES", into("db1.x")),
                refused=(Refused("keys", at="verify"), Refused("key", at="new")),
            ),
        ),
    ),
    Group(
        "encrypted tables, keys inside",
        (
            Line(
                "encrypted tables and redo log, key file in the data directory",
                plugins=True,
                options="plugin_load_add=file_key_management\nfile_key_management_filename={data}/keys.txt\ninnodb_encrypt_log=ON",
                layout="printf '" + KEYS + "' > {data}/keys.txt",
                prepare=("CREATE TABLE db1.x (id INT PRIMARY KEY, note TEXT) ENCRYPTED=YES", into("db1.x")),
                refused=(Refused("keys are in the data directory"),),
            ),
        ),
    ),
    Group(
        "account strongroom of the owner",
        (
            Line(
                "an account of the owner named strongroom",
                prepare=("CREATE USER strongroom@localhost IDENTIFIED BY 'theirs'",),
                refused=(Refused("strongroom@localhost", at="new"),),
            ),
        ),
    ),
    Group(
        "unknown file",
        (
            Line(
                "unknown file in a database directory",
                layout="mkdir {data}/db2; touch {data}/db2/db.opt {data}/db2/f.xyz",
                refused=(Refused("f.xyz"),),
            ),
        ),
    ),
]


def test_matrix(group: Group, place: Path, pool: str) -> None:
    run_group(group, OwnMariaDB(group, place), place, pool)
