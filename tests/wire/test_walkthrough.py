"""Trove's own walk-through, "Backup and restore a database", with the stock client: every command of it, and its tables.

Ids, times, sizes and versions aside, a table must be the one of the documentation: the same columns and fields, in the same
order, with the same values. What this service tells beyond that is known by name. The order is that of the documentation, with
one exception: "clean up" deletes mysql1, of which the section after it takes a backup, so it comes last here.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from strongroom.flows import version_id
from support.databases import MARIADB, MYSQL, POSTGRESQL, Database
from support.service import Service

INSTANCE_LIST = (
    *("ID", "Name", "Datastore", "Datastore Version", "Status", "Operating Status", "Public", "Addresses", "Flavor ID", "Size"),
    "Role",
)
BACKUP_LIST = ("ID", "Instance ID", "Name", "Status", "Parent ID", "Updated", "Project ID")
ADDED_TO_INSTANCES = {"host", "runtime", "port", "socket", "data_bytes", "old_data", "isolated", "protected", "detail", "job_id"}
ADDED_TO_BACKUPS = {
    *(
        "instance_name",
        "kind",
        "container",
        "chain_id",
        "cluster_id",
        "data_size",
        "raw_size",
        "stored_size",
        "codec",
        "encrypted",
        "started",
    ),
    *("finished", "seconds", "reason", "pages", "profile", "fault", "verified", "positions", "protected", "restorable", "job_id"),
    "unrestorable_reason",
    "damaged_pages",
    *("sweep_at", "expired_because", "trashed", "hold"),
}
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
SIZE = re.compile(r"\d+\.\d+")
ADDRESS = re.compile(r"127\.\d+\.\d+\.\d+")
ADDRESSES = re.compile(rf"\[\{{'address': '{ADDRESS.pattern}', 'type': 'private', 'network': '{ID.pattern}'\}}\]")
SUFFIX = {"mariadb": "xbstream.zst", "postgresql": "tar.zst", "mysql": "tar.zst"}

Expected = dict[str, str | re.Pattern[str]]


def same(got: dict[str, str], expected: Expected, added: set[str] | frozenset[str] = frozenset()) -> None:
    """The fields of the documentation, in its order, except ``added``."""
    rest = {name: value for name, value in got.items() if name not in added}
    assert list(rest) == list(expected)
    for name, value in expected.items():
        if isinstance(value, str):
            assert rest[name] == value, name
        else:
            assert value.fullmatch(rest[name]), f"{name}: {rest[name]}"


def settled(service: Service, path: str) -> dict[str, Any]:
    """The thing, when its newest job has succeeded."""
    (view,) = service.get(path).values()
    service.wait(view["job_id"])
    (view,) = service.get(path).values()
    return dict(view)


def backup_fields(cloud: Any, database: Database, name: str, status: str, **known: str | re.Pattern[str]) -> Expected:
    """The fields of a backup that was just requested, as the documentation shows them; ``known`` are those that differ."""
    fresh: Expected = {
        "created": TIME,
        "datastore": database.datastore,
        "datastore_version": database.series,
        "datastore_version_id": version_id(database.datastore, database.series),
        "description": "None",
        "id": ID,
        "instance_id": ID,
        "locationRef": "None",
        "name": name,
        "parent_id": "None",
        "project_id": cloud.project,
        "size": "None",
        "status": status,
        "updated": TIME,
    }
    return {**fresh, **known}


@pytest.mark.parametrize(
    ("cloud", "database"),
    [(cloud, MARIADB) for cloud in ("none_directory", "none_swift", "basic_swift", "keystone_cloud")]
    + [("none_swift", POSTGRESQL), ("none_swift", MYSQL)],
    indirect=["cloud"],
    ids=lambda value: value.datastore if isinstance(value, Database) else value,
)
def test_every_command_of_the_documentation(cloud: Any, database: Database, place: Path, pool: str) -> None:
    service, openstack = cloud.service, cloud.stock
    datastore = database.datastore
    series, version, suffix = database.series, version_id(datastore, database.series), SUFFIX[datastore]
    mysql1 = service.create(
        "mysql1",
        datastore={"type": datastore},
        flavorRef="d2",
        volume={"size": 1},
        databases=[{"name": "db1"}, {"name": "db2"}],
        users=[{"name": "user1", "password": "secret-of-user1", "databases": [{"name": "db1"}, {"name": "db2"}]}],
    )["id"]
    database.fill(service, mysql1, 500)
    before = database.sums(service, mysql1)

    # Before creating backup
    said = openstack("database instance list")
    assert tuple(said.columns()) == INSTANCE_LIST
    row = {
        "ID": mysql1,
        "Name": "mysql1",
        "Datastore": datastore,
        "Datastore Version": series,
        "Status": "ACTIVE",
        "Operating Status": "HEALTHY",
        "Public": "False",
        "Addresses": ADDRESSES,
        "Flavor ID": "d2",
        "Size": "1",
        "Role": "",
    }
    (shown,) = said.table()
    same(shown, row)
    said = openstack("database backup strategy create", "--instance-id", mysql1, "--swift-container", "my-trove-backups")
    strategy: Expected = {"backend": cloud.backend, "instance_id": mysql1, "project_id": cloud.project}
    same(said.fields(), {**strategy, "swift_container": "my-trove-backups"})

    # Backup the database instance
    said = openstack("database backup create mysql-backup-name1 --instance mysql1 --swift-container my-trove-backups")
    same(said.fields(), backup_fields(cloud, database, "mysql-backup-name1", "NEW", instance_id=mysql1), ADDED_TO_BACKUPS)
    full = said.fields()["id"]
    settled(service, f"/backups/{full}")
    said = openstack("database backup list")
    assert tuple(said.columns()) == BACKUP_LIST
    (shown,) = said.table()
    same(
        shown,
        {
            "ID": full,
            "Instance ID": mysql1,
            "Name": "mysql-backup-name1",
            "Status": "COMPLETED",
            "Parent ID": "None",
            "Updated": TIME,
            "Project ID": cloud.project,
        },
    )
    said = openstack("database backup show", full)
    location = re.compile(
        rf"(http|file)://.*/my-trove-backups/{full}" + (rf"\.{re.escape(suffix)}" if cloud.backend == "swift" else "")
    )
    done = backup_fields(
        cloud, database, "mysql-backup-name1", "COMPLETED", id=full, instance_id=mysql1, locationRef=location, size=SIZE
    )
    same(said.fields(), done, ADDED_TO_BACKUPS)

    # Check the backup data in Swift
    if cloud.backend == "swift":
        containers = [row["Name"] for row in openstack("container list").table()]
        assert containers == ["my-trove-backups", "my-trove-backups_segments"]
        assert [row["Name"] for row in openstack("object list my-trove-backups").table()] == [f"{full}.{suffix}"]

    # Restore a database instance
    number = service.get(f"/instances/{mysql1}")["instance"]["datastore"]["version_number"]
    said = openstack(
        *("database instance create mysql2 --flavor d2 --size 1", "--nic", f"net-id={uuid.uuid4()}", "--datastore", datastore),
        *("--datastore-version", series, "--datastore-version-number", number),
        *("--backup", openstack.value("id", "database backup show mysql-backup-name1")),
    )
    created: Expected = {
        "allowed_cidrs": "[]",
        "created": TIME,
        "datastore": datastore,
        "datastore_version": series,
        "datastore_version_number": number,
        "encrypted_rpc_messaging": "True",
        "flavor": "d2",
        "id": ID,
        "name": "mysql2",
        "operating_status": "",
        "public": "False",
        "region": "RegionOne",
        "server_id": "None",
        "service_status_updated": TIME,
        "status": "BUILD",
        "tenant_id": cloud.project,
        "updated": TIME,
        "volume": "1",
        "volume_id": "None",
    }
    same(said.fields(), created, ADDED_TO_INSTANCES)
    mysql2 = said.fields()["id"]
    settled(service, f"/instances/{mysql2}")

    # Verify backup
    said = openstack("database instance list")
    assert tuple(said.columns()) == INSTANCE_LIST
    shown2, shown1 = said.table()
    same(shown2, {**row, "ID": mysql2, "Name": "mysql2"})
    same(shown1, row)
    said = openstack("database instance show mysql2")
    ready: Expected = {"addresses": ADDRESSES, **created, "ip": ADDRESS, "volume_used": SIZE}
    ready |= {"status": "ACTIVE", "operating_status": "HEALTHY", "server_id": ID, "volume_id": ID, "id": mysql2}
    same(said.fields(), dict(sorted(ready.items())), ADDED_TO_INSTANCES)
    said = openstack("database db list", mysql2)
    assert [row["Name"] for row in said.table()] == ["db1", "db2"]
    said = openstack("database user list", mysql2)
    assert [(row["Name"], row["Host"], row["Databases"]) for row in said.table()] == [("user1", "%", "db1, db2")]
    assert database.sums(service, mysql2) == before

    # Create incremental backups
    said = openstack(
        "database backup create mysql-backup-name1.1 --instance mysql1 --swift-container my-trove-backups --parent",
        openstack.value("id", "database backup show mysql-backup-name1"),
    )
    increment = backup_fields(cloud, database, "mysql-backup-name1.1", "NEW", instance_id=mysql1, parent_id=full)
    same(said.fields(), increment, ADDED_TO_BACKUPS)
    child = said.fields()["id"]
    assert settled(service, f"/backups/{child}")["kind"] == "incremental"

    # Restore backup from other regions
    said = openstack(
        "database backup show", child, *["-c", "locationRef", "-c", "size", "-c", "datastore", "-c", "datastore_version"]
    )
    same(
        said.fields(),
        {
            "datastore": datastore,
            "datastore_version": series,
            "locationRef": re.compile(location.pattern.replace(full, child)),
            "size": SIZE,
        },
    )
    there = said.fields()["locationRef"]
    base, _, _ = pool.rpartition(".")
    with cloud.second_region(place, f"{base}.128/25") as two:
        said = two.stock(
            *("database backup create", "--restore-from", there, "--restore-datastore-version", version),
            *("--restore-size", "0.3", "test-restore"),
        )
        record = backup_fields(two, database, "test-restore", "RESTORED", instance_id="None", locationRef=there, size="0.3")
        same(said.fields(), record, ADDED_TO_BACKUPS)
        three = two.service.create("mysql3", restorePoint={"backupRef": said.fields()["id"]})["id"]
        assert database.sums(two.service, three) == before

    # Troubleshooting
    cloud.remove_manifest("my-trove-backups", full)
    said = openstack("database backup create mysql-backup-name1.2 --instance mysql1 --parent", full)
    failed = said.fields()["id"]
    service.wait(service.get(f"/backups/{failed}")["backup"]["job_id"], expect="failed")
    said = openstack("database instance show", mysql1, "-c", "fault")
    first, second, *_ = said.fields()["fault"].split("\n")
    assert first == f"Failed to create backup {failed}, error:"
    assert second.startswith("    ") and len(second) > 10
    assert openstack.value("status", "database instance show mysql1") == "ACTIVE"
    assert openstack.value("status", "database backup show", failed) == "FAILED"
    openstack("database backup create mysql-backup-name2 --instance mysql1")
    settled(service, f"/instances/{mysql1}")
    assert "fault" not in openstack("database instance show", mysql1).fields()

    # Clean up
    openstack("database instance delete", mysql1)
    service.wait(service.get("/jobs", instance_id=mysql1)["jobs"][0]["id"])
    assert [row["Name"] for row in openstack("database instance list").table()] == ["mysql2"]
    assert len(openstack("database backup list", "--instance-id", mysql1).table()) == 4
