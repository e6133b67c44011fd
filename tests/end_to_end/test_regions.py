"""Two services, one store: a backup of one region is recorded and restored in the other."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.flows import version_id
from support.load import fill
from support.service import Refused, Service, checksums

VERSION = version_id("mariadb", "10.11")


class Folder:
    """A directory that both see."""

    def __init__(self, place: Path, request: pytest.FixtureRequest) -> None:
        self._top = place / "store"
        self.config = f'[storage]\npath = "{self._top}"\n'
        self.other_kinds = ["s3://bucket/trove-backup-data/x", "http://192.168.206.8:8080/v1/AUTH_p/c/x.xbstream.gz"]

    def abroad(self, location: str) -> str:
        """The location as the other region would show it."""
        return location.replace(str(self._top), "/mnt/of/west")

    def edit(self, container: str, id: str) -> None:
        """Change the manifest of a backup."""
        manifest = self._top / container / id / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "name": "another"}))


class Account:
    """An account of one Swift."""

    def __init__(self, place: Path, request: pytest.FixtureRequest) -> None:
        self._swift, self._name = request.getfixturevalue("swift"), f"AUTH_{place.name}"
        self.config = self._swift.config(self._name)
        self.other_kinds = ["s3://bucket/trove-backup-data/x", "file:///mnt/trove-backup-data/x"]

    def abroad(self, location: str) -> str:
        return location.replace(f"{self._swift.url}/v1/{self._name}", "https://192.168.206.8:8080/v1/AUTH_055b2fb9a2264ae5")

    def edit(self, container: str, id: str) -> None:
        with self._swift.in_account(self._name) as client:
            path = f"/{container}_segments/{id}/manifest.json"
            client.put(path, content=json.dumps({**client.get(path).json(), "name": "another"})).raise_for_status()


@pytest.fixture
def regions(place: Path, pool: str) -> Callable[[str], list[Service]]:
    """Two services with one configuration of their store."""

    def start(config: str) -> list[Service]:
        services = []
        base = pool.rpartition(".")[0]
        for number in range(2):
            own = place / f"region{number + 1}"
            own.mkdir(mode=0o711)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            service = Service(own, f"{base}.{128 * number}/25", port, config=config)
            services.append(service.start())
        return services

    return start


@pytest.mark.parametrize("kind", [Folder, Account])
def test_a_backup_of_region_one_is_restored_in_region_two(
    regions: Callable[[str], list[Service]], place: Path, request: pytest.FixtureRequest, kind: type[Folder | Account]
) -> None:
    shared = kind(place, request)
    west, east = regions(shared.config)
    try:
        one = west.create("mysql1")
        with west.sql(one["id"]) as connection:
            fill(connection, 1000)
            first = checksums(connection)
        full = west.backup("mysql1", "full", swift_container="trove-backup-data")
        with west.sql(one["id"]) as connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM db1.orders WHERE id % 3 = 0")
            second = checksums(connection)
        child = west.backup("mysql1", "child", incremental=1)

        def record(name: str, location: str, **fields: object) -> dict[str, object]:
            source = {"remote_location": location, "local_datastore_version_id": VERSION, "size": 0.3, **fields}
            return dict(east.call("POST", "/backups", {"backup": {"name": name, "restore_from": source}}).json()["backup"])

        made = record("test-restore", full["locationRef"])
        trove = ("status", "size", "instance_id", "parent_id", "locationRef", "project_id", "description")
        assert [made[key] for key in trove] == ["RESTORED", 0.3, None, None, full["locationRef"], "default", None]
        assert made["datastore"] == {"type": "mariadb", "version": "10.11", "version_id": VERSION}
        assert made["id"] not in (full["id"], child["id"])
        assert (made["restorable"], made["stored_size"]) == (True, full["stored_size"])
        elsewhere = shared.abroad(child["locationRef"])
        options = ["--restore-from", elsewhere, "--restore-datastore-version", "10.11", "--restore-size", "1"]
        chain = east.cli_json("backup", "create", "chain", *options)
        assert (chain["kind"], chain["parent_id"], chain["locationRef"]) == ("incremental", None, elsewhere)

        for name, backup, sums in (("mysql2", made, first), ("mysql3", chain, second)):
            restored = east.create(name, restorePoint={"backupRef": backup["id"]})
            with east.sql(restored["id"]) as connection:
                assert checksums(connection) == sums
        job = east.wait(east.act(f"/backups/{chain['id']}/action", {"verify": {}}))
        assert job["output"]["chain"] == [full["id"], child["id"]]

        # What an instance was restored from is no parent of its own backups; and nothing stands on a record.
        fresh = east.backup("mysql3", "fresh", incremental=1)
        assert (fresh["kind"], fresh["parent_id"]) == ("full", None)
        with pytest.raises(Refused) as refused:
            east.backup("mysql3", "bad", incremental=1, parent_id=chain["id"])
        assert refused.value.status == 400

        gone = "00000000-0000-0000-0000-000000000000"
        for location, words in (
            *((location, "not in this kind of store") for location in shared.other_kinds),
            (elsewhere.replace(child["id"], gone), "Failed to restore backup from"),
            ("trove-backup-data/../etc/passwd", "does not contain a container"),
            (f"trove-backup-data/{gone}.xbstream.gz", "no backup found"),
            ("just-a-word", "does not contain a container"),
        ):
            with pytest.raises(Refused) as refused:
                record("bad", location)
            assert (refused.value.status, refused.value.code) == (400, "InvalidRequest")
            assert words in refused.value.message
        with pytest.raises(Refused) as refused:
            record("bad", full["locationRef"], local_datastore_version_id="10.4")
        assert refused.value.status == 400

        # The record goes, the objects stay.
        east.wait(east.call("DELETE", f"/backups/{made['id']}", now="true").headers["Strongroom-Job"])
        west.wait(west.act(f"/backups/{full['id']}/action", {"verify": {}}))

        # The original goes, and the record cannot be restored any more.
        shared.edit("trove-backup-data", full["id"])
        with pytest.raises(Refused) as refused:
            east.create("mysql4", restorePoint={"backupRef": chain["id"]})
        assert (refused.value.status, refused.value.code) == (409, "Conflict")
        west.wait(west.call("DELETE", f"/backups/{full['id']}", cascade="true", now="true").headers["Strongroom-Job"])
        for params in (
            lambda: east.create("mysql5", restorePoint={"backupRef": chain["id"]}),
            lambda: east.act("/instances/mysql3/action", {"restore": {"backupRef": chain["id"]}}),
            lambda: east.act(f"/backups/{chain['id']}/action", {"verify": {}}),
        ):
            with pytest.raises(Refused) as refused:
                params()
            assert (refused.value.status, refused.value.code) == (404, "NotFound")
            assert "which no longer exists" in refused.value.message
    finally:
        for service in (west, east):
            service.kill()
