"""Chains: each backup is proven to stand on the one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import Location, Manifest, Parent, Positions, Witness, load_chain, read_manifest
from strongroom.errors import ArtifactMissing, ManifestInvalid
from strongroom.storage import Store
from support.artifacts import noise, write_artifact


def at(name: str, container: str = "box") -> Location:
    return Location(container=container, id=name)


def full(store: Store, name: str = "full", **fields: Any) -> Manifest:
    return write_artifact(store, at(name), noise(1000), **fields)


def child(store: Store, name: str, parent: Location, start: int, end: int, token: str | None = None, **fields: Any) -> Manifest:
    _, sha256 = read_manifest(store, parent)
    values: dict[str, Any] = {
        "kind": "incremental",
        "chain": "full",
        "parent": Parent(location=parent, manifest_sha256=sha256, token=token),
        "positions": Positions(from_lsn=start, to_lsn=end),
    }
    return write_artifact(store, at(name, fields.pop("container", "box")), noise(500), **{**values, **fields})


@pytest.fixture
def chain(store: Store) -> list[Manifest]:
    return [full(store), child(store, "one", at("full"), 100, 200), child(store, "two", at("one"), 200, 300, container="other")]


def test_chain_is_read_starting_with_the_full(store: Store, chain: list[Manifest]) -> None:
    assert load_chain(store, at("two", "other")) == chain
    assert load_chain(store, at("one")) == chain[:2]
    assert load_chain(store, at("full")) == chain[:1]


def test_missing_parent(store: Store, chain: list[Manifest]) -> None:
    store.delete([at("full").manifest])
    with pytest.raises(ArtifactMissing, match="box/one is based on box/full, which is missing"):
        load_chain(store, at("two", "other"))


def test_parent_that_was_changed(store: Store, top: Path, chain: list[Manifest]) -> None:
    file = top / "box" / "full" / "manifest.json"
    file.write_text(file.read_text().replace('"host": ""', '"host": "x"'))
    with pytest.raises(ManifestInvalid, match="whose manifest was replaced"):
        load_chain(store, at("one"))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"lineage": "another"}, "lineage"),
        ({"instance_id": "another"}, "instance_id"),
        ({"datastore": "postgresql"}, "datastore"),
        ({"datastore_version": "11.8"}, "datastore_version"),
        ({"chain": "another"}, "chain"),
        ({"positions": Positions(from_lsn=99, to_lsn=200)}, "LSN"),
        ({"positions": Positions(from_lsn=101, to_lsn=200)}, "LSN"),
        ({"positions": Positions()}, "LSN"),
    ],
)
def test_backups_that_do_not_belong_together(store: Store, fields: dict[str, Any], what: str) -> None:
    full(store)
    child(store, "one", at("full"), 100, 200, **fields)
    with pytest.raises(ManifestInvalid, match=f"box/one cannot be based on box/full: they differ in {what}"):
        load_chain(store, at("one"))


def test_child_with_another_token_than_its_parent(store: Store) -> None:
    left = Witness(token="a" * 32)
    full(store, witness=left)
    for name, token in (("one", "a" * 32), ("two", None), ("three", "b" * 32)):
        child(store, name, at("full"), 100, 200, token=token)
    load_chain(store, at("one"))
    load_chain(store, at("two"))  # written before tokens were
    with pytest.raises(ManifestInvalid, match="box/three cannot be based on box/full: they differ in witness"):
        load_chain(store, at("three"))


def test_circle(store: Store, top: Path, chain: list[Manifest]) -> None:
    file = top / "box" / "one" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["parent"]["location"]["id"] = "one"
    file.write_text(json.dumps(manifest))
    with pytest.raises(ManifestInvalid, match="cycle"):
        load_chain(store, at("one"))


def test_positions_of_one_server_are_in_the_order_of_its_history() -> None:
    histories = [
        [Positions(to_lsn=9), Positions(to_lsn=10, binlog_file="a.000001", binlog_position=4)],
        [Positions(wal_stop="0/FFFFFFFF"), Positions(wal_stop="1/0")],
        [
            Positions(gtid="", binlog_file="bin.999999", binlog_position=4000),
            Positions(gtid="", binlog_file="bin.1000000", binlog_position=4),
            Positions(gtid="", binlog_file="bin.1000000", binlog_position=900),
        ],
    ]
    for history in histories:
        reached = [positions.reached for positions in history]
        assert sorted(set(reached)) == reached
    assert Positions().reached == 0
