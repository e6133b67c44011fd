"""Retention on a real catalog and a real directory store: what is marked, what is swept, and what stops it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from strongroom.archive import list_series, load_head, load_trimmed
from strongroom.artifact import Location
from strongroom.catalog import (
    Attachment,
    Backup,
    Expiration,
    Fact,
    Hold,
    Host,
    Incident,
    Instance,
    Job,
    LogArchive,
    Policy,
    Removal,
    now,
    open_catalog,
)
from strongroom.errors import Busy, Conflict, Forbidden, InvalidRequest
from strongroom.flows import Site, open_site, undelete_backup
from strongroom.flows.archives.retention import sweep_logs
from strongroom.flows.chores.retention import read_stores, retain
from strongroom.flows.jobs import new_job, request_cancel
from strongroom.flows.kinds.deletion import discard_backup, request_delete_backup
from strongroom.flows.kinds.label import hold_backup
from strongroom.flows.kinds.verify import request_verify
from strongroom.flows.loop import begin_job, run_step, settle_job
from strongroom.flows.policies.requests import attach_policy, create_policy, delete_policy, detach_policy, update_policy
from strongroom.flows.recovery.location import open_log
from strongroom.flows.retention import clocks, turn
from strongroom.flows.retention.facts import find_facts
from strongroom.flows.retention.outlook import confirm_retention, show_retention
from strongroom.flows.retention.protection import Protection, show_protection
from strongroom.flows.retention.turn import apply_rules, select_databases
from strongroom.protection.policy import PolicySpec
from strongroom.settings import load
from strongroom.storage import open_store
from support.archives import append, begin
from support.artifacts import write_artifact

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TODAY = datetime.now(UTC).replace(microsecond=0)


@dataclass
class World:
    """A service without agents, with one instance; its jobs run when a test says so."""

    site: Site
    store: Path

    def add(self, name: str, days: float, parent: str | None = None, **columns: Any) -> None:
        """A backup that was taken some days ago, with its manifest in the store."""
        at = TODAY - days * DAY
        with self.site.catalog.write() as session:
            chain = session.get_one(Backup, parent).chain_id if parent else name
            row = Backup(
                id=name,
                project="p",
                name=name,
                instance_name="orders",
                kind="incremental" if parent else "full",
                parent_id=parent,
                chain_id=chain,
                datastore="mariadb",
                series="10.11",
                stored_size=100,
                **{"status": "COMPLETED", "container": "c", "raw_size": 1000, "instance_id": "orders", **columns},
            )
            row.created = row.started = row.finished = row.updated = at
            session.add(row)
        if row.status == "COMPLETED":
            self.put(name)

    def put(self, name: str) -> None:
        for key in ("00000000", "manifest.json"):
            self.site.stores.default.put(f"c/{name}/{key}", b"{}")

    def add_policy(self, name: str = "gold", attach: bool = True, **settings: Any) -> Policy:
        policy = create_policy(self.site, "p", name, PolicySpec.model_validate({"keep_last": 2, **settings}))
        if attach:
            attach_policy(self.site, "p", name, ["orders"])
        return policy

    def age(self) -> None:
        """Let the grace period of all marks end."""
        with self.site.catalog.write() as session:
            for mark in session.scalars(select(Expiration)):
                mark.marked = mark.sweep_at = now() - timedelta(seconds=1)

    def turn(self) -> list[Job]:
        has_work, before = select_databases(self.site, ["orders"]), self.marked | set(self.incidents)
        jobs = apply_rules(self.site, "orders")
        assert has_work or (not jobs and self.marked | set(self.incidents) == before), "the look at many databases sees the same"
        return jobs

    def run(self, jobs: list[Job]) -> None:
        for job in jobs:
            asyncio.run(begin_job(self.site, job.id))
            failure = asyncio.run(run_step(self.site, job.id, job.kind, 0))
            asyncio.run(settle_job(self.site, job.id, failure))

    def sweep(self) -> None:
        self.run(self.turn())

    def read(self, table: Any, **values: Any) -> list[Any]:
        with self.site.catalog.read() as session:
            return list(session.scalars(select(table).filter_by(**values)))

    @property
    def marked(self) -> set[str]:
        return {mark.backup_id for mark in self.read(Expiration)}

    @property
    def left(self) -> set[str]:
        """Backups that exist, of which the store has the same."""
        rows = {row.id for row in self.read(Backup, deleted=None)}
        assert set(self.site.stores.default.folders("c")) == rows
        return rows

    @property
    def incidents(self) -> dict[str, str]:
        return {row.condition: row.detail for row in self.read(Incident, closed=None)}


@pytest.fixture
def world(place: Path, empty_catalog: Path) -> Iterator[World]:
    shutil.copy(empty_catalog, place)
    settings = load(service={"data_dir": place})
    site = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {"db1": lambda: None})  # type: ignore[dict-item, return-value]
    site.queue.start = lambda job: None
    with site.catalog.write() as session:
        session.add(
            Instance(
                id="orders",
                project="p",
                name="orders",
                host="db1",
                datastore="mariadb",
                series="10.11",
                flavor="d1",
                volume_size=1,
                task=None,
            )
        )
    yield World(site, settings.store_path)
    site.catalog.close()


@pytest.fixture
def chains(world: World) -> World:
    """Three chains of a full and an incremental. The policy keeps the newest chain; a person protects the full of the second."""
    for number, days in enumerate((6, 4, 2)):
        world.add(f"full{number}", days, protected=number == 1)
        world.add(f"inc{number}", days - 1, parent=f"full{number}")
    world.add_policy(keep_last=2, max_chain=2)
    return world


GONE = {"inc0", "full0", "inc1"}


def test_what_no_rule_keeps_is_marked_then_swept_children_first(chains: World) -> None:
    assert chains.turn() == []
    assert chains.marked == GONE and len(chains.left) == 6
    mark = chains.read(Expiration, backup_id="full0")[0]
    assert (mark.reason, mark.policy, mark.by_person) == ("no rule of policy gold keeps it (last 2)", "gold", False)
    assert mark.sweep_at - mark.marked >= timedelta(hours=24)
    assert chains.turn() == [], "its time has not come"
    chains.age()
    jobs = chains.turn()
    assert {job.backup_id for job in jobs} == {"full0", "inc1"}, "one job for a whole chain"
    assert chains.turn() == [], "they are being deleted already"
    chains.run(jobs)
    assert chains.left == {"full1", "full2", "inc2"}
    assert chains.marked == set()
    removal = chains.read(Removal, backup_id="inc0")[0]
    assert (removal.reason, removal.policy, removal.name) == ("no rule of policy gold keeps it (last 2)", "gold", "inc0")
    assert chains.turn() == []


def test_marked_backups_are_kept_again_when_the_rules_want_them(chains: World) -> None:
    chains.turn()
    damaged = {"ok": False, "prepared": False, "message": "damaged", "at": "2026-11-30T00:00:00+00:00"}
    with chains.site.catalog.write() as session:
        session.get_one(Backup, "full2").verified = damaged
    chains.age()
    chains.sweep()
    assert chains.left == {"full1", "inc1", "full2", "inc2"}, "inc1 is the newest good one now"
    assert chains.marked == set()


def test_a_hold_an_undelete_and_a_reader_win_until_the_sweep_begins(chains: World) -> None:
    chains.turn()
    chains.age()
    hold_backup(chains.site, "p", "inc0", reason="audit")
    assert chains.marked == {"inc1"}, "the hold keeps its full, too"
    job = request_verify_marked(chains, "inc1")
    assert chains.turn() == [], "it is being read"
    asyncio.run(settle_job(chains.site, job.id, {"code": "Cancelled", "message": "", "remedy": ""}))
    jobs = chains.turn()
    assert [job.backup_id for job in jobs] == ["inc1"]
    with pytest.raises(Busy, match="too late to hold it"):
        hold_backup(chains.site, "p", "inc1", reason="late")
    with pytest.raises(Busy, match="too late to undelete"):
        undelete_backup(chains.site, "p", "inc1")
    with pytest.raises(Conflict, match="DELETING"):
        request_verify_marked(chains, "inc1")
    chains.run(jobs)
    assert chains.left == {"full0", "inc0", "full1", "full2", "inc2"}


def request_verify_marked(world: World, backup: str) -> Job:
    """A job that reads the backup; where it would run does not matter."""
    with world.site.catalog.write() as session:
        session.merge(Host(name="db1", view={"versions": [], "free_bytes": 1}, seen=now()))
    return request_verify(world.site, "p", backup)


def test_a_hold_that_was_set_between_the_look_and_the_transaction_wins(chains: World, monkeypatch: pytest.MonkeyPatch) -> None:
    chains.turn()
    chains.age()
    real = turn.read_present

    def hold_meanwhile(site: Site, backups: Any) -> frozenset[str]:
        found = real(site, backups)
        hold_backup(site, "p", "inc0", reason="in that moment")
        return found

    monkeypatch.setattr(turn, "read_present", hold_meanwhile)
    chains.sweep()
    assert chains.left == {"full0", "inc0", "full1", "full2", "inc2"}


def test_deleted_backups_are_swept_without_a_policy(world: World) -> None:
    world.add("full", 3)
    world.add("inc", 2, parent="full")
    discard_backup(world.site, "p", "full", cascade=True)
    assert world.turn() == []
    world.age()
    world.sweep()
    assert world.left == set()
    assert world.read(Removal, backup_id="full")[0].reason == "deleted"


def test_imported_backups_keep_their_objects(world: World) -> None:
    world.add("theirs", 300, status="RESTORED", source={"artifact": {"container": "c", "id": "theirs"}}, instance_id=None)
    world.put("theirs")
    world.add("linked", 300, status="RESTORED", source={})
    world.put("linked")
    world.add("full", 1)
    world.add_policy(keep_last=1)
    world.turn()
    assert world.marked == set()
    discard_backup(world.site, "p", "theirs")
    world.age()
    retain(world.site)
    world.run([job for job in world.read(Job) if job.finished is None])
    assert {row.id for row in world.read(Backup, deleted=None)} == {"linked", "full"}
    assert set(world.site.stores.default.folders("c")) == {"theirs", "linked", "full"}


def test_what_a_registered_backup_refers_to_is_kept(chains: World) -> None:
    """As after ``backup create --restore-from``: a backup without objects of its own."""
    source = {"artifact": {"container": "c", "id": "inc0"}}
    chains.add("again", 0, status="RESTORED", source=source, instance_id=None)
    chains.turn()
    assert chains.marked == {"inc1"}
    outlook = show_retention(chains.site, "p", "orders")
    assert next(b for b in outlook.backups if b.id == "inc0").reasons == ["registered as another backup"]
    discard_backup(chains.site, "p", "inc0")
    chains.age()
    with chains.site.catalog.write() as session:
        job = new_job(session, "p", "verify", backup=session.get_one(Backup, "again"))
    assert "inc0" not in {job.backup_id for job in chains.turn()}, "it is being read"
    asyncio.run(settle_job(chains.site, job.id, {"code": "Cancelled", "message": "", "remedy": ""}))
    assert {job.backup_id for job in chains.turn()} == {"inc0"}, "a person deleted it"


def test_who_cancels_a_deletion_in_the_queue_gets_the_backups_back(chains: World) -> None:
    chains.turn()
    chains.age()
    jobs = {job.backup_id: job for job in chains.turn()}
    request_cancel(chains.site, "p", jobs["full0"].id)
    assert chains.marked == {"inc1"}
    hold_backup(chains.site, "p", "inc0", reason="audit")
    chains.run([jobs["inc1"]])
    chains.sweep()
    assert chains.left == {"full0", "inc0", "full1", "full2", "inc2"}
    job = request_delete_backup(chains.site, "p", "inc2")
    asyncio.run(begin_job(chains.site, job.id))
    asyncio.run(settle_job(chains.site, job.id, {"code": "StorageError", "message": "", "remedy": ""}))
    request_cancel(chains.site, "p", request_delete_backup(chains.site, "p", "inc2").id)
    assert chains.read(Backup, id="inc2")[0].status == "DELETE_FAILED", "some of its objects may be gone"


def test_the_clock_of_a_host_does_not_make_a_new_backup_old(world: World) -> None:
    """Times of a backup are those of its host, whose clock may have stood still; who requested it had the right time."""
    for name, days in (("before", 3), ("new", 2), ("newest", 1)):
        world.add(name, days)
    with world.site.catalog.write() as session:
        for row in (session.get_one(Backup, "new"), session.get_one(Backup, "newest")):
            row.started = row.finished = row.created - 3000 * DAY
    world.add_policy(keep_last=2)
    world.turn()
    assert world.marked == {"before"}
    assert status(world).newest == (TODAY - DAY).isoformat().replace("+00:00", "Z")


def test_nothing_is_swept_while_the_store_cannot_be_read(chains: World) -> None:
    chains.turn()
    chains.age()
    away = chains.store.with_name("away")
    chains.store.rename(away)
    chains.store.mkdir()
    assert chains.turn() == []
    assert "does not show container c" in chains.incidents["store unreadable"]
    chains.store.rmdir()
    away.rename(chains.store)
    chains.sweep()
    assert chains.left == {"full1", "full2", "inc2"}
    assert chains.incidents == {}


@pytest.mark.parametrize("is_mounted", [False, True], ids=["no container", "empty container"])
def test_a_deletion_during_an_outage_fails_and_is_repeated_later(world: World, is_mounted: bool) -> None:
    world.add("full", 1)
    world.add("failed", 1, status="FAILED", container="other", fault={"message": "disk full"})
    job = request_delete_backup(world.site, "p", "full")
    away = world.store.with_name("away")
    world.store.rename(away)
    (world.store / "c" if is_mounted else world.store).mkdir(parents=True)
    world.run([job])
    (row,) = world.read(Backup, id="full")
    assert row.status == "DELETE_FAILED" and "shows nothing in container c" in row.fault["message"]
    assert world.read(Removal) == []
    shutil.rmtree(world.store)
    away.rename(world.store)
    job = request_delete_backup(world.site, "p", "full")
    asyncio.run(begin_job(world.site, job.id))
    for _ in range(2):  # the service was killed before it recorded the end
        assert asyncio.run(run_step(world.site, job.id, job.kind, 0)) is None
    asyncio.run(settle_job(world.site, job.id, None))
    world.run([request_delete_backup(world.site, "p", "failed")])
    assert not world.read(Backup, deleted=None), "a failed backup may have left nothing in the store"
    assert set(world.site.stores.default.folders("c")) == set()


def test_missing_manifests_let_nothing_go(chains: World) -> None:
    """What a rule chose is not in the store: older backups take its place, and it stays listed."""
    chains.site.stores.default.delete(["c/full2/manifest.json"])
    chains.turn()
    assert chains.marked == {"inc0", "full0"}, "inc1 and its full are the newest good ones"


def test_failed_leftovers_go_after_seven_days_unless_they_are_complete(world: World) -> None:
    world.add("good", 1)
    world.add("young", 6, status="FAILED")
    world.add("old", 8, status="FAILED")
    world.add("complete", 9, status="FAILED")
    world.put("complete")
    world.add_policy(keep_last=1)
    world.turn()
    assert world.marked == {"old"}
    world.age()
    world.sweep()
    assert {row.id for row in world.read(Backup, deleted=None)} == {"good", "young", "complete"}


def test_a_deleted_instance_follows_its_last_policy(chains: World) -> None:
    with chains.site.catalog.write() as session:
        session.get_one(Instance, "orders").deleted = now()
    chains.turn()
    assert chains.marked == GONE


def test_without_a_policy_or_the_instance_everything_is_kept(chains: World) -> None:
    chains.turn()
    assert chains.marked == GONE
    detach_policy(chains.site, "p", "gold", ["orders"])
    chains.age()
    assert chains.turn() == []
    assert chains.marked == set()
    with chains.site.catalog.write() as session:
        session.delete(session.get_one(Instance, "orders"))
    attach_policy(chains.site, "p", "gold", [], whole_project=True)
    assert chains.turn() == []
    assert chains.marked == set(), "nobody knows to whom they belong"


def test_a_changed_policy_waits_a_day_even_if_the_grace_period_is_short(chains: World) -> None:
    chains.site.settings.retention.grace = 1
    chains.turn()
    assert all(mark.sweep_at - mark.marked >= timedelta(hours=23, minutes=59) for mark in chains.read(Expiration))
    with chains.site.catalog.write() as session:
        for row in session.scalars(select(Expiration)):
            session.delete(row)
        policy = session.scalars(select(Policy)).one()
        policy.updated = policy.created = TODAY - 30 * DAY
        for attachment in session.scalars(select(Attachment)):
            attachment.created = TODAY - 30 * DAY
    chains.turn()
    assert all(mark.sweep_at - mark.marked < timedelta(minutes=1) for mark in chains.read(Expiration))


@pytest.fixture
def long_ago(chains: World) -> World:
    """The project has had a strict policy for a year, and the database a generous one of its own."""
    detach_policy(chains.site, "p", "gold", ["orders"])
    chains.add_policy("strict", attach=False, keep_last=2)
    attach_policy(chains.site, "p", "strict", [], whole_project=True)
    chains.add_policy("generous", keep_last=100)
    with chains.site.catalog.write() as session:
        for row in [*session.scalars(select(Policy)), *session.scalars(select(Attachment))]:
            row.created = TODAY - 365 * DAY
        for policy in session.scalars(select(Policy)):
            policy.updated = TODAY - 365 * DAY
    chains.site.settings.retention.grace = 1
    chains.turn()
    assert chains.marked == set()
    return chains


def test_what_a_detached_policy_lets_go_waits_a_day(long_ago: World) -> None:
    detach_policy(long_ago.site, "p", "generous", ["orders"])
    long_ago.turn()
    assert long_ago.marked == GONE, "the policy of the project applies"
    assert all(mark.sweep_at - mark.marked >= timedelta(hours=24) for mark in long_ago.read(Expiration))


def test_a_deleted_instance_does_not_get_another_policy_when_its_own_is_deleted(long_ago: World) -> None:
    with long_ago.site.catalog.write() as session:
        session.get_one(Instance, "orders").deleted = TODAY - DAY
    delete_policy(long_ago.site, "p", "generous")
    long_ago.turn()
    assert long_ago.marked == set()


def test_a_mass_removal_waits_for_a_person(world: World) -> None:
    for number in range(8):
        world.add(f"full{number}", 20 - number)
    world.add_policy(keep_last=2, max_chain=1)
    world.turn()
    assert len(world.marked) == 6, "marks harm nobody"
    world.age()
    assert world.turn() == []
    assert "6 of 8 good backups would be removed" in world.incidents["retention waits"]
    waiting = show_retention(world.site, "p", "orders").waiting
    assert waiting is not None and waiting.brake == "mass"
    with pytest.raises(Conflict, match="waits for something else by now"):
        confirm_retention(world.site, "p", "orders", "0" * 12, is_admin=False)
    update_policy(world.site, "p", "gold", {"keep_last": 4})
    world.sweep()
    assert world.left == {"full4", "full5", "full6", "full7"}, "half of them go without a question"
    assert world.incidents == {}


def test_a_confirmation_lets_exactly_the_confirmed_backups_go(world: World) -> None:
    for number in range(8):
        world.add(f"full{number}", 20 - number)
    world.add_policy(keep_last=2, max_chain=1)
    world.turn()
    world.age()
    waiting = show_retention(world.site, "p", "orders").waiting
    assert waiting is not None
    confirm_retention(world.site, "p", "orders", waiting.code, is_admin=False)
    world.add("full8", 1)
    world.sweep()
    assert world.left == {"full6", "full7", "full8"} and world.marked == {"full6"}, "it was not on the list"
    world.age()
    world.sweep()
    assert world.left == {"full7", "full8"}, "one backup goes without a question"
    assert world.read(Removal, backup_id="full0")[0].asked_by == "unknown user"
    with pytest.raises(Conflict, match="does not wait for anything"):
        confirm_retention(world.site, "p", "orders", waiting.code, is_admin=False)


def test_a_small_policy_does_not_ask_every_day(world: World) -> None:
    """What was marked yesterday and what is marked today are two sweeps."""
    world.add_policy(keep_last=1)
    for number in range(6):
        world.age()
        world.add(f"full{number}", 9 - number)
        world.sweep()
        assert world.incidents == {}
    assert world.left == {"full4", "full5"} and world.marked == {"full4"}


def test_a_shrunken_full_stops_retention_until_it_is_verified(chains: World) -> None:
    with chains.site.catalog.write() as session:
        session.get_one(Backup, "full2").raw_size = 400
    assert chains.turn() == []
    assert chains.marked == set()
    assert "full2, has less than half the size of full1" in chains.incidents["retention waits"]
    waiting = show_retention(chains.site, "p", "orders").waiting
    assert waiting is not None and waiting.brake == "shrink"
    confirm_retention(chains.site, "p", "orders", waiting.code, is_admin=False)
    chains.turn()
    assert chains.marked == GONE and chains.incidents == {}


def test_later_small_fulls_do_not_release_the_brake(chains: World) -> None:
    """The database was emptied, and is backed up on schedule: its last good backups wait for a person."""
    with chains.site.catalog.write() as session:
        session.get_one(Backup, "full2").raw_size = 400
    for number in (3, 4):
        chains.add(f"full{number}", 1 - number / 10, raw_size=400)
    chains.turn()
    assert chains.marked == set()
    waiting = show_retention(chains.site, "p", "orders").waiting
    assert waiting is not None and waiting.message == "the newest full backup, full4, has less than half the size of full1"
    confirm_retention(chains.site, "p", "orders", waiting.code, is_admin=False)
    with chains.site.catalog.write() as session:  # what was confirmed is removed before what is older and large
        session.get_one(Backup, "inc2").deleted = session.get_one(Backup, "full2").deleted = now()
    chains.turn()
    assert chains.marked == GONE
    chains.add("full5", 0.1, raw_size=190)
    waiting = show_retention(chains.site, "p", "orders").waiting
    assert waiting is not None and "half the size of full4" in waiting.message
    chains.add("full6", 0, raw_size=900)
    assert show_retention(chains.site, "p", "orders").waiting is None, "the data is back"


def test_a_verified_full_may_be_small(chains: World) -> None:
    good = {"ok": True, "prepared": True, "level": "prepared", "message": None, "at": "2026-11-30T00:00:00+00:00"}
    with chains.site.catalog.write() as session:
        session.get_one(Backup, "full2").raw_size = 400
        session.get_one(Backup, "full2").verified = good
    chains.turn()
    assert chains.marked == GONE and chains.incidents == {}


def test_a_clock_that_jumps_stops_everything_until_it_is_right_again(chains: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"elapsed": 1000.0, "wall": TODAY.timestamp() + 300}
    monkeypatch.setattr(
        "strongroom.flows.chores.retention.read_clocks", lambda: clocks.Reading("boot", clock["elapsed"], clock["wall"])
    )
    retain(chains.site)
    assert chains.marked == GONE
    chains.age()
    clock["elapsed"] += 300
    clock["wall"] += 365 * 86400
    for _ in range(2):
        retain(chains.site)
        assert {row.status for row in chains.read(Backup)} == {"COMPLETED"}
    assert "went forward by 364 days" in chains.incidents["retention waits"]
    waiting = show_retention(chains.site, "p", "orders").waiting
    assert waiting is not None and waiting.brake == "clock"
    with pytest.raises(Forbidden):
        confirm_retention(chains.site, "p", "orders", waiting.code, is_admin=False)
    clock["wall"] -= 365 * 86400
    retain(chains.site)
    assert {row.id for row in chains.read(Backup, status="DELETING")} == GONE
    assert chains.incidents == {}


@dataclass
class Clock:
    """The clock of a host."""

    boot: str
    elapsed: float = 1000.0
    wall: float = TODAY.timestamp() + 300

    def let_pass(self, seconds: float) -> None:
        self.elapsed += seconds
        self.wall += seconds

    def read(self) -> clocks.Reading:
        return clocks.Reading(self.boot, self.elapsed, self.wall)


def test_each_control_plane_has_its_own_clock(chains: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Clock("first", 1000), Clock("second", 90_000)

    def tick(clock: Clock) -> str:
        monkeypatch.setattr("strongroom.flows.chores.retention.read_clocks", clock.read)
        chains.site.watch.ticked = None  # the other one is another process
        retain(chains.site)
        return chains.site.watch.jump

    for clock in (first, second):
        assert tick(clock) == ""
    for clock in (first, second):
        clock.let_pass(300)
    first.wall += 365 * 86400
    assert "went forward by 365 days" in tick(first), "also if the other one was the last to read its clock"
    assert tick(second) == "", "its clock is right"
    first.wall -= 365 * 86400
    second.wall -= 3600
    assert "went back by 60 minutes" in tick(second)
    assert tick(first) == ""


def test_a_control_plane_that_is_behind_another_one_removes_nothing(chains: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, ahead = Clock("first"), Clock("ahead", 10)
    ahead.wall += 5 * 86400  # nothing shows that it is wrong when its service starts

    def tick(clock: Clock) -> str:
        monkeypatch.setattr("strongroom.flows.chores.retention.read_clocks", clock.read)
        monkeypatch.setattr("strongroom.flows.retention.outlook.read_clocks", clock.read)
        retain(chains.site)
        return chains.site.watch.jump

    assert tick(first) == tick(ahead) == ""
    first.let_pass(300)
    assert "is behind that of another control plane by 4 days" in tick(first)
    waiting = show_retention(chains.site, "p", "orders").waiting
    assert waiting is not None
    confirm_retention(chains.site, "p", "orders", waiting.code, is_admin=True)
    first.let_pass(300)
    assert tick(first) == ""


def test_a_reading_of_an_earlier_version_is_replaced(chains: World) -> None:
    clock = Clock("boot")
    with chains.site.catalog.write() as session:
        session.add(Fact(key="retention_clock", value=json.dumps(asdict(clock.read()))))
    clock.let_pass(300)
    with chains.site.catalog.write() as session:
        assert clocks.find_jump(clocks.load_readings(session), clock.read()) == ""
        clocks.vouch_for(session, clock.read())
    with chains.site.catalog.read() as session:
        assert clocks.load_readings(session) == [clock.read()]


def test_two_control_planes_count_the_same_time_once(chains: World) -> None:
    first, second = Clock("first"), Clock("second")
    last: dict[str, clocks.Reading] = {}
    for _ in range(5):
        for clock in (first, second):
            with chains.site.catalog.write() as session:
                clocks.count_served(session, last.get(clock.boot), clock.read())
            last[clock.boot] = clock.read()
            clock.let_pass(300)
    with chains.site.catalog.read() as session:
        assert clocks.read_served(session) == 4 * 300


def test_the_grace_period_counts_only_while_the_service_runs(chains: World) -> None:
    retain(chains.site)
    with chains.site.catalog.write() as session:
        for mark in session.scalars(select(Expiration)):
            mark.marked -= 2 * DAY
            mark.sweep_at = now() - timedelta(seconds=1)
    assert chains.turn() == [], "it ran for a moment"
    with chains.site.catalog.write() as session:
        clocks.add_served(session, 3 * 86400)
    assert len(chains.turn()) == 2


def test_what_cannot_be_deleted_is_tried_again_after_a_day(chains: World) -> None:
    chains.turn()
    chains.age()
    jobs = chains.turn()
    for job in jobs:
        asyncio.run(begin_job(chains.site, job.id))
        asyncio.run(settle_job(chains.site, job.id, {"code": "StorageError", "message": "object lock", "remedy": "Wait."}))
    assert chains.turn() == []
    assert chains.incidents["not deletable"] == "3 expired backups cannot be deleted: object lock"
    with chains.site.catalog.write() as session:
        for row in session.scalars(select(Backup).where(Backup.status == "DELETE_FAILED")):
            row.updated -= 2 * DAY
    chains.sweep()
    assert chains.left == {"full1", "full2", "inc2"}
    chains.turn()
    assert chains.incidents == {}


def test_a_database_whose_rules_cannot_be_applied_has_an_incident_and_stops_no_other(
    chains: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chains.site.catalog.write() as session:
        session.add(
            Instance(
                id="billing",
                project="p",
                name="billing",
                host="db1",
                datastore="mariadb",
                series="10.11",
                flavor="d1",
                volume_size=1,
            )
        )
    for days in (3, 2, 1):
        chains.add(f"billing{days}", days, instance_id="billing")
    policy = chains.add_policy("silver", attach=False, keep_last=0, keep_daily=1, time_zone="Europe/Vienna")
    attach_policy(chains.site, "p", "silver", ["billing"])

    def set_zone(name: str) -> None:
        with chains.site.catalog.write() as session:
            row = session.get_one(Policy, policy.id)
            row.document = {**row.document, "time_zone": name}

    set_zone("Mars/Base")
    retain(chains.site)
    assert chains.marked == GONE
    assert chains.incidents == {"retention failed": "retention removes nothing: there is no time zone 'Mars/Base'"}
    read_stores(chains.site)
    assert {row.name for row in show_protection(chains.site, "p").databases} == {"orders", "billing"}
    set_zone("Europe/Vienna")
    chains.site.watch.everything = None
    retain(chains.site)
    assert chains.marked == GONE | {"billing3", "billing2"}
    assert chains.incidents == {}

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(turn, "find_brake", fail)
    chains.age()
    retain(chains.site)
    assert set(chains.incidents) == {"retention failed"}


def test_marks_stay_while_an_incident_is_open(chains: World) -> None:
    chains.add_policy("iron", attach=False, keep_last=2, max_chain=2)
    assert chains.turn() == []
    before = {mark.backup_id: mark.sweep_at for mark in chains.read(Expiration)}
    with chains.site.catalog.write() as session:
        row = session.get_one(Backup, "inc0")
        row.status, row.fault, row.updated = "DELETE_FAILED", {"message": "the object is locked"}, now()
    for _ in range(2):
        assert apply_rules(chains.site, "orders") == []
        assert {mark.backup_id: mark.sweep_at for mark in chains.read(Expiration)} == before
        assert list(chains.incidents) == ["not deletable"]


@pytest.fixture
def logged(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A log of 40 days in three series; the policy was set long ago, and needs the log of seven days and what is before them."""
    for days in (30, 20, 10, 1):
        world.add(f"full{days}", days)
    policy = world.add_policy(keep_last=0, keep_within="7d", keep_daily=4, log_archive=True)
    with world.site.catalog.write() as session:
        session.get_one(Policy, policy.id).updated = TODAY - 50 * DAY
        for attachment in session.scalars(select(Attachment)):
            attachment.created = TODAY - 50 * DAY
        session.add(
            LogArchive(
                instance_id="orders", project="p", database_id="orders", host="db1", wanted=True, wanted_since=TODAY - 40 * DAY
            )
        )
        instance = session.get_one(Instance, "orders")
    store, where = open_log(world.site, instance)
    end = 0
    for number, days in enumerate((40, 25, 5)):
        started = int((TODAY - days * DAY).timestamp() * 1_000_000)
        head = begin(store, end, seam=(number - 1, end) if number else None, started=started, log=where)
        with monkeypatch.context() as then:
            then.setattr("strongroom.archive.writer.time.time_ns", lambda written=started: written * 1000)
            end = int(append(store, head, [b"x"]).position)
    return world


def find_beginning(world: World) -> int:
    """Number of the first series that is left of the log."""
    with world.site.catalog.read() as session:
        store, where = open_log(world.site, session.get_one(Instance, "orders"))
    trimmed = load_trimmed(store, where)
    return trimmed.series if trimmed is not None else 0


def test_log_that_no_backup_needs_is_removed(logged: World) -> None:
    sweep_logs(logged.site)
    assert find_beginning(logged) == 1, "the window needs the backup of 10 days ago, and the log since then"


def test_log_is_not_removed_by_a_series_with_a_wrong_time(logged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is months behind for a moment begins another series, after log of yesterday."""
    with logged.site.catalog.read() as session:
        store, where = open_log(logged.site, session.get_one(Instance, "orders"))
    head = load_head(store, list_series(store, where)[-1])
    with monkeypatch.context() as then:
        then.setattr("strongroom.archive.writer.time.time_ns", lambda: int((TODAY - DAY).timestamp() * 1e9))
        end = int(append(store, head, [b"y"]).position)
    begin(store, end, started=int((TODAY - 100 * DAY).timestamp() * 1_000_000), log=where)
    sweep_logs(logged.site)
    assert find_beginning(logged) == 1


def test_log_stays_while_the_store_has_backups_that_the_catalog_does_not_know(logged: World) -> None:
    store = logged.site.stores.default
    write_artifact(store, Location(container="c", id="of-another"), b"x")
    write_artifact(store, Location(container="c", id="forgotten"), b"x", instance_id="orders")
    sweep_logs(logged.site)
    assert find_beginning(logged) == 0
    store.delete([stat.key for stat in store.list("c/forgotten")])
    sweep_logs(logged.site)
    assert find_beginning(logged) == 1


def test_the_log_of_a_deleted_instance_goes_with_its_last_backup(logged: World) -> None:
    with logged.site.catalog.write() as session:
        session.get_one(Instance, "orders").deleted = now()
        session.get_one(LogArchive, "orders").released = True
        store, where = open_log(logged.site, session.get_one(Instance, "orders"))
    sweep_logs(logged.site)
    assert find_beginning(logged) == 1, "the same rules apply"
    with logged.site.catalog.write() as session:
        for backup in session.scalars(select(Backup)):
            backup.deleted = now()
    sweep_logs(logged.site)
    assert not list(store.list(where.prefix))
    assert not logged.read(LogArchive)
    assert "its database was deleted, and its last backup was removed" in {row.reason for row in logged.read(Removal, kind="log")}


def test_the_log_stays_as_long_as_a_changed_policy_waits(logged: World) -> None:
    update_policy(logged.site, "p", "gold", {"keep_within": "7d"})
    assert logged.read(Policy)[0].updated == TODAY - 50 * DAY, "nothing was changed"
    update_policy(logged.site, "p", "gold", {"keep_within": "7m"})
    sweep_logs(logged.site)
    assert find_beginning(logged) == 0


def test_the_log_stays_while_a_brake_stops_retention(logged: World) -> None:
    with logged.site.catalog.write() as session:
        session.get_one(Backup, "full1").raw_size = 10
    sweep_logs(logged.site)
    assert find_beginning(logged) == 0


def test_the_log_stays_if_the_clock_jumped_while_the_service_was_down(logged: World) -> None:
    reading = clocks.read_clocks()
    with logged.site.catalog.write() as session:
        clocks.keep_reading(session, clocks.Reading(reading.boot, reading.elapsed, reading.wall - 86400))
    sweep_logs(logged.site)
    assert find_beginning(logged) == 0


def test_the_log_stays_while_a_restore_reads_it(logged: World) -> None:
    with logged.site.catalog.write() as session:
        backup, instance = session.get_one(Backup, "full30"), session.get_one(Instance, "orders")
        job = new_job(session, "p", "restore", instance=instance, backup=backup)
    sweep_logs(logged.site)
    assert find_beginning(logged) == 0
    with logged.site.catalog.write() as session:
        session.get_one(Job, job.id).finished = now()
    sweep_logs(logged.site)
    assert find_beginning(logged) == 1


@pytest.mark.parametrize("deleted", [("full10", "full20", "full30"), ("full1",)])
def test_the_log_of_deleted_backups_stays_as_long_as_they_do(logged: World, deleted: tuple[str, ...]) -> None:
    for backup in deleted:
        discard_backup(logged.site, "p", backup)
    sweep_logs(logged.site)
    assert find_beginning(logged) <= 1
    for backup in deleted:
        undelete_backup(logged.site, "p", backup)


def test_the_log_from_the_newest_backup_in_the_store_stays(logged: World) -> None:
    logged.site.stores.default.delete(["c/full10/manifest.json"])
    logged.site.stores.default.delete(["c/full20/manifest.json"])
    sweep_logs(logged.site)
    assert find_beginning(logged) == 0, "the window begins with the backup of 30 days ago"


def test_a_service_that_is_killed_in_any_phase_goes_on(chains: World) -> None:
    """Marks are one transaction, and so are the sweep's jobs: what follows is done by another process on the same files."""
    chains.turn()
    chains.age()
    jobs = chains.turn()  # killed before the jobs are handed over: they are queued rows
    first = jobs[0]
    asyncio.run(begin_job(chains.site, first.id))
    chains.site.stores.default.delete([f"c/{first.backup_id}/manifest.json"])  # killed within the deletion
    reopened = open_catalog(chains.site.settings)
    again = open_site(chains.site.settings, reopened, chains.site.stores.default, {})
    again.queue.start = lambda job: None
    world = World(again, chains.store)
    assert world.turn() == []
    unfinished = [job for job in world.read(Job) if job.finished is None]
    assert {job.id for job in unfinished} == {job.id for job in jobs}
    world.run(unfinished)
    assert world.left == {"full1", "full2", "inc2"}
    reopened.close()


def test_only_what_changed_is_checked(chains: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(
        "strongroom.flows.chores.retention.select_databases",
        lambda site, keys: checked.extend(keys) or select_databases(site, keys),
    )
    retain(chains.site)
    with chains.site.catalog.write() as session:  # the marks are older than the slack
        for row in session.scalars(select(Backup)):
            row.updated -= DAY
        for policy in session.scalars(select(Policy)):
            policy.updated -= DAY
        for attachment in session.scalars(select(Attachment)):
            attachment.created -= DAY
    checked.clear()
    retain(chains.site)
    assert checked == []
    chains.add("full3", 0.5)
    with chains.site.catalog.write() as session:
        session.get_one(Backup, "full3").updated = now()
    retain(chains.site)
    assert checked == ["orders"]
    checked.clear()
    with chains.site.catalog.write() as session:
        session.get_one(Backup, "full3").updated -= DAY
        session.add(Hold(backup_id="inc2", reason="its end is now", until=now()))
    retain(chains.site)
    assert checked == ["orders"]


def test_holds_that_end_within_seven_days_are_shown(chains: World) -> None:
    hold_backup(chains.site, "p", "full2", reason="migration", until=now() + 6 * DAY)
    hold_backup(chains.site, "p", "inc2", reason="audit", until=now() + 8 * DAY)
    hold_backup(chains.site, "p", "full1", reason="for ever")
    for shown in (show_retention(chains.site, "p", "orders").ending_holds, status(chains).ending_holds):
        assert [(hold.backup, hold.reason) for hold in shown] == [("full2", "migration")]


def test_store_facts_show_what_is_missing(chains: World) -> None:
    backups = chains.read(Backup)
    assert find_facts(chains.site, backups)[1] is None, "not read yet"
    chains.site.stores.default.delete(["c/inc0/manifest.json", "c/inc1/manifest.json", "c/inc1/00000000"])
    with chains.site.catalog.write() as session:
        for row in session.scalars(select(Backup)):
            row.updated -= DAY
    read_stores(chains.site)
    present, read = find_facts(chains.site, chains.read(Backup))
    assert present == {"full0", "full1", "full2", "inc2"}
    assert read is not None and now() - read < timedelta(minutes=1)


def test_simulated_and_real_sweep_agree(chains: World) -> None:
    """Also under another policy: what it would let go is what goes after the change."""
    now_gone = {fate.id for fate in show_retention(chains.site, "p", "orders").backups if not fate.kept}
    assert now_gone == GONE
    create_policy(chains.site, "p", "silver", PolicySpec(keep_last=1))
    simulated = show_retention(chains.site, "p", "orders", policy="silver")
    assert simulated.simulated and simulated.expired_bytes == 300 and len(simulated.lost) == 3
    attach_policy(chains.site, "p", "silver", ["orders"])
    chains.turn()
    assert chains.marked == {fate.id for fate in simulated.backups if not fate.kept}
    chains.age()
    chains.sweep()
    assert chains.left == {fate.id for fate in simulated.backups if fate.kept}
    assert show_retention(chains.site, "p", "orders").expired == 0


def test_reasons_name_backups_and_ends_follow_from_the_schedule(world: World) -> None:
    world.add("full0", 3)
    world.add("inc0", 2, parent="full0")
    world.add("full1", 1)
    create_policy(world.site, "p", "gold", PolicySpec.model_validate({"full": "every 24h", "keep_last": 2, "spread": "0s"}))
    assert show_retention(world.site, "p", "orders").backups[0].reasons == ["no policy applies"]
    attach_policy(world.site, "p", "gold", ["orders"])
    shown = {fate.id: fate for fate in show_retention(world.site, "p", "orders").backups}
    assert shown["full0"].reasons == ["needed by inc0"]
    assert shown["full1"].reasons == ["newest good", "last 1 of 2"]
    assert shown["full0"].until == shown["inc0"].until, "it goes with the backup that needs it"
    assert shown["inc0"].until is not None and shown["full1"].until is not None and shown["inc0"].until < shown["full1"].until
    later = {fate.id: fate.kept for fate in show_retention(world.site, "p", "orders", at=now() + 30 * HOUR).backups}
    assert later == {"full0": False, "inc0": False, "full1": True}
    assert not any(fate.kept for fate in show_retention(world.site, "p", "orders", at=now() + 3 * DAY).backups)
    with pytest.raises(InvalidRequest, match="has passed"):
        show_retention(world.site, "p", "orders", at=now() - DAY)
    with pytest.raises(InvalidRequest, match="more than 5000 backups"):
        show_retention(world.site, "p", "orders", at=now() + 9000 * DAY)


def status(world: World) -> Protection:
    (found,) = show_protection(world.site, "p").databases
    return found


def test_status_follows_from_the_store_and_from_verifications(world: World) -> None:
    assert (status(world).state, status(world).level) == ("unprotected", "warning")
    world.add_policy(keep_last=2, max_age="26h")
    assert status(world).conditions[0].message == "nothing can be restored"
    world.add("full", 0.5)
    world.add("inc", 0.1, parent="full")
    assert [c.condition for c in status(world).conditions] == ["unknown", "unverified"], "the store was not read yet"
    read_stores(world.site)
    found = status(world)
    assert (found.state, found.level, found.restorable, found.chain, found.max_age) == ("unverified", "warning", 2, 2, 93600)
    good = {"ok": True, "prepared": True, "level": "tables", "message": None, "at": "2026-11-30T00:00:00+00:00"}
    with world.site.catalog.write() as session:
        for key in ("full", "inc"):
            session.get_one(Backup, key).verified = good
    overview = show_protection(world.site, "p")
    assert (overview.exit_code, overview.summary.partition(" | ")[0]) == (0, "OK: 1 protected")
    world.site.stores.default.delete(["c/inc/manifest.json"])
    read_stores(world.site)
    assert (status(world).state, show_protection(world.site, "p").exit_code) == ("damaged", 2)
    assert "inc is not in the store" in world.incidents["damaged"]
    world.add("full2", 0)
    read_stores(world.site)
    assert "damaged" not in world.incidents
    assert status(world).state in ("unverified", "protected")


def test_the_age_limit_of_a_status_follows_from_the_schedules(world: World) -> None:
    def find_limit() -> int | None:
        return show_protection(world.site, "p").databases[0].max_age

    world.add("done", 1)
    world.add_policy(incremental="hourly", not_between=["08:00-18:00"])
    assert find_limit() == 13 * 3600, "from 07:00 to 18:00, and two hours"
    world.add("failed", 0.5, status="FAILED")
    with world.site.catalog.write() as session:
        session.get_one(Backup, "failed").started = TODAY - 30 * DAY
    assert find_limit() == 13 * 3600, "the duration of a failed backup does not count"


def test_status_is_late_though_jobs_succeed_and_unknown_without_the_store(world: World) -> None:
    world.add_policy(keep_last=2, full="daily 02:00")
    world.add("full", 3)
    read_stores(world.site)
    found = status(world)
    assert (found.state, found.max_age) == ("late", 26 * 3600) or found.state == "late"
    assert "late" in world.incidents
    world.store.rename(world.store.with_name("away"))
    world.store.mkdir()
    read_stores(world.site)
    world.site.watch.facts.read = {place: at - DAY for place, at in world.site.watch.facts.read.items()}
    assert [c.condition for c in status(world).conditions][:2] == ["late", "unknown"]
