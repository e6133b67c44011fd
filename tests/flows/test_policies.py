"""Runs of policies on a real catalog: each begins once, and what does not happen is recorded. Backups end as a test says."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from strongroom.catalog import (
    Backup,
    Cluster,
    Host,
    Incident,
    Instance,
    Job,
    LogArchive,
    Policy,
    PolicyRun,
    Schedule,
    now,
    open_catalog,
)
from strongroom.catalog.policies import policy_of
from strongroom.errors import Conflict, InvalidRequest, NotFound, Unsupported
from strongroom.flows import Site, open_site
from strongroom.flows.archives.bases import begin_base
from strongroom.flows.policies import ends, tick
from strongroom.flows.policies.declared import declare_policies
from strongroom.flows.policies.history import forget_runs
from strongroom.flows.policies.listing import list_schedules
from strongroom.flows.policies.requests import (
    attach_policy,
    create_policy,
    delete_policy,
    detach_policy,
    pause_policy,
    resume_policy,
    run_policy,
    update_policy,
)
from strongroom.flows.policies.tick import begin_due_runs
from strongroom.flows.retention.protection import show_protection
from strongroom.identity import asker
from strongroom.protection.policy import PolicySpec
from strongroom.sections.policies import DeclaredPolicy
from strongroom.settings import load
from strongroom.storage import open_store
from support.ends import settle

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MINUTE = timedelta(minutes=1)


@dataclass
class World:
    """A service without agents, and its clock."""

    site: Site
    at: datetime = field(default_factory=now)
    started: list[str] = field(default_factory=list)

    def add_instance(self, name: str, **columns: Any) -> Instance:
        row = Instance(
            id=name,
            project="p",
            name=name,
            host="db1",
            datastore="mariadb",
            series="10.11",
            flavor="d1",
            volume_size=1,
            state="running",
            lineage="L",
            **columns,
        )
        with self.site.catalog.write() as session:
            session.add(row)
        return row

    def add_policy(self, name: str = "gold", attach: tuple[str, ...] = ("orders",), **settings: Any) -> Policy:
        spec = PolicySpec.model_validate({"keep_last": 3, "spread": "0s", **settings})
        policy = create_policy(self.site, "p", name, spec)
        with self.site.catalog.write() as session:
            session.get_one(Policy, policy.id).anchor = self.at
        if attach:
            attach_policy(self.site, "p", name, attach)
        return policy

    def tick(self, later: timedelta = timedelta(0)) -> list[Job]:
        """Begin what is due after this time has passed; returns the new jobs."""
        self.at += later
        before = set(self.started)
        begin_due_runs(self.site, self.at)
        with self.site.catalog.read() as session:
            return [session.get_one(Job, job) for job in self.started if job not in before]

    def end(self, job: Job, failure: str = "", code: str = "ToolFailed") -> Backup:
        with self.site.catalog.write() as session:
            row, backup = session.get_one(Job, job.id), session.get_one(Backup, job.backup_id)
            backup.status, backup.started, backup.finished, backup.lineage = "BUILDING", self.at, self.at, "L"
            if not failure:
                backup.status = "COMPLETED"
            settle(session, row, {"code": code, "message": failure, "remedy": "Free some space."} if failure else None)
        return backup

    def all(self, table: Any) -> list[Any]:
        with self.site.catalog.read() as session:
            return session.query(table).all()

    def runs(self) -> list[tuple[str, str]]:
        rows = sorted(self.all(PolicyRun), key=lambda run: run.nominal)
        return [(run.kind, run.outcome if run.outcome != "missed" else f"missed {run.count}: {run.reason}") for run in rows]

    def incidents(self) -> dict[str, bool]:
        """Condition → whether it is open."""
        return {row.condition: row.closed is None for row in self.all(Incident)}


def open_world(settings: Any, place: Path) -> World:
    catalog = open_catalog(settings)
    site = open_site(settings, catalog, open_store(settings.storage, place / "store"), {})
    world = World(site)
    site.queue.start = lambda job: world.started.append(job.id)
    with catalog.write() as session:
        session.merge(Host(name="db1", seen=now() + 1000 * DAY))
    return world


@pytest.fixture
def world(place: Path, empty_catalog: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    shutil.copy(empty_catalog, place)
    world = open_world(load(service={"data_dir": place}), place)
    monkeypatch.setattr(ends, "now", lambda: world.at)
    world.add_instance("orders")
    yield world
    world.site.catalog.close()


def begin_with_full(world: World, **settings: Any) -> Policy:
    """A policy whose first full is taken."""
    policy = world.add_policy(**settings)
    (job,) = world.tick()
    assert world.end(job).kind == "full"
    return policy


def test_a_new_database_gets_its_first_full_as_soon_as_it_serves(world: World) -> None:
    with world.site.catalog.write() as session:
        row = session.get_one(Instance, "orders")
        row.state, row.task = "new", "BUILD"
    world.add_policy(full="sun 02:00")
    assert world.tick() == []
    (schedule,) = world.all(Schedule)
    assert "in BUILD" in schedule.waiting
    with world.site.catalog.write() as session:
        row = session.get_one(Instance, "orders")
        row.state, row.task = "running", None
    (job,) = world.tick(MINUTE / 6)  # whatever wakes the chore makes it look again
    assert world.end(job).kind == "full"
    assert world.runs() == [("full", "succeeded")]
    assert world.tick() == []


def test_full_and_incremental_alternate_and_meet_as_one_run(world: World) -> None:
    begin_with_full(world, full="every 3h", incremental="every 1h")
    kinds = []
    for _ in range(4):
        (job,) = world.tick(HOUR)
        kinds.append(world.end(job).kind)
        assert world.tick() == []
    assert kinds == ["incremental", "incremental", "full", "incremental"]
    assert begin_due_runs(world.site, world.at) == pytest.approx(tick.LONGEST_SLEEP)


def test_an_incremental_without_a_usable_parent_is_a_full_with_the_reason(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    with world.site.catalog.write() as session:
        session.get_one(Instance, "orders").lineage = "restored"
    (job,) = world.tick(HOUR)
    backup = world.end(job)
    assert (backup.kind, world.runs()[-1]) == ("full", ("incremental", "succeeded"))
    assert "data of the instance was replaced" in (backup.reason or "")


@pytest.mark.parametrize(
    ("limit", "reason"), [({"max_chain": 2}, "policy allows 2"), ({"max_chain_age": "90m"}, "older than 1h30m")]
)
def test_a_chain_ends_at_the_limits_of_the_policy(world: World, limit: dict[str, Any], reason: str) -> None:
    begin_with_full(world, incremental="every 1h", **limit)
    kinds = []
    for _ in range(3):
        (job,) = world.tick(HOUR)
        backup = world.end(job)
        kinds.append(backup.kind)
        if backup.kind == "full":
            assert reason in (backup.reason or "")
    assert kinds == ["incremental", "full", "incremental"]


def test_a_failed_run_is_tried_again_then_an_incident_is_open_until_one_succeeds(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    (job,) = world.tick(HOUR)
    world.end(job, "disk full")
    assert world.incidents() == {}
    assert world.tick(MINUTE / 2) == []
    (second,) = world.tick(MINUTE)
    world.end(second, "disk full")
    assert world.tick(7 * MINUTE) == []
    (third,) = world.tick(6 * MINUTE)
    world.end(third, "disk full")
    assert world.incidents() == {"failing": True}
    (incident,) = world.all(Incident)
    assert "failed 3 times: disk full" in incident.detail
    assert incident.remedy == "Free some space."
    assert world.runs()[-1] == ("incremental", "failed")
    assert len({row.name for row in world.all(Backup)}) == 4
    (later,) = world.tick(HOUR)
    world.end(later)
    assert world.incidents() == {"failing": False}


def test_no_attempt_begins_when_the_next_run_is_near_and_a_failed_full_is_owed(world: World) -> None:
    begin_with_full(world, full="every 1h", incremental="every 10m")
    for _ in range(5):
        world.end(world.tick(10 * MINUTE)[0])
    (full,) = world.tick(10 * MINUTE)
    world.at += 5 * MINUTE
    world.end(full, "disk full")
    assert world.incidents() == {"failing": True}
    (owed,) = world.tick(5 * MINUTE)
    assert world.end(owed).kind == "full"
    assert world.end(world.tick(10 * MINUTE)[0]).kind == "incremental"


def test_a_run_is_given_up_when_the_next_one_is_due(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    world.end(world.tick(HOUR)[0], "disk full")
    (job,) = world.tick(2 * HOUR)  # the service was down when the second attempt was due
    assert world.end(job).kind == "incremental"
    assert [outcome for _, outcome in world.runs()] == ["succeeded", "failed", "missed 1: service down", "succeeded"]
    assert world.incidents() == {"failing": False}


@pytest.mark.parametrize("how", ["detach", "delete the policy", "replace", "no schedules", "delete the database"])
def test_a_run_that_waits_for_another_attempt_ends_with_its_schedule(world: World, how: str) -> None:
    begin_with_full(world, incremental="every 1h")
    world.end(world.tick(HOUR)[0], "disk full")
    assert world.runs()[-1] == ("incremental", "running")
    match how:
        case "replace":
            world.add_policy("silver", incremental="every 2h")
        case "no schedules":
            update_policy(world.site, "p", "gold", {"incremental": ""})
        case "delete the database":
            with world.site.catalog.write() as session:
                session.get_one(Instance, "orders").deleted = world.at
        case _:
            detach_policy(world.site, "p", "gold", ["orders"])
            if how == "delete the policy":
                delete_policy(world.site, "p", "gold")
    assert world.tick() == []
    assert world.runs()[-1] == ("incremental", "failed")
    (run,) = [run for run in world.all(PolicyRun) if run.outcome == "failed"]
    assert run.reason == "disk full; not tried again: the policy does not apply to the database any more"


def test_a_run_that_fails_after_its_policy_was_detached_opens_no_incident(world: World) -> None:
    begin_with_full(world, incremental="every 1h", attempts=1)
    (job,) = world.tick(HOUR)
    detach_policy(world.site, "p", "gold", ["orders"])
    assert world.tick() == []
    world.end(job, "disk full")
    assert (world.runs()[-1], world.incidents()) == (("incremental", "failed"), {})


def test_incidents_of_deleted_databases_are_closed(world: World) -> None:
    begin_with_full(world, incremental="every 1h", attempts=1)
    world.end(world.tick(HOUR)[0], "disk full")
    assert world.incidents() == {"failing": True}
    with world.site.catalog.write() as session:
        session.get_one(Instance, "orders").deleted = world.at
    assert world.tick() == []
    assert world.incidents() == {"failing": False}


def test_a_cancelled_run_is_not_tried_again(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    (job,) = world.tick(HOUR)
    world.end(job, "a user cancelled it", code="Cancelled")
    assert world.runs()[-1][1] == "cancelled"
    assert world.tick(2 * MINUTE) == []
    assert world.incidents() == {}


def test_runs_are_skipped_while_one_has_not_ended(world: World) -> None:
    begin_with_full(world, full="every 2h", incremental="every 1h")
    (job,) = world.tick(HOUR)
    assert world.tick(HOUR) == world.tick(HOUR) == []
    assert world.runs()[-1] == ("full", "missed 2: overlap")
    assert world.incidents() == {"stuck": True}
    world.end(job)
    assert world.incidents() == {"stuck": False}
    (owed,) = world.tick(HOUR)
    assert world.end(owed).kind == "full"


def test_a_database_that_is_busy_is_waited_for_until_the_next_run_is_near(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    with world.site.catalog.write() as session:
        session.get_one(Instance, "orders").state = "stopped"
    assert world.tick(HOUR) == []
    assert world.runs() == [("full", "succeeded")]
    assert "orders (orders) is stopped" in world.all(Schedule)[0].waiting
    assert world.tick(56 * MINUTE) == []
    kind, outcome = world.runs()[-1]
    assert kind == "incremental"
    assert outcome.startswith("missed 1: database not ready: instance orders (orders) is stopped")
    with world.site.catalog.write() as session:
        session.get_one(Instance, "orders").state = "running"
    assert len(world.tick(4 * MINUTE)) == 1


def test_an_unreachable_host_is_the_reason_of_a_missed_run(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    with world.site.catalog.write() as session:
        session.get_one(Host, "db1").seen = now() - DAY
    assert world.tick(HOUR) == world.tick(56 * MINUTE) == []
    assert world.runs()[-1] == ("incremental", "missed 1: host unreachable: host db1 is unreachable")


def test_after_a_time_without_the_service_one_run_makes_up_for_all(world: World) -> None:
    begin_with_full(world, full="every 24h", incremental="every 1h")
    (job,) = world.tick(30 * HOUR + 10 * MINUTE)
    assert world.end(job).kind == "full"  # one of those that were missed was a full
    assert world.runs()[1:] == [("full", "missed 29: service down"), ("full", "succeeded")]
    assert world.tick() == []
    assert len(world.tick(50 * MINUTE)) == 1


def test_many_runs_that_were_missed_are_made_up_for_one_after_the_other(world: World) -> None:
    for number in range(20):
        world.add_instance(f"i{number}")
    world.add_policy(attach=(), incremental="every 1h", spread="5m")
    attach_policy(world.site, "p", "gold", [], whole_project=True)
    for job in world.tick():
        world.end(job)
    counts = [len(world.tick(10 * HOUR + 20 * MINUTE))]  # those whose offset happens to be zero
    counts += [len(world.tick(MINUTE)) for _ in range(5)]
    assert sum(counts) == 21
    assert max(counts) < 15


def test_a_clock_that_was_a_year_ahead_does_not_stop_backups(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    world.end(world.tick(365 * DAY)[0])
    assert [outcome for _, outcome in world.runs()].count("succeeded") == 2
    world.at -= 365 * DAY
    world.tick(MINUTE)
    (job,) = world.tick(HOUR)
    world.end(job)


def test_a_run_of_a_wrong_clock_does_not_hide_later_ones(world: World) -> None:
    world.at = now() - 2 * HOUR
    begin_with_full(world, incremental="every 1h", attempts=1)
    world.at += 365 * DAY
    world.end(world.tick()[0])
    world.at -= 365 * DAY
    world.tick(HOUR)
    world.end(world.tick(HOUR)[0], "disk full")
    with world.site.catalog.read() as session:
        (state,) = list_schedules(session, "p")
    assert state.last_run is not None and state.last_run.outcome == "failed"


def test_a_clock_that_is_set_back_repeats_no_run(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    for _ in range(3):
        world.end(world.tick(HOUR)[0])
    world.at -= 3 * HOUR
    jobs = [job for _ in range(3) for job in world.tick(HOUR)]
    assert jobs == []
    assert len(world.all(Job)) == 4


def test_nothing_begins_in_a_blackout(world: World) -> None:
    world.at = datetime(2030, 5, 1, 7, 0, tzinfo=UTC)
    begin_with_full(world, incremental="every 2h", not_between=["08:00-10:00"])
    assert world.tick(2 * HOUR) == []
    assert world.runs() == [("full", "succeeded")]
    assert len(world.tick(HOUR)) == 1  # 10:00, and the next run is at 11:00


def test_an_attempt_that_waits_for_its_host_does_not_begin_in_a_blackout(world: World) -> None:
    def set_seen(at: datetime) -> None:
        with world.site.catalog.write() as session:
            session.get_one(Host, "db1").seen = at

    world.at = datetime(2030, 5, 1, 6, 50, tzinfo=UTC)
    begin_with_full(world, incremental="every 12h", not_between=["19:00-20:00"])
    (job,) = world.tick(12 * HOUR)  # 18:50
    set_seen(now() - DAY)
    world.end(job, "connection lost")
    assert world.tick(5 * MINUTE) == []
    assert "unreachable" in world.all(Schedule)[0].waiting
    set_seen(now() + 1000 * DAY)
    assert world.tick(10 * MINUTE) == world.tick(MINUTE) == []  # 19:05
    assert world.all(Schedule)[0].waiting == "blackout"
    assert len(world.tick(HOUR)) == 1


def test_a_paused_policy_begins_nothing_and_resumes_without_making_up(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    pause_policy(world.site, "p", "gold", reason="storage is moved")
    assert world.tick(HOUR) == world.tick(HOUR) == []
    assert world.runs()[-1] == ("incremental", "missed 2: paused")
    with world.site.catalog.write() as session:
        policy = session.query(Policy).one()
        policy.paused_until = world.at + 30 * MINUTE
    assert len(world.tick(HOUR)) == 1  # the pause has ended
    with pytest.raises(InvalidRequest, match="needs a reason"):
        pause_policy(world.site, "p", "gold", reason=" ")


def test_resume_counts_from_now(world: World) -> None:
    world.at = now()
    begin_with_full(world, incremental="every 1h")
    pause_policy(world.site, "p", "gold", reason="storage is moved")
    resume_policy(world.site, "p", "gold")
    with pytest.raises(Conflict, match="not paused"):
        resume_policy(world.site, "p", "gold")
    assert world.tick() == []
    assert len(world.tick(HOUR)) == 1


def test_a_run_by_hand_is_in_addition_to_the_schedule(world: World) -> None:
    begin_with_full(world, full="every 4h", incremental="every 1h")
    user = asker.set("kim")
    run, job = run_policy(world.site, "p", "gold", "orders", "full")
    asker.reset(user)
    assert (run.by_hand, job.asked_by) == (True, "kim")
    world.end(job, "disk full")
    assert world.incidents() == {}
    _, job = run_policy(world.site, "p", "gold", "orders")
    assert world.end(job).kind == "incremental"
    (job,) = world.tick(HOUR)
    assert job.asked_by == "policy gold"


def test_attachments(world: World) -> None:
    world.add_instance("billing")
    world.add_instance("node", cluster_id="c")
    with world.site.catalog.write() as session:
        session.add(Cluster(id="c", project="p", name="shop", datastore="mariadb", series="10.11", wsrep_name="shop"))
    world.add_policy("silver", (), full="daily 02:00")
    world.add_policy("gold", ("orders",), full="daily 03:00")
    with pytest.raises(Unsupported, match="node of a cluster"):
        attach_policy(world.site, "p", "gold", ["node"])
    with pytest.raises(NotFound, match="no instance and no cluster"):
        attach_policy(world.site, "p", "gold", ["nothing"])
    with pytest.raises(Conflict, match="no policy applies to billing"):
        run_policy(world.site, "p", "gold", "billing")

    def find_schedules() -> dict[str, str]:
        world.tick()
        names = {row.id: row.name for row in world.all(Policy)}
        return {row.database_id: names[row.policy_id] for row in world.all(Schedule)}

    assert find_schedules() == {"orders": "gold"}
    attach_policy(world.site, "p", "silver", [], whole_project=True)
    assert find_schedules() == {"orders": "gold", "billing": "silver", "c": "silver"}
    detach_policy(world.site, "p", "gold", ["orders"])
    assert find_schedules() == {"orders": "silver", "billing": "silver", "c": "silver"}
    with pytest.raises(Conflict, match="not attached to orders"):
        detach_policy(world.site, "p", "silver", ["orders"])
    with pytest.raises(Conflict, match="attached to the project"):
        delete_policy(world.site, "p", "silver")
    delete_policy(world.site, "p", "gold")
    with world.site.catalog.write() as session:
        session.get_one(Instance, "billing").deleted = now()
    assert find_schedules().keys() == {"orders", "c"}


def test_a_policy_that_changes_counts_from_the_change(world: World) -> None:
    world.at = now()
    begin_with_full(world, incremental="every 1h", keep_daily=3)
    policy = update_policy(world.site, "p", "gold", {"incremental": "every 2h", "keep_daily": 0})
    assert (policy.spec.incremental, policy.spec.keep_daily, policy.spec.keep_last) == ("every 2h", 0, 3)
    assert world.tick(HOUR) == []
    assert len(world.tick(HOUR + MINUTE)) == 1
    with pytest.raises(InvalidRequest, match="not a schedule"):
        update_policy(world.site, "p", "gold", {"full": "often"})


def test_the_configuration_declares_policies_that_users_cannot_change(world: World) -> None:
    def declare(**settings: Any) -> None:
        policies = {"gold": DeclaredPolicy(keep_last=3, project="p", **settings)} if settings else {}
        object.__setattr__(world.site.settings, "policies", policies)
        declare_policies(world.site)

    declare(full="every 6h", whole_project=True)
    world.end(world.tick()[0])
    with pytest.raises(Conflict, match="declared in the configuration file"):
        update_policy(world.site, "p", "gold", {"keep_last": 5})
    with pytest.raises(Conflict, match="declared in the configuration file"):
        delete_policy(world.site, "p", "gold")
    pause_policy(world.site, "p", "gold", reason="the storage is moved")
    with world.site.catalog.write() as session:  # an older version stored it, without the settings of log archives
        policy = session.get_one(Policy, world.all(Policy)[0].id)
        policy.document = {key: value for key, value in policy.document.items() if key not in ("log_archive", "max_loss")}
    declare(full="every 6h", whole_project=True)
    (policy,) = world.all(Policy)
    assert (policy.paused_reason, policy.updated_by) == ("the storage is moved", "")
    declare(full="every 8h", whole_project=True)
    (policy,) = world.all(Policy)
    assert (policy.spec.full, policy.updated_by, policy.declared) == ("every 8h", "configuration file", True)
    declare()
    (policy,) = world.all(Policy)
    assert not policy.declared, "it is attached, so it becomes a policy of users"
    detach_policy(world.site, "p", "gold", [], whole_project=True)
    declare(full="every 8h")
    declare()
    assert world.all(Policy) == []


def test_a_policy_whose_time_zone_does_not_exist_any_more_can_be_changed(world: World) -> None:
    def lose_zone() -> None:
        with world.site.catalog.write() as session:
            policy = session.get_one(Policy, gold.id)
            policy.document = {**policy.document, "time_zone": "Mars/Base"}

    gold = world.add_policy(full="daily 02:00")
    lose_zone()
    assert update_policy(world.site, "p", "gold", {"time_zone": "UTC"}).spec.time_zone == "UTC"
    lose_zone()
    policies = {"gold": DeclaredPolicy(keep_last=3, full="daily 02:00", project="p")}
    object.__setattr__(world.site.settings, "policies", policies)
    declare_policies(world.site)
    assert world.all(Policy)[0].spec.time_zone == "UTC"


def test_the_configuration_moves_the_project_from_one_policy_to_another(world: World) -> None:
    def declare(**whole: bool) -> str:
        policies = {
            name: DeclaredPolicy(keep_last=3, full="every 6h", project="p", whole_project=is_whole)
            for name, is_whole in whole.items()
        }
        object.__setattr__(world.site.settings, "policies", policies)
        declare_policies(world.site)
        with world.site.catalog.read() as session:
            policy = policy_of(session, session.get_one(Instance, "orders"))
            return policy.name if policy else ""

    world.add_policy("silver", attach=(), full="every 6h")
    attach_policy(world.site, "p", "silver", [], whole_project=True)
    assert declare(gold=True) == "gold"
    assert declare(gold=False, iron=True) == "iron"
    assert declare(gold=True, iron=False) == "gold"
    assert declare(gold=False, iron=False) == ""
    with pytest.raises(InvalidRequest, match="two policies to the whole project p: gold and iron"):
        declare(gold=True, iron=True)
    with pytest.raises(InvalidRequest, match="name of the policy"):
        declare(**{"!": True})


def test_old_runs_are_forgotten_unless_their_backup_exists(world: World) -> None:
    begin_with_full(world, incremental="every 1h")
    world.end(world.tick(HOUR)[0], "disk full", code="Cancelled")
    (failed,) = [row for row in world.all(Backup) if row.status == "FAILED"]
    with world.site.catalog.write() as session:
        session.get_one(Backup, failed.id).deleted = world.at
    assert forget_runs(world.site, world.at + 399 * DAY) == 0
    assert forget_runs(world.site, world.at + 401 * DAY) == 1
    assert world.runs() == [("full", "succeeded")]


def test_a_cluster_is_backed_up_from_a_node_that_is_synced(world: World) -> None:
    galera = {"wsrep_local_state_comment": "Synced", "wsrep_cluster_status": "Primary", "wsrep_ready": "ON"}
    with world.site.catalog.write() as session:
        session.add(Cluster(id="c", project="p", name="shop", datastore="mariadb", series="10.11", wsrep_name="shop"))
    world.add_instance("n1", cluster_id="c", node="node1")
    world.add_policy("gold", ("shop",), full="every 4h", incremental="every 1h")
    assert world.tick() == []
    assert "Synced" in world.all(Schedule)[0].waiting
    with world.site.catalog.write() as session:
        session.get_one(Instance, "n1").galera = galera
    (job,) = world.tick(MINUTE)
    backup = world.end(job)
    assert (backup.cluster_id, backup.instance_id, backup.kind) == ("c", "n1", "full")
    (job,) = world.tick(HOUR)
    assert world.end(job).kind == "incremental"
    assert job.cluster_id == "c"


def test_a_run_that_is_refused_at_once_fails_and_is_tried_again(world: World) -> None:
    policy = world.add_policy(full="every 1h")
    with world.site.catalog.write() as session:
        session.get_one(Instance, "orders").datastore = "mariadb"
    world.site.settings.quotas.backups = 0
    try:
        assert world.tick() == []
        assert world.tick(2 * MINUTE) == world.tick(13 * MINUTE) == []
    finally:
        world.site.settings.quotas.backups = -1
    (run,) = world.all(PolicyRun)
    assert (run.outcome, run.attempts, run.policy_id) == ("failed", 3, policy.id)
    assert "Quota exceeded" in run.reason
    assert world.incidents() == {"failing": True}


def test_a_schedule_without_its_time_zone_opens_an_incident_until_it_can_be_evaluated(world: World) -> None:
    world.at = now()
    gold = begin_with_full(world, incremental="every 1h", time_zone="Europe/Vienna")
    (job,) = world.tick(HOUR)

    def set_zone(name: str) -> None:
        with world.site.catalog.write() as session:
            policy = session.get_one(Policy, gold.id)
            policy.document = {**policy.document, "time_zone": name}

    set_zone("Mars/Base")
    world.end(job, "disk full")  # when the next attempt may begin is not known
    assert (world.runs()[-1], world.incidents()) == (("incremental", "failed"), {"failing": True})
    assert world.tick(HOUR) == world.tick(HOUR) == []
    assert world.incidents() == {"failing": True, "schedule stopped": True}
    (incident,) = [row for row in world.all(Incident) if row.condition == "schedule stopped"]
    assert incident.detail == "no run of policy gold begins: there is no time zone 'Mars/Base'"
    assert "strongroom policy update gold" in incident.remedy and "tzdata" in incident.remedy
    (status,) = show_protection(world.site, "p").databases
    assert "no run begins" in next(finding.message for finding in status.conditions if finding.condition == "failing")
    set_zone("Europe/Vienna")
    (job,) = world.tick(MINUTE)
    world.end(job)
    assert world.runs()[-2:] == [("incremental", "missed 1: schedule stopped"), ("incremental", "succeeded")]
    assert world.incidents() == {"failing": False, "schedule stopped": False}


def test_a_log_archive_without_the_time_zone_of_its_policy_begins_no_backup(world: World) -> None:
    gold = begin_with_full(world, incremental="every 1h", log_archive=True)
    with world.site.catalog.write() as session:
        policy, orders = session.get_one(Policy, gold.id), session.get_one(Instance, "orders")
        row = LogArchive(instance_id="orders", project="p", database_id="orders", host="db1", wanted=True, wanted_since=world.at)
        row.began, row.backup_at = "lost", None
        policy.document = {**policy.document, "time_zone": "Mars/Base"}
        assert begin_base(session, world.site, row, orders, policy, world.at + MINUTE) is None
        policy.document = {**policy.document, "time_zone": "UTC"}
        assert begin_base(session, world.site, row, orders, policy, world.at + MINUTE) is not None


@pytest.mark.parametrize("how", ["update", "detach"])
def test_the_incident_of_a_stopped_schedule_ends_with_the_schedule(world: World, how: str) -> None:
    gold = begin_with_full(world, incremental="every 1h")
    with world.site.catalog.write() as session:
        policy = session.get_one(Policy, gold.id)
        policy.document = {**policy.document, "time_zone": "Mars/Base"}
    world.tick(HOUR)
    assert world.incidents() == {"schedule stopped": True}
    if how == "update":
        update_policy(world.site, "p", "gold", {"time_zone": "UTC"})
    else:
        detach_policy(world.site, "p", "gold", ["orders"])
        world.tick()
    assert world.incidents() == {"schedule stopped": False}


@pytest.mark.parametrize(
    ("how", "reason"),
    [("update", "schedule changed"), ("declare", "schedule changed"), ("resume", "paused"), ("detach", "policy detached"),
     ("replace", "policy detached"), ("delete", "policy detached")],
)  # fmt: skip
def test_a_due_run_that_waits_when_its_schedule_changes_is_recorded(world: World, how: str, reason: str) -> None:
    world.at = now() - HOUR
    begin_with_full(world, full="every 1h", spread="12h")  # so it waits for its place in the spread
    world.at = now() + MINUTE
    match how:
        case "update":
            update_policy(world.site, "p", "gold", {"full": "every 2h"})
        case "declare":
            with world.site.catalog.write() as session:
                session.query(Policy).one().declared = True
            declared = DeclaredPolicy(keep_last=3, full="every 2h", spread="12h", project="p")
            object.__setattr__(world.site.settings, "policies", {"gold": declared})
            declare_policies(world.site)
        case "resume":
            pause_policy(world.site, "p", "gold", reason="the storage is moved")
            resume_policy(world.site, "p", "gold")
        case "replace":
            world.add_policy("silver", full="every 2h")
        case _:
            detach_policy(world.site, "p", "gold", ["orders"])
            if how == "delete":
                delete_policy(world.site, "p", "gold")
    assert world.tick() == []
    assert world.runs()[-1] == ("full", f"missed 1: {reason}")
    if how in ("update", "resume"):
        assert world.all(Schedule)[0].full_owed


def test_an_error_in_one_schedule_stops_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_instance("billing")
    world.add_policy(attach=("orders", "billing"), full="every 1h")
    world.add_instance("shop")
    world.add_policy("silver", ("shop",), full="every 1h")
    with world.site.catalog.write() as session:
        policy = session.query(Policy).filter_by(name="silver").one()
        policy.document = {**policy.document, "time_zone": "Mars/Base"}
    take = tick.Turn.take

    def fail(turn: tick.Turn) -> Job | None:
        if turn.database.name == "billing":
            raise ValueError("a defect")
        return take(turn)

    monkeypatch.setattr(tick.Turn, "take", fail)
    assert [job.instance_id for job in world.tick()] == ["orders"]
    monkeypatch.undo()
    assert [job.instance_id for job in world.tick(2 * MINUTE)] == ["billing"]


def test_a_thousand_databases_with_one_nominal_time_run_once_each(world: World) -> None:
    row = world.all(Instance)[0]
    columns = {column.name: getattr(row, column.name) for column in Instance.__table__.columns}
    with world.site.catalog.write() as session:
        session.add_all([Instance(**{**columns, "id": f"i{number}", "name": f"i{number}"}) for number in range(999)])
    world.add_policy(attach=(), incremental="every 1h")
    attach_policy(world.site, "p", "gold", [], whole_project=True)
    jobs = world.tick()
    assert len({job.instance_id for job in jobs}) == len(jobs) == 1000
    assert world.tick() == []
    assert len({run.id for run in world.all(PolicyRun)}) == 1000


def test_a_service_that_dies_in_the_transaction_leaves_neither_run_nor_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_with_full(world, incremental="every 1h")

    class Killed(BaseException):
        pass

    def die(*_arguments: Any) -> Any:
        raise Killed

    monkeypatch.setattr(tick.Turn, "_handle", die)
    with pytest.raises(Killed):
        world.tick(HOUR)
    monkeypatch.undo()
    assert (len(world.all(PolicyRun)), len(world.all(Job))) == (1, 1)
    monkeypatch.setattr(ends, "now", lambda: world.at)
    world.site.queue.start = lambda job: world.started.append(job.id)
    assert len(world.tick()) == 1
    assert world.tick() == []


@pytest.mark.parametrize("seed", range(2))
def test_each_due_time_is_one_run_or_recorded_as_missed(world: World, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Backups end, hosts are unreachable, the service is down, the policy is paused, changed and detached, in any order."""
    choose = random.Random(seed).choice
    monkeypatch.setattr("strongroom.flows.policies.requests.now", lambda: world.at)
    world.at = datetime(2030, 1, 1, 0, 30, tzinfo=UTC)
    begin_with_full(world, full="daily 03:00", incremental="hourly", spread="20m", not_between=["10:00-13:00"])
    jobs: list[Job] = []
    due: list[datetime] = []
    since = world.at

    def note_due() -> None:
        """Due times are those of the schedules that applied."""
        nonlocal since
        plan = world.all(Policy)[0].plan
        while (found := plan.next_after(since)) is not None and found[0] <= world.at:
            since = found[0]
            due.append(since)
        since = world.at

    def set_seen(at: datetime) -> None:
        with world.site.catalog.write() as session:
            session.get_one(Host, "db1").seen = at

    for _ in range(100):
        match choose(
            [*["wait"] * 12, *["end"] * 6, "fail", "fail", "cancel", "down", "silent", "back", "pause", "update", "detach"]
        ):
            case "wait":
                for _ in range(choose([1, 5, 20, 40])):
                    jobs += world.tick(MINUTE)
            case "down":
                jobs += world.tick(choose([3, 8, 30]) * HOUR)
            case "silent":
                set_seen(now() - DAY)
            case "back":
                set_seen(now() + 1000 * DAY)
            case "pause":
                pause_policy(world.site, "p", "gold", reason="the storage is moved")
                jobs += world.tick(choose([MINUTE, 5 * HOUR]))
                note_due()
                resume_policy(world.site, "p", "gold")
            case "update":
                note_due()
                update_policy(world.site, "p", "gold", {"incremental": choose(["hourly", "every 50m", "every 2h"])})
            case "detach":
                note_due()
                detach_policy(world.site, "p", "gold", ["orders"])
                jobs += world.tick(MINUTE)
                since = world.at
                attach_policy(world.site, "p", "gold", ["orders"])
                jobs += world.tick()
            case how if jobs:
                world.end(jobs.pop(0), "" if how == "end" else how, "Cancelled" if how == "cancel" else "ToolFailed")
    note_due()
    handled = world.all(Schedule)[0].handled
    runs = world.all(PolicyRun)
    found = {time: [run for run in runs if run.nominal <= time <= run.last] for time in due if time <= handled}
    assert {len(rows) for rows in found.values()} == {1}, {time: rows for time, rows in found.items() if len(rows) != 1}
