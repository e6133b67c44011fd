"""A table is dropped, and the instance is restored to the moment before: as a new instance, and in place."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from support.databases import EVERY, Database
from support.service import Refused, Service


def wait_for(find: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def wait_until_covered(service: Service, moment: datetime) -> dict[str, Any]:
    """The window as soon as it reaches the moment."""

    def look() -> dict[str, Any] | None:
        try:
            window: dict[str, Any] = service.get("/instances/orders/window")["window"]
        except Refused:  # nothing is stored yet
            return None
        reached = [datetime.fromisoformat(each["end"]) for each in window["intervals"]]
        return window if reached and max(reached) >= moment.replace(microsecond=0) else None

    found: dict[str, Any] = wait_for(look)
    return found


def pause() -> datetime:
    """A moment with a second before it and after it in which nothing happens."""
    time.sleep(1)
    moment = datetime.now(UTC)
    time.sleep(1)
    return moment


@pytest.mark.parametrize("database", EVERY, ids=lambda database: database.datastore)
def test_a_dropped_table_is_back(serve: Callable[..., Service], database: Database) -> None:
    service = serve(config=database.config)
    service.cli("policy", "create", "gold", "--log-archive", "--max-loss", "10s", "--keep-last", "9")
    database.create(service, "orders", 300)
    service.cli("policy", "attach", "gold", "orders")
    wait_for(lambda: [b for b in service.get("/backups")["backups"] if b["status"] == "COMPLETED"])
    wait_until_covered(service, datetime.now(UTC))  # a backup that ended before the archive began is followed by another one
    wait_for(lambda: all(job["finished"] for job in service.get("/jobs")["jobs"]))
    second = service.backup("orders", "second")
    database.execute(service, "orders", "UPDATE customers SET note = 'after the backup' WHERE id % 3 = 0")
    before, moment = database.sums(service, "orders"), pause()
    has_points = database.datastore == "postgresql"
    if has_points:
        service.cli("restore-point", "create", "orders", "accident")
    else:
        refused_point = service.cli("restore-point", "create", "orders", "accident", check=False)
        assert refused_point.returncode == 1 and "has no restore points" in refused_point.stderr
    database.execute(service, "orders", "DROP TABLE orders", "DELETE FROM customers WHERE id % 2 = 0")
    after = database.sums(service, "orders")
    wait_until_covered(service, pause())

    target = ("restore", "--instance", "orders", "--to", moment.isoformat())
    plan = service.cli_json(*target, "--name", "look", "--plan")
    assert plan["last"]["time"] < plan["time"] < plan["next"]["time"]
    assert plan["segments"] and plan["lost_transactions"] and plan["restore"]["allowed"]
    with pytest.raises(Refused) as refused:
        service.get("/instances/orders/recovery-plan", target="2001-01-01T00:00:00Z")
    assert refused.value.status == 409
    # Its newest base proves to be damaged, so the one before it is restored, with more log.
    assert (plan["restore"]["backup"]["name"], plan["other_bases"]) == ("second", 1)
    (path,) = (service.data_dir / "store" / "database_backups" / second["id"]).glob("*00000000")
    good = path.read_bytes()
    path.write_bytes(good[::-1])
    restored = service.cli(*target, "--name", "look")
    assert "backup second" in restored.stderr and "cannot be used" in restored.stderr
    assert database.sums(service, "look") == before
    path.write_bytes(good)
    (job,) = [job for job in service.get("/jobs", kind="create")["jobs"] if job["instance_name"] == "look"]
    assert job["output"]["cut"]["position"] == plan["position"] and job["output"]["target"] == moment.isoformat()

    # In place, to the moment that the log shows: the old series ends and stays restorable, another one begins.
    table = () if has_points else ("--table", "orders")
    (drop, *_) = service.cli_json("log", "find", "orders", "--drop", *table, "--since", "1h")
    assert moment < datetime.fromisoformat(drop["time"]) and drop["tables"]
    found = "point:accident" if has_points else drop["before"]
    service.cli("restore", "--instance", "orders", "--to", found, "--in-place", "orders", "--yes")
    assert database.sums(service, "orders") == before
    wait_for(lambda: len(service.get("/instances/orders/window")["window"]["intervals"]) == 2)
    old = service.get("/instances/orders/window")["window"]["intervals"][0]["end"]
    service.cli("restore", "--instance", "orders", "--to", old, "--name", "late")
    assert database.sums(service, "late") == after

    # The data remembers positions of the old log, which must not count in the new one.
    service.backup("orders", "again")
    database.execute(service, "orders", "UPDATE customers SET note = 'after the restore'")
    again = database.sums(service, "orders")
    wait_until_covered(service, pause())
    latest = ("restore", "--instance", "orders", "--to", "latest", "--name", "newest")
    assert service.cli_json(*latest, "--plan")["restore"]["backup"]["name"] == "again"  # a base of the new series
    service.cli(*latest)
    assert database.sums(service, "newest") == again
