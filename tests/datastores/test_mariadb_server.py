"""A server is configured, made, started and asked, as the package's user and as a plain one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from strongroom.datastores import get
from strongroom.errors import ConfigurationError, JobError, ServerFailed
from strongroom.system.users import find_user
from support import mariadb, slow
from support.identity import run_as, server_user

driver = get("mariadb")


@pytest.mark.root
@pytest.mark.parametrize("user", ["mysql", "nobody"])
def test_a_new_server_is_created(place: Path, pool: str, user: str) -> None:
    server = mariadb.describe(place, "a", mariadb.make(place, pool, name="other").server.address, user=user)
    mariadb.prepare_directories(server)
    driver.servers.configure(server)
    run_as(user, driver.servers.initialize, server, server.data_dir, server.base_dir / "log" / "install.log")
    running = mariadb.MariaDBServer(server)
    running.start()
    facts = driver.servers.read_facts(server)
    assert facts.version_number == server.version.number
    assert facts.data_dir == server.data_dir
    assert driver.servers.measure(server.data_dir).data_bytes > 10_000_000
    assert facts.galera is None
    uid, _ = find_user(user).owner
    for path in server.base_dir.rglob("*"):
        assert path.lstat().st_uid == uid, path
    for name in ("my.cnf", "client.cnf", "init.sql"):
        assert (server.base_dir / name).stat().st_mode & 0o777 == 0o600
    assert server.base_dir.stat().st_mode & 0o777 == 0o700
    assert "test" not in {name for (name,) in running.sql("SHOW DATABASES")}
    running.stop()
    with pytest.raises(ServerFailed, match="Shutdown complete"):
        driver.servers.read_facts(server)


def test_configure_again_keeps_the_secret(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        before = (a.server.base_dir / "client.cnf").read_text()
        assert before.split("password=")[1].split()[0] not in (a.server.base_dir / "init.sql").read_text()
        a.stop()
        a.start()
        assert (a.server.base_dir / "client.cnf").read_text() == before
        assert a.sql("SELECT 1") == [(1,)]


def test_strongroom_can_log_in_to_data_of_another_server(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        a.sql("CREATE DATABASE moved")
        a.stop()
        b = mariadb.make(place, pool, name="b", number=2)
        shutil.rmtree(b.data_dir)
        a.data_dir.rename(b.data_dir)
        b.start()
        assert "moved" in {name for (name,) in b.sql("SHOW DATABASES")}
        assert (b.server.base_dir / "client.cnf").read_text() != (a.server.base_dir / "client.cnf").read_text()
        b.kill()


def test_settings_follow_the_flavor_and_the_address(place: Path, pool: str) -> None:
    with mariadb.running(place, pool, ram_mb=200) as a:
        ((buffers, address, log, flush),) = a.sql(
            "SELECT @@innodb_buffer_pool_size, @@bind_address, @@log_bin, @@innodb_flush_log_at_trx_commit"
        )
        assert 100 << 20 <= buffers <= 130 << 20
        assert (address, log, flush) == (a.server.address, 1, 1)


def test_a_long_path_gets_a_short_socket(place: Path, pool: str) -> None:
    deep = place / ("deep-" * 18)
    deep.mkdir()
    place.chmod(0o711)
    with mariadb.running(deep, pool) as a:
        socket = a.server.socket
        assert socket is not None and not socket.is_relative_to(place)
        try:
            assert socket.parent.stat().st_mode & 0o777 == 0o700
            assert a.sql("SELECT 1") == [(1,)]
        finally:
            a.kill()
            shutil.rmtree(socket.parent)


def test_the_cause_of_a_failed_start_is_reported(place: Path, pool: str) -> None:
    a = mariadb.make(place, pool)
    (a.data_dir / "ibdata1").write_bytes(b"not a tablespace" * 1000)
    with pytest.raises(ServerFailed, match="ibdata1"):
        a.start()
    a.kill()


def test_the_cause_of_a_failed_initialize_is_reported(place: Path, pool: str) -> None:
    a = mariadb.make(place, pool)
    driver.servers.configure(a.server)
    for script, said in (("echo broken; exit 3", "exit status 3: broken"), ("exit 0", "created no database")):
        target = mariadb.scratch(place, f"target-{len(script)}")
        program = place / "mariadb-install-db"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        place.chmod(0o755)
        server = slow.with_program(a.server, "initialize", program)
        log = a.server.base_dir / "log" / f"install-{len(script)}.log"
        with pytest.raises(JobError, match=said):
            run_as(server_user(), driver.servers.initialize, server, target, log)
        with pytest.raises(ServerFailed, match="unfinished"):
            driver.servers.check_data(server, target)


def test_adopted_server_by_address_and_password(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        a.sql("CREATE USER boss IDENTIFIED BY %s", "p#w\"x\\'")
        a.sql("GRANT ALL ON *.* TO boss")
        credentials = a.server.base_dir / "boss.cnf"
        credentials.write_text('[client]\nuser=boss\npassword="p#w\\"x\\\\\'"\n')
        adopted = a.server.model_copy(
            update={"runtime": "adopted", "socket": None, "credentials_file": credentials, "data_dir": Path("/unknown")}
        )
        facts = driver.servers.read_facts(adopted)
        assert facts.data_dir == a.data_dir
        assert driver.servers.build_command(adopted) == []
        driver.servers.configure(adopted)  # Strongroom writes none of its files
        credentials.write_text("[client]\nuser=boss\npassword=wrong\n")
        with pytest.raises(ConfigurationError, match="refused the account 'boss'") as caught:
            driver.servers.read_facts(adopted)
        assert "wrong" not in str(caught.value)
