"""``/mgmt/instances`` on the wire, and what Trove has that this service does not."""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.catalog import Job
from strongroom.errors import Unavailable
from support.site import Site, told


def test_instances_of_all_projects(site: Site) -> None:
    mine, other = site.instance("one"), site.instance("two", project="q")
    listed = site.get("/mgmt/instances", include_clustered="False", deleted="False")["instances"]
    assert [(i["id"], i["tenant_id"], i["server"]["tenant_id"]) for i in listed] == [(other, "q", "q"), (mine, "p", "p")]
    assert [i["id"] for i in site.get("/mgmt/instances", project_id="p")["instances"]] == [mine]
    first = listed[1]
    plain = site.get(f"/instances/{mine}")["instance"]
    assert {key: first[key] for key in plain} == plain
    assert first["server"] == {"id": plain["server_id"], "name": "one", "status": "running", "tenant_id": "p", "host": "local"}
    assert (first["service_status"], first["task_description"]) == ("HEALTHY", "No tasks for the instance.")
    assert (first["deleted"], first["deleted_at"]) == (False, None)
    assert site.get(f"/mgmt/instances/{mine}")["instance"] == first
    assert site.get(f"/mgmt/instances/{other}")["instance"]["name"] == "two"
    told(site.ask("GET", "/mgmt/instances/nope"), 404, "itemNotFound")


def test_deleted_instances(site: Site) -> None:
    gone, there = site.instance("gone"), site.instance("there")
    site.ask("DELETE", f"/instances/{gone}")
    site.end_jobs()
    assert [i["id"] for i in site.get("/mgmt/instances")["instances"]] == [there]
    (shown,) = site.get("/mgmt/instances", deleted="True")["instances"]
    assert (shown["id"], shown["deleted"]) == (gone, True)
    assert len(shown["deleted_at"]) == len("2022-10-24T01:56:55")


def test_pages(site: Site) -> None:
    keys = [site.instance(f"i{n}", project=f"p{n}") for n in range(3)]
    first = site.get("/mgmt/instances", limit=2)
    assert [i["id"] for i in first["instances"]] == keys[:0:-1]
    second = site.send("GET", first["links"][0]["href"]).json()
    assert [i["id"] for i in second["instances"]] == keys[:1]


@pytest.mark.parametrize(("action", "kind"), [("reboot", "restart"), ("stop", "stop")])
def test_actions(site: Site, action: str, kind: str) -> None:
    key = site.instance()
    reply = site.ask("POST", f"/mgmt/instances/{key}/action", {action: {}})
    assert (reply.status_code, reply.content) == (202, b"")
    assert site.row(Job, reply.headers["Strongroom-Job"]).kind == kind
    assert site.ask("POST", f"/mgmt/instances/{key}/action", {"reset-task-status": {}}).status_code == 202
    assert site.get(f"/instances/{key}")["instance"]["status"] == "ACTIVE"


def test_action_on_another_projects_instance_belongs_to_its_owner(site: Site) -> None:
    key = site.instance(project="q")
    reply = site.ask("POST", f"/mgmt/instances/{key}/action", {"reboot": {}})
    assert site.row(Job, reply.headers["Strongroom-Job"]).project == "q"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "one action"),
        ({"reboot": {}, "stop": {}}, 400, "one action"),
        ({"fly": {}}, 400, "fly"),
        ({"rebuild": {"image_id": "x"}}, 501, "rebuild"),
        ({"migrate": {}}, 501, "migrate"),
    ],
)
def test_invalid_actions_are_refused(site: Site, body: Any, status: int, says: str) -> None:
    key = site.instance()
    reply = site.ask("POST", f"/mgmt/instances/{key}/action", body)
    assert reply.status_code == status, reply.text
    assert says in next(iter(reply.json().values()))["message"]


def test_root_history(site: Site) -> None:
    key = site.instance()
    history = {"id": key, "enabled": "Never", "user": "Nobody"}
    assert site.get(f"/mgmt/instances/{key}/root") == {"root_history": history}
    site.ask("POST", f"/instances/{key}/root")
    first = site.get(f"/mgmt/instances/{key}/root")["root_history"]
    assert first["enabled"].startswith("20")
    assert first["user"] not in ("", "Nobody")
    site.ask("DELETE", f"/instances/{key}/root")
    site.ask("POST", f"/instances/{key}/root")
    assert site.get(f"/mgmt/instances/{key}/root")["root_history"] == first


def test_the_host_of_an_instance(site: Site) -> None:
    key = site.instance()
    assert site.get(f"/mgmt/instances/{key}/hwinfo") == {"hwinfo": {"num_cpus": 2, "mem_total": 64 * 1024}}
    ping = site.ask("GET", f"/mgmt/instances/{key}/rpc_ping")
    assert (ping.status_code, ping.content) == (204, b"")
    site.agent.broken = Unavailable("local does not answer")
    told(site.ask("GET", f"/mgmt/instances/{key}/rpc_ping"), 503, "serviceUnavailable")
    told(site.ask("GET", f"/mgmt/instances/{key}/diagnostics"), 501, "notImplemented")
    for what in ("root", "hwinfo", "rpc_ping", "diagnostics"):
        told(site.ask("GET", f"/mgmt/instances/nope/{what}"), 404, "itemNotFound")


def test_versions_for_administrators(site: Site) -> None:
    listed = site.get("/mgmt/datastore-versions")["versions"]
    assert [(v["datastore_name"], v["name"], v["default"]) for v in listed] == [
        ("mariadb", "10.6", False),
        ("mariadb", "10.11", True),
    ]
    assert site.get(f"/mgmt/datastore-versions/{listed[0]['id']}") == {"version": listed[0]}
    told(site.ask("GET", "/mgmt/datastore-versions/nope"), 404, "itemNotFound")
    told(site.ask("POST", "/mgmt/datastore-versions", {"version": {}}), 501, "notImplemented")
    told(site.ask("DELETE", f"/mgmt/datastore-versions/{listed[0]['id']}"), 501, "notImplemented")
    assert site.get("/datastores/mariadb/versions/10.11/volume-types") == {"volume_types": []}
    for path in ("/datastores/mariadb/versions/10.11/parameters", f"/datastores/versions/{listed[0]['id']}/parameters/port"):
        assert "configuration groups" in told(site.ask("GET", path), 501, "notImplemented")["message"]


@pytest.mark.parametrize("what", ["configurations", "modules"])
def test_unsupported_resources_are_empty_lists_and_cannot_be_created(site: Site, what: str) -> None:
    assert site.get(f"/{what}") == {what: []}
    assert "not supported" in told(site.ask("POST", f"/{what}", {what[:-1]: {"name": "c"}}), 501, "notImplemented")["message"]
    assert "nope" in told(site.ask("GET", f"/{what}/nope"), 404, "itemNotFound")["message"]
    told(site.ask("DELETE", f"/{what}/nope"), 404, "itemNotFound")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "configuration"), ("GET", "log"), ("POST", "log"), ("GET", "modules"), ("GET", "ssl"), ("POST", "ssl")],
)
def test_unsupported_routes_of_instances_are_refused(site: Site, method: str, path: str) -> None:
    body = {"name": "slow_query", "enable": 1} if method == "POST" else None
    told(site.ask(method, f"/instances/{site.instance()}/{path}", body), 501, "notImplemented")
