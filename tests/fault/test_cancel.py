"""Cancel in every phase; delete an instance while its backup runs; the database dies in mid-backup; the clock goes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import processes
from support.faults import duration
from support.load import fill
from support.service import Refused, Service, checksums

MOMENTS = (0.0, 0.2, 0.4, 0.6, 0.8)
ROWS = 30000


@pytest.fixture
def loaded(service: Service) -> dict[str, object]:
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection, ROWS)
    return one


def begin_backup(service: Service, name: str) -> str:
    return service.call("POST", "/backups", {"backup": {"name": name, "instance": "mysql1"}}).headers["Strongroom-Job"]


def cancel_after(service: Service, job: str, seconds: float) -> dict[str, object]:
    time.sleep(seconds)
    try:
        service.call("DELETE", f"/jobs/{job}")
    except Refused as refused:
        assert refused.status == 422  # it had already ended
    started = time.monotonic()
    end = service.wait(job, expect=None)
    assert time.monotonic() - started < 25
    return end


def no_tools(service: Service) -> bool:
    return not [c for c in processes.below(service.place).values() if "mariadb-backup" in c or "mbstream" in c]


def test_cancelled_backups_leave_nothing(service: Service, loaded: dict[str, object]) -> None:
    lasts = duration(service, lambda: begin_backup(service, "undisturbed"))
    for number, moment in enumerate(MOMENTS):
        job = cancel_after(service, begin_backup(service, f"b{number}"), moment * lasts)
        assert job["status"] in ("cancelled", "succeeded"), job
        assert no_tools(service)
        backup = service.get(f"/backups/{job['backup_id']}")["backup"]
        kept = [name for name in service.objects("database_backups") if name.startswith(backup["id"])]
        if job["status"] == "cancelled":
            assert (backup["status"], backup["fault"]["code"], kept) == ("FAILED", "Cancelled", [])
        else:
            assert (backup["status"], bool(kept)) == ("COMPLETED", True)
        assert service.get("/instances/mysql1")["instance"]["status"] == "ACTIVE"
    assert service.backup("mysql1", "after")["status"] == "COMPLETED"


def test_a_cancelled_restore_in_place_keeps_the_current_data(service: Service, loaded: dict[str, object]) -> None:
    full = service.backup("mysql1", "full")
    with service.sql(str(loaded["id"])) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE db1.after (id INT PRIMARY KEY)")
        old = checksums(connection)

    def begin() -> str:
        return service.act("/instances/mysql1/action", {"restore": {"backupRef": full["id"]}})

    for moment in (0.0, 0.3, 0.8):
        job = cancel_after(service, begin(), moment)
        assert no_tools(service)
        view = service.get("/instances/mysql1")["instance"]
        assert view["status"] == "ACTIVE"
        if job["status"] != "cancelled":
            break
        with service.sql(str(loaded["id"])) as connection:
            assert checksums(connection) == old
    base = service.data_dir / "instances" / str(loaded["id"])
    assert not [p.name for p in base.iterdir() if ".new-" in p.name]


def test_an_instance_deleted_while_its_backup_runs(service: Service, loaded: dict[str, object]) -> None:
    job = begin_backup(service, "b")
    time.sleep(0.7)
    deletion = service.call("DELETE", "/instances/mysql1").headers["Strongroom-Job"]
    service.wait(deletion)
    end = service.wait(job, expect=None)
    assert end["status"] in ("cancelled", "succeeded")
    with pytest.raises(Refused):
        service.get("/instances/mysql1")
    backup = service.get(f"/backups/{end['backup_id']}")["backup"]
    assert backup["status"] in ("FAILED", "COMPLETED")
    assert no_tools(service)
    assert not [c for c in processes.below(service.place).values() if "mariadbd" in c]


def healthy(service: Service) -> bool:
    return service.get("/instances/mysql1")["instance"]["operating_status"] == "HEALTHY"


def back_up_when_up(service: Service, deadline: float) -> dict[str, Any]:
    """The view may be older than the death of the server: then it is known a moment later that it is starting."""
    while True:
        try:
            return service.backup("mysql1", "after")
        except Refused as error:
            if "is starting" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.parametrize("moment", [0.3, 0.6])
def test_the_database_is_killed_during_a_backup(service: Service, loaded: dict[str, object], moment: float) -> None:
    lasts = duration(service, lambda: begin_backup(service, "undisturbed"))
    with service.sql(str(loaded["id"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@pid_file")
        pid_file = Path(cursor.fetchone()[0])  # type: ignore[index]
    pid = int(pid_file.read_text())
    job = begin_backup(service, "b")
    time.sleep(moment * lasts)
    os.kill(pid, signal.SIGKILL)
    end = service.wait(job, expect=None)
    backup = service.get(f"/backups/{end['backup_id']}")["backup"]
    if end["status"] == "failed":
        assert backup["status"] == "FAILED"
        assert backup["fault"]["message"]
        assert [n for n in service.objects("database_backups") if n.startswith(backup["id"])] == []
        assert backup["id"] in service.get("/instances/mysql1")["instance"]["fault"]["message"]
    deadline = time.monotonic() + 30
    while not pid_file.exists() or int(pid_file.read_text()) == pid or not healthy(service):
        assert time.monotonic() < deadline, "the server was not restarted"
        time.sleep(0.2)
    assert back_up_when_up(service, deadline)["status"] == "COMPLETED"


def test_a_second_backup_and_the_deletion_of_a_running_one_are_422(service: Service, loaded: dict[str, object]) -> None:
    job = begin_backup(service, "b")
    with pytest.raises(Refused) as refused:
        begin_backup(service, "c")
    assert refused.value.status == 422
    running = service.job(job)["backup_id"]
    with pytest.raises(Refused) as refused:
        service.call("DELETE", f"/backups/{running}")
    assert refused.value.status == 422
    service.wait(job)


def test_the_clock_moved_back_between_full_and_incrementals(
    serve: Callable[..., Service], service: Service, loaded: dict[str, object]
) -> None:
    full = service.backup("mysql1", "full")
    import sqlite3

    # What a clock that went back a day leaves behind: rows from the future.
    service.kill()
    with sqlite3.connect(service.data_dir / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE backups SET created = datetime(created, '+1 day'), updated = datetime(updated, '+1 day')")
        catalog.execute("UPDATE instances SET created = datetime(created, '+1 day')")
    service.start()
    first = service.backup("mysql1", "inc1", incremental=1)
    with service.sql(str(loaded["id"])) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE db1.customers SET note = 'later'")
        expected = checksums(connection)
    second = service.backup("mysql1", "inc2", incremental=1)
    assert (first["parent_id"], second["parent_id"]) == (full["id"], first["id"])
    two = service.create("mysql2", restorePoint={"backupRef": second["id"]})
    with service.sql(two["id"]) as connection:
        assert checksums(connection) == expected
