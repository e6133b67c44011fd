"""Versions, flavors, datastores, hosts, checks, limits, jobs on the wire."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import pytest

from strongroom.catalog import Host, Job, now
from strongroom.errors import ConfigurationError, Unavailable
from strongroom.sections import Flavor
from strongroom.settings import load
from support.site import GB, Site, told


def test_version_documents(site: Site) -> None:
    reply = site.send("GET", "/")
    assert reply.status_code == 200
    (version,) = reply.json()["versions"]
    assert (version["id"], version["status"]) == ("v1.0", "CURRENT")
    assert version["links"] == [{"href": "http://127.0.0.1:8779/v1.0/", "rel": "self"}]
    for path in ("/v1.0", "/v1.0/"):
        assert site.send("GET", path).json() == {"version": version}


def test_healthcheck(site: Site) -> None:
    reply = site.send("GET", "/healthcheck")
    assert (reply.status_code, reply.text) == (200, "OK")


def test_flavors(site: Site) -> None:
    flavors = site.get("/flavors")["flavors"]
    assert [(f["str_id"], f["ram"]) for f in flavors] == [("d1", 512), ("d2", 1024), ("d3", 2048), ("d4", 4096), ("d5", 8192)]
    assert set(flavors[0]) == {"id", "str_id", "name", "ram", "vcpus", "disk", "ephemeral", "links"}
    assert flavors[0]["id"] is None
    assert site.get("/flavors/d1")["flavor"] == flavors[0]
    told(site.ask("GET", "/flavors/d9"), 404, "itemNotFound")


def test_flavor_may_have_ids_of_nova(site: Site) -> None:
    nova = str(uuid.uuid4())
    site.control.settings.flavors["d2"] = Flavor(ram=1024, aliases=[nova])
    assert site.get(f"/flavors/{nova}")["flavor"]["name"] == "d2"
    made = site.ask("POST", "/instances", {"instance": {"name": "a", "flavorRef": f"http://nova/v2/flavors/{nova}"}})
    assert made.json()["instance"]["flavor"]["id"] == "d2"
    assert site.ask("POST", "/clusters", {"cluster": {"name": "c", "instances": [{"flavorRef": nova}]}}).status_code == 200
    site.instance("b", flavorRef="d1")
    assert site.ask("POST", "/instances/b/action", {"resize": {"flavorRef": nova}}).status_code == 202
    fault = told(site.ask("POST", "/instances", {"instance": {"name": "a", "flavorRef": "d9"}}), 400, "badRequest")
    assert "aliases" in fault["remedy"]
    with pytest.raises(ConfigurationError, match="several flavors"):
        load(flavors={"a": Flavor(ram=512, aliases=["x"]), "x": Flavor(ram=512)})


def test_datastores(site: Site) -> None:
    (datastore,) = site.get("/datastores")["datastores"]
    assert uuid.UUID(datastore["id"])
    assert [(v["name"], v["version"]) for v in datastore["versions"]] == [("10.6", "10.6.2"), ("10.11", "10.11.19")]
    newest = datastore["versions"][1]
    assert datastore["default_version"] == newest["id"]
    for ref in (datastore["id"], "mariadb"):
        assert site.get(f"/datastores/{ref}")["datastore"] == datastore
        assert site.get(f"/datastores/{ref}/versions")["versions"] == datastore["versions"]
        for version in (newest["id"], "10.11", "10.11.19"):
            assert site.get(f"/datastores/{ref}/versions/{version}")["version"] == newest
    assert site.get(f"/datastores/versions/{newest['id']}")["version"] == newest
    assert newest["datastore"] == datastore["id"]
    assert len(site.get("/datastores/mariadb/versions/10.11/flavors")["flavors"]) == 5
    for path in ("/datastores/oracle", "/datastores/oracle/versions", "/datastores/mariadb/versions/5", "/datastores/versions/x"):
        told(site.ask("GET", path), 404, "itemNotFound")


def test_an_instance_takes_ids_of_datastore_and_version(site: Site) -> None:
    (datastore,) = site.get("/datastores")["datastores"]
    requested = {"type": datastore["id"], "version": datastore["versions"][0]["id"]}
    view = site.ask("POST", "/instances", {"instance": {"name": "x", "datastore": requested}}).json()["instance"]
    assert view["datastore"] == {"type": "mariadb", "version": "10.6", "version_number": "10.6.2"}


def test_hosts(site: Site) -> None:
    (host,) = site.get("/hosts")["hosts"]
    assert (host["name"], host["hostname"], host["status"], host["cores"]) == ("local", "box", "up", 2)
    assert (host["memory_bytes"], host["free_bytes"], host["jobs_running"]) == (64 * GB, 100 * GB, 0)
    assert host["versions"][1] == {"datastore": "mariadb", "series": "10.11", "number": "10.11.19"}
    site.edit(Host, "local", lambda row: setattr(row, "seen", now() - timedelta(minutes=2)))
    assert site.get("/hosts")["hosts"][0]["status"] == "silent"


def test_checks(site: Site) -> None:
    own, *_, check = site.get("/checks")["checks"]
    assert (own["host"], own["name"], own["level"]) == ("service", "encryption", "ok")
    assert check == {"host": "local", "name": "tools", "level": "ok", "message": "mariadb-backup 10.11.19", "remedy": ""}
    site.agent.broken = Unavailable("agent local does not answer", remedy="Start it.")
    *_, check = site.get("/checks")["checks"]
    assert (check["level"], check["message"], check["remedy"]) == ("error", "agent local does not answer", "Start it.")


def test_limits_begin_with_the_absolute_one(site: Site) -> None:
    first = site.get("/limits")["limits"][0]
    assert first == {"verb": "ABSOLUTE", "max_instances": -1, "max_ram": -1, "max_volumes": -1, "max_backups": -1}


def test_jobs_are_listed_filtered_and_shown(site: Site) -> None:
    key = site.instance()
    backup = site.backup(key, "b1")
    jobs = site.get("/jobs")["jobs"]
    assert [j["kind"] for j in jobs] == ["backup", "create"]
    assert set(jobs[0]) == {
        *("id", "project_id", "kind", "status", "host", "instance_id", "instance_name", "backup_id", "phase", "done"),
        *("backup_name", "asked_by", "seconds"),
        *("cluster_id", "total", "stored", "message", "events", "attempts", "created", "started", "finished", "fault", "output"),
    }
    assert (jobs[0]["status"], jobs[0]["fault"], jobs[0]["instance_name"]) == ("succeeded", None, "mysql1")
    assert (jobs[0]["backup_name"], jobs[1]["backup_name"]) == ("b1", "")
    assert {job["asked_by"] for job in jobs} == {"anonymous"}
    assert site.get(f"/jobs/{jobs[0]['id'][-8:]}")["job"] == jobs[0], "the last characters of an id name a job"
    assert jobs[0]["created"].endswith("Z")
    assert site.get(f"/jobs/{jobs[0]['id']}")["job"] == jobs[0]
    for params in (
        {"backup_id": backup},
        {"backup_id": "b1"},
        {"instance_id": key, "limit": 1},
        {"instance_id": "mysql1", "limit": 1},
    ):
        assert site.get("/jobs", **params)["jobs"] == jobs[:1]
    assert site.get("/jobs", status="failed")["jobs"] == []
    assert len(site.get("/jobs", status="succeeded")["jobs"]) == 2
    told(site.ask("GET", "/jobs", status="dead"), 400, "badRequest")
    told(site.ask("GET", "/jobs/nope"), 404, "itemNotFound")
    told(site.ask("GET", f"/jobs/{jobs[0]['id']}", project="q"), 404, "itemNotFound")
    page = site.get("/jobs", limit=1)
    assert site.send("GET", page["links"][0]["href"]).json()["jobs"] == jobs[1:]


def test_a_failed_job_shows_its_fault(site: Site) -> None:
    key = site.instance()
    job = site.ask("POST", f"/instances/{key}/action", {"restart": {}}).headers["Strongroom-Job"]
    site.end_jobs({"code": "ServerFailed", "message": "it did not start", "remedy": "Look."})
    view = site.get(f"/jobs/{job}")["job"]
    assert (view["status"], view["fault"]) == (
        "failed",
        {"code": "ServerFailed", "message": "it did not start", "remedy": "Look."},
    )


def test_long_poll_waits_only_without_new_events(site: Site) -> None:
    key = site.instance()
    job = site.ask("POST", f"/instances/{key}/action", {"restart": {}}).headers["Strongroom-Job"]
    began = time.monotonic()
    site.get(f"/jobs/{job}", wait=30)  # there is more than nothing: at once
    assert time.monotonic() - began < 5
    began = time.monotonic()
    view = site.get(f"/jobs/{job}", wait=0.5, after=site.row(Job, job).events)
    assert time.monotonic() - began >= 0.5
    assert view["job"]["status"] == "queued"
    site.end_jobs()
    began = time.monotonic()
    assert site.get(f"/jobs/{job}", wait=30, after=10**9)["job"]["status"] == "succeeded"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "params", [{"wait": "soon"}, {"wait": -1}, {"wait": 61}, {"wait": "nan"}, {"wait": "inf"}, {"after": "x"}]
)
def test_bad_waits_are_refused(site: Site, params: dict[str, str]) -> None:
    site.instance()
    job = site.get("/jobs")["jobs"][0]["id"]
    told(site.ask("GET", f"/jobs/{job}", **params), 400, "badRequest")


def test_cancel(site: Site) -> None:
    key = site.instance()
    job = site.ask("POST", f"/instances/{key}/action", {"restart": {}}).headers["Strongroom-Job"]
    reply = site.ask("DELETE", f"/jobs/{job}")
    assert (reply.status_code, reply.content) == (202, b"")
    assert site.get(f"/jobs/{job}")["job"]["status"] == "cancelled"
    told(site.ask("DELETE", f"/jobs/{job}"), 422, "unprocessableEntity")
    told(site.ask("DELETE", "/jobs/nope"), 404, "itemNotFound")
