"""Backups of PostgreSQL that real Trove would have written, restored and compared by data; its traps do not catch us."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom.flows import version_id
from support.foreign import md5, segmented, side_car
from support.foreign_postgresql import Source
from support.postgresql import checksums, fill, scratch, version
from support.service import Refused, Service

SERIES = version().series
PASSWORD = "pass-of-user1"
Sums = dict[str, tuple[int, str]]


def login(view: dict[str, Any]) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(host=view["ip"][0], port=view["port"], user="user1", password=PASSWORD, dbname="db1", autocommit=True)


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve()


@pytest.fixture
def server(service: Service) -> dict[str, Any]:
    """An instance with data."""
    view = service.create(
        "pg1",
        datastore={"type": "postgresql"},
        databases=[{"name": "db1"}],
        users=[{"name": "user1", "password": PASSWORD, "databases": [{"name": "db1"}]}],
    )
    with login(view) as connection:
        fill(connection, 300)
    return view


@pytest.fixture
def source(service: Service, server: dict[str, Any], place: Path) -> Source:
    def restart() -> None:
        service.wait(service.act("/instances/pg1/action", {"restart": {}}))

    return Source(place, Path(service.get("/instances/pg1")["instance"]["socket"]), restart)


def write(server: dict[str, Any], table: str) -> Sums:
    with login(server) as connection:
        connection.execute(f"CREATE TABLE {table} AS SELECT i, md5(i::text) AS text FROM generate_series(1, 2000) AS i")
        connection.execute("UPDATE customers SET note = note || 'x' WHERE id % 7 = 0")
        return checksums(connection)


def restored(service: Service, name: str, backup: str) -> Sums:
    with login(service.create(name, restorePoint={"backupRef": backup})) as connection:
        return checksums(connection)


def test_backups_of_trove_full_incrementals_and_in_segments(service: Service, server: dict[str, Any], source: Source) -> None:
    container = service.data_dir / "store" / "my-trove-backups"
    before = write(server, "zero")
    full = source.full(container)
    after_first = write(server, "one")
    first = source.incremental(container, full)
    after_second = write(server, "two")
    second = source.incremental(container, first)
    pieces = segmented(second, 50_000)
    assert len(pieces) > 2

    options = ["--datastore", "postgresql"]
    view = service.cli_json("backup", "import", f"my-trove-backups/{second.name}", "--name", "trove", *options)
    assert (view["status"], view["kind"], view["restorable"]) == ("RESTORED", "incremental", True)
    assert view["positions"]["wal_from"] == json.loads(side_car(first).read_text())["stop-segment"]
    assert restored(service, "pg2", view["id"]) == after_second
    service.wait(service.act(f"/backups/{view['id']}/action", {"verify": {"prepare": True}}))
    assert service.get(f"/backups/{view['id']}")["backup"]["verified"]["ok"] is True

    # Recorded at once, as the stock client asks for it.
    params = {
        "name": "recorded",
        "restore_from": {
            "remote_location": f"{service.data_dir.as_uri()}/elsewhere/my-trove-backups/{first.name}",
            "local_datastore_version_id": version_id("postgresql", SERIES),
            "size": 0.3,
        },
    }
    record = service.call("POST", "/backups", {"backup": params}).json()["backup"]
    assert (record["status"], record["datastore"]["type"]) == ("RESTORED", "postgresql")
    assert restored(service, "pg3", record["id"]) == after_first

    # One by one, the full without any metadata.
    side_car(full).rename(full.with_name("kept.json"))
    base = service.cli_json("backup", "import", f"my-trove-backups/{full.name}", "--name", "full", *options)
    assert (base["kind"], base["positions"]["timeline"]) == ("full", 1)
    child = service.cli_json(
        "backup", "import", f"my-trove-backups/{first.name}", "--name", "child", "--parent", "full", *options
    )
    assert (child["parent_id"], child["positions"]["wal_from"]) == (base["id"], base["positions"]["wal_stop"])
    service.wait(service.act("/instances/pg1/action", {"restore": {"backupRef": child["id"]}}))
    with login(server) as connection:
        assert checksums(connection) == after_first
    service.wait(service.act("/instances/pg1/action", {"restore": {"backupRef": base["id"]}}))
    with login(server) as connection:
        assert checksums(connection) == before
    # What goes on from there is ours.
    fresh = service.backup("pg1", "fresh", incremental=1)
    assert (fresh["kind"], "no completed backup" in fresh["reason"]) == ("full", True)

    with pytest.raises(Refused) as refused:
        service.call("POST", "/backups", {"backup": {"name": "x", "import_from": {"location": f"my-trove-backups/{full.name}"}}})
    assert "--datastore postgresql" in refused.value.remedy


def test_trove_backup_that_lacks_wal_never_restores_with_missing_rows(
    service: Service, server: dict[str, Any], source: Source, place: Path
) -> None:
    """Of two children of one parent Trove gives the second no more WAL than since the first."""
    box = place / "trove"
    full = source.full(box)
    first = write(server, "one")
    one = source.incremental(box, full)
    write(server, "two")
    source.sql("SELECT pg_switch_wal()")
    two = source.incremental(box, full)
    options = ["--datastore", "postgresql"]
    lacking = service.cli("backup", "import", str(two), "--name", "lacking", *options, check=False)
    assert lacking.returncode == 1
    assert "where its parent ends" in lacking.stderr
    # Recorded without being read, it is the restore that refuses.
    store = service.data_dir / "store" / "trove"
    store.mkdir(mode=0o755)
    for path in (full, two):
        for each in (path, side_car(path)):
            (store / each.name).write_bytes(each.read_bytes())
            (store / each.name).chmod(0o644)
    params = {"remote_location": f"trove/{two.name}", "local_datastore_version_id": version_id("postgresql", SERIES), "size": 0.3}
    record = service.call("POST", "/backups", {"backup": {"name": "r", "restore_from": params}}).json()["backup"]
    response = service.call("POST", "/instances", {"instance": {"name": "pg2", "restorePoint": {"backupRef": record["id"]}}})
    job = service.wait(response.headers["Strongroom-Job"], expect="failed")
    assert (job["fault"]["code"], "no WAL file" in job["fault"]["message"]) == ("ArtifactCorrupt", True)
    # The first is whole, and so is a file of the host.
    view = service.cli_json("backup", "import", str(one), "--name", "one", *options)
    assert restored(service, "pg3", view["id"]) == first

    # The replay would make a tablespace again, in its old place on this host, whosever that is by now.
    base = source.full(box)
    space = scratch(place, "space")
    source.sql(f"CREATE TABLESPACE far LOCATION '{space}'", "DROP TABLESPACE far")
    far = service.cli_json("backup", "import", str(source.incremental(box, base)), "--name", "far", *options)
    job = service.wait(service.act(f"/backups/{far['id']}/action", {"verify": {"prepare": True}}), expect="failed")
    assert "a tablespace was made" in job["fault"]["message"]

    # Damage is noticed: in the stream, in its metadata, in what was there when it was imported.
    data = bytearray(gzip.decompress(full.read_bytes()))
    data[-200_000] ^= 1
    bad = full.with_name("bad.tar.gz")
    bad.write_bytes(gzip.compress(bytes(data[:-300_000]), 1))
    bad.chmod(0o644)
    cut = service.cli("backup", "import", str(bad), "--name", "bad", *options, check=False)
    assert (cut.returncode, "tar" in cut.stderr) == (1, True)
    told = json.loads(side_car(full).read_text())
    side_car(bad).write_text(json.dumps(told | {"stop-segment": "0/FFFFFF0", "etag": md5(full)}))
    bad.write_bytes(full.read_bytes())
    lie = service.cli("backup", "import", str(bad), "--name", "lie", *options, check=False)
    assert (lie.returncode, "its metadata say" in lie.stderr) == (1, True)
