"""The main job on a real server: full, incrementals, restore to a new instance and in place, compared by data."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from support.load import Writer, fill, proven
from support.service import Refused, Service, checksums

USERS = [
    pytest.param(None, id="mysql", marks=pytest.mark.root),
    pytest.param("nobody", id="plain-user", marks=pytest.mark.root),
]


def resident(service: Service) -> float:
    """The resident memory of the service, in MB."""
    assert service.process is not None
    (line,) = (x for x in Path(f"/proc/{service.process.pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def loaded(service: Service) -> set[str]:
    """The packages from which the service has loaded machine code."""
    assert service.process is not None
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    return set(re.findall(r"/site-packages/([a-z0-9]+)", maps))


@pytest.mark.parametrize("user", USERS)
def test_full_incrementals_accident_restore_new_and_in_place(serve: Callable[..., Service], user: str | None) -> None:
    service = serve(user=user)
    assert resident(service) < 115, "a service that has just started uses about 100 MB"
    assert not {"numpy", "psycopg", "cryptography", "obstore", "pyrage", "yaml"} & loaded(service)
    one = service.create(
        "mysql1",
        databases=[{"name": "db1"}, {"name": "db2"}],
        users=[{"name": "user1", "password": "pass-of-user1", "databases": [{"name": "db1"}]}],
    )
    assert (one["status"], one["operating_status"], one["datastore"]["version"]) == ("ACTIVE", "HEALTHY", "10.11")
    assert one["port"] == 3306
    with service.sql(one["id"]) as connection:
        fill(connection)
        before = checksums(connection)
    still = {name: sums for name, sums in before.items() if name in ("db1.customers", "db1.orders")}
    assert len(still) == 2

    with Writer(lambda: service.sql(one["id"])) as writer:
        committed = writer.committed
        full = service.backup("mysql1", "full")
        first = service.backup("mysql1", "inc1", incremental=1)
        committed_last = writer.committed
        second = service.backup(one["id"], "inc2", parent_id=first["id"], incremental=1)
    assert [b["kind"] for b in (full, first, second)] == ["full", "incremental", "incremental"]
    assert (first["parent_id"], second["parent_id"]) == (full["id"], first["id"])
    assert second["raw_size"] < full["raw_size"]
    with service.sql(one["id"]) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE db1.orders")

    two = service.create("mysql2", restorePoint={"backupRef": second["id"]})
    with service.sql(two["id"]) as connection:
        after = checksums(connection)
        assert {name: after[name] for name in still} == still
        proven(connection, committed_last)
    assert two["address" if "address" in two else "ip"] != one["address" if "address" in one else "ip"]
    assert [d["name"] for d in service.get(f"/instances/{two['id']}/databases")["databases"]] == ["db1", "db2"]
    users = service.get(f"/instances/{two['id']}/users")["users"]
    assert [(u["name"], u["host"], [d["name"] for d in u["databases"]]) for u in users] == [("user1", "%", ["db1"])]

    # An older point of the same chain, too.
    three = service.create("mysql3", restorePoint={"backupRef": full["id"]})
    with service.sql(three["id"]) as connection:
        proven(connection, committed)

    job = service.wait(service.act("/instances/mysql1/action", {"restore": {"backupRef": second["id"]}}))
    assert job["backup_id"] == second["id"]
    with service.sql(one["id"]) as connection:
        after = checksums(connection)
        assert {name: after[name] for name in still} == still
        proven(connection, committed_last)
    view = service.get("/instances/mysql1")["instance"]
    assert view["id"] == one["id"]
    assert len(view["old_data"]) == 1

    # A restore begins a new lineage: the next incremental is refused on the old chain, and is a full by itself.
    with pytest.raises(Refused) as refused:
        service.backup("mysql1", "bad", parent_id=second["id"], incremental=1)
    assert (refused.value.status, refused.value.code) == (409, "LineageChanged")
    fresh = service.backup("mysql1", "fresh", incremental=1)
    assert (fresh["kind"], fresh["parent_id"]) == ("full", None)
    assert "replaced" in fresh["reason"]

    service.wait(service.act("/instances/mysql1/action", {"discard_old": {}}))
    assert service.get("/instances/mysql1")["instance"]["old_data"] == []

    owner = "mysql" if user is None else user
    for path in (service.data_dir / "instances" / one["id"]).rglob("*"):
        assert path.owner() == owner, path
    if user is None:
        assert (service.data_dir / "catalog.sqlite").stat().st_uid == 0
    for path in (service.data_dir / "store").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_gzip_and_encryption(serve: Callable[..., Service], place: Path) -> None:
    from strongroom.artifact import new_identity

    identity, recipient = new_identity()
    key = place / "identity"
    key.touch(mode=0o600)
    key.write_text(identity)
    key.chmod(0o600)
    service = serve(config=f'[encryption]\nrecipients = ["{recipient}"]\nidentity_files = ["{key}"]\n')
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection)
        before = checksums(connection)
    full = service.backup("mysql1", "full", codec="gzip")
    child = service.backup("mysql1", "inc", incremental=1)
    assert (full["codec"], full["encrypted"], child["codec"], child["encrypted"]) == ("gzip", True, "zstd", True)
    segments = [path for one in (full, child) for path in (service.data_dir / "store" / one["container"] / one["id"]).glob("0*")]
    assert segments
    for path in segments:
        assert path.read_bytes().startswith(b"age-encryption.org/v1")
    two = service.create("mysql2", restorePoint={"backupRef": child["id"]})
    with service.sql(two["id"]) as connection:
        assert checksums(connection) == before
    service.wait(service.act(f"/backups/{child['id']}/action", {"verify": {"prepare": True}}))
    assert service.get(f"/backups/{child['id']}")["backup"]["verified"]["ok"] is True
    secret = identity.splitlines()[-1].encode()
    for folder, _, names in os.walk(service.data_dir):  # in which the last job is still tidied up
        if "instances" not in Path(folder).parts:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    assert secret not in Path(folder, name).read_bytes()


def test_deleting_leaves_nothing_behind(service: Service) -> None:
    service.create("mysql1")
    full = service.backup("mysql1", "full", swift_container="mine")
    child = service.backup("mysql1", "inc", incremental=1, swift_container="other")
    with pytest.raises(Refused) as refused:
        service.call("DELETE", f"/backups/{full['id']}")
    assert refused.value.status == 409
    assert child["id"] in refused.value.message
    service.wait(service.call("DELETE", f"/backups/{full['id']}", cascade="true", now="true").headers["Strongroom-Job"])
    assert service.objects("mine") == []
    assert service.objects("other") == []
    assert service.get("/backups")["backups"] == []
    service.wait(service.call("DELETE", "/instances/mysql1").headers["Strongroom-Job"])
    with pytest.raises(Refused) as refused:
        service.get("/instances/mysql1")
    assert refused.value.status == 404
    assert list((service.data_dir / "instances").iterdir()) == []


def test_servers_survive_a_stop_of_the_service_and_the_next_start_finds_them(service: Service) -> None:
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@pid_file")
        (pid_file,) = cursor.fetchone()  # type: ignore[misc]
        pid = int(Path(pid_file).read_text())
        assert service.stop() == 0
        cursor.execute("SELECT 1")
    service.start()
    view = service.get("/instances/mysql1")["instance"]
    assert (view["status"], view["operating_status"]) == ("ACTIVE", "HEALTHY")
    assert int(Path(pid_file).read_text()) == pid
    service.wait(service.act("/instances/mysql1/action", {"restart": {}}))
    assert int(Path(pid_file).read_text()) != pid
