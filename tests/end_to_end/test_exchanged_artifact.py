"""Who can write to the bucket puts another backup in the place of one: it is refused by restores, verifies and incrementals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from support.load import fill
from support.service import Service


def exchange(store: Path, target: str, other: str) -> None:
    """Copy the artifact ``other`` over ``target``, with all ids in its manifest made to fit."""
    here, there = store / "database_backups" / target, store / "database_backups" / other
    for path in here.iterdir():
        path.unlink()
    for path in there.iterdir():
        (here / path.name).write_bytes(path.read_bytes())
    old = json.loads((here / "manifest.json").read_text())
    text = (here / "manifest.json").read_text().replace(other, target)
    (here / "manifest.json").write_text(text)
    assert old["id"] == other


def test_replaced_artifact_is_refused(serve: Callable[..., Service], place: Path) -> None:
    store = place / "store"
    service = serve(config=f'[storage]\npath = "{store}"\n')
    one, two = service.create("mysql1"), service.create("mysql2")
    for instance in (one, two):
        with service.sql(instance["id"]) as connection:
            fill(connection, 100)
    mine, other = service.backup("mysql1", "mine"), service.backup("mysql2", "other")
    exchange(store, mine["id"], other["id"])
    text = (store / "database_backups" / mine["id"] / "manifest.json").read_text()
    (store / "database_backups" / mine["id"] / "manifest.json").write_text(text.replace(two["id"], one["id"]))

    restore = service.cli("restore", "mine", "--name", "stolen", check=False)
    assert restore.returncode != 0
    assert "is not the one that was written" in restore.stderr
    verify = service.cli("backup", "verify", "mine", check=False)
    assert verify.returncode != 0
    assert "is not the one that was written" in verify.stderr
    child = service.backup("mysql1", "child", incremental=1)
    assert (child["kind"], child["parent_id"]) == ("full", None)
    assert "is not the one that was written" in child["reason"]
