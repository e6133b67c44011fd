"""The profile of a MySQL server: what is read, what a restore does about it, and copies that touch nobody."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strongroom.artifact import Notice, Profile
from strongroom.datastores import RestoreTarget, Version, discover, get
from strongroom.datastores.innodb.versions import extract_number, extract_series, make_sort_key
from strongroom.datastores.mysql.profile import settings
from strongroom.datastores.mysql.profile.read import read_profile
from strongroom.datastores.mysql.server.versions import is_innovation
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ArtifactCorrupt
from strongroom.system.children import tool_environment
from support import mysql
from support.identity import run_as
from support.mariadb import backup, scratch
from support.mysql import MySQLServer
from support.own_mysql import Owned

driver = get("mysql")


@pytest.fixture(scope="module")
def owned() -> Iterator[Owned]:
    """With undo and redo outside its data directory, and whatever a profile names."""
    made = Owned(
        "plugin-load-add=mysql_clone.so\nlog_bin=binlog\ngtid_mode=ON\nenforce_gtid_consistency=ON\nmax_connections=77\n"
        "innodb_directories={far}\nevent_scheduler=ON\ntransaction_isolation=READ-COMMITTED"
    )
    made.own.sql(
        "CREATE DATABASE db1",
        "CREATE TABLE db1.t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(100))",
        "INSERT INTO db1.t (b) VALUES (REPEAT('x', 90))",
        *["INSERT INTO db1.t (b) SELECT b FROM db1.t"] * 10,
        f"CREATE TABLESPACE absolute ADD DATAFILE '{made.own.data}/absolute.ibd'",
        "CREATE TABLE db1.inside (a INT PRIMARY KEY) TABLESPACE absolute",
        "INSERT INTO db1.inside VALUES (1)",
        "CREATE TABLE db1.heap (a INT) ENGINE = MEMORY",
        "CREATE TABLE db1.ticks (a TIMESTAMP)",
        "CREATE EVENT db1.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO db1.ticks VALUES (NOW())",
        "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'",
        "CREATE USER local@localhost IDENTIFIED WITH auth_socket",
        "CREATE USER app@'app1.example.org' IDENTIFIED BY 'x'",
        "CREATE USER strongroom@localhost IDENTIFIED BY 'x'",
        "SET PERSIST group_concat_max_len = 4321",
        "XA START 'x'",
        "INSERT INTO db1.t (b) VALUES ('prepared')",
        "XA END 'x'",
        "XA PREPARE 'x'",
    )
    yield made
    made.end()


def read(owned: Owned) -> Profile:
    """As the job does it: as the server's user."""
    return run_as(owned.running.server.user, read_profile, owned.running.server)


def items(notices: list[Notice]) -> dict[str, str]:
    return {notice.item: notice.effect for notice in notices}


def test_what_is_read(owned: Owned) -> None:
    profile = read(owned)
    assert profile.differences(read(owned)) == []
    assert profile.settings["group_concat_max_len"] == "4321"
    assert profile.settings["transaction_isolation"] == "READ-COMMITTED"
    assert profile.settings["innodb_page_size"] == "16384"
    assert profile.settings["skip_name_resolve"] == "ON"  # of an account with a host name, which is shut out there as well
    assert profile.plugins == ["auth_socket", "clone"]
    assert profile.tables == {"InnoDB": 3, "MEMORY": 1}
    assert profile.empty_tables == ["db1.heap"]
    assert profile.facts["not_carried"] == ["max_connections"]
    assert "ca-key.pem" in profile.left_behind and "mysqld-auto.cnf" in profile.left_behind
    assert any("sql_log_bin = 0" in sentence for sentence in profile.absent)
    assert any("db1.heap" in sentence for sentence in profile.absent)
    found = items(profile.notices)
    assert found == dict.fromkeys(["events", "prepared transactions", "accounts by plugin", "strongroom@localhost"], "warn")
    assert "local@localhost" in next(n.message for n in profile.notices if n.item == "accounts by plugin")


def test_a_copy_has_what_the_profile_says(owned: Owned, place: Path) -> None:
    full = backup(owned.running, place, "full")
    assert full.profile is not None
    copy = mysql.restored([full], place)
    copy.start()
    ticks = copy.sql("SELECT COUNT(*) FROM db1.ticks")
    copy.sql("INSERT INTO db1.inside VALUES (2)")  # the copy's own file, though its path was absolute
    assert owned.own.sql("SELECT COUNT(*) FROM db1.inside") == [(1,)]
    wanted = ("transaction_isolation", "group_concat_max_len", "event_scheduler")
    assert copy.sql(f"SELECT @@{', @@'.join(wanted)}") == [("READ-COMMITTED", 4321, "OFF")]
    notices = driver.profiles.check(copy.server, full.profile, isolated=True)
    assert items(notices) == {"events": "warn"}
    assert "SET PERSIST event_scheduler = ON" in notices[0].remedy
    time.sleep(2.5)
    assert copy.sql("SELECT COUNT(*) FROM db1.ticks") == ticks
    new = driver.profiles.compare(full.profile, RestoreTarget(copy.server.version, copy.server, in_place=False))
    assert items(new) == {"other settings": "warn"} and "max_connections" in new[0].message
    copy.sql("SET PERSIST event_scheduler = ON")
    copy.stop()
    copy.start()
    assert copy.sql("SELECT @@event_scheduler") == [("ON",)]
    copy.sql("DROP TABLE db1.heap")
    lacking = driver.profiles.check(copy.server, full.profile, isolated=False)
    assert items(lacking)["tables"] == "warn"
    copy.stop()


def test_rehearsals_read_every_table(owned: Owned, place: Path) -> None:
    full = backup(owned.running, place, "full")
    copy = mysql.restored([full], place)
    user = copy.server.user
    found = run_as(user, mysql.rehearse, copy.server, scratch(place, "good"), full.profile)
    assert found >= 3
    assert full.profile is not None
    more = full.profile.model_copy(update={"tables": {"InnoDB": 4, "MEMORY": 1}})
    with pytest.raises(ArtifactCorrupt, match="1 of InnoDB"):
        run_as(user, mysql.rehearse, copy.server, scratch(place, "missing"), more)
    with (copy.data_dir / "db1" / "t.ibd").open("r+b") as file:
        file.seek(5 * 16384 + 1000)
        file.write(b"\xa5" * 4000)
    with pytest.raises(ArtifactCorrupt, match=r"`db1`\.`t`"):
        run_as(user, mysql.rehearse, copy.server, scratch(place, "damaged"), full.profile)


def test_restores_in_place(owned: Owned) -> None:
    profile, server = read(owned), owned.running.server
    target = RestoreTarget(server.version, server, in_place=True)
    assert driver.profiles.compare(profile, target) == []
    other = profile.model_copy(update={"settings": profile.settings | {"lower_case_table_names": "1"}})
    refused = driver.profiles.compare(other, target)
    assert items(refused) == {"lower_case_table_names": "refuse_in_place"}
    silent = server.model_copy(update={"socket": Path("/nonexistent/sock")})
    unknown = driver.profiles.compare(other, RestoreTarget(server.version, silent, in_place=True))
    assert items(unknown) == {"settings": "warn"}
    assert items(driver.profiles.check(server, other, isolated=False)) == {"lower_case_table_names": "refuse"}


def test_a_member_of_a_group(owned: Owned) -> None:
    owned.own.sql("INSTALL PLUGIN group_replication SONAME 'group_replication.so'")
    try:
        assert items(read(owned).notices)["group_replication_start_on_boot"] == "refuse_in_place"
        owned.own.sql("SET GLOBAL group_replication_start_on_boot = OFF")
        assert "group_replication_start_on_boot" not in items(read(owned).notices)
    finally:
        owned.own.sql("UNINSTALL PLUGIN group_replication")


def test_tables_that_cannot_be_restored(owned: Owned) -> None:
    owned.own.sql(
        "CREATE TABLE db1.isam (a INT) ENGINE = MyISAM",
        f"CREATE TABLE db1.far (a INT) DATA DIRECTORY = '{owned.far}'",
    )
    try:
        refused = [notice for notice in read(owned).notices if notice.effect == "refuse"]
        assert [notice.item for notice in refused] == [
            "DATA DIRECTORY, CREATE TABLESPACE, innodb_directories",
            "engines other than InnoDB",
        ]
        assert "ALTER TABLE `db1`.`isam` ENGINE = InnoDB" in refused[1].remedy
    finally:
        owned.own.sql("DROP TABLE db1.isam", "DROP TABLE db1.far")


def test_a_copy_of_a_replica(place: Path, pool: str) -> None:
    """It contacts nobody, and what its source does does not reach it, until a person says so."""
    source, replica = mysql.make(place, pool, name="source"), mysql.make(place, pool, name="replica", number=2)
    for server in (source, replica):
        server.start()
    source.sql("CREATE USER repl@'%' IDENTIFIED BY 'secret'")
    source.sql("GRANT REPLICATION SLAVE ON *.* TO repl@'%'")
    replica.sql(
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source.server.address}', SOURCE_USER = 'repl', SOURCE_PASSWORD = 'secret',"
        " SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1"
    )
    replica.sql("START REPLICA")
    source.sql("CREATE DATABASE db1")
    source.sql("CREATE TABLE db1.t (a INT PRIMARY KEY)")
    source.sql("INSERT INTO db1.t VALUES (1)")
    wait_for(replica, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'db1'", 1)
    full = backup(replica, place, "full")
    assert full.profile is not None and items(full.profile.notices) == {"replication": "warn"}
    replica.stop()
    for (number,) in source.sql("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"):
        source.sql(f"KILL {number}")  # it would notice much later that nobody reads
    dumps = "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
    wait_for(source, dumps, 0)
    tried = "SHOW GLOBAL STATUS LIKE 'Connections'"
    copy = mysql.restored([full], place, pool=pool, number=3)
    before = int(source.sql(tried)[0][1])
    copy.start()
    source.sql("DROP TABLE db1.t")
    time.sleep(3)
    assert int(source.sql(tried)[0][1]) == before + 2  # those of this test
    assert source.sql(dumps) == [(0,)]
    assert copy.sql("SELECT a FROM db1.t") == [(1,)]
    notices = driver.profiles.check(copy.server, full.profile, isolated=True)
    assert items(notices) == {"replication": "warn"} and "START REPLICA" in notices[0].remedy
    copy.sql("START REPLICA")
    wait_for(copy, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'db1'", 0)
    assert "tables" in items(driver.profiles.check(copy.server, full.profile, isolated=True))
    for server in (copy, source):
        server.stop()


def wait_for(server: MySQLServer, query: str, value: int) -> None:
    deadline = time.monotonic() + 30
    while server.sql(query) != [(value,)]:
        assert time.monotonic() < deadline, query
        time.sleep(0.1)


def login_file(path: Path, text: str) -> None:
    """In the form of mysql_config_editor."""
    key, folded = bytes(range(20)), bytearray(16)
    for number, byte in enumerate(key):
        folded[number % 16] ^= byte
    data = bytes(4) + key
    for line in text.splitlines(keepends=True):
        padding = 16 - len(line) % 16
        encryptor = Cipher(algorithms.AES(bytes(folded)), modes.ECB()).encryptor()
        sealed = encryptor.update(line.encode() + bytes([padding]) * padding) + encryptor.finalize()
        data += struct.pack("<i", len(sealed)) + sealed
    path.write_bytes(data)
    path.chmod(0o600)


def test_login_files_and_variables_of_users_are_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login_file(place / ".mylogin.cnf", "[client]\nuser = nobody\nhost = 192.0.2.1\n")
    options = place / "actual.cnf"
    options.write_text("[client]\nuser = actual\n")
    for program in (mysql.version().programs["client"], mysql.version().programs["binlog"]):
        command = [str(program), f"--defaults-file={options}", "--print-defaults"]
        for variable, value in (("MYSQL_TEST_LOGIN_FILE", place / ".mylogin.cnf"), ("HOME", place)):
            control = subprocess.run(command, env={variable: str(value)}, capture_output=True, text=True, check=True)
            assert "nobody" in control.stdout  # that is what is meant
            monkeypatch.setenv(variable, str(value))
            monkeypatch.setenv("MYSQL_HOST", "192.0.2.1")
            log = place / f"{program.name}-{variable}"
            Tool(command, log).check()
            assert "--user=actual" in log.read_text() and "nobody" not in log.read_text()
    assert not any(name.startswith("MYSQL") for name in tool_environment())


def test_settings_from_a_store_are_filtered() -> None:
    hostile = {
        "innodb_page_size": "16384\nplugin-load-add=evil.so",
        "innodb_data_file_path": "/etc/passwd:10M",
        "init_file": "/tmp/x",
        "plugin_load": "evil.so",
        "sql_mode": "ANSI",
        "character_set_server": "latin1",
        "innodb_ft_server_stopword_table": "../x",
        "default_collation_for_utf8mb4": "x; DROP TABLE y",
    }
    assert settings.make_options(hostile) == {"loose_sql_mode": "ANSI", "loose_character_set_server": "latin1"}
    assert settings.make_statements(hostile) == ""
    for path in ("ibdata1:12M:autoextend", "ibdata1:12M;ibdata2:50M:autoextend:max:500M", "a-b.ibd:1G"):
        assert settings.filter_settings({"innodb_data_file_path": path}) == {"innodb_data_file_path": path}


def test_calendar_versions() -> None:
    assert [extract_number("26.10.0-debug"), extract_series("26.10.1"), extract_number("26.7-1"), extract_series("26.7")] == [
        "26.10.0",
        "26.10",
        "26.7",
        "26.7",
    ]
    assert sorted(["26.10.0", "9.7.4", "26.7", "8.4.9"], key=make_sort_key) == ["8.4.9", "9.7.4", "26.7", "26.10.0"]
    assert make_sort_key("26.7") == make_sort_key("26.7.0")
    assert [is_innovation(name) for name in ("8.0", "8.4", "9.7", "9.6", "26.7", "26.10")] == [False] * 3 + [True] * 3


def test_versions_that_programs_report(tmp_path: Path) -> None:
    for said, number in (
        ("mysqld  Ver 26.10.0 for Linux on x86_64 (MySQL Community Server - GPL)", "26.10.0"),
        ("mysqld  Ver 26.7 for Linux on x86_64", "26.7"),
    ):
        for name in ("mysqld", "mysql", "mysqlbinlog"):
            program = tmp_path / name
            program.write_text(f"#!/bin/sh\necho '{program}  {said.split('  ')[1]}'\n")
            program.chmod(0o755)
        found: list[Version] = [v for v in discover("mysql", [tmp_path]) if v.programs["server"].parent == tmp_path]
        assert [(v.number, v.series) for v in found] == [(number, extract_series(number))]
