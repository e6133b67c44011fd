"""A PostgreSQL server with tablespaces and WAL in other places: backed up, verified, restored to new instances and in place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.own_postgresql import OwnPostgreSQL
from support.service import Refused, Service

pytestmark = pytest.mark.root
SUMS = (
    "SELECT json_build_array((SELECT json_build_array(count(*), md5(string_agg(t::text, ',' ORDER BY id))) FROM t),"
    " (SELECT json_build_array(count(*), md5(string_agg(u::text, ',' ORDER BY id))) FROM u))::text"
)


def lay(own: OwnPostgreSQL, name: str) -> Path:
    """A directory of the server's user beside its data."""
    path = own.base / name
    path.mkdir(mode=0o700)
    os.chown(path, own.data.stat().st_uid, own.data.stat().st_gid)
    return path


@pytest.fixture
def own(place: Path) -> Iterator[OwnPostgreSQL]:
    server = OwnPostgreSQL(place)
    server.end()
    wal = server.base / "wal"
    (server.data / "pg_wal").rename(wal)
    (server.data / "pg_wal").symlink_to(wal)
    server.data.chmod(0o750)
    subprocess.run([str(server.start)], check=True)
    for name in ("one", "two"):
        server.sql(f"CREATE TABLESPACE {name} LOCATION '{lay(server, name)}'")
    server.sql("CREATE TABLE t TABLESPACE one AS SELECT id, md5(id::text) AS note FROM generate_series(1, 30000) id")
    server.sql("CREATE TABLE u TABLESPACE two AS SELECT id, md5(id::text) AS note FROM generate_series(1, 3000) id")
    server.sql("CREATE INDEX ON t (note) TABLESPACE two")
    server.start.write_text(
        f"#!/bin/sh\n[ -e {server.base}/fail ] && rm {server.base}/fail && exit 1\n{server.start.read_text()[10:]}"
    )
    yield server
    server.end()


def sums(service: Service, instance: str) -> str:
    view = service.get(f"/instances/{instance}")["instance"]
    socket = Path(view["socket"])
    with psycopg.connect(host=str(socket.parent), user="postgres", dbname="postgres", autocommit=True) as connection:
        row = connection.execute(SUMS).fetchone()
    assert row is not None
    return str(row[0])


def spaces(data: Path) -> dict[str, str]:
    """Where the tablespaces of a data directory are: their targets, or "directory"."""
    return {
        path.name: str(path.readlink()) if path.is_symlink() else "directory" for path in sorted((data / "pg_tblspc").iterdir())
    }


def layout(own: OwnPostgreSQL) -> tuple[Any, ...]:
    wal = own.data / "pg_wal"
    return spaces(own.data), str(wal.readlink()) if wal.is_symlink() else "directory", oct(own.data.stat().st_mode)


def aside(own: OwnPostgreSQL) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in own.base.iterdir() if ".old-" in path.name or ".failed-" in path.name)


def test_tablespaces_from_the_backup_to_new_instances_and_back_in_place(service: Service, own: OwnPostgreSQL) -> None:
    service.cli(
        "instance", "adopt", "own", "--datastore", "postgresql", "--socket", str(own.run),
        "--start-command", str(own.start), "--stop-command", str(own.stop),
    )  # fmt: skip
    before, first = layout(own), own.sql(SUMS)
    full = service.backup("own", "full")
    own.sql("UPDATE t SET note = 'changed' WHERE id % 10 = 0")
    own.sql("INSERT INTO u SELECT 5000 + id, 'new' FROM generate_series(1, 100) id")
    changed = own.sql(SUMS)
    inc = service.backup("own", "inc", incremental=1)
    assert inc["kind"] == "incremental"
    service.wait(service.act(f"/backups/{inc['id']}/action", {"verify": {"prepare": True}}))

    # To a new instance: into its data directory, or where a person wants them.
    copy = service.create("copy", restorePoint={"backupRef": inc["id"]})
    assert sums(service, copy["id"]) == changed
    data = service.data_dir / "instances" / copy["id"] / "data"
    assert set(spaces(data).values()) == {"directory"}
    ready = lay(own, "ready")
    taken = lay(own, "taken")
    (taken / "file").touch()
    for options, said in (
        ({"one": str(taken)}, "is not empty"),
        ({"three": str(ready)}, "has no tablespace three; it has one"),
        ({"one": str(data / "x")}, "which is for data directories"),
        ({"one": str(ready), str(own.base / "one"): str(own.base / "made")}, "two directories are given"),
        ({"one": "/usr/lib/strongroom-not-there"}, "does not exist"),
    ):
        job = service.call(
            "POST", "/instances", {"instance": {"name": "bad", "restorePoint": {"backupRef": full["id"], "tablespaces": options}}}
        )
        ended = service.wait(job.headers["Strongroom-Job"], expect="failed")
        assert said in ended["fault"]["message"], ended["fault"]
        service.wait(service.call("DELETE", "/instances/bad").headers["Strongroom-Job"])
    assert [path.name for path in ready.iterdir()] == []
    with pytest.raises(Refused, match="a restore in place keeps the directories of tablespaces"):
        service.act("/instances/own/action", {"restore": {"backupRef": full["id"], "tablespaces": {"one": str(ready)}}})
    made = own.base / "made"
    service.cli("restore", "inc", "--name", "mapped", "--tablespace", f"one={made}", "--tablespace", f"{own.base}/two={ready}")
    mapped = service.get("/instances/mapped")["instance"]
    assert sums(service, mapped["id"]) == changed
    assert sorted(spaces(service.data_dir / "instances" / mapped["id"] / "data").values()) == [str(made), str(ready)]
    assert [path.name.partition("_")[0] for path in (*made.iterdir(), *ready.iterdir())] == ["PG", "PG"]
    again = service.backup("mapped", "again")
    own.sql("DROP TABLE u")
    latest = own.sql("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t")

    # In place, and the new server does not come up: all is as it was.
    (own.base / "fail").touch()
    service.wait(service.act("/instances/own/action", {"restore": {"backupRef": full["id"]}}), expect="failed")
    assert own.sql("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t") == latest
    assert layout(own) == before
    # In place, a full and a chain: to where they were; the old ones are aside until they are discarded.
    for backup, expected in ((full, first), (inc, changed)):
        service.wait(service.act("/instances/own/action", {"restore": {"backupRef": backup["id"]}}))
        assert own.sql(SUMS) == expected
        assert layout(own) == before
        assert {"data.old", "one.old", "two.old", "wal.old"} <= set(aside(own))
        service.wait(service.act("/instances/own/action", {"discard_old": {}}))
        assert aside(own) == []
    # A tablespace that the server does not have any more comes into the data directory; one that is new goes aside.
    own.sql("DROP TABLE u")
    own.sql("DROP INDEX t_note_idx")
    own.sql("DROP TABLESPACE two")
    own.sql(f"CREATE TABLESPACE three LOCATION '{lay(own, 'three')}'")
    own.sql("CREATE TABLE v TABLESPACE three AS SELECT 1 AS id")
    service.wait(service.act("/instances/own/action", {"restore": {"backupRef": inc["id"]}}))
    assert own.sql(SUMS) == changed
    assert sorted(spaces(own.data).values()) == [str(own.base / "one"), "directory"]
    assert "three.old" in aside(own)
    service.wait(service.act("/instances/own/action", {"discard_old": {}}))
    # What was mapped is restored in place as well.
    with psycopg.connect(
        host=str(Path(mapped["socket"]).parent), user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute("DROP TABLE t")
    service.wait(service.act("/instances/mapped/action", {"restore": {"backupRef": again["id"]}}))
    assert sums(service, mapped["id"]) == changed
    assert sorted(spaces(service.data_dir / "instances" / mapped["id"] / "data").values()) == [str(made), str(ready)]
    service.wait(service.call("DELETE", "/instances/mapped").headers["Strongroom-Job"])
    assert [*made.iterdir(), *ready.iterdir()] == []
    assert [path.name for path in own.base.iterdir() if path.name.startswith(("made.", "ready."))] == []
