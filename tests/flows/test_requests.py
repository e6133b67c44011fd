"""What requests accept, refuse and write, on a real catalog; the flows themselves run in the end-to-end tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from strongroom.agent.models import PlanRequest, ServerDefinition
from strongroom.artifact import PROVES_DAMAGE, Notice
from strongroom.catalog import Backup, Cluster, Host, Instance, Job, Strategy, now, open_catalog
from strongroom.catalog.find import find_job
from strongroom.catalog.queries import broken_chains
from strongroom.datastores import DatabaseSpec, ProfileItem, UserSpec, get
from strongroom.errors import (
    Busy,
    Cancelled,
    Conflict,
    HasChildren,
    InvalidRequest,
    LineageChanged,
    NotFound,
    QuotaExceeded,
    StrongroomError,
    TooLarge,
)
from strongroom.flows import Site, open_site, plan_restore, request_cancel, wait_job
from strongroom.flows.backups import verification
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.follow import make_request
from strongroom.flows.jobs import new_job
from strongroom.flows.kinds.backup import request_backup
from strongroom.flows.kinds.create import request_instance
from strongroom.flows.kinds.deletion import request_delete_backup
from strongroom.flows.kinds.final_deletion import request_final_cluster_deletion, request_final_deletion
from strongroom.flows.kinds.lifecycle import request_action, request_delete_instance
from strongroom.flows.kinds.resize import request_resize_flavor
from strongroom.flows.kinds.restore import request_restore
from strongroom.flows.kinds.verify import request_verify
from strongroom.flows.loop import begin_job, run_step, settle_job
from strongroom.settings import load
from strongroom.storage import open_store
from strongroom.worker.spec import TOOK_FULL, RestoreJob
from support.ends import settle

GB = 1024**3


@pytest.fixture
def control(place: Path) -> Site:
    settings = load(service={"data_dir": place})
    catalog = open_catalog(settings)
    control = open_site(settings, catalog, open_store(settings.storage, settings.store_path), {"local": lambda: None})  # type: ignore[dict-item, return-value]
    control.queue.start = lambda job: None
    version = {"datastore": "mariadb", "series": "10.11", "number": "10.11.19", "programs": {}}
    with catalog.write() as session:
        session.add(Host(name="local", view={"versions": [version], "free_bytes": 100 * GB}))
    return control


def edit(control: Site, table: Any, key: str, change: Callable[[Any], None]) -> None:
    with control.catalog.write() as session:
        change(session.get(table, key))


def end_jobs(control: Site, failure: dict[str, str] | None = None) -> None:
    with control.catalog.write() as session:
        for job in session.query(Job).filter(Job.finished.is_(None)):
            settle(session, job, failure)


def running(control: Site, name: str = "mysql1", lineage: str = "L1") -> Instance:
    instance, _ = request_instance(control, "p", name=name)
    end_jobs(control)

    def up(row: Instance) -> None:
        row.state, row.healthy, row.lineage = "running", True, lineage

    edit(control, Instance, instance.id, up)
    return instance


def taken(control: Site, instance: Instance, name: str, **options: Any) -> Backup:
    backup, _ = request_backup(control, "p", instance.id, BackupOptions(name=name, **options))

    def done(row: Backup) -> None:
        row.status, row.lineage, row.data_size = "COMPLETED", "L1", 3 * GB

    edit(control, Backup, backup.id, done)
    end_jobs(control)
    return backup


def row(control: Site, table: Any, key: str) -> Any:
    with control.catalog.read() as session:
        return session.get(table, key)


def test_instance_needs_only_a_name(control: Site) -> None:
    instance, job = request_instance(control, "p", name="mysql1")
    assert (instance.datastore, instance.series, instance.flavor, instance.host) == ("mariadb", "10.11", "d1", "local")
    assert (instance.task, job.kind, job.status) == ("BUILD", "create", "queued")


@pytest.mark.parametrize("version", ["10.11", "10.11.19"])
def test_version_is_selected_by_series_or_full_version(control: Site, version: str) -> None:
    instance, _ = request_instance(control, "p", name="x", datastore="mariadb", version=version)
    assert instance.series == "10.11"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": ""}, InvalidRequest, "0 characters"),
        ({"name": "x" * 256}, InvalidRequest, "256 characters"),
        ({"name": "---"}, InvalidRequest, "letter or digit"),
        ({"name": "a\nb"}, InvalidRequest, "control characters"),
        ({"name": "a", "flavor": "d9"}, InvalidRequest, "d9"),
        ({"name": "a", "volume_size": 0}, InvalidRequest, "volume size is 0 GB"),
        ({"name": "a", "datastore": "oracle"}, NotFound, "oracle"),
        ({"name": "a", "version": "5.5"}, InvalidRequest, "5.5"),
        ({"name": "a", "version": "10.11", "version_number": "10.6.2"}, InvalidRequest, "10.6.2"),
        ({"name": "a", "backup": "nope"}, NotFound, "nope"),
    ],
)
def test_invalid_instances_are_refused_with_a_message(
    control: Site, options: dict[str, Any], error: type[StrongroomError], says: str
) -> None:
    with pytest.raises(error, match=says):
        request_instance(control, "p", **options)
    with control.catalog.read() as session:
        assert session.query(Instance).count() == 0


@pytest.mark.parametrize("name", ["x" * 255, 'o\'brien "quoted"', "данные-数据-🗄", "a; rm -rf /"])
def test_names_are_free_text(control: Site, name: str) -> None:
    assert request_instance(control, "p", name=name)[0].name == name


def test_passwords_of_new_users_are_in_a_private_file_and_in_no_table(control: Site, place: Path) -> None:
    _, job = request_instance(
        control,
        "p",
        name="x",
        databases=[DatabaseSpec(name="db1")],
        users=[UserSpec(name="u", password="s3cr3t-pass", databases=["db1"])],
    )
    assert control.secrets.get(job.id)["users"][0]["password"] == "s3cr3t-pass"
    assert oct((place / "secrets" / f"{job.id}.json").stat().st_mode)[-3:] == "600"
    for file in place.glob("catalog.sqlite*"):
        assert b"s3cr3t-pass" not in file.read_bytes()


def test_adopted_server_keeps_its_definition(control: Site) -> None:
    definition = ServerDefinition(datastore="mariadb", series="10.11", runtime="adopted", socket=Path("/run/s.sock"))
    instance, job = request_instance(control, "p", name="x", adopt=definition)
    assert (instance.runtime, job.kind, job.params["adopt"]["socket"]) == ("adopted", "adopt", "/run/s.sock")


def test_second_backup_of_a_busy_instance_is_refused(control: Site) -> None:
    instance = running(control)
    _, job = request_backup(control, "p", "mysql1", BackupOptions(name="b1"))
    with pytest.raises(Busy, match=f"backup job {job.id} is queued"):
        request_backup(control, "p", instance.id, BackupOptions(name="b2"))


def test_stopped_server_cannot_be_backed_up(control: Site) -> None:
    instance = running(control)
    edit(control, Instance, instance.id, lambda r: setattr(r, "state", "stopped"))
    with pytest.raises(Busy, match="needs a running server"):
        request_backup(control, "p", "mysql1", BackupOptions(name="b1"))


def test_a_server_that_runs_again_is_asked_before_a_request_is_refused(control: Site) -> None:
    instance = running(control)
    asked: list[tuple[str, str]] = []

    def ask(host: str, server: str) -> None:
        asked.append((host, server))
        edit(control, Instance, server, lambda r: setattr(r, "state", "running"))

    control.agents.ask_server = ask
    edit(control, Instance, instance.id, lambda r: setattr(r, "state", "stopped"))
    request_resize_flavor(control, "p", instance.id, "d3")
    end_jobs(control)
    edit(control, Instance, instance.id, lambda r: setattr(r, "state", "starting"))
    request_backup(control, "p", "mysql1", BackupOptions(name="b1"))
    assert asked == [("local", instance.id)] * 2  # and not while it is known to run


def test_incremental_is_based_on_the_newest_backup_or_is_a_full_with_a_reason(control: Site) -> None:
    instance = running(control)
    full = taken(control, instance, "b1", incremental=True)
    assert full.kind == "full"
    assert full.reason is not None
    assert "no completed backup" in full.reason
    one = taken(control, instance, "b2", incremental=True)
    two = taken(control, instance, "b3", incremental=True)
    assert (one.parent_id, two.parent_id, two.chain_id, two.kind) == (full.id, one.id, full.id, "incremental")


def test_incremental_after_a_reset_is_based_on_a_later_backup(control: Site) -> None:
    """The binary log begins with number 1 again, so the position of older backups is ahead for a long time."""
    instance = running(control)

    def end_in(backup: Backup, number: int, **fields: Any) -> None:
        def change(row: Backup) -> None:
            row.positions = {"binlog_file": f"binlog.{number:06}", "binlog_position": 4}
            for name, value in fields.items():
                setattr(row, name, value)

        edit(control, Backup, backup.id, change)

    old = taken(control, instance, "old")
    end_in(old, 100)
    refused = taken(control, instance, "refused", incremental=True)
    assert refused.parent_id == old.id
    reason = f"{TOOK_FULL}nothing proves that old is in the history of the server."
    end_in(refused, 1, kind="full", parent_id=None, chain_id=refused.id, reason=reason)
    one = taken(control, instance, "one", incremental=True)
    end_in(one, 2)
    two = taken(control, instance, "two", incremental=True)
    assert (one.parent_id, two.parent_id, two.chain_id) == (refused.id, one.id, refused.id)
    full = taken(control, instance, "full")
    end_in(full, 3)
    assert taken(control, instance, "three", incremental=True).parent_id == full.id


def test_incremental_after_the_data_was_replaced_takes_a_full_with_a_reason(control: Site) -> None:
    instance = running(control)
    taken(control, instance, "b1")
    edit(control, Instance, instance.id, lambda r: setattr(r, "lineage", "L2"))
    backup, _ = request_backup(control, "p", "mysql1", BackupOptions(name="b2", incremental=True))
    assert (backup.kind, backup.parent_id) == ("full", None)
    assert "replaced" in (backup.reason or "")


def test_named_parent_must_be_completed_and_of_the_same_instance_and_lineage(control: Site) -> None:
    instance = running(control)
    other = running(control, "mysql2")
    foreign = taken(control, other, "foreign")
    with pytest.raises(InvalidRequest, match="not of mysql1"):
        request_backup(control, "p", "mysql1", BackupOptions(name="b", parent="foreign"))
    own = taken(control, instance, "own")
    edit(control, Backup, own.id, lambda r: setattr(r, "status", "FAILED"))
    with pytest.raises(Conflict, match="FAILED") as caught:
        request_backup(control, "p", "mysql1", BackupOptions(name="b", parent=own.id))
    assert "full" in caught.value.remedy
    edit(control, Backup, own.id, lambda r: (setattr(r, "status", "COMPLETED"), setattr(r, "lineage", "L0")))
    with pytest.raises(LineageChanged):
        request_backup(control, "p", "mysql1", BackupOptions(name="b", parent=own.id))
    with pytest.raises(NotFound):
        request_backup(control, "q", "mysql1", BackupOptions(name="b", parent=foreign.id))


@pytest.mark.parametrize("container", ["", "a/b", "../x", "a b", "-x", "x" * 256, "ü"])
def test_bad_containers_are_refused(control: Site, container: str) -> None:
    running(control)
    with pytest.raises(InvalidRequest, match="not allowed"):
        request_backup(control, "p", "mysql1", BackupOptions(name="b", container=container))


def test_strategy_names_the_container(control: Site) -> None:
    instance = running(control)
    with control.catalog.write() as session:
        session.add(Strategy(project="p", instance_id=instance.id, container="mine"))
    assert taken(control, instance, "b").container == "mine"


def test_parent_with_children_is_not_deleted(control: Site) -> None:
    instance = running(control)
    full = taken(control, instance, "full")
    one = taken(control, instance, "one", parent=full.id)
    with pytest.raises(HasChildren, match=one.id):
        request_delete_backup(control, "p", "full")
    job = request_delete_backup(control, "p", "full", cascade=True)
    assert job.backup_id == full.id
    assert {row(control, Backup, key).status for key in (one.id, full.id)} == {"DELETING"}
    with pytest.raises(Busy, match="being deleted"):
        request_delete_backup(control, "p", one.id)
    end_jobs(control)
    with pytest.raises(NotFound), control.catalog.read() as session:
        from strongroom.catalog.find import find_backup

        find_backup(session, "p", "full")


def test_backup_in_use_is_not_deleted(control: Site) -> None:
    instance = running(control)
    backup, _ = request_backup(control, "p", "mysql1", BackupOptions(name="b"))
    with pytest.raises(Busy, match="because it is running"):
        request_delete_backup(control, "p", backup.id)
    end_jobs(control)
    edit(control, Backup, backup.id, lambda r: setattr(r, "status", "COMPLETED"))
    child = taken(control, instance, "child", parent=backup.id)
    request_instance(control, "p", name="mysql3", backup=child.id)
    for selected in (child.id, backup.id):
        with pytest.raises(Busy, match="in use by create job"):
            request_delete_backup(control, "p", selected, cascade=True)
    assert row(control, Backup, child.id).status == "COMPLETED"


def test_backup_being_deleted_cannot_be_a_parent_or_a_source(control: Site) -> None:
    instance = running(control)
    backup = taken(control, instance, "b")
    request_delete_backup(control, "p", backup.id)
    with pytest.raises(Conflict, match="DELETING"):
        request_instance(control, "p", name="x", backup=backup.id)
    with pytest.raises(Conflict, match="DELETING"):
        request_verify(control, "p", backup.id, prepare=False)
    with pytest.raises(Conflict, match="DELETING"):
        request_backup(control, "p", "mysql1", BackupOptions(name="b2", parent=backup.id))


def test_volume_smaller_than_the_data_is_refused(control: Site) -> None:
    backup = taken(control, running(control), "b")
    with pytest.raises(TooLarge, match="3 GB"):
        request_instance(control, "p", name="x", backup=backup.id, volume_size=2)
    assert request_instance(control, "p", name="x", backup=backup.id, volume_size=3)[0].volume_size == 3


def test_restore_in_place_blocks_other_jobs(control: Site) -> None:
    instance = running(control)
    backup = taken(control, instance, "b")
    job = request_restore(control, "p", "mysql1", "b")
    assert (job.kind, row(control, Instance, instance.id).task) == ("restore", "RESTORE")
    with pytest.raises(Busy):
        request_action(control, "p", "mysql1", "restart")
    with pytest.raises(Busy):
        request_backup(control, "p", "mysql1", BackupOptions(name="b2"))
    end_jobs(control, {"code": "ToolFailed", "message": "mbstream broke", "remedy": ""})
    after = row(control, Instance, instance.id)
    assert after.task is None
    assert after.fault["message"] == f"Failed to restore backup {backup.id}, error: mbstream broke"


def test_failed_backup_sets_the_fault_of_the_instance_until_the_next_success(control: Site) -> None:
    instance = running(control)
    backup, _ = request_backup(control, "p", "mysql1", BackupOptions(name="b"))
    end_jobs(control, {"code": "StorageFull", "message": "the store is full", "remedy": "free some space"})
    assert row(control, Backup, backup.id).status == "FAILED"
    fault = row(control, Instance, instance.id).fault
    assert fault["message"] == f"Failed to create backup {backup.id}, error: the store is full"
    taken(control, instance, "b2")
    assert row(control, Instance, instance.id).fault is None


def test_deleting_an_instance_cancels_its_jobs(control: Site) -> None:
    instance = running(control)
    backup, job = request_backup(control, "p", "mysql1", BackupOptions(name="b"))
    first = request_delete_instance(control, "p", "mysql1")
    again = request_delete_instance(control, "p", instance.id)
    assert first.id == again.id
    assert row(control, Job, job.id).status == "cancelled"
    assert row(control, Backup, backup.id).status == "FAILED"
    assert row(control, Instance, instance.id).task == "SHUTDOWN"


def test_queued_job_is_cancelled_at_once_and_running_job_is_marked(control: Site) -> None:
    running(control)
    _, job = request_backup(control, "p", "mysql1", BackupOptions(name="b"))
    edit(control, Job, job.id, lambda r: setattr(r, "status", "running"))
    assert request_cancel(control, "p", job.id).cancel
    assert row(control, Job, job.id).status == "running"
    end_jobs(control, {"code": "Cancelled", "message": "cancelled", "remedy": ""})
    assert row(control, Job, job.id).status == "cancelled"
    with pytest.raises(Busy, match="already cancelled"):
        request_cancel(control, "p", job.id)


def test_projects_cannot_see_each_other(control: Site) -> None:
    instance = running(control)
    backup = taken(control, instance, "b")
    for call in (
        lambda: request_backup(control, "q", instance.id, BackupOptions(name="x")),
        lambda: request_delete_backup(control, "q", backup.id),
        lambda: request_restore(control, "q", instance.id, backup.id),
        lambda: request_delete_instance(control, "q", instance.id),
        lambda: request_instance(control, "q", name="x", backup=backup.id),
    ):
        with pytest.raises(NotFound):
            call()


def test_wait_returns_at_the_next_event_or_after_the_timeout(control: Site) -> None:
    running(control)
    _, job = request_backup(control, "p", "mysql1", BackupOptions(name="b"))

    async def scene() -> None:
        quiet = await wait_job(control, "p", job.id, after=0, seconds=0.2)
        assert quiet.events == 0
        waiting = asyncio.create_task(wait_job(control, "p", job.id, after=0, seconds=10))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await asyncio.to_thread(edit, control, Job, job.id, lambda r: setattr(r, "events", 1))
        assert (await asyncio.wait_for(waiting, 2)).events == 1

    asyncio.run(scene())


def test_settled_job_does_nothing_more(control: Site) -> None:
    """Its host was removed, or its instance reset, while a step was under way: the next one, a swap perhaps, is not done."""
    _, job = request_instance(control, "p", name="x")
    with control.catalog.write() as session:
        settle(session, session.get_one(Job, job.id), Cancelled("given up").to_dict())
    failure = asyncio.run(run_step(control, job.id, "create", 2))
    assert failure is not None and failure["code"] == "Cancelled" and "has ended already" in failure["message"]


@pytest.mark.parametrize(("task", "after"), [("RESTARTING", None), ("BUILD", "ERROR"), ("SHUTDOWN", "ERROR"), (None, None)])
def test_job_of_a_later_version_leaves_no_task(control: Site, task: str | None, after: str | None) -> None:
    instance, member = running(control), running(control, "node")
    cluster = Cluster(id="c", project="p", name="shop", datastore="mariadb", series="10.11", wsrep_name="s", task=task)
    with control.catalog.write() as session:
        node = session.get_one(Instance, member.id)
        node.cluster_id, node.task = cluster.id, task
        session.add(cluster)
        session.get_one(Instance, instance.id).task = task
        ids = [new_job(session, "p", "shrink", instance=instance).id, new_job(session, "p", "grow", cluster=cluster).id]
    for job_id in ids:
        failure = asyncio.run(run_step(control, job_id, row(control, Job, job_id).kind, 0))
        asyncio.run(settle_job(control, job_id, failure))
    things = [row(control, Instance, instance.id), row(control, Instance, node.id), row(control, Cluster, "c")]
    assert [thing.task for thing in things] == [after] * 3
    assert "does not know" in things[0].fault["message"]


def test_job_of_a_later_version_does_not_end_the_task_of_another_job(control: Site) -> None:
    instance = running(control)
    with control.catalog.write() as session:
        unknown = new_job(session, "p", "shrink", instance=instance)
    request_delete_instance(control, "p", instance.id)
    with control.catalog.write() as session:
        settle(session, session.get_one(Job, unknown.id), Cancelled("it was cancelled").to_dict())
    assert row(control, Instance, instance.id).task == "SHUTDOWN"


def test_settling_twice_changes_nothing(control: Site) -> None:
    running(control)
    _, job = request_backup(control, "p", "mysql1", BackupOptions(name="b"))
    end_jobs(control)
    with control.catalog.write() as session:
        settle(session, find_job(session, "p", job.id), {"code": "JobLost", "message": "x", "remedy": ""})
    assert row(control, Job, job.id).status == "succeeded"


class TestPlans:
    """What a restore would do. The agent's part is canned."""

    PROFILE: ClassVar = {
        "settings": {"innodb_page_size": "8192"},
        "outside": {"innodb_undo_directory": "/undo"},
        "absent": ["rows of MEMORY tables"],
        "left_behind": ["server.pem"],
        "notices": [
            {"item": "events", "effect": "warn", "message": "2 events"},
            {"item": "links", "effect": "refuse_in_place", "message": "a link", "remedy": "Remove it."},
        ],
    }

    @pytest.fixture
    def met(self, control: Site, monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
        """What the target is found to lack."""
        notices: list[Notice] = []

        class Agent:
            async def __aenter__(self) -> Agent:
                return self

            async def __aexit__(self, *_: object) -> None:
                return

            async def compare_profile(self, request: PlanRequest) -> list[Notice]:
                assert request.profile.settings
                return notices

        monkeypatch.setattr(control.agents, "client", lambda _host: Agent())
        rows = (ProfileItem("events", "disabled", "kept", "they run"),)
        monkeypatch.setattr(get("mariadb").profiles, "items", rows)
        return notices

    def test_plan_has_chain_sizes_and_effects(self, control: Site, met: list[Notice]) -> None:
        instance = running(control)
        full = taken(control, instance, "full")
        child = taken(control, instance, "inc", parent=full.id)
        for backup in (full, child):
            edit(control, Backup, backup.id, lambda row: setattr(row, "stored_size", 5))
        edit(control, Backup, child.id, lambda row: setattr(row, "profile", self.PROFILE))
        plan = asyncio.run(plan_restore(control, "p", "inc"))
        assert [link.name for link in plan.chain] == ["full", "inc"]
        assert (plan.stored_size, plan.data_size, plan.host, plan.instance) == (10, 3 * GB, "local", None)
        assert plan.allowed
        assert [(effect.effect, effect.item) for effect in plan.effects] == [
            ("disabled", "events"),
            ("placed", "innodb_undo_directory"),
            ("carried", "innodb_page_size"),
            ("absent", "not in the backup"),
            ("absent", "files of the data directory"),
        ]
        in_place = asyncio.run(plan_restore(control, "p", "inc", instance="mysql1"))
        assert not in_place.allowed
        assert [(effect.effect, effect.item) for effect in in_place.effects][:3] == [
            ("refused", "links"),
            ("warned", "events"),
            ("placed", "innodb_undo_directory"),
        ]
        assert ("kept", "previous data") in [(effect.effect, effect.item) for effect in in_place.effects]
        met.append(Notice(item="page size", effect="refuse", message="the target has another"))
        assert not asyncio.run(plan_restore(control, "p", "inc")).allowed

    def test_plan_warns_of_a_missing_profile(self, control: Site) -> None:
        taken(control, running(control), "full")
        (effect,) = asyncio.run(plan_restore(control, "p", "full")).effects
        assert (effect.effect, effect.item) == ("warned", "profile")

    def test_plan_warns_of_damage_and_refuses_nothing(self, control: Site) -> None:
        backup = taken(control, running(control), "full")
        verdict = {"at": "2026-11-29T12:00:00+00:00", "ok": False, "prepared": False, "message": "segment 3 is damaged"}
        edit(control, Backup, backup.id, lambda row: setattr(row, "verified", verdict))
        plan = asyncio.run(plan_restore(control, "p", "full"))
        assert plan.allowed
        assert "segment 3 is damaged" in next(found.message for found in plan.effects if found.item == "verification")

    def test_plan_refuses_what_a_restore_refuses(self, control: Site) -> None:
        taken(control, running(control), "full")
        with pytest.raises(TooLarge):
            asyncio.run(plan_restore(control, "p", "full", size=2))
        with pytest.raises(InvalidRequest, match="flavor huge"):
            asyncio.run(plan_restore(control, "p", "full", flavor="huge"))
        assert asyncio.run(plan_restore(control, "p", "full", flavor="d2", size=3)).allowed
        control.settings.quotas.instances = 1
        with pytest.raises(QuotaExceeded):
            asyncio.run(plan_restore(control, "p", "full"))
        control.settings.quotas.instances = -1
        edit(control, Host, "local", lambda row: setattr(row, "view", {"versions": [], "free_bytes": 100 * GB}))
        with pytest.raises(StrongroomError):
            asyncio.run(plan_restore(control, "p", "full"))
        with pytest.raises(NotFound):
            asyncio.run(plan_restore(control, "p", "none"))


def test_copy_that_was_not_activated_stays_isolated_after_its_own_restores(control: Site) -> None:
    """Its backups hold the replication and the events of its source."""
    instance = running(control)
    backup = taken(control, instance, "full")

    def is_isolated() -> bool:
        job = request_restore(control, "p", instance.id, backup.id)
        with control.catalog.read() as session:
            found = make_request(control, session, find_job(session, "p", job.id)).job
        end_jobs(control)
        assert isinstance(found, RestoreJob)
        return found.makes_copy

    assert not is_isolated()
    edit(control, Instance, instance.id, lambda row: setattr(row, "isolated", True))
    assert is_isolated()


def test_only_isolated_instances_can_be_activated(control: Site) -> None:
    instance = running(control)
    with pytest.raises(Conflict, match="not isolated"):
        request_action(control, "p", "mysql1", "activate")
    edit(control, Instance, instance.id, lambda row: setattr(row, "isolated", True))
    assert request_action(control, "p", "mysql1", "activate").kind == "activate"
    end_jobs(control)
    with control.catalog.read() as session:
        row = session.get(Instance, instance.id)
        assert row is not None and row.task is None


def test_only_results_change_the_state_of_a_backup(control: Site) -> None:
    """A verify job that fails without a result of the worker (an outage, no key, no space) proves nothing."""
    backup = taken(control, running(control), "full")
    for failure, results in (
        (None, [{"id": backup.id, "target": True, "level": "tables", "tables": 12}]),
        ({"code": "StorageError", "message": "away", "remedy": ""}, None),
        ({"code": "ToolFailed", "message": "it failed", "remedy": ""}, [{"id": backup.id, "target": True, "level": "content"}]),
    ):
        job = request_verify(control, "p", "full", prepare=True)
        if results is not None:
            known = {"code": failure["code"], "message": failure["message"]} if failure else {}
            edit(control, Job, job.id, lambda r: setattr(r, "output", {"results": [{**results[0], **known}]}))  # noqa: B023
        asyncio.run(verification.clean(control, job.id))
        end_jobs(control, failure)
        verified = row(control, Backup, backup.id).verified
        good = failure is None or failure["code"] == "StorageError"
        assert (verified["ok"], verified["tables"]) == (good, 12 if good else None)
        assert "results" not in row(control, Job, job.id).output


@pytest.mark.parametrize(
    ("code", "bad"),
    [
        *((code, True) for code in ("ArtifactCorrupt", "ArtifactMissing", "FileTwice", "ManifestInvalid", "ToolFailed")),
        ("ServerFailed", True),
        *((code, False) for code in ("StorageError", "StorageDenied", "StorageFull", "NoSpace", "CannotDecrypt", "ToolStopped")),
        *((code, False) for code in ("Unavailable", "HostSilent", "JobLost", "Cancelled", "ConfigurationError", "JobError")),
    ],
)
def test_only_damage_marks_a_backup_as_damaged(code: str, bad: bool) -> None:
    assert (code in PROVES_DAMAGE) is bad


def test_no_backup_is_based_on_a_damaged_one(control: Site) -> None:
    instance = running(control)
    full = taken(control, instance, "full")
    one = taken(control, instance, "one", parent=full.id)
    verdict = {"at": "2026-11-29T12:00:00+00:00", "ok": False, "prepared": False, "message": "segment 3 is not what was written"}
    edit(control, Backup, full.id, lambda r: setattr(r, "verified", verdict))
    with control.catalog.read() as session:
        rows = [session.get(Backup, key) for key in (full.id, one.id)]
        assert broken_chains(session, [r for r in rows if r is not None]) == {full.id: full.id, one.id: full.id}
    with pytest.raises(Conflict, match=r"found backup full .* damaged"):
        request_backup(control, "p", instance.id, BackupOptions(name="x", parent=one.id))
    next_one, _ = request_backup(control, "p", instance.id, BackupOptions(name="y", incremental=True))
    assert (next_one.kind, next_one.parent_id) == ("full", None)
    assert "segment 3 is not what was written" in (next_one.reason or "")
    end_jobs(control)
    edit(control, Backup, full.id, lambda r: setattr(r, "verified", {**verdict, "ok": True}))
    again, _ = request_backup(control, "p", instance.id, BackupOptions(name="z", incremental=True))
    assert again.parent_id == one.id


def test_unverified_artifact_counts_as_restorable(control: Site) -> None:
    full = taken(control, running(control), "full")
    with control.catalog.read() as session:
        row = session.get(Backup, full.id)
        assert row is not None
        assert broken_chains(session, [row]) == {}


def test_an_instance_is_deleted_only_after_its_final_backup_is_complete(control: Site) -> None:
    instance = running(control)

    def run(failure: dict[str, str] | None = None, *, cancel: bool = False) -> tuple[Job, dict[str, str] | None]:
        """Request it and end the backup; the job of the deletion, and what its first step says."""
        job = request_final_deletion(control, "p", "mysql1")
        backup = job.params["after"]
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(run_step(control, job.id, job.kind, 0), 0.2))
        assert row(control, Instance, instance.id).task is None, "it serves while it is backed up"
        with pytest.raises(Busy):
            request_final_deletion(control, "p", "mysql1")
        with control.catalog.write() as session:
            first = find_job(session, None, backup)
            first.cancel = cancel
            settle(session, first, failure)
            if failure is None:
                session.get_one(Backup, job.backup_id).status = "COMPLETED"
        return job, asyncio.run(run_step(control, job.id, job.kind, 0))

    for failure, cancel in (({"code": "NoSpace", "message": "the store is full", "remedy": ""}, False), (None, True)):
        job, told = run(failure, cancel=cancel)
        assert told is not None and "was not deleted: its final backup" in told["message"]
        assert cancel or "the store is full" in told["message"]
        asyncio.run(settle_job(control, job.id, told))
        left = row(control, Instance, instance.id)
        assert (left.task, left.deleted) == (None, None)
        assert "was not deleted" in left.fault["message"]
        request_delete_backup(control, "p", job.backup_id or "") if cancel else None
        end_jobs(control)
    job, told = run()
    assert (told, row(control, Instance, instance.id).task) == (None, "SHUTDOWN")
    assert asyncio.run(run_step(control, job.id, job.kind, 0)) is None, "also after a crash"
    asyncio.run(settle_job(control, job.id, {"code": "HostSilent", "message": "db1 is unreachable", "remedy": ""}))
    assert row(control, Instance, instance.id).task == "ERROR"
    edit(control, Instance, instance.id, lambda r: setattr(r, "task", None))
    job, _ = run()
    asyncio.run(begin_job(control, job.id))
    asyncio.run(settle_job(control, job.id, None))
    assert row(control, Instance, instance.id).deleted is not None


def test_an_instance_that_is_protected_during_its_final_backup_is_kept(control: Site) -> None:
    instance = running(control)
    job = request_final_deletion(control, "p", "mysql1")
    edit(control, Instance, instance.id, lambda r: setattr(r, "protected", True))
    edit(control, Backup, job.backup_id or "", lambda r: setattr(r, "status", "COMPLETED"))
    with control.catalog.write() as session:
        settle(session, find_job(session, None, job.params["after"]), None)
    told = asyncio.run(run_step(control, job.id, job.kind, 0))
    assert told is not None and told["code"] == "Protected"
    asyncio.run(settle_job(control, job.id, told))
    assert (row(control, Instance, instance.id).task, row(control, Instance, instance.id).deleted) == (None, None)


@pytest.mark.parametrize("fails", [False, True])
def test_a_cluster_is_deleted_only_after_its_final_backup_is_complete(control: Site, fails: bool) -> None:
    node = running(control)
    with control.catalog.write() as session:
        session.add(Cluster(id="c", project="p", name="shop", datastore="mariadb", series="10.11", wsrep_name="shop"))
        session.get_one(Host, "local").seen = now()
        member = session.get_one(Instance, node.id)
        member.cluster_id, member.node = "c", "node1"
        member.galera = {"wsrep_local_state_comment": "Synced", "wsrep_cluster_status": "Primary", "wsrep_ready": "ON"}
    job = request_final_cluster_deletion(control, "p", "shop")
    failure = {"code": "NoSpace", "message": "the store is full", "remedy": ""} if fails else None
    with control.catalog.write() as session:
        settle(session, find_job(session, None, job.params["after"]), failure)
        session.get_one(Backup, job.backup_id).status = "FAILED" if fails else "COMPLETED"
    asyncio.run(begin_job(control, job.id))
    told = asyncio.run(run_step(control, job.id, job.kind, 0))
    assert (told is not None and "cluster shop was not deleted" in told["message"]) == fails
    assert row(control, Cluster, "c").task == (None if fails else "DELETING")
    asyncio.run(settle_job(control, job.id, told))
    assert (row(control, Cluster, "c").deleted is None) == fails
    assert row(control, Cluster, "c").task is None
