"""Incrementals of changed blocks through service and API, on a PostgreSQL that tells its changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom.artifact import new_identity
from support import postgresql_versions
from support.postgresql import Writer, checksums, fill, proven
from support.service import Refused, Service

PASSWORD = "pass-of-user1"


def login(view: dict[str, Any]) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(host=view["ip"][0], port=view["port"], user="user1", password=PASSWORD, dbname="db1", autocommit=True)


def without_sequence(found: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    return {table: rows for table, rows in found.items() if table != "public.sequence"}


def test_an_encrypted_chain_without_a_key_on_the_way_there(serve: Callable[..., Service], place: Path) -> None:
    identity, recipient = new_identity()
    key = place / "identity"
    key.touch(mode=0o600)
    key.write_text(identity)
    key.chmod(0o600)
    programs = postgresql_versions.programs("18")
    encryption = f'[encryption]\nrecipients = ["{recipient}"]\nidentity_files = ["{key}"]\n'
    service = serve(config=f'[datastores]\npostgresql = ["{programs}"]\n{encryption}')
    one = service.create(
        "pg1",
        datastore={"type": "postgresql", "version": "18"},
        databases=[{"name": "db1"}],
        users=[{"name": "user1", "password": PASSWORD, "databases": [{"name": "db1"}]}],
    )
    with login(one) as connection:
        fill(connection, 500)
    with Writer(login(one)) as writer:
        chain = [service.backup("pg1", "full")]
        for number in range(2):
            with login(one) as connection:
                connection.execute("UPDATE orders SET amount = %s WHERE id %% 10 = %s", (number, number))
            committed = writer.committed
            chain.append(service.backup("pg1", f"i{number}", incremental=1))
    full, first, second = chain
    assert [(backup["kind"], backup["reason"]) for backup in chain] == [
        ("full", None),
        ("incremental", None),
        ("incremental", None),
    ]
    assert (first["parent_id"], second["parent_id"]) == (full["id"], first["id"])
    assert second["positions"]["blocks_from"] == first["positions"]["wal_start"]
    assert all(backup["pages"]["damaged"] == 0 < backup["pages"]["checked"] for backup in chain)
    assert second["data_size"] > 2 * 1024**2
    with login(one) as connection:
        expected = checksums(connection)

    service.wait(service.act(f"/backups/{second['id']}/action", {"verify": {"prepare": True}}))
    with pytest.raises(Refused, match="409 HasChildren"):
        service.call("DELETE", f"/backups/{full['id']}")
    with login(service.create("pg2", restorePoint={"backupRef": second["id"]})) as connection:
        proven(connection, committed)
        assert without_sequence(checksums(connection)) == without_sequence(expected)
    service.wait(service.act("/instances/pg1/action", {"restore": {"backupRef": first["id"]}}))
    after = service.backup("pg1", "after", incremental=1)
    assert (after["kind"], "replaced" in after["reason"]) == ("full", True)

    # the copy of the parent's list of files is lost, and the key is not where backups are taken
    copies = list(place.rglob("backups/*.manifest"))
    assert len(copies) >= 4 and all(re.fullmatch(r"[0-9a-f]{64}", copy.stem) for copy in copies)
    for copy in copies:
        copy.unlink()
    last = service.backup("pg1", "last", incremental=1)
    assert (last["kind"], "has no copy of it any more" in last["reason"]) == ("full", True)
