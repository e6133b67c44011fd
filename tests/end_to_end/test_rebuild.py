"""The state directory is lost. What is in the store is found again, and restores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from support.held import until
from support.load import fill
from support.service import Service, checksums


def test_the_state_directory_is_lost_and_backups_are_found_again(serve: Callable[..., Service], place: Path) -> None:
    store = place / "store"
    service = serve(config=f'[storage]\npath = "{store}"\n')
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection)
    full = service.backup("mysql1", "full", description="the first", swift_container="archive")
    with service.sql(one["id"]) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM db1.orders WHERE id % 3 = 0")
        before = checksums(connection)
    child = service.backup("mysql1", "child", incremental=1)
    told = service.cli("backup", "verify", "child").stderr
    assert "Verified 2 backups of the chain" in told and "every segment read" in told
    full, child = (service.get(f"/backups/{one['id']}")["backup"] for one in (full, child))
    assert (full["verified"]["links"], child["verified"]["links"]) == (1, 2)
    lost = service.backup("mysql1", "lost", swift_container="archive")
    child_of_lost = service.backup("mysql1", "child-of-lost", parent_id=lost["id"], incremental=1)
    broken = service.backup("mysql1", "broken")
    record = service.cli_json(
        "backup", "create", "record", "--restore-from", full["locationRef"], "--restore-datastore-version", "10.11",
        "--restore-size", "1",
    )  # fmt: skip
    assert record["status"] == "RESTORED"
    service.cli("backup", "rename", "child", "the-good-one")
    service.cli("backup", "protect", "the-good-one")
    label = store / "database_backups" / child["id"] / "labels" / "00000001.json"
    until(label.exists, "the label is in the store")
    child = service.get(f"/backups/{child['id']}")["backup"]
    assert (child["name"], child["protected"]) == ("the-good-one", True)

    assert service.stop() == 0
    key = (service.data_dir / "control-plane" / "seal.key").read_text()
    shutil.rmtree(service.data_dir)
    shutil.rmtree(store / "archive" / lost["id"])
    (store / "database_backups" / broken["id"] / "manifest.json").write_text('{"format": 1, "id": "no')
    unfinished = store / "archive" / "11111111-2222-3333-4444-555555555555"
    shutil.copytree(store / "archive" / full["id"], unfinished)
    (unfinished / "manifest.json").unlink()
    (store / "archive" / "somebody's notes").mkdir()
    (store / "archive" / "somebody's notes" / "x").write_text("no backup")

    service.start()
    assert service.get("/backups")["backups"] == []
    assert "3 of them have no seal of this control plane" in service.cli("catalog", "rebuild", "--dry-run").stderr
    (service.data_dir / "control-plane" / "seal.key").write_text(key)
    manifest = store / "database_backups" / child["id"] / "manifest.json"
    genuine = manifest.read_text()
    manifest.write_text(genuine.replace('"name": "child"', '"name": "other"'))
    forged = service.cli("catalog", "rebuild", "--dry-run")
    assert f"database_backups/{child['id']}: its manifest was replaced" in forged.stderr
    manifest.write_text(genuine)
    dry = json.loads(service.cli("catalog", "rebuild", "--dry-run", "--format", "json").stdout)
    assert {b["id"] for b in dry} == {full["id"], child["id"], child_of_lost["id"]}
    assert service.get("/backups")["backups"] == []
    only = service.cli("catalog", "rebuild", "--container", "archive")
    assert "1 added" in only.stderr
    done = service.cli("catalog", "rebuild")
    assert "have no seal" not in done.stderr
    assert f"database_backups/{broken['id']}: " in done.stderr
    assert f"archive/{unfinished.name}: " in done.stderr
    assert f"database_backups/{child_of_lost['id']}: its parent archive/{lost['id']} does not exist" in done.stderr
    assert "notes" not in done.stderr
    assert "3 found, 1 known, 2 added, 3 broken." in done.stderr

    found = {b["id"]: b for b in service.get("/backups")["backups"]}
    assert found.keys() == {full["id"], child["id"], child_of_lost["id"]}
    for was in (full, child):
        now = found[was["id"]]
        same = set(was) - {"created", "updated", "job_id", "reason", "profile"}
        assert {key: now[key] for key in same} == {key: was[key] for key in same}
        assert now["restorable"] is True
    assert found[child_of_lost["id"]]["restorable"] is False
    again = service.cli("catalog", "rebuild")
    assert "3 found, 3 known, 0 added" in again.stderr

    two = service.create("mysql2", restorePoint={"backupRef": child["id"]})
    with service.sql(two["id"]) as connection:
        assert checksums(connection) == before
    fresh = service.backup("mysql2", "fresh", incremental=1)
    assert (fresh["kind"], fresh["parent_id"]) == ("full", None)
    service.cli("backup", "unprotect", "the-good-one")
    service.wait(service.call("DELETE", f"/backups/{full['id']}", cascade="true", now="true").headers["Strongroom-Job"])
    assert not (store / "archive" / full["id"]).exists()
