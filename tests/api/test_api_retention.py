"""Deleted backups wait for their sweep and can be taken back; holds keep a backup whatever others want."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.catalog import Backup, Expiration, Hold, Removal, now
from support.site import Site, told


@pytest.fixture
def chain(site: Site) -> tuple[str, str, str]:
    """An instance, a full backup of it, and an incremental."""
    instance = site.instance()
    full = site.backup(instance, "full")
    return instance, full, site.backup(instance, "child", parent_id="full")


def act(site: Site, backup: str, **action: object) -> int:
    return site.ask("POST", f"/backups/{backup}/action", action).status_code


def names(site: Site, **query: str) -> list[str]:
    return [backup["name"] for backup in site.get("/backups", **query)["backups"]]


def test_a_deleted_backup_is_hidden_and_waits_for_its_sweep(site: Site, chain: tuple[str, str, str]) -> None:
    instance, _, child = chain
    plan = site.get(f"/backups/{child}/delete-plan")["plan"]
    reply = site.ask("DELETE", f"/backups/{child}")
    assert reply.status_code == 202 and "Strongroom-Job" not in reply.headers
    assert names(site) == ["full"] == [b["name"] for b in site.get(f"/instances/{instance}/backups")["backups"]]
    told(site.ask("GET", f"/backups/{child}"), 404, "itemNotFound")
    view = site.get(f"/backups/{child}", trashed="true")["backup"]
    assert (view["status"], view["restorable"], view["trashed"]) == ("COMPLETED", True, True)
    assert view["expired_because"] == "deleted by anonymous" and view["sweep_at"][:16] == plan["sweep_at"][:16]
    assert now() + timedelta(hours=23) < site.row(Expiration, child).sweep_at < now() + timedelta(hours=25)
    assert names(site, trashed="true") == ["child", "full"]
    assert "is deleted already" in told(site.ask("DELETE", f"/backups/{child}"), 404, "itemNotFound")["message"]
    quota = {q["resource"]: q["in_use"] for q in site.get("/mgmt/quotas/p")["quotas"]}
    assert quota["backups"] == 1
    assert site.ask("GET", f"/backups/{child}/restore-plan", instance="mysql1").status_code == 200


def test_a_deletion_is_taken_back_with_all_that_the_backup_is_based_on(site: Site, chain: tuple[str, str, str]) -> None:
    _, full, child = chain
    told(site.ask("DELETE", f"/backups/{full}"), 409, "conflict")
    assert site.ask("DELETE", f"/backups/{child}").status_code == 202
    assert site.ask("DELETE", f"/backups/{full}").status_code == 202, "a deleted child is no obstacle"
    told(site.ask("DELETE", f"/backups/{full}", now="true"), 409, "conflict")
    assert names(site) == []
    assert act(site, child, undelete={}) == 202
    assert names(site) == ["child", "full"]
    told(site.ask("POST", f"/backups/{full}/action", {"undelete": {}}), 409, "conflict")
    site.ask("DELETE", f"/backups/{full}", cascade="true")
    assert site.ask("DELETE", f"/backups/{full}", cascade="true", now="true").status_code == 202
    assert site.row(Backup, child).status == "DELETING"
    late = told(site.ask("POST", f"/backups/{child}/action", {"undelete": {}}), 422, "unprocessableEntity")
    assert "too late" in late["message"]
    site.end_jobs()
    removal = site.row(Removal, child)
    assert (removal.name, removal.reason, removal.asked_by) == ("child", "deleted by anonymous", "anonymous")
    assert site.row(Expiration, child) is None


def test_undelete_finds_the_deleted_backup_though_its_name_is_used_again(site: Site, chain: tuple[str, str, str]) -> None:
    instance, _, child = chain
    site.ask("DELETE", f"/backups/{child}")
    again = site.backup(instance, "child")
    assert site.get("/backups/child", trashed="true")["backup"]["id"] == again
    assert act(site, "child", undelete={}) == 202
    assert not site.row(Backup, child).trashed
    for backup in (child, again):
        site.ask("DELETE", f"/backups/{backup}")
    both = told(site.ask("POST", "/backups/child/action", {"undelete": {}}), 409, "conflict")["message"]
    assert child in both and again in both


def test_protecting_a_deleted_backup_takes_the_deletion_back(site: Site, chain: tuple[str, str, str]) -> None:
    """Otherwise it would be removed, without being asked again, when somebody ends the protection."""
    _, full, child = chain
    site.ask("DELETE", f"/backups/{full}", cascade="true")
    site.ask("PATCH", f"/backups/{child}", {"backup": {"protected": True}})
    assert names(site) == ["child", "full"] and site.row(Expiration, full) is None


def test_no_incremental_is_based_on_a_deleted_backup_and_its_name_is_free(site: Site, chain: tuple[str, str, str]) -> None:
    instance, full, child = chain
    site.ask("DELETE", f"/backups/{child}")
    refused = told(
        site.ask("POST", "/backups", {"backup": {"name": "x", "instance": instance, "parent_id": child}}), 409, "conflict"
    )
    assert "is deleted or expired" in refused["message"]
    again = site.backup(instance, "child", incremental=1)
    assert site.row(Backup, again).parent_id == full
    assert site.get("/backups/child")["backup"]["id"] == again


def test_what_cannot_be_restored_is_deleted_at_once(site: Site, chain: tuple[str, str, str]) -> None:
    _, _, child = chain
    site.edit(Backup, child, lambda row: setattr(row, "status", "FAILED"))
    assert site.get(f"/backups/{child}/delete-plan")["plan"]["sweep_at"] is None
    assert "Strongroom-Job" in site.ask("DELETE", f"/backups/{child}").headers


def test_a_hold_keeps_a_backup_and_what_it_is_based_on(site: Site, chain: tuple[str, str, str]) -> None:
    _, full, child = chain
    site.ask("DELETE", f"/backups/{full}", cascade="true")
    assert act(site, child, hold={"reason": "audit 2026", "until": "2099-12-31T00:00:00Z"}) == 202
    assert names(site) == ["child", "full"], "the deletion is taken back"
    view = site.get(f"/backups/{child}")["backup"]["hold"]
    assert (view["reason"], view["until"], view["held_by"]) == ("audit 2026", "2099-12-31T00:00:00.000Z", "anonymous")
    for query in ({"cascade": "true"}, {"cascade": "true", "now": "true"}):
        refused = told(site.ask("DELETE", f"/backups/{full}", **query), 409, "conflict")
        assert "is held by anonymous until 2099-12-31 00:00 UTC: audit 2026" in refused["message"]
        assert "strongroom backup release" in refused["remedy"]
    site.edit(Hold, child, lambda row: setattr(row, "until", now() - timedelta(seconds=1)))
    assert site.get(f"/backups/{child}")["backup"]["hold"] is None, "it has ended"
    assert act(site, child, hold={"reason": "again"}) == 202
    assert act(site, child, release={}) == 202
    assert site.ask("DELETE", f"/backups/{full}", cascade="true", now="true").status_code == 202
    late = told(site.ask("POST", f"/backups/{child}/action", {"hold": {"reason": "x"}}), 422, "unprocessableEntity")
    assert "too late to hold it" in late["message"]


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"hold": {}},
        {"hold": {"reason": " "}},
        {"hold": {"reason": "x", "until": "2020-01-01T00:00:00Z"}},
        {"hold": {"reason": "x", "until": "2099-01-01"}},
        {"hold": {"reason": "x", "until": "2099-01-01T00:00:00"}},
        {"release": {}, "undelete": {}},
        {"keep": {}},
    ],
)
def test_wrong_actions_are_refused(site: Site, action: dict[str, object]) -> None:
    key = site.backup(site.instance())
    told(site.ask("POST", f"/backups/{key}/action", action), 400, "badRequest")
    assert site.row(Hold, key) is None
