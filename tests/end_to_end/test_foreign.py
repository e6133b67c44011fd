"""Backups that real Trove and Kolla would have written, restored and compared by data."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.flows import version_id
from support.foreign import ACCOUNT, Source, md5, segmented, side_car, trove
from support.load import fill
from support.service import Refused, Service, checksums


@pytest.fixture
def server(service: Service) -> dict[str, Any]:
    """An instance with data."""
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection, 2000)
    return one


def write(service: Service, server: dict[str, Any], table: str) -> dict[str, tuple[int, int]]:
    """More data; the checksums of all."""
    with service.sql(server["id"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE db1.{table} (id INT PRIMARY KEY, text VARCHAR(200)) ENGINE=InnoDB")
        cursor.executemany(f"INSERT INTO db1.{table} VALUES (%s, %s)", [(n, f"row {n} " * 9) for n in range(1000)])
        cursor.execute("UPDATE db1.customers SET note = CONCAT(note, %s) WHERE id %% 7 = 0", (table,))
        flush(cursor)
        return checksums(connection)


def flush(cursor: Any) -> None:
    """Until all that was written is in the tables: so the LSN of each backup is its own."""

    def status(name: str) -> int:
        cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
        return int(cursor.fetchone()[1])

    cursor.execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0, GLOBAL innodb_max_dirty_pages_pct = 0")
    lsn, deadline = status("Innodb_lsn_current"), time.monotonic() + 30
    while status("Innodb_lsn_last_checkpoint") < lsn - 100:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def restored(service: Service, name: str, backup: str) -> dict[str, tuple[int, int]]:
    made = service.create(name, restorePoint={"backupRef": backup})
    with service.sql(made["id"]) as connection:
        return checksums(connection)


def test_backups_of_trove_full_incremental_and_in_segments(service: Service, server: dict[str, Any]) -> None:
    container = service.data_dir / "store" / "my-trove-backups"
    source = Source(service, server)
    ids = [str(uuid.uuid4()) for _ in range(3)]
    full = trove(source, container, ids[0])
    after_first = write(service, server, "first")
    first = trove(source, container, ids[1], full)
    after_second = write(service, server, "second")
    pieces = segmented(trove(source, container, ids[2], first), 50_000)
    assert len(pieces) > 2

    # Imported by the newest: the chain comes along by the metadata, and every byte of it is read.
    view = service.cli_json("backup", "import", f"my-trove-backups/{ids[2]}.xbstream.gz", "--name", "trove")
    assert (view["status"], view["kind"], view["restorable"]) == ("RESTORED", "incremental", True)
    assert view["stored_size"] == sum(piece.stat().st_size for piece in pieces)
    assert view["positions"]["from_lsn"] < view["positions"]["to_lsn"]
    assert restored(service, "mysql2", view["id"]) == after_second
    service.wait(service.act(f"/backups/{view['id']}/action", {"verify": {"prepare": True}}))
    assert service.get(f"/backups/{view['id']}")["backup"]["verified"]["ok"] is True

    # Recorded at once, as the stock client asks for it; only container and object of the location count.
    location = f"{service.data_dir.as_uri()}/elsewhere/my-trove-backups/{first.name}"
    params = {
        "name": "test-restore",
        "restore_from": {"remote_location": location, "local_datastore_version_id": version_id("mariadb", "10.11"), "size": 0.3},
    }
    record = service.call("POST", "/backups", {"backup": params}).json()["backup"]
    assert (record["status"], record["size"], record["locationRef"]) == ("RESTORED", 0.3, location)
    assert (record["instance_id"], record["parent_id"]) == (None, None)
    assert restored(service, "mysql3", record["id"]) == after_first

    # Nobody keeps the objects for us.
    full.rename(full.with_name("away"))
    with pytest.raises(Refused) as refused:
        service.create("mysql4", restorePoint={"backupRef": record["id"]})
    assert (refused.value.status, refused.value.code) == (404, "NotFound")
    assert full.name in refused.value.message
    full.with_name("away").rename(full)
    for backup in (record["id"], view["id"]):
        service.wait(service.call("DELETE", f"/backups/{backup}", now="true").headers["Strongroom-Job"])
    assert full.exists()
    assert all(piece.exists() for piece in pieces)
    assert service.get("/backups")["backups"] == []


def test_backups_of_kolla_with_old_names_and_new_folders(service: Service, server: dict[str, Any], place: Path) -> None:
    source = Source(service, server)
    volume = place / "mariadb_backup"
    old = volume / "mysqlbackup-10-12-2021-1639166052.qp.xbc.xbs.gz"
    source.stream(old, "--history=10-12-2021", format="mbstream")
    write(service, server, "first")
    # The name tells the day only, so the second stands on the first, and all are needed.
    one = volume / "incremental-20-mysqlbackup-10-12-2021-1639169695.qp.xbc.xbs.gz"
    source.stream(one, "--incremental-history-name=10-12-2021", "--history=10-12-2021", format="mbstream")
    after = write(service, server, "second")
    two = volume / "incremental-21-mysqlbackup-10-12-2021-1639173295.qp.xbc.xbs.gz"
    source.stream(two, "--incremental-history-name=10-12-2021", "--history=10-12-2021", format="mbstream")

    orphan = service.cli("backup", "import", str(one), "--name", "too-early", check=False)
    assert orphan.returncode == 1
    assert "no imported backup ends there" in orphan.stderr
    full = service.cli_json("backup", "import", str(old), "--name", "full")
    assert (full["kind"], full["status"], full["locationRef"]) == ("full", "RESTORED", old.as_uri())
    first = service.cli_json("backup", "import", str(one), "--name", "one")  # its LSN tells what it stands on
    assert (first["kind"], first["parent_id"]) == ("incremental", full["id"])
    wrong = service.cli("backup", "import", str(two), "--name", "wrong", "--parent", "full", check=False)
    assert wrong.returncode == 1
    assert "begins at LSN" in wrong.stderr
    second = service.cli_json("backup", "import", str(two), "--name", "two", "--parent", "one")
    assert (second["parent_id"], second["chain_id"]) == (first["id"], full["id"])
    found = restored(service, "mysql2", second["id"])
    assert {name: sums for name, sums in found.items() if name.startswith("db1.")} == {
        name: sums for name, sums in after.items() if name.startswith("db1.")
    }

    with pytest.raises(Refused) as refused:
        service.call("DELETE", f"/backups/{full['id']}")
    assert refused.value.code == "HasChildren"

    # Today's layout: a folder for each backup, and every incremental on the full.
    stamp = "18-11-2026-1763476842"
    folder = volume / f"full-{stamp}" / f"backup-full-{stamp}.mbs.gz"
    said = source.stream(folder, format="mbstream")
    lsn = said.rpartition("(for incremental): '")[2].partition("'")[0]
    last = write(service, server, "third")
    child = volume / f"incr-12-00-00-18-11-2026-since-{stamp}" / f"backup-incremental-12-00-00-18-11-2026-since-{stamp}.mbs.gz"
    source.stream(child, f"--incremental-lsn={lsn}", format="mbstream")
    assert service.cli_json("backup", "import", folder.as_uri(), "--name", "new-full")["kind"] == "full"
    new = service.cli_json("backup", "import", str(child), "--name", "new-inc")
    found = restored(service, "mysql3", new["id"])
    assert {name: found[name] for name in last if name.startswith("db1.")} == {
        name: sums for name, sums in last.items() if name.startswith("db1.")
    }

    # In place, and a file that was changed after its import.
    service.wait(service.act("/instances/mysql1/action", {"restore": {"backupRef": full["id"]}}))
    with service.sql(server["id"]) as connection:
        assert "db1.first" not in checksums(connection)
    data = bytearray(old.read_bytes())
    data[len(data) // 2] ^= 1
    old.write_bytes(data)
    job = service.wait(service.act(f"/backups/{full['id']}/action", {"verify": {}}), expect="failed")
    assert job["fault"]["code"] == "ArtifactCorrupt"
    service.call("GET", f"/backups/{full['id']}")


def test_codec_gzip_writes_the_format_of_trove(service: Service, server: dict[str, Any]) -> None:
    """Our own artifact under Trove's name and metadata, as real Trove would see it, goes in through the import."""
    backup = service.backup("mysql1", "ours", codec="gzip")
    with service.sql(server["id"]) as connection:
        before = checksums(connection)
    folder = service.data_dir / "store" / "database_backups" / backup["id"]
    target = service.data_dir / "store" / "from-ours" / f"{uuid.uuid4()}.xbstream.gz"
    target.parent.mkdir(mode=0o755)
    target.write_bytes(b"".join(path.read_bytes() for path in sorted(folder.glob("0*"))))
    target.chmod(0o644)
    view = service.cli_json("backup", "import", f"{ACCOUNT}/from-ours/{target.name}".replace("http:", "file:"), "--name", "again")
    assert view["raw_size"] == backup["raw_size"]
    assert view["positions"]["to_lsn"] == backup["positions"]["to_lsn"]
    assert restored(service, "mysql2", view["id"]) == before


def headers(path: Path) -> dict[str, str]:
    """The metadata of Trove's object as Swift takes them."""
    return {f"X-Object-Meta-{name}": value for name, value in json.loads(side_car(path).read_text()).items()}


def test_objects_of_trove_in_swift_are_imported(serve: Callable[..., Service], place: Path, swift: Any) -> None:
    account = f"AUTH_{place.name}"
    service = serve(config=swift.config(account))
    server = service.create("mysql1")
    with service.sql(server["id"]) as connection:
        fill(connection, 2000)
    source, box = Source(service, server), place / "my-trove-backups"
    full = trove(source, box, str(uuid.uuid4()))
    after = write(service, server, "first")
    child = trove(source, box, str(uuid.uuid4()), full)
    with swift.in_account(account) as client:
        client.put("/my-trove-backups").raise_for_status()
        told = {
            path: {f"X-Object-Meta-{k}": v for k, v in json.loads(side_car(path).read_text()).items()} for path in (full, child)
        }
        client.put(f"/my-trove-backups/{full.name}", content=full.read_bytes(), headers=told[full]).raise_for_status()
        listing = []
        for piece in segmented(child, 50_000):
            client.put(f"/my-trove-backups/{piece.name}", content=piece.read_bytes()).raise_for_status()
            listing.append({"path": f"my-trove-backups/{piece.name}", "etag": md5(piece), "size_bytes": piece.stat().st_size})
        slo = client.put(
            f"/my-trove-backups/{child.name}?multipart-manifest=put", content=json.dumps(listing), headers=told[child]
        )
        slo.raise_for_status()
    location = f"{ACCOUNT}/my-trove-backups/{child.name}"
    view = service.cli_json("backup", "import", location, "--name", "imported")
    assert (view["status"], view["kind"]) == ("RESTORED", "incremental")
    assert view["locationRef"] == f"{swift.url}/v1/{account}/my-trove-backups/{child.name}"
    options = ["--restore-from", location, "--restore-datastore-version", "10.11", "--restore-size", "0.3"]
    record = service.cli_json("backup", "create", "recorded", *options)
    assert (record["status"], record["kind"], record["locationRef"]) == ("RESTORED", "incremental", location)
    assert restored(service, "mysql2", view["id"]) == after
    assert restored(service, "mysql3", record["id"]) == after
    with swift.in_account(account) as client:
        client.put(f"/my-trove-backups/{full.name}", content=b"another", headers=told[full]).raise_for_status()
    for backup in (view, record):
        with pytest.raises(Refused) as refused:
            service.create("mysql4", restorePoint={"backupRef": backup["id"]})
        assert refused.value.status == 409
