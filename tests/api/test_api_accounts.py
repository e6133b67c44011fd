"""Databases and users of an instance on the wire."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from strongroom.catalog import Instance
from strongroom.datastores import UserSpec
from strongroom.errors import ServerFailed, Unavailable
from support.site import Site, told

DB, USERS = "/instances/mysql1/databases", "/instances/mysql1/users"


@pytest.fixture
def there(site: Site) -> Site:
    site.instance()
    for name in ("db1", "db2"):
        site.ask("POST", DB, {"databases": [{"name": name, "character_set": "utf8mb4"}]})
    return site


def test_databases(there: Site) -> None:
    assert [d["name"] for d in there.get(DB)["databases"]] == ["db1", "db2"]
    reply = there.ask("POST", DB, {"databases": [{"name": "a/b.c"}, {"name": "数据"}]})
    assert (reply.status_code, reply.content) == (202, b"")
    assert there.ask("DELETE", f"{DB}/{quote('a/b.c', safe='')}").status_code == 202
    assert [d["name"] for d in there.get(DB)["databases"]] == ["db1", "db2", "数据"]
    assert there.ask("POST", DB, {"databases": []}).status_code == 202
    told(there.ask("DELETE", f"{DB}/nope"), 404, "itemNotFound")
    told(there.ask("POST", DB, {"databases": [{"name": "db1"}]}), 409, "conflict")


def test_a_server_that_runs_again_is_asked_before_a_request_is_refused(there: Site) -> None:
    def run(row: Instance) -> None:
        row.state = "running"

    def stop(row: Instance) -> None:
        row.state = "stopped"

    key = str(there.get("/instances/mysql1")["instance"]["id"])
    there.edit(Instance, key, stop)
    told(there.ask("GET", DB), 422, "unprocessableEntity")
    there.control.agents.ask_server = lambda _host, server: there.edit(Instance, server, run)
    assert [d["name"] for d in there.get(DB)["databases"]] == ["db1", "db2"]


def test_database_pages(there: Site) -> None:
    first = there.get(DB, limit=1)
    assert [d["name"] for d in first["databases"]] == ["db1"]
    second = there.send("GET", first["links"][0]["href"]).json()
    assert [d["name"] for d in second["databases"]] == ["db2"]
    assert "links" not in second


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"databases": None},
        {"databases": [{}]},
        {"databases": [{"name": ""}]},
        {"databases": [{"name": "a" * 65}]},
        {"databases": [{"name": "a"}, {"name": "a"}]},
        {"databases": [{"name": "a\x00"}]},
        {"databases": "db1"},
    ],
)
def test_bad_databases_are_refused(there: Site, body: Any) -> None:
    told(there.ask("POST", DB, body), 400, "badRequest")


def test_users(there: Site) -> None:
    user = {"name": "user1", "password": "hush", "databases": [{"name": "db1"}, {"name": "db2"}]}
    assert there.ask("POST", USERS, {"users": [user, {"name": "o", "password": "hush", "host": "10.0.0.1"}]}).status_code == 202
    listed = there.get(USERS)["users"]
    assert listed == [
        {"name": "o", "host": "10.0.0.1", "databases": []},
        {"name": "user1", "host": "%", "databases": [{"name": "db1"}, {"name": "db2"}]},
    ]
    for ref in ("user1", "user1%40%25", "user1@%25"):
        assert there.get(f"{USERS}/{ref}")["user"] == listed[1]
    assert there.get(f"{USERS}/o%4010.0.0.1")["user"] == listed[0]
    told(there.ask("GET", f"{USERS}/nobody"), 404, "itemNotFound")
    assert there.ask("DELETE", f"{USERS}/o%4010%2e0%2e0%2e1").status_code == 202
    assert there.ask("DELETE", f"{USERS}/user1").status_code == 202
    told(there.ask("DELETE", f"{USERS}/user1"), 404, "itemNotFound")


def test_grants(there: Site) -> None:
    there.ask("POST", USERS, {"users": [{"name": "a/b@c", "password": "hush"}]})
    path = f"{USERS}/{quote('a/b@c@%', safe='')}/databases"
    assert there.get(path) == {"databases": []}
    assert there.ask("PUT", path, {"databases": [{"name": "db1"}, {"name": "x/y"}]}).status_code == 202
    assert there.get(path) == {"databases": [{"name": "db1"}, {"name": "x/y"}]}
    assert there.ask("DELETE", f"{path}/x%2Fy").status_code == 202
    assert there.ask("DELETE", f"{path}/db1").status_code == 202
    told(there.ask("DELETE", f"{path}/db1"), 404, "itemNotFound")
    told(there.ask("PUT", path, {}), 400, "badRequest")
    told(there.ask("PUT", f"{USERS}/nobody/databases", {"databases": []}), 404, "itemNotFound")


def test_bare_name_never_means_the_user_of_another_host(there: Site) -> None:
    there.ask("POST", USERS, {"users": [{"name": "o", "password": "hush", "host": "10.9.9.9", "databases": [{"name": "db1"}]}]})
    for method, path, body in (
        ("GET", "o", None),
        ("GET", "o/databases", None),
        ("PUT", "o/databases", {"databases": [{"name": "db2"}]}),
        ("DELETE", "o/databases/db1", None),
        ("PUT", "o", {"user": {"password": "stolen"}}),
        ("PUT", "", {"users": [{"name": "o", "password": "stolen"}]}),
        ("DELETE", "o", None),
    ):
        fault = told(there.ask(method, f"{USERS}/{path}".rstrip("/"), body), 404, "itemNotFound")
        assert "o@10.9.9.9" in fault["remedy"]
    assert there.agent.users_["o", "10.9.9.9"].password == "hush"
    assert there.get(f"{USERS}/o@10.9.9.9")["user"]["databases"] == [{"name": "db1"}]


def test_repeated_delete_removes_one_user(there: Site) -> None:
    for name, host in (("o", "%"), ("o", "h1"), ("a", "x"), ("a@x", "%")):
        there.agent.users_[name, host] = UserSpec(name=name, host=host)
    for ref in ("o", "a@x"):
        assert there.ask("DELETE", f"{USERS}/{ref}").status_code == 202
        told(there.ask("DELETE", f"{USERS}/{ref}"), 404, "itemNotFound")
    assert list(there.agent.users_) == [("o", "h1"), ("a@x", "%")]
    assert there.ask("DELETE", f"{USERS}/a@x@%25").status_code == 202


def test_users_of_postgresql_have_no_host(there: Site) -> None:
    there.edit(Instance, there.get("/instances")["instances"][0]["id"], lambda row: setattr(row, "datastore", "postgresql"))
    for name in ("joe", "joe@corp", "joe@%"):
        there.agent.users_[name, "%"] = UserSpec(name=name)
    for ref, name in (("joe", "joe"), ("joe@%25", "joe"), ("joe@corp", "joe@corp"), ("joe@%25@%25", "joe@%")):
        assert there.get(f"{USERS}/{ref}")["user"]["name"] == name
    assert there.ask("DELETE", f"{USERS}/joe@%25").status_code == 202
    told(there.ask("DELETE", f"{USERS}/joe@%25"), 404, "itemNotFound")
    told(there.ask("GET", f"{USERS}/joe@10.0.0.1"), 404, "itemNotFound")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"users": [{"name": "u"}]},
        {"users": [{"name": "u", "password": ""}]},
        {"users": [{"name": "u", "password": "p", "host": ""}]},
        {"users": [{"name": "u", "password": "p"}, {"name": "u", "password": "p", "host": "%"}]},
        {"users": [{"name": "u", "password": "p", "databases": ["db1"]}]},
    ],
)
def test_bad_users_are_refused(there: Site, body: Any) -> None:
    told(there.ask("POST", USERS, body), 400, "badRequest")


def test_a_user_is_changed(there: Site) -> None:
    user = {"name": "user1", "password": "hush", "databases": [{"name": "db1"}]}
    there.ask("POST", USERS, {"users": [user, {"name": "o", "password": "hush", "host": "10.0.0.1"}]})
    reply = there.ask("PUT", f"{USERS}/user1", {"user": {"name": "user2", "host": "10.0.0.2"}})
    assert (reply.status_code, reply.content) == (202, b"")
    assert there.get(f"{USERS}/user2@10.0.0.2")["user"] == {"name": "user2", "host": "10.0.0.2", "databases": [{"name": "db1"}]}
    assert there.ask("PUT", f"{USERS}/o@10.0.0.1", {"user": {"password": "changed", "unknown": 1}}).status_code == 202
    assert there.agent.users_["o", "10.0.0.1"].password == "changed"
    told(there.ask("PUT", f"{USERS}/nobody", {"user": {"password": "p"}}), 404, "itemNotFound")


@pytest.mark.parametrize(
    "body",
    [{}, {"user": {}}, {"user": None}, {"user": {"password": ""}}, {"user": {"password": None}}, {"user": {"name": "a" * 81}}],
)
def test_invalid_changes_of_a_user_are_refused(there: Site, body: Any) -> None:
    there.ask("POST", USERS, {"users": [{"name": "u", "password": "hush"}]})
    told(there.ask("PUT", f"{USERS}/u", body), 400, "badRequest")


def test_passwords_are_changed_together_or_not_at_all(there: Site) -> None:
    there.ask("POST", USERS, {"users": [{"name": "a", "password": "1"}, {"name": "b", "password": "1", "host": "h"}]})
    requested = [{"name": "a", "password": "2"}, {"name": "b", "host": "h", "password": "3"}]
    told(there.ask("PUT", USERS, {"users": [*requested, {"name": "nobody", "password": "4"}]}), 404, "itemNotFound")
    assert {u.password for u in there.agent.users_.values()} == {"1"}
    assert there.ask("PUT", USERS, {"users": requested}).status_code == 202
    assert [u.password for u in there.agent.users_.values()] == ["2", "3"]


ROOT = "/instances/mysql1/root"


def test_root(there: Site) -> None:
    assert there.get(ROOT) == {"rootEnabled": False}
    told(there.ask("DELETE", ROOT), 404, "itemNotFound")
    reply = there.send("POST", f"/v1.0/p{ROOT}", headers={})  # no body at all, as the stock client
    assert reply.status_code == 200, reply.text
    made_up = reply.json()["user"]["password"]
    assert reply.json() == {"user": {"name": "root", "password": made_up}}
    assert len(made_up) >= 32
    assert there.agent.root_password == made_up
    for body in ({}, {"password": ""}):
        assert there.ask("POST", ROOT, body).json()["user"]["password"] not in ("", made_up)
    assert there.ask("POST", ROOT, {"password": "given"}).json() == {"user": {"name": "root", "password": "given"}}
    assert there.get(ROOT) == {"rootEnabled": True}
    reply = there.ask("DELETE", ROOT)
    assert (reply.status_code, reply.content) == (204, b"")
    assert there.get(ROOT) == {"rootEnabled": False}
    told(there.ask("POST", ROOT, {"password": None}), 400, "badRequest")
    told(there.ask("POST", ROOT, {"password": ["hush"]}), 400, "badRequest")
    told(there.ask("GET", "/instances/nobody/root"), 404, "itemNotFound")


@pytest.mark.parametrize(("task", "state"), [("BUILD", "new"), ("RESTORE", "running"), (None, "stopped")])
def test_server_that_is_not_ready_is_not_queried(there: Site, task: str | None, state: str) -> None:
    key = there.get("/instances/mysql1")["instance"]["id"]

    def change(row: Instance) -> None:
        row.task, row.state = task, state

    there.edit(Instance, key, change)
    for path in (DB, USERS):
        assert "not ready" in told(there.ask("GET", path), 422, "unprocessableEntity")["message"]


def test_databases_can_be_listed_while_a_backup_runs(there: Site) -> None:
    there.ask("POST", "/backups", {"backup": {"name": "b", "instance": "mysql1"}})
    assert len(there.get(DB)["databases"]) == 2


def test_unresponsive_server_is_422_and_unreachable_agent_503(there: Site) -> None:
    there.agent.broken = ServerFailed("mariadbd does not answer", remedy="Look at its log.")
    fault = told(there.ask("GET", DB), 422, "unprocessableEntity")
    assert "mariadbd does not answer" in fault["message"]
    there.agent.broken = Unavailable("agent local does not answer")
    told(there.ask("GET", USERS), 503, "serviceUnavailable")
    told(there.ask("GET", "/instances/nobody/users"), 404, "itemNotFound")
