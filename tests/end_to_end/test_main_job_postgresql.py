"""The main job on PostgreSQL, through service, API and command line: full, restore to a new instance and in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.postgresql import Writer, checksums, fill, proven
from support.service import Refused, Service

USERS = [
    pytest.param(None, id="postgres", marks=pytest.mark.root),
    pytest.param("nobody", id="plain-user", marks=pytest.mark.root),
]
PASSWORD = "pass of 'user1'"


@contextlib.contextmanager
def login(view: dict[str, Any], database: str = "db1") -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """As the user of the request, over TCP, like any client."""
    with psycopg.connect(
        host=view["ip"][0], port=view["port"], user="user1", password=PASSWORD, dbname=database, autocommit=True
    ) as connection:
        yield connection


@pytest.mark.parametrize("user", USERS)
def test_full_accident_restore_new_and_in_place(serve: Callable[..., Service], user: str | None) -> None:
    service = serve(user=user)
    one = service.create(
        "pg1",
        datastore={"type": "postgresql"},
        databases=[{"name": "db1"}, {"name": "db2"}],
        users=[{"name": "user1", "password": PASSWORD, "databases": [{"name": "db1"}]}],
    )
    assert (one["status"], one["operating_status"], one["datastore"]["type"]) == ("ACTIVE", "HEALTHY", "postgresql")
    assert one["port"] == 5432
    with login(one) as connection:
        fill(connection)
        before = checksums(connection)
    still = {name: sums for name, sums in before.items() if name in ("public.customers", "public.orders")}
    assert len(still) == 2

    with Writer(login(one)) as writer:
        committed = writer.committed
        full = service.backup("pg1", "full")
    assert (full["kind"], full["status"], full["reason"]) == ("full", "COMPLETED", None)
    assert full["positions"]["timeline"] == 1
    with login(one) as connection:
        connection.execute("DROP TABLE orders")

    two = service.create("pg2", restorePoint={"backupRef": full["id"]})
    assert two["datastore"]["type"] == "postgresql"
    with login(two) as connection:
        after = checksums(connection)
        assert {name: after[name] for name in still} == still
        proven(connection, committed)
    assert [d["name"] for d in service.get("/instances/pg2/databases")["databases"]] == ["db1", "db2"]
    users = service.get("/instances/pg2/users")["users"]
    assert [(u["name"], u["host"], [d["name"] for d in u["databases"]]) for u in users] == [("user1", "%", ["db1"])]

    service.wait(service.act("/instances/pg1/action", {"restore": {"backupRef": full["id"]}}))
    with login(one) as connection:
        after = checksums(connection)
        assert {name: after[name] for name in still} == still
        proven(connection, committed)
    assert len(service.get("/instances/pg1")["instance"]["old_data"]) == 1

    # The data was replaced: asked for by number a full is taken, asked for by parent nothing is.
    again = service.backup("pg1", "again", incremental=1)
    assert (again["kind"], again["parent_id"]) == ("full", None)
    assert "replaced" in again["reason"]
    with pytest.raises(Refused) as refused:
        service.backup("pg1", "bad", parent_id=full["id"])
    assert (refused.value.status, refused.value.code) == (409, "LineageChanged")

    service.wait(service.act(f"/backups/{again['id']}/action", {"verify": {"prepare": True}}))
    verified = service.get(f"/backups/{again['id']}")["backup"]["verified"]
    assert (verified["ok"], verified["prepared"]) == (True, True)

    owner = "postgres" if user is None else user
    for path in (service.data_dir / "instances" / one["id"]).rglob("*"):
        assert path.owner() == owner, path
    for name in ("pg1", "pg2"):
        service.wait(service.call("DELETE", f"/instances/{name}").headers["Strongroom-Job"])
    assert list((service.data_dir / "instances").iterdir()) == []


def test_with_the_command_line(serve: Callable[..., Service], place: Path) -> None:
    service = serve()
    service.cli("instance", "create", "pg1", "--datastore", "postgresql", "--database", "db1")
    service.cli("user", "create", "pg1", "user1", "--database", "db1", "--password-stdin", stdin=PASSWORD + "\n")
    view = service.get("/instances/pg1")["instance"]
    with login(view) as connection:
        fill(connection, 200)
    service.cli("backup", "create", "full", "--instance", "pg1")
    with login(view) as connection:
        connection.execute("CREATE TABLE later AS SELECT 1 AS id")
        before = checksums(connection)
    service.cli("backup", "create", "child", "--instance", "pg1", "--parent", "full")
    service.cli("backup", "verify", "child", "--prepare")
    service.cli("restore", "child", "--name", "pg2")
    with login(service.get("/instances/pg2")["instance"]) as connection:
        assert checksums(connection) == before
    assert [row["name"] for row in service.cli_json("db", "list", "pg2")] == ["db1"]


def test_a_backup_that_was_changed_is_found(serve: Callable[..., Service]) -> None:
    service = serve()
    service.create("pg1", datastore={"type": "postgresql"})
    full = service.backup("pg1", "full")
    (path, *_) = sorted((service.data_dir / "store").rglob("00000000"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    service.wait(service.act(f"/backups/{full['id']}/action", {"verify": {}}), expect="failed")
    assert service.get(f"/backups/{full['id']}")["backup"]["verified"]["ok"] is False
    response = service.call("POST", "/instances", {"instance": {"name": "pg2", "restorePoint": {"backupRef": full["id"]}}})
    job = service.wait(response.headers["Strongroom-Job"], expect="failed")
    assert job["fault"]["code"] == "ArtifactCorrupt"
