"""``/instances`` on the wire."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from strongroom.api.instances.fault import wrap_message
from strongroom.catalog import Backup, Host, Instance, Job, now
from support.site import GB, Site, told

NET = str(uuid.uuid4())
SEED = {
    "name": "mysql2",
    "flavorRef": "d2",
    "volume": {"size": 1, "type": None},
    "datastore": {"type": "mariadb", "version": "10.11", "version_number": "10.11.19"},
    "nics": [{"network_id": NET}],
    "access": {"is_public": False},
}
"""What the stock client sends for the command of Trove's documentation."""


def test_create_as_the_stock_client_does(site: Site) -> None:
    reply = site.ask("POST", "/instances", {"instance": SEED})
    assert reply.status_code == 200
    view = reply.json()["instance"]
    assert reply.headers["Strongroom-Job"] == view["job_id"] == site.started[0]
    assert (view["name"], view["status"], view["operating_status"]) == ("mysql2", "BUILD", "")
    assert view["flavor"]["id"] == "d2"
    assert view["volume"] == {"size": 1}
    assert view["datastore"] == {"type": "mariadb", "version": "10.11", "version_number": "10.11.19"}
    assert view["access"] == {"is_public": False, "allowed_cidrs": []}
    assert (view["region"], view["tenant_id"]) == ("RegionOne", "p")
    assert {"addresses", "ip", "fault", "replicas", "replica_of"}.isdisjoint(view)
    assert view["server_id"] is None
    assert len(view["created"]) == len("2022-10-24T01:56:55")
    assert view["created"] == view["updated"] == view["service_status_updated"]


def test_only_a_name_is_needed(site: Site) -> None:
    view = site.ask("POST", "/instances", {"instance": {"name": "x"}}).json()["instance"]
    assert (view["flavor"]["id"], view["volume"]["size"], view["datastore"]["version"]) == ("d1", 10, "10.11")


def test_show_of_a_running_instance_has_what_the_documentation_shows(site: Site) -> None:
    key = site.instance()
    view = site.get(f"/instances/{key}")["instance"]
    assert (view["status"], view["operating_status"]) == ("ACTIVE", "HEALTHY")
    (address,) = view["addresses"]
    assert (address["address"], address["type"], view["ip"]) == ("127.1.0.2", "private", ["127.1.0.2"])
    assert uuid.UUID(address["network"])
    assert view["volume"] == {"size": 10, "used": 0.2, "used_percent": 2.0}
    assert uuid.UUID(view["server_id"])
    assert uuid.UUID(view["volume_id"])
    assert view["encrypted_rpc_messaging"] is True
    assert [link["rel"] for link in view["links"]] == ["self", "bookmark"]
    assert view["links"][0]["href"] == f"http://127.0.0.1:8779/v1.0/p/instances/{key}"
    assert (view["host"], view["port"], view["runtime"], view["old_data"]) == ("local", 3306, "process", [])
    assert site.get("/instances/mysql1")["instance"] == view
    assert site.get("/instances")["instances"] == site.get("/instances/detail")["instances"] == [view]


@pytest.mark.parametrize(
    ("task", "state", "healthy", "shown"),
    [
        (None, "running", True, ("ACTIVE", "HEALTHY")),
        (None, "running", False, ("ACTIVE", "ERROR")),
        (None, "stopped", False, ("SHUTDOWN", "SHUTDOWN")),
        (None, "failed", False, ("ERROR", "ERROR")),
        (None, "starting", False, ("REBOOT", "")),
        ("BUILD", "new", False, ("BUILD", "")),
        ("REBOOT", "running", True, ("REBOOT", "")),
        ("RESTORE", "swapping", False, ("RESTORE", "")),
        ("SHUTDOWN", "running", True, ("SHUTDOWN", "")),
        ("ERROR", "stopped", False, ("ERROR", "")),
    ],
)
def test_status(site: Site, task: str | None, state: str, healthy: bool, shown: tuple[str, str]) -> None:
    key = site.instance()

    def change(row: Instance) -> None:
        row.task, row.state, row.healthy = task, state, healthy

    site.edit(Instance, key, change)
    view = site.get(f"/instances/{key}")["instance"]
    assert (view["status"], view["operating_status"]) == shown


def test_status_is_backup_while_one_runs_and_the_database_stays_healthy(site: Site) -> None:
    key = site.instance()
    other = site.instance("other")
    site.ask("POST", "/backups", {"backup": {"name": "b", "instance": key}})
    shown = {v["id"]: (v["status"], v["operating_status"]) for v in site.get("/instances")["instances"]}
    assert shown == {key: ("BACKUP", "HEALTHY"), other: ("ACTIVE", "HEALTHY")}


def test_unreachable_host_makes_the_operating_status_error(site: Site) -> None:
    key = site.instance()

    def silence(row: Host) -> None:
        row.seen = now() - timedelta(seconds=91)

    site.edit(Host, "local", silence)
    assert site.get(f"/instances/{key}")["instance"]["operating_status"] == "ERROR"


def test_a_fault_is_wrapped_as_trove_does(site: Site) -> None:
    key = site.instance()
    text = f"Failed to create backup {uuid.UUID(int=7)}, error: Cannot find parent backup WAL file."

    def set_fault(row: Instance) -> None:
        row.fault = {"message": text, "details": "Take a full.", "created": "2026-11-21T10:00:00.5+00:00"}

    site.edit(Instance, key, set_fault)
    fault = site.get(f"/instances/{key}")["instance"]["fault"]
    assert fault["message"] == f"Failed to create backup {uuid.UUID(int=7)}, error:\n    Cannot find parent backup WAL file."
    assert fault["created"] == "2026-11-21T10:00:00"
    assert fault["details"] == "Take a full."


def test_long_fault_is_truncated_but_its_details_are_complete(site: Site) -> None:
    key = site.instance()

    def set_fault(row: Instance) -> None:
        row.fault = {"message": "x" * 300, "details": "Do this.", "created": "2026-11-21T10:00:00+00:00"}

    site.edit(Instance, key, set_fault)
    fault = site.get(f"/instances/{key}")["instance"]["fault"]
    assert len(fault["message"]) == 255
    assert fault["details"] == "x" * 300 + "\nDo this."


@pytest.mark.parametrize("text", ["", "a" * 500, ": " * 200, " (" * 200, ". " * 200, "one: two (three. four): " * 20, "a\n\nb"])
def test_wrapping_ends_and_loses_only_spaces(text: str) -> None:
    wrapped = wrap_message(text)
    assert len(wrapped) <= 255
    if not wrapped.endswith("..."):
        assert wrapped.split() == text.split()


@pytest.mark.parametrize(
    ("requested", "status", "key", "says"),
    [
        ({}, 400, "badRequest", "instance.name"),
        ({"name": ""}, 400, "badRequest", "instance.name"),
        ({"name": None}, 400, "badRequest", "instance.name"),
        ({"name": "x" * 256}, 400, "badRequest", "255"),
        ({"name": "--- "}, 400, "badRequest", "letter or digit"),
        ({"name": "a\x00b"}, 400, "badRequest", "control characters"),
        ({"name": "a\nb"}, 400, "badRequest", "control characters"),
        ({"name": "a", "flavorRef": None}, 400, "badRequest", "flavorRef"),
        ({"name": "a", "flavorRef": "d99"}, 400, "badRequest", "d99"),
        ({"name": "a", "volume": {"size": 0}}, 400, "badRequest", "GB"),
        ({"name": "a", "volume": {"size": "1e3"}}, 400, "badRequest", "GB"),
        ({"name": "a", "volume": {"size": True}}, 400, "badRequest", "GB"),
        ({"name": "a", "volume": {"size": 1.5}}, 400, "badRequest", "GB"),
        ({"name": "a", "volume": {"size": 10**30}}, 400, "badRequest", "GB"),
        ({"name": "a", "volume": {}}, 400, "badRequest", "volume.size"),
        ({"name": "a", "datastore": {"type": "oracle"}}, 404, "itemNotFound", "oracle"),
        ({"name": "a", "datastore": {"type": "mariadb", "version": "5.5"}}, 400, "badRequest", "5.5"),
        ({"name": "a", "nics": [{"network_id": "eth0"}]}, 400, "badRequest", "nics.0.network_id"),
        ({"name": "a", "nics": [{"v4": "1.2.3.4"}]}, 400, "badRequest", "nics.0.v4"),
        ({"name": "a", "nics": [{"net-id": str(uuid.uuid4()), "ip_address": "10.0.0.1"}]}, 400, "badRequest", "subnet_id"),
        ({"name": "a", "nics": [{"net-id": str(uuid.uuid4())}] * 2}, 400, "badRequest", "nics"),
        ({"name": "a", "restorePoint": {"backupRef": "nope"}}, 404, "itemNotFound", "nope"),
        ({"name": "a", "restorePoint": {}}, 400, "badRequest", "backupRef"),
        ({"name": "a", "region_name": "Mars"}, 400, "badRequest", "Mars"),
        ({"name": "a", "access": None}, 400, "badRequest", "access"),
        ({"name": "a", "access": {"allowed_cidrs": ["nonsense"]}}, 400, "badRequest", "allowed_cidrs"),
        ({"name": "a", "access": {"allowed_cidrs": ["10.0.0.0/8", "10.0.0.0/8"]}}, 400, "badRequest", "duplicate"),
        ({"name": "a", "access": {"is_public": "yes"}}, 400, "badRequest", "access.is_public"),
        ({"name": "a", "access": {"public": True}}, 400, "badRequest", "access.public: is not a parameter"),
        ({"name": "a", "access": None}, 400, "badRequest", "access: must not be null"),
        ({"name": "a", "restorePoint": None}, 400, "badRequest", "restorePoint: must not be null"),
        ({"name": "a", "restore_point": {"backupRef": "b"}}, 400, "badRequest", "restore_point: is not a parameter"),
        ({"name": "a", "volume": None}, 400, "badRequest", "volume: must not be null"),
        ({"name": "a", "databases": [{"name": "d", "collate": None}]}, 400, "badRequest", "collate: must not be null"),
        ({"name": "a", "nics": [{}]}, 400, "badRequest", "nics.0: needs a network_id"),
        ({"name": "a", "nics": [{"network_id": None}]}, 400, "badRequest", "network_id: must not be null"),
        ({"name": "a", "nics": [{"net-id": NET, "network_id": str(uuid.uuid4())}]}, 400, "badRequest", "differ"),
        ({"name": "a", "nics": [{"net-id": NET, "subnet_id": "one"}]}, 400, "badRequest", "nics.0.subnet_id"),
        ({"name": "a", "nics": [{"subnet_id": NET, "ip_address": "10.0.0.256"}]}, 400, "badRequest", "nics.0.ip_address"),
        ({"name": "a", "nics": [{"subnet_id": NET, "ip_address": "10.0.0.1"}]}, 501, "notImplemented", "ip_address"),
        ({"name": "a", "replica_count": 2}, 501, "notImplemented", "replica_count"),
        ({"name": "a", "modules": [{"id": "m"}]}, 501, "notImplemented", "modules"),
        ({"name": "a", "databases": [{"name": "MySQL"}]}, 400, "badRequest", "reserved"),
        ({"name": "a", "databases": [{"name": "sys"}]}, 400, "badRequest", "reserved"),
        ({"name": "a", "users": [{"name": "root", "password": "p"}]}, 400, "badRequest", "reserved"),
        ({"name": "a", "users": [{"name": "u", "password": "p", "host": "a b"}]}, 400, "badRequest", "host"),
        ({"name": "a", "databases": [{"name": "d", "character_set": "utf-8"}]}, 400, "badRequest", "character set"),
        ({"name": "a", "replica_of": "x"}, 501, "notImplemented", "replica_of"),
        ({"name": "a", "configuration": "x"}, 501, "notImplemented", "configuration"),
        ({"name": "a", "databases": [{"name": "d"}, {"name": "d"}]}, 400, "badRequest", "more than once"),
        ({"name": "a", "databases": [{"name": "d" * 65}]}, 400, "badRequest", "databases.0.name"),
        ({"name": "a", "users": [{"name": "u"}]}, 400, "badRequest", "users.0.password"),
        (
            {"name": "a", "users": [{"name": "u", "password": "hush", "databases": [{"name": "d"}]}]},
            400,
            "badRequest",
            "which is not in the request's databases",
        ),
    ],
)
def test_invalid_creations_are_refused_with_a_message(
    site: Site, requested: dict[str, Any], status: int, key: str, says: str
) -> None:
    fault = told(site.ask("POST", "/instances", {"instance": requested}), status, key)
    assert says in fault["message"]
    assert site.started == []


def test_a_password_never_comes_back(site: Site) -> None:
    requested = {"name": "a", "users": [{"name": "u" * 99, "password": "hush-hush"}, {"name": "v", "password": ["hush-hush"]}]}
    assert "hush" not in site.ask("POST", "/instances", {"instance": requested}).text


@pytest.mark.parametrize(
    "name", ["a" * 255, "it's", 'say "hi"', "Zoë 數據庫 🗄", "a/b", "..a", "50%", "a b", "x?y=1&z#f", "%2F1", "a~b"]
)
def test_unusual_name_works_everywhere(site: Site, name: str) -> None:
    key = site.instance(name)
    site.backup(name, name)
    path = quote(name, safe="")
    assert site.get(f"/instances/{path}")["instance"]["id"] == key
    assert site.get(f"/backups/{path}")["backup"]["instance_name"] == name
    assert len(site.get(f"/instances/{path}/backups", limit=1)["backups"]) == 1
    assert len(site.get("/backups", instance_id=name)["backups"]) == 1
    assert site.ask("POST", f"/instances/{path}/action", {"restart": {}}).status_code == 202


def test_an_ambiguous_name_is_a_conflict_that_names_the_ids(site: Site) -> None:
    one, two = site.instance("twin"), site.instance("twin")
    fault = told(site.ask("GET", "/instances/twin"), 409, "conflict")
    assert one in fault["message"]
    assert two in fault["message"]
    assert site.get(f"/instances/{one}")["instance"]["name"] == "twin"


def test_projects_cannot_see_each_other(site: Site) -> None:
    key = site.instance(project="q")
    told(site.ask("GET", f"/instances/{key}"), 404, "itemNotFound")
    told(site.ask("DELETE", f"/instances/{key}"), 404, "itemNotFound")
    told(site.ask("POST", "/backups", {"backup": {"name": "b", "instance": key}}), 404, "itemNotFound")
    assert site.get("/instances") == {"instances": []}


def test_pages_are_newest_first_and_stable(site: Site) -> None:
    keys = [site.instance(f"i{n}") for n in range(5)]
    first = site.get("/instances", limit=2, include_clustered="False")
    assert [v["id"] for v in first["instances"]] == keys[:2:-1]
    (link,) = first["links"]
    assert link["rel"] == "next"
    assert "include_clustered=False" in link["href"]
    site.edit(Instance, keys[3], lambda row: setattr(row, "deleted", now()))  # the marker's own row goes
    site.instance("late")
    second = site.send("GET", link["href"]).json()
    assert [v["id"] for v in second["instances"]] == [keys[2], keys[1]]
    third = site.send("GET", second["links"][0]["href"]).json()
    assert [v["id"] for v in third["instances"]] == [keys[0]]
    assert "links" not in third


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5"])
@pytest.mark.parametrize("path", ["/instances", "/backups", "/jobs"])
def test_invalid_limits_are_refused(site: Site, path: str, limit: str) -> None:
    assert "limit" in told(site.ask("GET", path, limit=limit), 400, "badRequest")["message"]


@pytest.mark.parametrize("path", ["/instances", "/backups", "/jobs"])
def test_an_unknown_marker_is_refused(site: Site, path: str) -> None:
    assert "nowhere" in told(site.ask("GET", path, marker="nowhere"), 400, "badRequest")["message"]


def test_exactly_full_page_has_no_next(site: Site) -> None:
    site.instance()
    assert "links" not in site.get("/instances", limit=1)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_rename_in_any_state(site: Site, method: str) -> None:
    key = site.instance()
    site.edit(Instance, key, lambda row: setattr(row, "task", "REBOOT"))
    reply = site.ask(method, "/instances/mysql1", {"instance": {"name": "renamed"}})
    assert (reply.status_code, reply.content) == (202, b"")
    assert reply.headers["content-type"] == "application/json"
    assert site.get("/instances/renamed")["instance"]["id"] == key


@pytest.mark.parametrize(
    ("changes", "status", "key"),
    [
        ({"name": ""}, 400, "badRequest"),
        ({"name": None}, 400, "badRequest"),
        ({"configuration": "c"}, 501, "notImplemented"),
        ({"replica_of": None}, 400, "badRequest"),
        ({"datastore_version": "11"}, 501, "notImplemented"),
        ({"access": {"is_public": "yes"}}, 400, "badRequest"),
        ({"access": None}, 400, "badRequest"),
        ({"nome": "b"}, 400, "badRequest"),
    ],
)
def test_invalid_updates_are_refused(site: Site, changes: dict[str, Any], status: int, key: str) -> None:
    site.instance()
    told(site.ask("PUT", "/instances/mysql1", {"instance": changes}), status, key)
    assert site.ask("PUT", "/instances/mysql1", {"instance": {"configuration": None}}).status_code == 202


def test_access_is_stored_and_shown(site: Site) -> None:
    asked = {"is_public": True, "allowed_cidrs": ["10.0.0.5/8", "192.0.2.1"]}
    key = site.instance(access=asked)
    assert site.get(f"/instances/{key}")["instance"]["access"] == {**asked, "allowed_cidrs": ["10.0.0.0/8", "192.0.2.1/32"]}
    assert site.ask("PUT", f"/instances/{key}", {"instance": {"access": {"is_public": False}}}).status_code == 202
    access = site.get("/instances")["instances"][0]["access"]
    assert access == {"is_public": False, "allowed_cidrs": ["10.0.0.0/8", "192.0.2.1/32"]}
    assert site.ask("PATCH", f"/instances/{key}", {"instance": {"access": {"allowed_cidrs": []}}}).status_code == 202
    assert site.get(f"/instances/{key}")["instance"]["access"] == {"is_public": False, "allowed_cidrs": []}


def test_volume_of_postgresql_has_the_size_of_the_wal(site: Site) -> None:
    key = site.instance()
    site.edit(Instance, key, lambda row: setattr(row, "wal_bytes", GB // 8))
    volume = site.get(f"/instances/{key}")["instance"]["volume"]
    assert volume == {"size": 10, "used": 0.2, "used_percent": 2.0, "wal_size": 0.12, "wal_archive_size": 0.0}


@pytest.mark.parametrize("nic", [{"network_id": NET}, {"net-id": NET}, {"net-id": NET, "subnet_id": str(uuid.uuid4())}])
def test_network_is_the_requested_one(site: Site, nic: dict[str, str]) -> None:
    key = site.instance(nics=[nic])
    (address,) = site.get(f"/instances/{key}")["instance"]["addresses"]
    assert address["network"] == NET


@pytest.mark.parametrize("action", ["restart", "start", "stop", "discard_old"])
def test_actions_start_a_job(site: Site, action: str) -> None:
    key = site.instance()
    reply = site.ask("POST", f"/instances/{key}/action", {action: {}})
    assert (reply.status_code, reply.content) == (202, b"")
    job = site.get(f"/jobs/{reply.headers['Strongroom-Job']}")["job"]
    assert (job["kind"], job["instance_id"], job["status"]) == (action, key, "queued")
    assert site.get(f"/instances/{key}")["instance"]["job_id"] == job["id"]
    told(site.ask("POST", f"/instances/{key}/action", {action: {}}), 422, "unprocessableEntity")


def test_resize_of_the_volume_is_immediate(site: Site) -> None:
    key = site.instance()
    reply = site.ask("POST", f"/instances/{key}/action", {"resize": {"volume": {"size": "11"}}})
    assert (reply.status_code, reply.content) == (202, b"")
    assert "Strongroom-Job" not in reply.headers
    view = site.get(f"/instances/{key}")["instance"]
    assert (view["volume"]["size"], view["status"]) == (11, "ACTIVE")


def test_resize_of_the_flavor_is_a_job(site: Site) -> None:
    key = site.instance()
    flavor = "http://127.0.0.1:8779/v1.0/p/flavors/d3"
    reply = site.ask("POST", f"/instances/{key}/action", {"resize": {"flavorRef": flavor}})
    assert reply.status_code == 202
    assert site.row(Job, reply.headers["Strongroom-Job"]).params == {"flavor": "d3"}
    assert site.get(f"/instances/{key}")["instance"]["status"] == "RESIZE"
    told(site.ask("POST", f"/instances/{key}/action", {"restart": {}}), 422, "unprocessableEntity")


@pytest.mark.parametrize("body", [{"reset_status": {}}, {"reset_status": {"force_delete": True}}])
def test_reset_makes_a_busy_instance_deletable(site: Site, body: dict[str, Any]) -> None:
    key = site.instance()
    backup = site.ask("POST", "/backups", {"backup": {"name": "b", "instance": key}}).json()["backup"]["id"]
    assert site.ask("POST", f"/instances/{key}/action", body).status_code == 202
    assert site.get(f"/backups/{backup}")["backup"]["status"] == "FAILED"
    view = site.get(f"/instances/{key}")["instance"]
    assert (view["status"], view["operating_status"]) == ("ACTIVE", "HEALTHY")
    assert backup in view["fault"]["message"]
    assert site.ask("DELETE", f"/instances/{key}").status_code == 202


def test_instance_that_was_reset_before_it_had_data_is_down(site: Site) -> None:
    key = site.ask("POST", "/instances", {"instance": {"name": "x"}}).json()["instance"]["id"]
    site.ask("POST", f"/instances/{key}/action", {"reset_status": {}})
    view = site.get(f"/instances/{key}")["instance"]
    assert (view["status"], view["operating_status"]) == ("SHUTDOWN", "")


def test_restore_in_place(site: Site) -> None:
    key = site.instance()
    site.backup(key, "b1")
    reply = site.ask("POST", f"/instances/{key}/action", {"restore": {"backupRef": "b1"}})
    assert reply.status_code == 202
    assert site.row(Job, reply.headers["Strongroom-Job"]).kind == "restore"
    assert site.get(f"/instances/{key}")["instance"]["status"] == "RESTORE"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "one action"),
        ({"fly": {}}, 400, "fly"),
        ({"restart": {}, "stop": {}}, 400, "one action"),
        ({"restart": None}, 400, "restart"),
        ({"restart": "now"}, 400, "restart"),
        ({"restore": {}}, 400, "backupRef"),
        ({"restore": None}, 400, "restore"),
        ({"restore": {"backupRef": "nope"}}, 404, "nope"),
        ({"resize": {}}, 400, "either a volume or a flavorRef"),
        ({"resize": {"volume": {"size": 20}, "flavorRef": "d2"}}, 400, "either a volume or a flavorRef"),
        ({"resize": {"disk": 20}}, 400, "either a volume or a flavorRef"),
        ({"resize": None}, 400, "resize"),
        ({"resize": {"volume": {"size": "big"}}}, 400, "GB"),
        ({"resize": {"volume": {"size": 10}}}, 400, "larger than the current 10 GB"),
        ({"resize": {"flavorRef": "d1"}}, 400, "already has flavor d1"),
        ({"resize": {"flavorRef": "d99"}}, 400, "d99 cannot be found"),
        ({"reset_status": None}, 400, "reset_status"),
        ({"promote_to_replica_source": {}}, 400, "is not a replica."),
        ({"eject_replica_source": {}}, 400, "is not a replica source."),
        ([], 400, "body"),
        ("x", 400, "body"),
        ([None], 400, "body"),
    ],
)
def test_invalid_actions_are_refused(site: Site, body: Any, status: int, says: str) -> None:
    key = site.instance()
    reply = site.ask("POST", f"/instances/{key}/action", body)
    assert reply.status_code == status, reply.text
    assert says in next(iter(reply.json().values()))["message"]


def test_delete_keeps_the_backups(site: Site) -> None:
    key = site.instance()
    site.backup(key)
    reply = site.ask("DELETE", "/instances/mysql1")
    assert (reply.status_code, reply.content) == (202, b"")
    assert site.row(Job, reply.headers["Strongroom-Job"]).kind == "delete_instance"
    assert site.get(f"/instances/{key}")["instance"]["status"] == "SHUTDOWN"
    site.end_jobs()
    told(site.ask("GET", f"/instances/{key}"), 404, "itemNotFound")
    told(site.ask("DELETE", f"/instances/{key}"), 404, "itemNotFound")
    assert [b["instance_id"] for b in site.get("/backups", instance_id=key)["backups"]] == [key]
    assert site.row(Backup, site.get("/backups")["backups"][0]["id"]).status == "COMPLETED"


def test_restore_to_a_new_instance_fits_its_volume(site: Site) -> None:
    site.backup(site.instance(), "b1")  # 3 GB
    requested = {"name": "n", "volume": {"size": 2}, "restorePoint": {"backupRef": "b1"}}
    told(site.ask("POST", "/instances", {"instance": requested}), 403, "forbidden")
    requested["volume"] = {"size": "3"}
    reply = site.ask("POST", "/instances", {"instance": requested})
    assert reply.status_code == 200
    assert reply.json()["instance"]["volume"]["size"] == 3
    assert site.row(Job, reply.headers["Strongroom-Job"]).backup_id is not None


def test_previous_data_is_shown(site: Site) -> None:
    key = site.instance()
    old = [{"name": "data.old-1", "bytes": 5 * GB, "since": "2026-11-21T10:00:00+00:00"}]
    site.edit(Instance, key, lambda row: setattr(row, "old_data", old))
    shown = site.get(f"/instances/{key}")["instance"]["old_data"]
    assert shown == [{"name": "data.old-1", "bytes": 5 * GB, "since": "2026-11-21T10:00:00.000Z"}]


def test_callers_with_an_unknown_os_user_may_not_name_directories(site: Site) -> None:
    point = {"backupRef": "b1", "tablespaces": {"far": "/srv/far"}}
    fault = told(site.ask("POST", "/instances", {"instance": {"name": "a", "restorePoint": point}}), 403, "forbidden")
    assert "directories of the host" in fault["message"]


def test_callers_with_an_unknown_os_user_may_not_adopt(site: Site, place: Path) -> None:
    adopt = {"socket": str(place / "s"), "start_command": ["/bin/sh", "-c", "id"]}
    fault = told(site.ask("POST", "/instances", {"instance": {"name": "a", "adopt": adopt}}), 403, "forbidden")
    assert "commands on the host" in fault["message"]


@pytest.mark.parametrize(
    ("adopt", "says"),
    [
        ({}, "socket or address"),
        ({"socket": "relative"}, "absolute"),
        ({"address": "127.0.0.1", "port": 0}, "port"),
        ({"address": "127.0.0.1", "shell": "x"}, "shell"),
        ({"address": "127.0.0.1", "start_command": "systemctl start x"}, "start_command"),
    ],
)
def test_invalid_adoptions_are_refused(site: Site, adopt: dict[str, Any], says: str) -> None:
    assert says in told(site.ask("POST", "/instances", {"instance": {"name": "a", "adopt": adopt}}), 400, "badRequest")["message"]
