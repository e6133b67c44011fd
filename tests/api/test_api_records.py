"""Names and protection of instances, backups and clusters; plans of deletions."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from strongroom.catalog import Backup, Cluster, Instance, Job
from support.site import GB, Site, told

WHEN = "2026-11-21T08:00:00+00:00"


def verify(site: Site, key: str, *, ok: bool) -> None:
    found: dict[str, Any] = {"at": WHEN, "ok": ok, "prepared": True, "tables": 3, "message": None if ok else "damaged"}
    site.edit(Backup, key, lambda row: setattr(row, "verified", found))


def cluster(site: Site) -> str:
    key = "11111111-0000-4000-8000-000000000000"
    with site.control.catalog.write() as session:
        session.add(Cluster(id=key, project="p", name="shop", datastore="mariadb", series="10.11", wsrep_name="shop"))
        for number in (1, 2):
            session.add(
                Instance(
                    id=f"2222222{number}-0000-4000-8000-000000000000",
                    project="p",
                    name=f"shop-node{number}",
                    node=f"node{number}",
                    cluster_id=key,
                    host="local",
                    datastore="mariadb",
                    series="10.11",
                    flavor="d1",
                    volume_size=1,
                    data_bytes=GB,
                    old_data=[{"name": "data.old-1", "bytes": 5, "since": WHEN}],
                )
            )
    return key


def test_protected_resources_cannot_be_deleted(site: Site) -> None:
    instance = site.instance()
    full = site.backup(instance, "full")
    child = site.backup(instance, "child", parent_id="full")
    shop = cluster(site)
    paths = {"instance": f"/instances/{instance}", "backup": f"/backups/{child}", "cluster": f"/clusters/{shop}"}
    for noun, path in paths.items():
        assert site.get(path)[noun]["protected"] is False
        assert site.ask("PATCH", path, {noun: {"protected": True}}).status_code == 202
        assert site.get(path)[noun]["protected"] is True
        refused = told(site.ask("DELETE", path), 409, "conflict")
        assert (refused["error_code"], f"`strongroom {noun} unprotect" in refused["remedy"]) == ("Protected", True)
        plan = site.get(f"{path}/delete-plan")["plan"]
        assert (plan["allowed"], plan["protected"], plan["refused"][0]["message"]) == (False, True, refused["message"])
    told(site.ask("DELETE", f"/backups/{full}", cascade="true"), 409, "conflict")
    assert site.row(Backup, full).status == "COMPLETED", "nor what it depends on"
    assert site.ask("PATCH", paths["instance"], {"instance": {"protected": False}}).status_code == 202
    assert site.ask("DELETE", paths["instance"]).status_code == 202
    site.end_jobs()
    assert (site.row(Backup, child).status, site.row(Backup, child).protected) == ("COMPLETED", True), "its instance is gone"
    del paths["instance"]
    for noun, path in paths.items():
        assert site.ask("PATCH", path, {noun: {"protected": False}}).status_code == 202
        assert site.ask("DELETE", path, **({"now": "true"} if noun == "backup" else {})).status_code == 202
        late = told(site.ask("PATCH", path, {noun: {"protected": True}}), 422, "unprocessableEntity")
        assert "too late to protect it" in late["message"]


def test_backups_and_clusters_are_renamed(site: Site) -> None:
    key, shop = site.backup(site.instance()), cluster(site)
    assert site.ask("PATCH", "/backups/b1", {"backup": {"name": "before upgrade"}}).status_code == 202
    assert site.get("/backups/before upgrade")["backup"]["id"] == key
    assert site.ask("PATCH", "/clusters/shop", {"cluster": {"name": "store"}}).status_code == 202
    assert site.get("/clusters/store")["cluster"]["id"] == shop
    told(site.ask("PATCH", f"/backups/{key}", {"backup": {"name": "!"}}), 400, "badRequest")
    told(site.ask("PATCH", "/backups/b1", {"backup": {"name": "x"}}), 404, "itemNotFound")


def test_a_misspelt_key_changes_nothing(site: Site) -> None:
    key, shop = site.backup(site.instance()), cluster(site)
    for method, path, body, word in (
        ("PATCH", f"/backups/{key}", {"backup": {"protect": True}}, "protect"),
        ("PATCH", f"/backups/{key}", {"backup": {}, "protected": True}, "protected"),
        ("PATCH", f"/clusters/{shop}", {"cluster": {"name": "x", "protect": True}}, "protect"),
        ("POST", "/catalog/rebuild", {"rebuild": {"dryrun": True}}, "dryrun"),
        ("POST", "/catalog/rebuild", {"dry_run": True}, "dry_run"),
        ("POST", f"/clusters/{shop}/restore", {"restore": {"backupRef": key, "with_out": ["node1"]}}, "with_out"),
        ("POST", f"/clusters/{shop}/recover", {"node": "node1"}, "node"),
        ("POST", f"/clusters/{shop}/backup", {"backup": {"parent": key}}, "parent"),
        ("POST", "/clusters", {"cluster": {"name": "x", "restore_point": {"backupRef": key}}}, "restore_point"),
    ):
        message = told(site.ask(method, path, body), 400, "badRequest")["message"]
        assert f"{word}: is not a parameter" in message
    assert site.row(Cluster, shop).name == "shop"


def test_the_plan_of_a_deletion_lists_deleted_and_remaining_backups(site: Site) -> None:
    instance = site.instance()
    assert site.get(f"/instances/{instance}/delete-plan")["plan"]["newest"] is None
    first, second = site.backup(instance, "first"), site.backup(instance, "second")
    child = site.backup(instance, "child", parent_id="second")
    for key, stored in ((first, 1), (second, 20), (child, 300)):
        site.edit(Backup, key, lambda row, stored=stored: setattr(row, "stored_size", stored))
    verify(site, first, ok=True)
    plan = site.get(f"/instances/{instance}/delete-plan")["plan"]
    assert (plan["allowed"], plan["bytes"], plan["adopted"], plan["kept"]) == (True, GB // 5, False, 3)
    assert (plan["newest"]["name"], plan["newest"]["verified"]) == ("child", None)
    assert (plan["newest_verified"]["name"], plan["newest_verified"]["verified"]) == ("first", "2026-11-21T08:00:00Z")
    verify(site, second, ok=False)
    plan = site.get(f"/instances/{instance}/delete-plan")["plan"]
    assert (plan["kept"], plan["newest"]["name"]) == (1, "first"), "neither the damaged one nor what depends on it"
    alone = site.get(f"/backups/{second}/delete-plan")["plan"]
    assert alone["allowed"] is False and "is the parent of child" in alone["refused"][0]["message"]
    whole = site.get(f"/backups/{second}/delete-plan", cascade="true")["plan"]
    assert (whole["allowed"], [b["name"] for b in whole["backups"]], whole["bytes"]) == (True, ["child", "second"], 320)
    assert (whole["kept"], whole["newest"]["name"]) == (1, "first")
    site.edit(Instance, instance, lambda row: setattr(row, "runtime", "adopted"))
    plan = site.get(f"/instances/{instance}/delete-plan")["plan"]
    assert (plan["adopted"], plan["bytes"]) == (True, 0)
    job = site.ask("POST", f"/instances/{instance}/action", {"restart": {}}).headers["Strongroom-Job"]
    assert site.get(f"/instances/{instance}/delete-plan")["plan"]["jobs"] == [{"id": job, "kind": "restart"}]


def test_plan_for_an_imported_backup_counts_no_other_backup(site: Site) -> None:
    """Of which instance it is, nobody knows: another one that is of no instance may be of another project, or database."""
    instance = site.instance()
    recorded, foreign = site.backup(instance, "recorded"), site.backup(instance, "foreign")
    for key, project in ((recorded, "p"), (foreign, "other")):

        def record(row: Backup, project: str = project) -> None:
            row.status, row.instance_id, row.instance_name, row.project = "RESTORED", None, "", project

        site.edit(Backup, key, record)
    plan = site.get(f"/backups/{recorded}/delete-plan")["plan"]
    assert (plan["allowed"], plan["kept"], plan["newest"]) == (True, 0, None)


def test_plan_of_a_cluster_covers_all_its_nodes(site: Site) -> None:
    plan = site.get(f"/clusters/{cluster(site)}/delete-plan")["plan"]
    assert (plan["nodes"], plan["bytes"], plan["old_bytes"]) == (["node1", "node2"], 2 * GB, 10)
    refused = site.get("/instances/shop-node1/delete-plan")["plan"]
    assert refused["allowed"] is False and "cluster" in refused["refused"][0]["message"]
    assert site.ask("PATCH", "/instances/shop-node2", {"instance": {"protected": True}}).status_code == 202
    told(site.ask("DELETE", "/clusters/shop"), 409, "conflict")


def test_every_end_of_a_job_is_logged_with_names_and_requesting_user(site: Site) -> None:
    with capture_logs() as logs:
        instance = site.instance()
        site.backup(instance, "b1")
        site.ask("POST", "/backups/b1/action", {"verify": {}})
        site.end_jobs()
        site.ask("POST", f"/instances/{instance}/action", {"restart": {}})
        site.end_jobs({"code": "ServerFailed", "message": "it did not start", "remedy": "Look."})
        job = site.ask("POST", f"/instances/{instance}/action", {"stop": {}}).headers["Strongroom-Job"]
        site.ask("DELETE", f"/jobs/{job}")
    ends = [entry for entry in logs if entry["event"].startswith("job ")]
    assert [(entry["event"], entry["kind"]) for entry in ends] == [
        *(("job succeeded", "create"), ("job succeeded", "backup"), ("job succeeded", "verify")),
        *(("job failed", "restart"), ("job cancelled", "stop")),
    ]
    assert {(entry["instance"], entry["asked_by"], entry["project"]) for entry in ends} == {("mysql1", "anonymous", "p")}
    assert [entry.get("backup") for entry in ends] == [None, "b1", "b1", None, None]
    assert (ends[3]["reason"], ends[3]["remedy"], ends[3]["log_level"]) == ("it did not start", "Look.", "warning")


def test_a_deletion_with_a_final_backup_waits_for_it(site: Site) -> None:
    """Its steps and their failures are tested in tests/flows."""
    instance, shop = site.instance(), cluster(site)
    path = f"/instances/{instance}"
    plan = site.get(f"{path}/delete-plan", final_backup="true")["plan"]
    assert (plan["allowed"], plan["final_backup"], plan["jobs"]) == (True, True, [])
    reply = site.ask("DELETE", path, final_backup="true")
    job = site.row(Job, reply.headers["Strongroom-Job"])
    backup = site.row(Backup, job.backup_id)
    assert (job.kind, backup.kind, backup.name.startswith("final-mysql1-")) == ("final_delete_instance", "full", True)
    assert site.get(path)["instance"]["status"] != "SHUTDOWN"
    plan = site.get(f"{path}/delete-plan", final_backup="true")["plan"]
    assert plan["allowed"] is False and "is busy" in plan["refused"][0]["message"]
    told(site.ask("DELETE", path, final_backup="true"), 422, "unprocessableEntity")
    plan = site.get(f"/clusters/{shop}/delete-plan", final_backup="true")["plan"]
    refused = site.ask("DELETE", f"/clusters/{shop}", final_backup="true").json()
    assert plan["allowed"] is False and plan["refused"][0]["message"] in str(refused), "no node is Synced"
