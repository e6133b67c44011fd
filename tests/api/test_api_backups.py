"""``/backups`` and ``/backup_strategies`` on the wire."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from strongroom.catalog import Backup, Instance, Job, now
from strongroom.catalog.find import find_job
from strongroom.flows.backups import verification
from support.site import GB, Site, told

FIELDS = {
    *("id", "name", "description", "locationRef", "instance_id", "created", "updated", "size", "status", "parent_id"),
    *(
        "project_id",
        "datastore",
        "instance_name",
        "kind",
        "container",
        "chain_id",
        "cluster_id",
        "data_size",
        "raw_size",
        "stored_size",
    ),
    *("codec", "encrypted", "started", "finished", "seconds", "reason", "fault", "verified", "positions", "restorable", "job_id"),
    "unrestorable_reason",
    "damaged_pages",
    "pages",
    "protected",
    "profile",
    *("sweep_at", "expired_because", "trashed", "hold"),
}


def test_create_as_the_stock_client_does(site: Site) -> None:
    key = site.instance()
    requested = {
        "name": "n1",
        "incremental": 0,
        "instance": key,
        "swift_container": "my-trove-backups",
        "storage_driver": "swift",
    }
    reply = site.ask("POST", "/backups", {"backup": requested})
    assert reply.status_code == 202
    view = reply.json()["backup"]
    assert set(view) == FIELDS
    assert reply.headers["Strongroom-Job"] == view["job_id"]
    assert (view["status"], view["locationRef"], view["size"], view["parent_id"]) == ("NEW", None, None, None)
    assert (view["instance_id"], view["project_id"], view["container"]) == (key, "p", "my-trove-backups")
    assert set(view["datastore"]) == {"type", "version", "version_id"}
    version = site.get(f"/datastores/versions/{view['datastore']['version_id']}")["version"]
    assert version["name"] == view["datastore"]["version"] == "10.11"
    told(site.ask("POST", "/backups", {"backup": requested}), 422, "unprocessableEntity")


def test_one_of_many_concurrent_requests_succeeds(site: Site) -> None:
    body = {"backup": {"name": "b", "instance": site.instance()}}
    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(reply.status_code for reply in threads.map(lambda _: site.ask("POST", "/backups", body), range(8)))
    assert statuses == [202] + [422] * 7


def test_show_and_lists_have_every_field(site: Site) -> None:
    key = site.backup(site.instance(), "b1", description="über")
    view = site.get("/backups/b1")["backup"]
    assert set(view) == FIELDS
    assert (view["id"], view["size"], view["data_size"], view["restorable"]) == (key, 3.0, 3 * GB, True)
    assert (view["kind"], view["chain_id"], view["seconds"], view["description"]) == ("full", key, 0, "über")
    assert view["started"].endswith("Z")
    assert len(view["created"]) == len("2022-10-24T01:46:38")
    assert site.get("/backups")["backups"] == site.get("/instances/mysql1/backups")["backups"] == [view]


@pytest.mark.parametrize(("size", "shown"), [(1, 0.01), (0, 0.01), (GB // 5, 0.2), (GB * 3 // 2, 1.5)])
def test_size_is_in_gb_with_two_decimals(site: Site, size: int, shown: float) -> None:
    key = site.backup(site.instance())
    site.edit(Backup, key, lambda row: setattr(row, "data_size", size))
    assert site.get(f"/backups/{key}")["backup"]["size"] == shown


def test_incremental_uses_the_newest_backup_or_gives_the_reason_for_a_full(site: Site) -> None:
    key = site.instance()
    first = site.ask("POST", "/backups", {"backup": {"name": "a", "instance": key, "incremental": 1}}).json()["backup"]
    assert (first["kind"], first["parent_id"]) == ("full", None)
    assert "no completed backup" in first["reason"]
    site.end_jobs({"code": "Cancelled", "message": "", "remedy": ""})
    parent = site.backup(key, "full")
    second = site.ask("POST", "/backups", {"backup": {"name": "b", "instance": "mysql1", "incremental": 1}}).json()["backup"]
    assert (second["kind"], second["parent_id"], second["chain_id"]) == ("incremental", parent, parent)


def test_a_parent_is_named_by_id_or_name(site: Site) -> None:
    key = site.instance()
    parent = site.backup(key, "full")
    child = site.backup(key, "child", parent_id="full", incremental=1)
    assert site.get(f"/backups/{child}")["backup"]["parent_id"] == parent
    site.edit(Backup, parent, lambda row: setattr(row, "status", "FAILED"))
    shown = {b["name"]: b["restorable"] for b in site.get("/backups")["backups"]}
    assert shown == {"full": False, "child": False}
    told(site.ask("POST", "/backups", {"backup": {"name": "x", "instance": key, "parent_id": parent}}), 409, "conflict")


def test_remote_catalog_is_queried_in_a_thread(site: Site) -> None:
    site.backup(site.instance(), "full")
    paths = ("/instances", "/instances/mysql1", "/backups", "/backups/full", "/jobs", "/instances/mysql1/backups")
    first = [site.get(path) for path in paths]
    site.control.catalog.is_local = False
    assert [site.get(path) for path in paths] == first
    told(site.ask("GET", "/backups/none"), 404, "itemNotFound")


RESTORE_FROM = {"remote_location": "http://h/v1/AUTH_p/c/o.xbstream.gz", "local_datastore_version_id": "10.11", "size": 0.3}


@pytest.mark.parametrize(
    ("requested", "status", "key", "says"),
    [
        ({}, 400, "badRequest", "backup.name"),
        ({"name": ""}, 400, "badRequest", "backup.name"),
        ({"name": "b"}, 400, "badRequest", "instance is missing"),
        ({"name": "b", "instance": "nope"}, 404, "itemNotFound", "nope"),
        ({"name": "b", "instance": None}, 400, "badRequest", "backup.instance"),
        ({"name": "b", "instance": "mysql1", "incremental": True}, 400, "badRequest", "integer 0 or 1"),
        ({"name": "b", "instance": "mysql1", "incremental": "1"}, 400, "badRequest", "integer 0 or 1"),
        ({"name": "b", "instance": "mysql1", "incremental": 2}, 400, "badRequest", "integer 0 or 1"),
        ({"name": "b", "instance": "mysql1", "incremental": 1.0}, 400, "badRequest", "integer 0 or 1"),
        ({"name": "b", "instance": "mysql1", "incremental": None}, 400, "badRequest", "backup.incremental"),
        ({"name": "b", "instance": "mysql1", "description": ""}, 400, "badRequest", "description"),
        ({"name": "b", "instance": "mysql1", "description": None}, 400, "badRequest", "description"),
        ({"name": "b", "instance": "mysql1", "swift_container": "a b; rm"}, 400, "badRequest", "swift_container"),
        ({"name": "b", "instance": "mysql1", "swift_container": "../up"}, 400, "badRequest", "swift_container"),
        ({"name": "b", "instance": "mysql1", "swift_container": "ok\n"}, 400, "badRequest", "swift_container"),
        ({"name": "b", "instance": "mysql1", "parent_id": "nope"}, 404, "itemNotFound", "nope"),
        ({"name": "b", "instance": "mysql1", "codec": "lz4"}, 400, "badRequest", "codec"),
        ({"name": "b", "instance": "mysql1", "storage_driver": "cinder"}, 400, "badRequest", "cinder"),
        ({"name": "b", "restore_from": {"remote_location": "http://x/c/o"}}, 400, "badRequest", "local_datastore_version_id"),
        ({"name": "b", "restore_from": RESTORE_FROM | {"remote_location": None}}, 400, "badRequest", "remote_location"),
        ({"name": "b", "restore_from": RESTORE_FROM | {"size": 0}}, 400, "badRequest", "size"),
        ({"name": "b", "restore_from": RESTORE_FROM | {"size": True}}, 400, "badRequest", "size"),
        ({"name": "b", "restore_from": RESTORE_FROM | {"size": None}}, 400, "badRequest", "size"),
        (
            {"name": "b", "restore_from": RESTORE_FROM | {"local_datastore_version_id": "9"}},
            400,
            "badRequest",
            "9 cannot be found",
        ),
        ({"name": "b", "restore_from": RESTORE_FROM}, 400, "badRequest", "not in this kind of store"),
        ({"name": "b", "restore_from": RESTORE_FROM | {"remote_location": "c/o.tar.gz"}}, 400, "badRequest", "PostgreSQL"),
        ({"name": "b", "import_from": {}}, 400, "badRequest", "location"),
        ({"name": "b", "import_from": {"location": "c/o.gz", "datastore": "oracle"}}, 400, "badRequest", "oracle"),
        ({"name": "b", "import_from": {"location": "c/o.gz"}}, 404, "itemNotFound", "no backup"),
    ],
)
def test_invalid_creations_are_refused_with_a_message(
    site: Site, requested: dict[str, Any], status: int, key: str, says: str
) -> None:
    site.instance()
    before = len(site.started)
    assert says in told(site.ask("POST", "/backups", {"backup": requested}), status, key)["message"]
    assert len(site.started) == before


def test_a_stopped_instance_cannot_be_backed_up(site: Site) -> None:
    key = site.instance()
    site.edit(Instance, key, lambda row: setattr(row, "state", "stopped"))
    told(site.ask("POST", "/backups", {"backup": {"name": "b", "instance": key}}), 422, "unprocessableEntity")


def test_filters(site: Site) -> None:
    one, two = site.instance("one"), site.instance("two")
    a, b = site.backup(one, "a"), site.backup(two, "b")

    def ids(**params: str) -> list[str]:
        return [v["id"] for v in site.get("/backups", **params)["backups"]]

    assert ids() == [b, a]
    assert ids(instance_id=one) == ids(instance_id="one") == [a]
    assert ids(instance_id="nobody") == []
    datastore = site.get("/datastores/mariadb")["datastore"]["id"]
    assert ids(datastore="mariadb") == ids(datastore=datastore) == [b, a]
    told(site.ask("GET", "/backups", datastore="oracle"), 404, "itemNotFound")
    told(site.ask("GET", "/backups", all_projects="perhaps"), 400, "badRequest")


def test_an_administrator_lists_other_projects(site: Site) -> None:
    key = site.backup(site.instance())
    assert site.ask("GET", "/backups", project="q").json() == {"backups": []}
    for params in ({"all_projects": "True"}, {"project_id": "p"}):
        (view,) = site.ask("GET", "/backups", project="q", **params).json()["backups"]
        assert (view["id"], view["project_id"]) == (key, "p")
    assert site.ask("GET", "/backups", project="q", all_projects="False").json() == {"backups": []}


def test_the_marker_carries_the_instance_because_the_stock_client_forgets_it(site: Site) -> None:
    one, two = site.instance("one"), site.instance("two")
    mine = [site.backup(one, f"a{n}") for n in range(3)]
    site.backup(two, "b")
    first = site.get("/backups", limit=2, instance_id=one)
    assert [v["id"] for v in first["backups"]] == mine[:0:-1]
    href = first["links"][0]["href"]
    assert f"instance_id={one}" in href
    (marker,) = parse_qs(urlsplit(href).query)["marker"]
    assert site.get("/backups", marker=marker)["backups"][0]["id"] == mine[0]
    assert [v["id"] for v in site.get("/backups", marker=marker)["backups"]] == [mine[0]]


def test_delete_refuses_parents_without_cascade(site: Site) -> None:
    key = site.instance()
    full = site.backup(key, "full")
    child = site.backup(key, "child", parent_id=full)
    fault = told(site.ask("DELETE", "/backups/full"), 409, "conflict")
    assert child in fault["message"]
    assert "--cascade" in fault["remedy"]
    assert fault["error_code"] == "HasChildren"
    reply = site.ask("DELETE", "/backups/full", cascade="true", now="true")
    assert (reply.status_code, reply.content) == (202, b"")
    assert site.row(Job, reply.headers["Strongroom-Job"]).backup_id == full
    site.end_jobs()
    assert site.get("/backups") == {"backups": []}
    told(site.ask("DELETE", "/backups/full"), 404, "itemNotFound")


def test_a_running_backup_cannot_be_deleted(site: Site) -> None:
    site.ask("POST", "/backups", {"backup": {"name": "b", "instance": site.instance()}})
    told(site.ask("DELETE", "/backups/b"), 422, "unprocessableEntity")


def test_verify(site: Site) -> None:
    key = site.backup(site.instance())
    reply = site.ask("POST", f"/backups/{key}/action", {"verify": {"prepare": True}})
    assert reply.status_code == 202
    job = site.row(Job, reply.headers["Strongroom-Job"])
    assert (job.kind, job.params["prepare"]) == ("verify", True)
    with site.control.catalog.write() as session:
        found = {"id": key, "target": True, "level": "prepared", "stored_size": 7}
        find_job(session, None, job.id).output = {"results": [found]}
    asyncio.run(verification.record(site.control, job.id))
    site.end_jobs()
    verified = site.get(f"/backups/{key}")["backup"]["verified"]
    assert (verified["ok"], verified["prepared"], verified["message"]) == (True, True, None)
    assert (verified["level"], verified["links"], verified["stored_size"]) == ("prepared", 1, 7)
    assert verified["at"].endswith("Z")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"fly": {}},
        {"verify": None},
        {"verify": {"prepare": "maybe"}},
        {"verify": {"prepared": True}},
        {"verify": {}, "x": 1},
        [],
    ],
)
def test_invalid_actions_are_refused(site: Site, body: Any) -> None:
    key = site.backup(site.instance())
    told(site.ask("POST", f"/backups/{key}/action", body), 400, "badRequest")


def test_a_failed_backup_shows_its_fault(site: Site) -> None:
    instance = site.instance()
    key = site.ask("POST", "/backups", {"backup": {"name": "b", "instance": instance}}).json()["backup"]["id"]
    site.end_jobs({"code": "StorageFull", "message": "the store is full", "remedy": "Free some space."})
    view = site.get(f"/backups/{key}")["backup"]
    assert (view["status"], view["restorable"]) == ("FAILED", False)
    assert view["fault"] == {"code": "StorageFull", "message": "the store is full", "remedy": "Free some space."}
    fault = site.get(f"/instances/{instance}")["instance"]["fault"]
    assert "the store is full" in fault["message"].replace("\n    ", " ")
    told(site.ask("POST", f"/backups/{key}/action", {"verify": {}}), 409, "conflict")


def test_deleted_backups_are_gone(site: Site) -> None:
    key = site.backup(site.instance())
    site.edit(Backup, key, lambda row: setattr(row, "deleted", now()))
    told(site.ask("GET", f"/backups/{key}"), 404, "itemNotFound")
    assert site.get("/backups") == {"backups": []}


def test_strategies_are_set_listed_used_and_deleted(site: Site) -> None:
    key = site.instance()
    reply = site.ask("POST", "/backup_strategies", {"backup_strategy": {"instance_id": key, "swift_container": "mine"}})
    assert reply.status_code == 202
    mine = {"project_id": "p", "instance_id": key, "backend": "directory", "swift_container": "mine"}
    assert reply.json() == {"backup_strategy": mine}
    for name in ("first", "second"):  # the second replaces the first
        whole = site.ask("POST", "/backup_strategies", {"backup_strategy": {"swift_container": name}}).json()
    assert whole["backup_strategy"]["instance_id"] == ""
    assert len(site.get("/backup_strategies")["backup_strategies"]) == 2
    assert site.get("/backup_strategies", instance_id="mysql1")["backup_strategies"] == [mine]
    assert site.ask("GET", "/backup_strategies", project="q").json() == {"backup_strategies": []}

    def container(name: str, **requested: Any) -> str:
        return str(site.get(f"/backups/{site.backup(key, name, **requested)}")["backup"]["container"])

    assert container("asked", swift_container="asked") == "asked"
    assert container("of-instance") == "mine"
    assert site.ask("DELETE", "/backup_strategies", instance_id=key).status_code == 202
    assert container("of-project") == "second"
    assert site.ask("DELETE", "/backup_strategies").status_code == 202
    assert container("default") == "database_backups"
    assert site.ask("DELETE", "/backup_strategies", instance_id=str(uuid.uuid4())).status_code == 202


@pytest.mark.parametrize(
    ("requested", "status", "key"),
    [
        ({}, 400, "badRequest"),
        ({"swift_container": ""}, 400, "badRequest"),
        ({"swift_container": "a b; rm"}, 400, "badRequest"),
        ({"swift_container": "c", "schedule": "daily"}, 400, "badRequest"),
        ({"swift_container": "c", "instance_id": "nobody"}, 404, "itemNotFound"),
    ],
)
def test_invalid_strategies_are_refused(site: Site, requested: dict[str, Any], status: int, key: str) -> None:
    told(site.ask("POST", "/backup_strategies", {"backup_strategy": requested}), status, key)


def test_an_invalid_container_name_is_explained(site: Site) -> None:
    requested = {"name": "b", "instance": site.instance(), "swift_container": "no/such"}
    said = told(site.ask("POST", "/backups", {"backup": requested}), 400, "badRequest")["message"]
    assert "is not a valid container name: use up to 255 letters, digits and" in said and "^[" not in said
