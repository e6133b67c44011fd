"""kill -9 of the worker, of the service, of both, at moments spread over whole jobs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.faults import duration, hit, kill_everything, kill_service, kill_workers, one_tool_at_a_time
from support.load import fill
from support.service import Service, checksums

BLOWS = [kill_workers, kill_service, kill_everything]
ROWS = 30000


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> list[float]:
    """Parts of a job's time at which it is hit: four, or twenty with --soak."""
    count = 20 if request.config.getoption("--soak") else 4
    return [(n + 0.5) / count for n in range(count)]


def begin_backup(service: Service, name: str, **fields: object) -> str:
    response = service.call("POST", "/backups", {"backup": {"name": name, "instance": "mysql1", **fields}})
    return response.headers["Strongroom-Job"]


@pytest.mark.parametrize("blow", BLOWS)
def test_backups_end_well_or_say_why_and_every_completed_one_restores(
    service: Service, blow: Callable[[Service], int], moments: list[float]
) -> None:
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection, ROWS)
        expected = checksums(connection)
    lasts = duration(service, lambda: begin_backup(service, "undisturbed"))
    with one_tool_at_a_time(service.place) as wrong:
        for number, moment in enumerate(moments):
            job = hit(service, lambda n=number: begin_backup(service, f"full-{n}"), moment * lasts, blow)
            assert job["status"] in ("succeeded", "failed"), job
            job = hit(service, lambda n=number: begin_backup(service, f"inc-{n}", incremental=1), moment * lasts, blow)
            assert job["status"] in ("succeeded", "failed"), job
    assert wrong == []
    backups = service.get("/backups")["backups"]
    completed = [b for b in backups if b["status"] == "COMPLETED"]
    assert len(completed) > 1
    stored = {name.split("/")[0] for name in service.objects("database_backups")}
    assert stored == {b["id"] for b in completed}
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


@pytest.mark.parametrize("blow", BLOWS)
def test_a_restore_of_a_chain_ends_right_whatever_is_killed(
    service: Service, blow: Callable[[Service], int], moments: list[float]
) -> None:
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection, ROWS)
    service.backup("mysql1", "full")
    for number in (1, 2):
        with service.sql(one["id"]) as connection, connection.cursor() as cursor:
            cursor.execute(f"UPDATE db1.customers SET note = CONCAT('{number} ', note) WHERE id % {number + 2} = 0")
        last = service.backup("mysql1", f"inc{number}", incremental=1)
    with service.sql(one["id"]) as connection:
        expected = checksums(connection)

    def begin(name: str) -> str:
        body = {"instance": {"name": name, "restorePoint": {"backupRef": last["id"]}}}
        return service.call("POST", "/instances", body).headers["Strongroom-Job"]

    lasts = duration(service, lambda: begin("undisturbed"))
    with one_tool_at_a_time(service.place) as wrong:
        for number, moment in enumerate(moments):
            name = f"copy-{number}"
            job = hit(service, lambda n=name: begin(n), moment * lasts, blow)
            assert job["status"] == "succeeded", job
            view = service.get(f"/instances/{name}")["instance"]
            assert view["status"] == "ACTIVE"
            with service.sql(view["id"]) as connection:
                assert checksums(connection) == expected
            service.wait(service.call("DELETE", f"/instances/{name}").headers["Strongroom-Job"])
    assert wrong == []


@pytest.mark.parametrize("blow", BLOWS)
def test_a_restore_in_place_leaves_the_old_or_the_new_never_a_half(
    service: Service, blow: Callable[[Service], int], moments: list[float]
) -> None:
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection, ROWS)
        backed_up = checksums(connection)
    full = service.backup("mysql1", "full")

    def spoil() -> dict[str, tuple[int, int]]:
        with service.sql(one["id"]) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS db1.after (id INT PRIMARY KEY)")
            cursor.execute("INSERT INTO db1.after SELECT COALESCE(MAX(id), 0) + 1 FROM db1.after")
            return checksums(connection)

    def begin() -> str:
        return service.act("/instances/mysql1/action", {"restore": {"backupRef": full["id"]}})

    spoil()
    lasts = duration(service, begin)
    for moment in (*moments, 0.95):
        old = spoil()
        job = hit(service, begin, moment * lasts, blow)
        view = service.get("/instances/mysql1")["instance"]
        assert view["status"] == "ACTIVE", (job, view)
        with service.sql(one["id"]) as connection:
            now = checksums(connection)
        assert now == (backed_up if job["status"] == "succeeded" else old), job
        base = service.data_dir / "instances" / one["id"]
        assert not [p.name for p in base.iterdir() if ".new-" in p.name]
        service.wait(service.act("/instances/mysql1/action", {"discard_old": {}}))
