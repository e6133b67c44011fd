"""A policy archives the log of a real PostgreSQL by itself, whatever is killed, and ends it when it is not wanted any more."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom import datastores
from strongroom.archive import Window, find_window, load_log
from strongroom.archive.location import LogLocation
from strongroom.datastores.postgresql.files.lsn import parse_lsn
from strongroom.datastores.postgresql.server.superuser import find_superuser
from strongroom.sections import Storage
from strongroom.storage import open_store
from support.databases import Database, MariaDB, MySQL
from support.own_postgresql import OwnPostgreSQL
from support.service import Service

PASSWORD = "pass-of-user1"
CONFIG = "[hosts]\nduties_interval = 0.5\n"


def wait_for(find: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def find_pid(service: Service) -> int | None:
    """Of the process of the duty."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                log = str((entry / "fd" / "2").readlink())
            except OSError:
                continue
            if b"strongroom.worker.duty" in command and log.startswith(str(service.data_dir)):
                return int(entry.name)
    return None


class Archived:
    """A service with one PostgreSQL, whose log a policy archives."""

    def __init__(self, service: Service) -> None:
        self.service = service
        service.cli("policy", "create", "gold", "--log-archive", "--max-loss", "10s", "--keep-last", "5")
        self.view = service.create(
            "orders",
            datastore={"type": "postgresql"},
            databases=[{"name": "db1"}],
            users=[{"name": "user1", "password": PASSWORD, "databases": [{"name": "db1"}]}],
        )
        self.id = self.view["id"]
        self.sql("CREATE TABLE numbers (n serial)")

    def sql(self, statement: str) -> Any:
        """As the user of the request; the position of the log afterwards if it is a change."""
        with psycopg.connect(
            host=self.view["ip"][0], port=self.view["port"], user="user1", password=PASSWORD, dbname="db1", autocommit=True
        ) as connection:
            connection.execute(statement)
            row = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
            assert row is not None
            return row[0]

    def slots(self) -> set[str]:
        with psycopg.connect(
            host=self.view["ip"][0], port=self.view["port"], user="user1", password=PASSWORD, dbname="db1", autocommit=True
        ) as connection:
            return {row[0] for row in connection.execute("SELECT slot_name FROM pg_replication_slots")}

    def lose_log(self) -> None:
        """Let the server remove WAL that is not archived."""
        instance = self.service.data_dir / "instances" / self.id
        with psycopg.connect(
            host=str(instance / "run"), user=find_superuser(instance / "data"), dbname="db1", autocommit=True
        ) as connection:
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            for _ in range(4):
                connection.execute("INSERT INTO numbers DEFAULT VALUES")
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("CHECKPOINT")

    def protection(self) -> dict[str, Any]:
        (one,) = self.service.get("/protection")["protection"]["databases"]
        return dict(one)

    def archive(self) -> dict[str, Any]:
        return dict(self.protection()["log_archive"] or {})

    def incidents(self) -> set[str]:
        return {incident["condition"] for incident in self.protection()["incidents"]}

    def pid(self) -> int | None:
        return find_pid(self.service)

    def write(self) -> None:
        """Write, and wait until it is archived."""
        position = self.sql("INSERT INTO numbers DEFAULT VALUES")
        wait_for(lambda: parse_lsn(self.archive()["position"] or "0/0") >= parse_lsn(position))

    def window(self) -> Window:
        log = LogLocation(container="database_backups", database=self.id, source=self.id)
        contents, damaged = load_log(open_store(Storage(path=self.service.data_dir / "store")), log)
        assert not damaged
        return find_window(contents, lambda first, second: parse_lsn(first) <= parse_lsn(second))

    def completed(self) -> list[dict[str, Any]]:
        """The complete backups, newest first, as soon as no job runs."""
        if any(job["finished"] is None for job in self.service.get("/jobs")["jobs"]):
            return []
        return [backup for backup in self.service.get("/backups")["backups"] if backup["status"] == "COMPLETED"]


def test_the_log_is_archived_through_deaths_and_ends_with_the_policy(serve: Callable[..., Service]) -> None:
    archived = Archived(serve(config=CONFIG))
    service = archived.service
    assert "at most 10s may be lost" in service.cli("policy", "show", "gold").stdout
    service.cli("policy", "attach", "gold", "orders")
    archived.write()
    assert archived.slots() >= {"strongroom_log"}
    assert archived.archive()["state"] == "running"
    assert "behind" in service.cli("status").stdout
    # Without a backup the log is of no use: one begins by itself.
    (base,) = wait_for(archived.completed)
    assert base["description"] == "policy gold: the log archive has no backup yet"

    first = archived.pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    archived.write()
    second = archived.pid()
    assert second not in (None, first)

    assert service.stop() == 0  # the duty continues without it
    archived.sql("INSERT INTO numbers DEFAULT VALUES")
    service.start()
    archived.write()
    assert archived.pid() == second

    service.kill()
    assert second is not None
    os.kill(second, signal.SIGKILL)  # nobody restarts it, until the service has sent its options again
    archived.sql("INSERT INTO numbers DEFAULT VALUES")
    service.start()
    archived.write()
    assert len(archived.window().intervals) == 1
    assert not archived.window().gaps

    service.cli("policy", "update", "gold", "--max-loss", "1m")  # other options: another process
    wait_for(lambda: archived.archive()["max_loss"] == 60)
    archived.write()
    service.cli("policy", "detach", "gold", "orders")
    wait_for(lambda: archived.pid() is None and "strongroom_log" not in archived.slots())
    assert archived.protection()["log_archive"] is None
    assert not archived.incidents()


def test_a_store_that_fails_and_a_restore_in_place_are_incidents_until_they_are_over(serve: Callable[..., Service]) -> None:
    archived = Archived(serve(config=CONFIG))
    service = archived.service
    service.cli("policy", "attach", "gold", "orders")
    archived.write()
    wait_for(archived.completed)
    logs = service.data_dir / "store" / "database_backups" / "_logs" / archived.id / archived.id
    aside = logs.with_name("aside")
    logs.rename(aside)
    logs.write_text("in the way")  # a directory without rights would not stop root
    archived.sql("INSERT INTO numbers DEFAULT VALUES")
    wait_for(lambda: "loss" in archived.incidents())
    protection = archived.protection()
    assert protection["state"] == "loss" and protection["level"] == "critical"
    assert service.cli("status", "--check", check=False).returncode == 2
    logs.unlink()
    aside.rename(logs)
    wait_for(lambda: "loss" not in archived.incidents())
    archived.write()
    assert not archived.window().gaps

    # A restore in place is another branch of the log, and no gap.
    (base, *_) = wait_for(archived.completed)
    service.wait(service.act("/instances/orders/action", {"restore": {"backupRef": base["id"]}}))
    wait_for(lambda: len(archived.window().intervals) == 2)
    assert not archived.window().gaps
    service.cli("policy", "detach", "gold", "orders")
    wait_for(lambda: archived.pid() is None)
    archived.lose_log()
    service.cli("policy", "attach", "gold", "orders")
    wait_for(lambda: "log gap" in archived.incidents())
    wait_for(lambda: "log gap" not in archived.incidents())
    newest, *others = wait_for(archived.completed)
    assert (newest["description"], len(others)) == ("policy gold: the log archive has a gap", 1)
    archived.write()
    assert ["lost" in gap.cause or "removed" in gap.cause for gap in archived.window().gaps] == [True]

    service.wait(service.call("DELETE", "/instances/orders").headers["Strongroom-Job"])
    assert archived.pid() is None
    assert logs.is_dir()  # as long as there is a backup


@pytest.mark.parametrize("database", [MariaDB("mariadb"), MySQL("mysql")], ids=lambda database: database.datastore)
def test_a_binary_log_is_archived_through_deaths_and_ends_with_the_policy(
    serve: Callable[..., Service], database: Database
) -> None:
    service, datastore = serve(config=CONFIG + database.config), database.datastore
    service.cli("policy", "create", "gold", "--log-archive", "--max-loss", "10s", "--keep-last", "5", "--full", "sun 02:00")
    instance = service.create("orders", datastore={"type": datastore}, databases=[{"name": "db1"}])
    service.cli("policy", "attach", "gold", "orders")
    logs = datastores.get(datastore).require_logs()
    location = LogLocation(container="database_backups", database=instance["id"], source=instance["id"])
    store = open_store(Storage(path=service.data_dir / "store"))

    def find_windows() -> Window:
        return find_window(load_log(store, location)[0], logs.precedes)

    def write() -> None:
        """Write, and wait until it is archived."""
        with service.sql(instance["id"], "db1") as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS numbers (n INT AUTO_INCREMENT PRIMARY KEY)")
            cursor.execute("INSERT INTO numbers VALUES ()")
            cursor.execute("SHOW BINARY LOGS")
            file, size, *_ = cursor.fetchall()[-1]
        wait_for(lambda: (found := find_windows().intervals) and logs.precedes(f"{file}:{size}", found[-1].end))

    write()
    first = find_pid(service)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    write()
    service.kill()
    second = find_pid(service)
    assert second not in (None, first)
    os.kill(second or 0, signal.SIGKILL)
    service.start()
    write()
    assert len(find_windows().intervals) == 1
    assert not find_windows().gaps

    def see() -> dict[str, Any]:
        (one,) = service.get("/protection")["protection"]["databases"]
        return dict(one)

    wait_for(lambda: not see()["incidents"] and see()["log_archive"]["loss"] <= 5)
    assert see()["log_archive"]["state"] == "running"
    service.cli("policy", "update", "gold", "--no-log-archive")
    wait_for(lambda: find_pid(service) is None)
    assert see()["log_archive"] is None
    assert see()["restorable"] == 1, "the first full is the only backup: the log needs no other one"


@pytest.mark.root
def test_an_adopted_server_gets_the_slot_with_the_right_and_loses_it_at_the_end(
    serve: Callable[..., Service], place: Path
) -> None:
    hba = "local replication backup scram-sha-256\nlocal all backup scram-sha-256\nlocal all all peer\n"
    own = OwnPostgreSQL(place, hba=hba)
    try:
        own.sql("CREATE ROLE backup LOGIN PASSWORD 'secret'")
        own.sql("GRANT pg_read_all_settings TO backup")
        credentials = place / "backup.pgpass"
        credentials.write_text("localhost:5432:*:backup:secret\n")
        credentials.chmod(0o600)
        shutil.chown(credentials, own.user)
        service = serve(config=CONFIG)
        socket = str(own.run / ".s.PGSQL.5432")
        adopt = ("instance", "adopt", "own", "--datastore", "postgresql", "--socket", socket)
        service.cli(*adopt, "--credentials-file", str(credentials))
        service.cli("policy", "create", "gold", "--log-archive", "--max-loss", "10s", "--keep-last", "5")
        service.cli("policy", "attach", "gold", "own")

        def see() -> dict[str, Any]:
            (one,) = service.get("/protection")["protection"]["databases"]
            return dict(one)

        (loss,) = wait_for(lambda: [one for one in see()["incidents"] if one["condition"] == "loss"])
        assert "REPLICATION" in loss["detail"] + loss["remedy"] or "replication" in loss["detail"]
        own.sql("ALTER ROLE backup REPLICATION")
        wait_for(lambda: not [one for one in see()["incidents"] if one["condition"] == "loss"])
        assert "max_slot_wal_keep_size" in see()["log_archive"]["warnings"][0]
        assert own.sql("SELECT slot_name FROM pg_replication_slots") == "strongroom_log"
        service.wait(service.call("DELETE", "/instances/own").headers["Strongroom-Job"])
        assert own.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    finally:
        own.end()
