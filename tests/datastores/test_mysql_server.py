"""Servers of MySQL: discovered, created, started; and what `check` reports about an adopted one."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from strongroom.datastores import Server, discover, get
from strongroom.datastores.mysql.server.config import account_sql
from strongroom.errors import ServerFailed
from support import mariadb, mysql
from support.mysql_programs import programs, version
from support.own_mysql import OwnMySQL

driver = get("mysql")


def test_mysql_is_found_in_the_configured_directory() -> None:
    found = version()
    assert re.fullmatch(r"\d+\.\d+", found.series)
    assert found.number.startswith(f"{found.series}.")
    assert set(found.programs) >= {"server", "client", "binlog"}
    assert found in discover("mysql", [programs().parent])


def test_mariadb_is_not_mistaken_for_mysql(place: Path) -> None:
    """Its programs go by the same names."""
    for name in ("mysqld", "mysql", "mysqlbinlog"):
        _script(place / name, "Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)")
    assert place not in {v.programs["server"].parent for v in discover("mysql", [place])}


def test_a_program_that_only_claims_to_be_mysql(place: Path) -> None:
    """Found by what it says, whoever made it; without its companions it is no installation."""
    for name, said in (("mysqld", "Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL))"), ("mysql", "Ver 8.0.36-28")):
        _script(place / name, said)
    assert place not in {v.programs["server"].parent for v in discover("mysql", [place])}
    _script(place / "mysqlbinlog", "Ver 8.0.36-28 for Linux")
    (found,) = [v for v in discover("mysql", [place]) if v.programs["server"].parent == place]
    assert (found.number, found.series) == ("8.0.36", "8.0")


@pytest.mark.parametrize(("number", "fits"), [("8.0.35", False), ("8.0.36", True), ("8.0.37", True), ("8.4.0", False)])
def test_xtrabackup_is_used_if_it_has_the_series_of_the_server(place: Path, number: str, fits: bool) -> None:
    for name in ("mysqld", "mysql", "mysqlbinlog"):
        _script(place / name, "Ver 8.0.36 for Linux on x86_64")
    _script(place / "xtrabackup", f"xtrabackup version {number}-31 based on MySQL server {number} Linux (x86_64)")
    (found,) = [v for v in discover("mysql", [place]) if v.programs["server"].parent == place]
    assert ("xtrabackup" in found.programs) is fits


def _script(path: Path, said: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{path.name}  {said}'\n")
    path.chmod(0o755)


def test_a_new_server_is_safe_from_the_start(place: Path, pool: str) -> None:
    with mysql.running(place, pool) as running:
        settings = "@@gtid_mode, @@log_bin, @@binlog_format, @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@local_infile"
        assert running.sql(f"SELECT {settings}") == [("ON", 1, "ROW", 1, 1, 0)]
        assert running.sql("SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'clone'") == [("ACTIVE",)]
        assert running.sql("SELECT account_locked FROM mysql.user WHERE User = 'root'") == [("Y",)]
        with pytest.raises(pymysql.err.OperationalError, match="locked"):
            pymysql.connect(unix_socket=str(running.server.socket), user="root")
        assert driver.servers.read_facts(running.server).data_dir == running.data_dir
        assert list(driver.servers.examine(running.server))[-1].level == "ok"
        assert not [finding for finding in driver.servers.examine(running.server) if finding.level == "error"]
        # The account comes back whatever was done to it, and its password is nowhere but in its own file
        running.sql("ALTER USER strongroom@localhost IDENTIFIED BY 'something else'")
        running.stop()
        running.start()
        secret = re.search(r"password=(\w+)", (place / "a" / "client.cnf").read_text())
        assert secret
        for path in (place / "a").rglob("*"):
            if path.is_file() and path.name != "client.cnf" and "data" not in path.parts:
                assert secret[1] not in path.read_text(errors="replace"), path


def test_the_password_hash_of_the_account_depends_on_the_series() -> None:
    old = version().model_copy(update={"series": "5.7", "number": "5.7.44"})
    assert "mysql_native_password AS '*" in account_sql("secret", old)
    assert "caching_sha2_password AS '$A$005$" in account_sql("secret", version())
    assert account_sql("secret", version()) == account_sql("secret", version())
    assert "secret" not in account_sql("secret", old) + account_sql("secret", version())


def test_directories_that_are_not_a_database(place: Path, pool: str) -> None:
    server = mysql.make(place, pool).server
    driver.servers.check_data(server, server.data_dir)
    (place / "empty").mkdir()
    with pytest.raises(ServerFailed, match="no MySQL database"):
        driver.servers.check_data(server, place / "empty")
    (server.data_dir / "strongroom_incomplete").touch()
    with pytest.raises(ServerFailed, match="unfinished"):
        driver.servers.check_data(server, server.data_dir)


def test_a_mariadb_is_not_adopted_as_mysql(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as other:
        credentials = other.server.base_dir / "client.cnf"
        wrong = other.server.model_copy(
            update={"datastore": "mysql", "runtime": "adopted", "version": version(), "credentials_file": credentials}
        )
        with pytest.raises(ServerFailed, match="is not MySQL"):
            driver.servers.read_facts(wrong)


@pytest.fixture(scope="module")
def own() -> Iterator[OwnMySQL]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    server = OwnMySQL(place, settings="binlog_expire_logs_seconds=600\ngtid_mode=OFF\nenforce_gtid_consistency=OFF")
    yield server
    server.end()
    shutil.rmtree(place)


def findings(own: OwnMySQL, user: str, password: str) -> list[tuple[str, str, str]]:
    credentials = own.base / f"{user}.cnf"
    credentials.write_text(f"[client]\nuser={user}\npassword={password}\n")
    server = Server(
        id="own",
        name="own",
        datastore="mysql",
        runtime="adopted",
        user=own.user,
        base_dir=own.base,
        data_dir=own.data,
        socket=own.socket,
        version=version(),
        credentials_file=credentials,
        start_command=[str(own.start)],
        stop_command=[str(own.stop)],
    )
    return [(finding.level, finding.message, finding.remedy) for finding in driver.servers.examine(server)]


def test_missing_properties_of_an_adopted_server_are_reported_with_remedies(own: OwnMySQL) -> None:
    """Each remedy is run as it is printed, until nothing is left to say."""
    own.sql(
        "CREATE USER 'o''neil'@'localhost' IDENTIFIED BY 'p'",
        "CREATE DATABASE d",
        "CREATE TABLE d.`my``isam` (a INT) ENGINE=MyISAM",
        "SET GLOBAL binlog_format = 'STATEMENT'",
    )
    before = own.sql("SHOW GLOBAL VARIABLES LIKE 'gtid_mode'")
    said = findings(own, "o'neil", "p")
    assert own.sql("SHOW GLOBAL VARIABLES LIKE 'gtid_mode'") == before
    text = "\n".join(f"{level}: {message} → {remedy}" for level, message, remedy in said)
    assert "error: the clone plugin is not loaded" in text
    assert "warning: binlog_format is STATEMENT" in text
    assert "error: account o'neil@localhost may not take backups, nor read the binary log" in text
    assert "warning: gtid_mode is OFF" in text, text
    assert "warning: binary logs are kept for 600 s" in text
    assert said[-1][0] != "ok"
    for _ in range(2):  # the rights come first: without them not all can be seen
        for level, message, remedy in findings(own, "o'neil", "p"):
            if level != "ok" and "manage databases" not in message:
                own.sql(*re.findall(r"[A-Z]{3,} [^;]+(?=;)", remedy))
    assert [level for level, message, _ in findings(own, "o'neil", "p") if "manage databases" not in message] == ["ok"]
    assert own.sql("SELECT engine FROM information_schema.tables WHERE table_schema = 'd'") == [("InnoDB",)]


def test_a_server_that_does_not_answer(own: OwnMySQL) -> None:
    ((level, message, remedy),) = findings(own, "nobody", "wrong")
    assert level == "error"
    assert "refused the account 'nobody'" in message
    assert remedy
