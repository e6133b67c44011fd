"""kill -9 of the worker, of the service, of both, at moments spread over whole jobs. All tests share a service and a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.faults import duration, hit, kill_everything, kill_service, kill_workers, one_tool_at_a_time
from support.load import fill
from support.service import Service, checksums, shared_service

BLOWS = [kill_workers, kill_service, kill_everything]
ROWS = 30000
Sums = dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Its segments are small, so that a job can be hit between many of them."""
    with shared_service("[artifact]\nsegment_size = 1048576\n") as service:
        yield service


@pytest.fixture(scope="module")
def mysql1(service: Service) -> str:
    """The id of a server with data."""
    one = str(service.create("mysql1")["id"])
    with service.sql(one) as connection:
        fill(connection, ROWS)
    return one


@pytest.fixture(scope="module")
def chain(service: Service, mysql1: str) -> tuple[str, Sums]:
    """The last of three backups that build on each other, and what it contains."""
    service.backup("mysql1", "full")
    for number in (1, 2):
        with service.sql(mysql1) as connection, connection.cursor() as cursor:
            cursor.execute(f"UPDATE db1.customers SET note = CONCAT('{number} ', note) WHERE id % {number + 2} = 0")
        last = service.backup("mysql1", f"inc{number}", incremental=1)
    with service.sql(mysql1) as connection:
        return last["id"], checksums(connection)


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> list[float]:
    """Fractions of a job's duration at which it is killed: four, or twenty with --soak."""
    count = 20 if request.config.getoption("--soak") else 4
    return [(n + 0.5) / count for n in range(count)]


def begin_backup(service: Service, name: str, **fields: object) -> str:
    response = service.call("POST", "/backups", {"backup": {"name": name, "instance": "mysql1", **fields}})
    return response.headers["Strongroom-Job"]


def begin_copy(service: Service, name: str, backup: str) -> str:
    body = {"instance": {"name": name, "restorePoint": {"backupRef": backup}}}
    return service.call("POST", "/instances", body).headers["Strongroom-Job"]


def delete(service: Service, name: str) -> None:
    service.wait(service.call("DELETE", f"/instances/{name}").headers["Strongroom-Job"])


def begin_restore(service: Service, backup: str) -> str:
    return service.act("/instances/mysql1/action", {"restore": {"backupRef": backup}})


@pytest.fixture(scope="module")
def backup_time(service: Service, mysql1: str) -> float:
    """Seconds that a backup takes when nothing disturbs it."""
    return duration(service, lambda: begin_backup(service, "undisturbed"))


@pytest.fixture(scope="module")
def copy_time(service: Service, chain: tuple[str, Sums]) -> float:
    """Seconds that a restore of the chain to a new server takes."""
    lasts = duration(service, lambda: begin_copy(service, "undisturbed", chain[0]))
    delete(service, "undisturbed")
    return lasts


@pytest.fixture(scope="module")
def in_place(service: Service, mysql1: str) -> tuple[str, Sums, float]:
    """A backup of the server, what it contains, and the seconds that its restore to the server takes."""
    with service.sql(mysql1) as connection:
        backed_up = checksums(connection)
    full = str(service.backup("mysql1", "in-place")["id"])
    return full, backed_up, duration(service, lambda: begin_restore(service, full))


@pytest.mark.parametrize("blow", BLOWS)
def test_backups_succeed_or_report_why_and_every_completed_one_restores(
    service: Service, mysql1: str, backup_time: float, blow: Callable[[Service], int], moments: list[float]
) -> None:
    with service.sql(mysql1) as connection:
        expected = checksums(connection)
    prefix = blow.__name__
    with one_tool_at_a_time(service.place) as wrong:
        for number, moment in enumerate(moments):
            for kind, fields in (("full", {}), ("inc", {"incremental": 1})):
                job = hit(
                    service,
                    lambda name=f"{prefix}-{kind}-{number}", fields=fields: begin_backup(service, name, **fields),
                    moment * backup_time,
                    blow,
                )
                assert job["status"] in ("succeeded", "failed"), job
    assert wrong == []
    known = _list_backups(service)
    stored = {name.split("/")[0] for name in service.objects("database_backups")}
    assert stored == {b["id"] for b in known if b["status"] == "COMPLETED"}
    backups = [b for b in known if b["name"].startswith(prefix)]
    assert len(backups) == 2 * len(moments)
    completed = [b for b in backups if b["status"] == "COMPLETED"]
    assert completed
    for backup in backups:
        if backup["status"] != "COMPLETED":
            assert backup["status"] == "FAILED"
            assert backup["fault"]["message"]
    for backup in completed:
        service.wait(service.act(f"/backups/{backup['id']}/action", {"verify": {"prepare": False}}))
    newest = max(completed, key=lambda b: b["finished"])
    two = service.create("mysql2", restorePoint={"backupRef": newest["id"]})
    with service.sql(two["id"]) as connection:
        assert checksums(connection) == expected
    delete(service, "mysql2")


def _list_backups(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := service.get("/backups", **({"marker": found[-1]["id"]} if found else {}))["backups"]:
        found += page
    return found


@pytest.mark.parametrize("blow", BLOWS)
def test_a_restore_of_a_chain_is_correct_whatever_is_killed(
    service: Service, chain: tuple[str, Sums], copy_time: float, blow: Callable[[Service], int], moments: list[float]
) -> None:
    last, expected = chain
    with one_tool_at_a_time(service.place) as wrong:
        for number, moment in enumerate(moments):
            name = f"copy-{number}"
            job = hit(service, lambda n=name: begin_copy(service, n, last), moment * copy_time, blow)
            assert job["status"] == "succeeded", job
            view = service.get(f"/instances/{name}")["instance"]
            assert view["status"] == "ACTIVE"
            with service.sql(view["id"]) as connection:
                assert checksums(connection) == expected
            delete(service, name)
    assert wrong == []


@pytest.mark.parametrize("blow", BLOWS)
def test_a_restore_in_place_leaves_previous_or_new_data_never_a_mix(
    service: Service, mysql1: str, in_place: tuple[str, Sums, float], blow: Callable[[Service], int], moments: list[float]
) -> None:
    full, backed_up, lasts = in_place

    def spoil() -> Sums:
        with service.sql(mysql1) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS db1.after (id INT PRIMARY KEY)")
            cursor.execute("INSERT INTO db1.after SELECT COALESCE(MAX(id), 0) + 1 FROM db1.after")
            return checksums(connection)

    for moment in (*moments, 0.95):
        old = spoil()
        job = hit(service, lambda: begin_restore(service, full), moment * lasts, blow)
        view = service.get("/instances/mysql1")["instance"]
        assert view["status"] == "ACTIVE", (job, view)
        with service.sql(mysql1) as connection:
            now = checksums(connection)
        assert now == (backed_up if job["status"] == "succeeded" else old), job
        base = service.data_dir / "instances" / mysql1
        assert not [p.name for p in base.iterdir() if ".new-" in p.name]
        service.wait(service.act("/instances/mysql1/action", {"discard_old": {}}))
