"""Results of verifications: objects that never change, of which the right one counts."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from strongroom.artifact import Location, Verification, delete_artifact, keep_verification, load_verification, read_manifest
from strongroom.artifact.records.numbered import numbered_key
from strongroom.artifact.records.verification import LEVELS, supersedes
from strongroom.errors import StorageDenied
from strongroom.storage import Store
from support.artifacts import noise, write_artifact

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def result(store: Store, where: Location, job: str, *, ok: bool = True, level: Any = "content", **more: Any) -> Verification:
    values = {"manifest_sha256": read_manifest(store, where)[1], "at": WHEN, "message": None if ok else "segment 3 is damaged"}
    return Verification(id=where.id, container=where.container, job=job, ok=ok, level=level, **{**values, **more})


@pytest.mark.parametrize(
    ("results", "counts"),
    [
        ([("content", True), ("content", False)], 1),
        ([("content", False), ("content", True)], 1),
        ([("content", False), ("sizes", True)], 0),
        ([("tables", True), ("content", True)], 0),
        ([("tables", True), ("content", False)], 1),
        ([("tables", False), ("content", False), ("content", True)], 0),
        ([("tables", False), ("sizes", False), ("prepared", True), ("tables", True)], 3),
        ([("tables", True), ("sizes", False), ("sizes", True)], 2),
        ([("sizes", True), ("content", True), ("prepared", True)], 2),
    ],
)
def test_weaker_verification_does_not_clear_damage(store: Store, here: Location, results: list[Any], counts: int) -> None:
    write_artifact(store, here, noise(1000))
    for number, (level, ok) in enumerate(results):
        keep_verification(store, result(store, here, f"job{number}", ok=ok, level=level))
    found = load_verification(store, here, read_manifest(store, here)[1])
    assert found is not None
    assert found.job == f"job{counts}"


def test_results_are_new_objects_one_per_job(store: Store, here: Location) -> None:
    write_artifact(store, here, noise(1000))
    clocks = itertools.count()
    for job, level in (("a", "sizes"), ("a", "sizes"), ("b", "content"), ("b", "content"), ("c", "tables")):
        # a clock that goes back changes nothing: the number counts
        keep_verification(store, result(store, here, job, level=level, at=WHEN - timedelta(days=next(clocks))))
    assert [stat.key for stat in store.list(here.verifications)] == [
        numbered_key(here.verifications, number) for number in range(3)
    ]
    found = load_verification(store, here, read_manifest(store, here)[1])
    assert found is not None
    assert found.job == "c"
    delete_artifact(store, here)
    assert list(store.list("box")) == []


def test_replaced_results_are_deleted_and_the_same_one_counts(
    store: Store, here: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that forbids deletion keeps all."""
    write_artifact(store, here, noise(1000))
    sha256, chance = read_manifest(store, here)[1], random.Random(7)
    made = [result(store, here, f"job{n}", ok=chance.random() < 0.5, level=chance.choice(LEVELS)) for n in range(40)]
    for number, one in enumerate(made):
        keep_verification(store, one)
        counts = made[0]
        for later in made[: number + 1]:
            counts = later if supersedes(later.ok, later.level, counts.ok, counts.level) else counts
        assert load_verification(store, here, sha256) == counts
    left = [stat.key for stat in store.list(here.verifications)]
    assert len(left) <= 2 * len(LEVELS)
    assert left[-1] == numbered_key(here.verifications, len(made) - 1)

    def refuse(keys: Any) -> None:
        raise StorageDenied("objects are locked")

    monkeypatch.setattr(type(store), "delete", lambda self, keys: refuse(keys))
    keep_verification(store, result(store, here, "last"))
    assert len(list(store.list(here.verifications))) == len(left) + 1


def test_results_of_other_artifacts_do_not_count(store: Store, here: Location) -> None:
    write_artifact(store, here, noise(1000))
    sha256 = read_manifest(store, here)[1]
    other = Location(container="box", id="two")
    write_artifact(store, other, noise(1000))
    for number, data in enumerate(
        [
            result(store, other, "copied").model_dump_json().encode(),
            result(store, here, "of an exchanged manifest", manifest_sha256="0" * 64).model_dump_json().encode(),
            b'{"ok": true}',
            b"",
            b"x" * 200_000,
        ]
    ):
        store.put(numbered_key(here.verifications, number), data)
    store.put(f"{here.verifications}/99999999.json", result(store, here, "far ahead").model_dump_json().encode())
    assert load_verification(store, here, sha256) is None
    keep_verification(store, result(store, here, "ours", ok=False))
    found = load_verification(store, here, sha256)
    assert found is not None
    assert (found.job, found.ok) == ("ours", False)
