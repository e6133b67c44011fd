"""Incrementals of a PostgreSQL that has no block tracking, through service and API: the WAL since the parent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom.artifact import new_identity
from support.postgresql import Writer, checksums, fill, proven, version
from support.service import Failed, Service

PASSWORD = "pass-of-user1"
SERIES = version().series


def login(view: dict[str, Any]) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(host=view["ip"][0], port=view["port"], user="user1", password=PASSWORD, dbname="db1", autocommit=True)


def create(service: Service, name: str) -> dict[str, Any]:
    view = service.create(
        name,
        datastore={"type": "postgresql", "version": SERIES},
        databases=[{"name": "db1"}],
        users=[{"name": "user1", "password": PASSWORD, "databases": [{"name": "db1"}]}],
    )
    with login(view) as connection:
        fill(connection, 300)
    return view


def test_a_chain_and_a_branch_are_restored_new_and_in_place(serve: Callable[..., Service], place: Path) -> None:
    identity, recipient = new_identity()
    key = place / "identity"
    key.touch(mode=0o600)
    key.write_text(identity)
    key.chmod(0o600)
    service = serve(config=f'[encryption]\nrecipients = ["{recipient}"]\nidentity_files = ["{key}"]\n')
    one = create(service, "pg1")
    with Writer(login(one)) as writer:
        full = service.backup("pg1", "full")
        first = service.backup("pg1", "first", incremental=1)
        committed = writer.committed
        second = service.backup("pg1", "second", parent_id=first["id"], codec="gzip")
    assert [b["kind"] for b in (full, first, second)] == ["full", "incremental", "incremental"]
    assert (first["parent_id"], second["parent_id"], second["reason"]) == (full["id"], first["id"], None)
    assert first["positions"]["wal_from"] == full["positions"]["wal_stop"]
    with login(one) as connection:
        connection.execute("CREATE TABLE branch AS SELECT generate_series(1, 500) AS id")
        at_branch = checksums(connection)
    branch = service.backup("pg1", "branch", parent_id=full["id"])
    assert branch["parent_id"] == full["id"]
    with login(one) as connection:
        connection.execute("DROP TABLE orders")
    # The newest is the one that is farthest, not the one with most below it.
    last = service.backup("pg1", "last", incremental=1)
    assert last["parent_id"] == branch["id"]

    with login(service.create("pg2", restorePoint={"backupRef": second["id"]})) as connection:
        proven(connection, committed)
        assert {k: v for k, v in checksums(connection).items() if k != "public.sequence"} == {
            k: v for k, v in at_branch.items() if k not in ("public.sequence", "public.branch")
        }
    service.wait(service.act(f"/backups/{branch['id']}/action", {"verify": {"prepare": True}}))
    job = service.wait(service.act("/instances/pg1/action", {"restore": {"backupRef": branch["id"]}}))
    assert job["status"] == "succeeded"
    with login(one) as connection:
        assert checksums(connection) == at_branch
    after = service.backup("pg1", "after", incremental=1)
    assert (after["kind"], "replaced" in after["reason"]) == ("full", True)
    assert after["positions"]["timeline"] == 2
    child = service.backup("pg1", "child", incremental=1)
    assert (child["parent_id"], child["positions"]["timeline"]) == (after["id"], 2)
    with login(service.create("pg3", restorePoint={"backupRef": child["id"]})) as connection:
        assert checksums(connection) == at_branch


def test_missing_wal_is_reported_with_troves_message(serve: Callable[..., Service]) -> None:
    service = serve()
    one = create(service, "pg1")
    full = service.backup("pg1", "full")
    folder = service.data_dir / "instances" / one["id"] / "data" / "pg_wal"
    child = service.backup("pg1", "child", incremental=1)
    ours = {"host": str(Path(one["socket"]).parent), "port": one["port"], "user": "postgres", "dbname": "db1"}
    with psycopg.connect(**ours, autocommit=True) as connection:
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("CREATE TABLE later AS SELECT 1 AS id")
        ((current,),) = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchall()
    # Out of disk, somebody has removed what the server had not let go of.
    for path in folder.iterdir():
        if len(path.name) == 24 and path.name < current:
            path.unlink()
    with pytest.raises(Failed):
        service.backup("pg1", "another", parent_id=full["id"])
    fault = service.get("/instances/pg1")["instance"]["fault"]
    (failed,) = [b for b in service.get("/backups")["backups"] if b["name"] == "another"]
    assert failed["status"] == "FAILED"
    assert fault["message"] == f"Failed to create backup {failed['id']}, error:\n    Cannot find parent backup WAL file."
    assert "Take a full backup" in fault["details"]
    assert child["status"] == "COMPLETED"
    fresh = service.backup("pg1", "fresh", incremental=1)
    assert fresh["status"] == "COMPLETED"
