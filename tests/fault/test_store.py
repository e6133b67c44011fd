"""A store that is full, read-only, damaged or lying; a data directory that cannot be read; the wrong key."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.load import fill
from support.service import Failed, Refused, Service, checksums

ROWS = 20000


@pytest.fixture
def mounted(place: Path) -> Iterator[Path]:
    """A small file system for the store."""
    top = place / "store"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=2770", "tmpfs", str(top)], check=True)
    yield top
    subprocess.run(["umount", "-l", str(top)], check=True)


def loaded(service: Service) -> dict[str, Any]:
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection, ROWS)
    return one


@pytest.mark.root
def test_a_full_store_fails_the_backup_until_there_is_space(serve: Callable[..., Service], mounted: Path) -> None:
    service = serve(config=f'[storage]\npath = "{mounted}"\n[artifact]\nsegment_size = 1048576\n')
    one = loaded(service)
    with pytest.raises(Failed) as failed:
        service.backup("mysql1", "b")
    assert failed.value.job["fault"]["code"] == "StorageFull"
    assert failed.value.job["fault"]["remedy"]
    assert [p for p in mounted.rglob("*") if p.is_file()] == []
    view = service.get(f"/instances/{one['id']}")["instance"]
    assert view["status"] == "ACTIVE"
    assert "Failed to create backup" in view["fault"]["message"].replace("\n    ", "")
    subprocess.run(["mount", "-o", "remount,size=256m", str(mounted)], check=True)
    assert service.backup("mysql1", "b2")["status"] == "COMPLETED"
    assert "fault" not in service.get(f"/instances/{one['id']}")["instance"]


@pytest.mark.root
def test_a_read_only_store(serve: Callable[..., Service], mounted: Path) -> None:
    service = serve(config=f'[storage]\npath = "{mounted}"\n')
    loaded(service)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(Failed) as failed:
        service.backup("mysql1", "b")
    assert failed.value.job["fault"]["code"] == "StorageDenied"
    assert "read-only" in str(failed.value.job["fault"]).lower()


def segments(service: Service, backup: dict[str, Any]) -> list[Path]:
    return sorted((service.data_dir / "store" / backup["container"] / backup["id"]).glob("0*"))


def cut(service: Service, backup: dict[str, Any]) -> None:
    damaged = segments(service, backup)[1]
    os.truncate(damaged, damaged.stat().st_size // 2)


def flip(service: Service, backup: dict[str, Any]) -> None:
    damaged = segments(service, backup)[1]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)


def lose(service: Service, backup: dict[str, Any]) -> None:
    segments(service, backup)[-1].unlink()


def swap(service: Service, backup: dict[str, Any]) -> None:
    first, second = segments(service, backup)[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def lie(change: Callable[[dict[str, Any]], object]) -> Callable[[Service, dict[str, Any]], None]:
    def damage(service: Service, backup: dict[str, Any]) -> None:
        path = service.data_dir / "store" / backup["container"] / backup["id"] / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return damage


def not_json(service: Service, backup: dict[str, Any]) -> None:
    (service.data_dir / "store" / backup["container"] / backup["id"] / "manifest.json").write_text("{" * 100000)


def no_manifest(service: Service, backup: dict[str, Any]) -> None:
    (service.data_dir / "store" / backup["container"] / backup["id"] / "manifest.json").unlink()


def many(manifest: dict[str, Any]) -> None:
    manifest["segments"] = [manifest["segments"][0]] * 1_000_000
    manifest["raw_size"] = manifest["segments"][0]["raw"] * 1_000_000
    manifest["stored_size"] = manifest["segments"][0]["stored"] * 1_000_000


DAMAGE = {
    "cut": (cut, {"ArtifactCorrupt"}),
    "flipped": (flip, {"ArtifactCorrupt"}),
    "missing": (lose, {"ArtifactMissing"}),
    "swapped": (swap, {"ArtifactCorrupt"}),
    "wrong hash": (lie(lambda m: m["segments"][0].update(sha256="0" * 64)), {"ManifestInvalid"}),  # the catalog knows its own
    "wrong length": (lie(lambda m: m["segments"][0].update(raw=m["segments"][0]["raw"] - 1)), {"ManifestInvalid"}),
    "consistent wrong length": (
        lie(lambda m: (m["segments"][0].update(raw=m["segments"][0]["raw"] - 1), m.update(raw_size=m["raw_size"] - 1))),
        {"ManifestInvalid"},
    ),
    "path out": (lie(lambda m: m.update(id="../../etc")), {"ManifestInvalid"}),
    "container out": (lie(lambda m: m.update(container="../..")), {"ManifestInvalid"}),
    "a million segments": (lie(many), {"ManifestInvalid"}),
    "not JSON": (not_json, {"ManifestInvalid"}),
    "no manifest": (no_manifest, {"ArtifactMissing"}),
}


def test_all_damage_is_found_and_nothing_is_changed(service: Service) -> None:
    one = loaded(service)
    with service.sql(one["id"]) as connection:
        before = checksums(connection)
    good = service.backup("mysql1", "good")
    store = service.data_dir / "store" / good["container"] / good["id"]
    copy = service.place / "copy"
    subprocess.run(["cp", "-a", str(store), str(copy)], check=True)
    for number, (what, (damage, codes)) in enumerate(DAMAGE.items()):
        damage(service, good)
        with pytest.raises(Failed) as failed:
            service.wait(service.act(f"/backups/{good['id']}/action", {"verify": {"prepare": False}}))
        assert failed.value.job["fault"]["code"] in codes, what
        assert service.get(f"/backups/{good['id']}")["backup"]["verified"]["ok"] is False
        with pytest.raises(Failed) as failed:
            service.wait(service.act("/instances/mysql1/action", {"restore": {"backupRef": good["id"]}}))
        assert failed.value.job["fault"]["code"] in codes, what
        view = service.get("/instances/mysql1")["instance"]
        assert (view["status"], view["old_data"]) == ("ACTIVE", []), what
        if number == 0:
            with pytest.raises(Failed):
                service.create("mysql2", restorePoint={"backupRef": good["id"]})
            assert service.get("/instances/mysql2")["instance"]["status"] == "ERROR"
        subprocess.run(["rm", "-rf", str(store)], check=True)
        subprocess.run(["cp", "-a", str(copy), str(store)], check=True)
    with service.sql(one["id"]) as connection:
        assert checksums(connection) == before
    service.wait(service.act(f"/backups/{good['id']}/action", {"verify": {"prepare": True}}))
    assert [p.name for p in (service.data_dir / "instances" / one["id"]).iterdir() if ".new-" in p.name] == []


def test_a_wrong_or_missing_identity(serve: Callable[..., Service], place: Path) -> None:
    from strongroom.artifact import new_identity

    right, recipient = new_identity()
    wrong, _ = new_identity()
    key = place / "identity"
    key.touch(mode=0o600)
    key.write_text(right)
    key.chmod(0o600)
    service = serve(config=f'[encryption]\nrecipients = ["{recipient}"]\nidentity_files = ["{key}"]\n')
    loaded(service)
    backup = service.backup("mysql1", "b")
    key.write_text(wrong)
    with pytest.raises(Failed) as failed:
        service.wait(service.act("/instances/mysql1/action", {"restore": {"backupRef": backup["id"]}}))
    assert failed.value.job["fault"]["code"] == "CannotDecrypt"
    key.unlink()
    with pytest.raises((Failed, Refused)) as gone:
        service.wait(service.act("/instances/mysql1/action", {"restore": {"backupRef": backup["id"]}}))
    assert str(key) in str(gone.value)
    assert service.get("/instances/mysql1")["instance"]["status"] == "ACTIVE"
    assert service.backup("mysql1", "needs no identity")["status"] == "COMPLETED"
    key.touch(mode=0o600)
    key.write_text(right)
    service.wait(service.act("/instances/mysql1/action", {"restore": {"backupRef": backup["id"]}}))


@pytest.mark.root
def test_a_data_directory_that_cannot_be_read(service: Service) -> None:
    one = loaded(service)
    table = service.data_dir / "instances" / one["id"] / "data" / "db1" / "customers.ibd"
    owner = table.stat()
    os.chown(table, 0, 0)
    table.chmod(0o600)
    with pytest.raises(Failed) as failed:
        service.backup("mysql1", "b")
    assert "customers.ibd" in failed.value.job["fault"]["message"]
    assert service.objects("database_backups") == []
    os.chown(table, owner.st_uid, owner.st_gid)
    assert service.backup("mysql1", "b2")["status"] == "COMPLETED"
