"""Quotas, resizes and resets as requests: what they accept, refuse and write, on a real catalog."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.agent.models import ServerDefinition
from strongroom.catalog import Backup, Host, Instance, Job, Quota, open_catalog, quotas
from strongroom.errors import Busy, InvalidRequest, QuotaExceeded, Unsupported
from strongroom.flows import Site, open_site
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.kinds.backup import request_backup
from strongroom.flows.kinds.create import request_instance
from strongroom.flows.kinds.lifecycle import request_delete_instance, request_reset
from strongroom.flows.kinds.resize import request_resize_flavor, request_resize_volume
from strongroom.settings import load
from strongroom.storage import open_store
from support.ends import settle

MakeControl = Callable[..., Site]


@pytest.fixture
def control_with(place: Path) -> MakeControl:
    def make(**limits: int) -> Site:
        settings = load(service={"data_dir": place}, quotas=limits)
        store = open_store(settings.storage, settings.store_path)
        control = open_site(settings, open_catalog(settings), store, {"local": lambda: None})  # type: ignore[dict-item, return-value]
        control.queue.start = lambda job: None
        version = {"datastore": "mariadb", "series": "10.11", "number": "10.11.19", "programs": {}}
        with control.catalog.write() as session:
            session.add(Host(name="local", view={"versions": [version], "free_bytes": 1 << 40}))
        return control

    return make


def running(control: Site, name: str = "mysql1", **options: Any) -> Instance:
    instance, _ = request_instance(control, "p", name=name, **options)
    end_jobs(control)
    edit(control, Instance, instance.id, state="running", healthy=True)
    return instance


def end_jobs(control: Site) -> None:
    with control.catalog.write() as session:
        for job in session.query(Job).filter(Job.finished.is_(None)):
            settle(session, job, None)


def edit(control: Site, table: Any, key: str, **values: Any) -> None:
    with control.catalog.write() as session:
        row = session.get(table, key)
        for name, value in values.items():
            setattr(row, name, value)


def row(control: Site, table: Any, key: str) -> Any:
    with control.catalog.read() as session:
        return session.get(table, key)


def used(control: Site, project: str = "p") -> dict[str, int]:
    with control.catalog.read() as session:
        return quotas.in_use(session, project, control.settings)


def test_nothing_is_refused_without_limits(control_with: MakeControl) -> None:
    control = control_with()
    for number in range(3):
        running(control, f"i{number}", flavor="d5", volume_size=10_000)
    assert used(control) == {"instances": 3, "ram": 3 * 8192, "volumes": 30_000, "backups": 0}


@pytest.mark.parametrize(
    ("limits", "over"),
    [
        ({"instances": 1}, "['instances']"),
        ({"ram": 1024}, "['ram']"),
        ({"volumes": 11}, "['volumes']"),
        ({"instances": 1, "ram": 600, "volumes": 100}, "['instances', 'ram']"),
        ({"instances": 0}, "['instances']"),
    ],
)
def test_instance_over_the_limit_is_refused_with_troves_message(
    control_with: MakeControl, limits: dict[str, int], over: str
) -> None:
    control = control_with(**limits)
    if limits.get("instances") != 0:
        running(control, flavor="d1", volume_size=5)
    before = used(control)
    with pytest.raises(QuotaExceeded) as caught:
        request_instance(control, "p", name="second", flavor="d2", volume_size=7)
    assert caught.value.message == f"Quota exceeded for resources: {over}."
    assert caught.value.status == 413
    assert used(control) == before
    if limits.get("instances") != 0:
        request_instance(control, "q", name="of another project", flavor="d1", volume_size=5)


def test_deleted_resources_do_not_count(control_with: MakeControl) -> None:
    control = control_with(instances=1)
    first = running(control)
    request_delete_instance(control, "p", first.id)
    with pytest.raises(QuotaExceeded):  # it is not gone yet
        request_instance(control, "p", name="second")
    end_jobs(control)
    request_instance(control, "p", name="second")


def test_failed_backups_count(control_with: MakeControl) -> None:
    control = control_with(backups=2)
    instance = running(control)
    first, _ = request_backup(control, "p", instance.id, BackupOptions(name="b1"))
    edit(control, Backup, first.id, status="FAILED")
    end_jobs(control)
    request_backup(control, "p", instance.id, BackupOptions(name="b2"))
    end_jobs(control)
    with pytest.raises(QuotaExceeded, match=r"\['backups'\]") as caught:
        request_backup(control, "p", instance.id, BackupOptions(name="b3"))
    assert "2 of 2 in use" in caught.value.remedy


def test_project_may_have_its_own_limits(control_with: MakeControl) -> None:
    control = control_with(instances=1)
    with control.catalog.write() as session:
        session.add_all(
            [Quota(project="p", resource="instances", hard_limit=-1), Quota(project="q", resource="ram", hard_limit=0)]
        )
    running(control)
    running(control, "second")
    with pytest.raises(QuotaExceeded):
        request_instance(control, "q", name="x")
    with control.catalog.read() as session:
        assert quotas.limits(session, "q", control.settings) == {"instances": 1, "ram": 0, "volumes": -1, "backups": -1}


def test_memory_and_disk_of_adopted_servers_are_not_limited(control_with: MakeControl) -> None:
    control = control_with(ram=1, volumes=1, instances=1)
    server = ServerDefinition(datastore="mariadb", series="10.11", runtime="adopted", socket=Path("/run/s"))
    request_instance(control, "p", name="a", adopt=server)
    assert used(control) == {"instances": 1, "ram": 0, "volumes": 0, "backups": 0}
    with pytest.raises(QuotaExceeded, match="instances"):
        request_instance(control, "p", name="b", adopt=server)


def test_concurrent_requests_cannot_exceed_the_limit(control_with: MakeControl) -> None:
    control = control_with(instances=3)
    refused: list[QuotaExceeded] = []

    def ask(number: int) -> None:
        try:
            request_instance(control, "p", name=f"i{number}")
        except QuotaExceeded as error:
            refused.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (used(control)["instances"], len(refused)) == (3, 5)


def test_volume_can_only_grow(control_with: MakeControl) -> None:
    control = control_with(volumes=20)
    instance = running(control, volume_size=5)
    for size in (5, 4):
        with pytest.raises(InvalidRequest, match="must be larger than the current 5 GB"):
            request_resize_volume(control, "p", instance.id, size)
    request_resize_volume(control, "p", instance.id, 20)
    assert row(control, Instance, instance.id).volume_size == 20
    with pytest.raises(QuotaExceeded, match="volumes"):
        request_resize_volume(control, "p", instance.id, 21)
    request_backup(control, "p", instance.id, BackupOptions(name="b"))
    with pytest.raises(Busy):
        request_resize_volume(control, "p", instance.id, 30)


def test_flavor_is_changed_by_a_job(control_with: MakeControl) -> None:
    control = control_with(ram=1500)
    instance = running(control, flavor="d1")
    with pytest.raises(InvalidRequest, match="already has flavor d1"):
        request_resize_flavor(control, "p", instance.id, "d1")
    with pytest.raises(InvalidRequest, match="d99 cannot be found"):
        request_resize_flavor(control, "p", instance.id, "d99")
    with pytest.raises(QuotaExceeded, match="ram"):
        request_resize_flavor(control, "p", instance.id, "d3")
    job = request_resize_flavor(control, "p", instance.id, "d2")
    assert (job.kind, job.params) == ("resize", {"flavor": "d2"})
    assert (row(control, Instance, instance.id).task, row(control, Instance, instance.id).flavor) == ("RESIZE", "d1")
    with pytest.raises(Busy):
        request_resize_flavor(control, "p", instance.id, "d2")
    end_jobs(control)
    assert row(control, Instance, instance.id).task is None
    edit(control, Instance, instance.id, state="stopped")
    with pytest.raises(Busy, match="stopped"):
        request_resize_flavor(control, "p", instance.id, "d2")


def test_adopted_server_cannot_be_resized(control_with: MakeControl) -> None:
    control = control_with()
    server = ServerDefinition(datastore="mariadb", series="10.11", runtime="adopted", socket=Path("/run/s"))
    instance, _ = request_instance(control, "p", name="a", adopt=server)
    end_jobs(control)
    with pytest.raises(Unsupported, match="adopted"):
        request_resize_flavor(control, "p", instance.id, "d2")
    with pytest.raises(Unsupported, match="adopted"):
        request_resize_volume(control, "p", instance.id, 100)


def test_reset_ends_jobs_and_fails_running_backups(control_with: MakeControl) -> None:
    control = control_with()
    instance = running(control)
    done, _ = request_backup(control, "p", instance.id, BackupOptions(name="done"))
    edit(control, Backup, done.id, status="COMPLETED")
    end_jobs(control)
    backup, job = request_backup(control, "p", instance.id, BackupOptions(name="b"))
    edit(control, Job, job.id, status="running")
    request_reset(control, "p", instance.id)
    ended = row(control, Job, job.id)
    assert (ended.status, ended.cancel, ended.fault["code"]) == ("cancelled", True, "Cancelled")
    assert row(control, Backup, backup.id).status == "FAILED"
    assert row(control, Backup, done.id).status == "COMPLETED"
    assert row(control, Instance, instance.id).task is None
    request_backup(control, "p", instance.id, BackupOptions(name="next"))


def test_instance_that_was_never_built_can_be_deleted_after_a_reset(control_with: MakeControl) -> None:
    control = control_with()
    instance, job = request_instance(control, "p", name="stuck")
    request_reset(control, "p", instance.id)
    assert (row(control, Instance, instance.id).task, row(control, Job, job.id).status) == (None, "cancelled")
    request_delete_instance(control, "p", instance.id)
    end_jobs(control)
    assert row(control, Instance, instance.id).deleted is not None
