"""Every route, every role, own and foreign project: who may do what, and that nothing of one project is seen from another."""

from __future__ import annotations

import re
import shutil
import uuid
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import argon2
import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import event

from strongroom.api import create_app
from strongroom.catalog import Attachment, Backup, Cluster, Host, Instance, Job, Policy, Strategy, now
from strongroom.errors import Forbidden, HostSilent
from strongroom.identity import RULES, BasicAuthentication, Principal, User, authorize, edit_users
from support.site import Site, told

PASSWORD = "correct horse"
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
RANK = ["reader", "member", "admin"]
PREFIX = "/v1.0/{project}"
BODIES: dict[str, Any] = {
    "POST /instances": {"instance": {"name": "new"}},
    "PUT /instances/{instance}": {"instance": {"name": "renamed"}},
    "PATCH /instances/{instance}": {"instance": {"name": "renamed"}},
    "POST /instances/{instance}/action": {"restart": {}},
    "POST /instances/{instance}/action reset_status": {"reset_status": {}},
    "POST /mgmt/instances/{instance}/action": {"reboot": {}},
    "POST /instances/{instance}/databases": {"databases": [{"name": "new"}]},
    "POST /instances/{instance}/users": {"users": [{"name": "new", "password": "secret"}]},
    "PUT /instances/{instance}/users": {"users": [{"name": "u", "password": "secret"}]},
    "PUT /instances/{instance}/users/{user}": {"user": {"password": "secret"}},
    "PUT /instances/{instance}/users/{user}/databases": {"databases": [{"name": "db"}]},
    "POST /instances/{instance}/root": {},
    "POST /instances/{instance}/restore-points": {"restore_point": {"name": "p"}},
    "POST /backups": {"backup": {"name": "new", "instance": "{instance}"}},
    "POST /backups/{backup}/action": {"verify": {}},
    "POST /backup_strategies": {"backup_strategy": {"instance_id": "{instance}", "swift_container": "c"}},
    "PUT /mgmt/quotas/{owner}": {"quotas": {"backups": 3}},
    "POST /instances host": {"instance": {"name": "new", "host": "local"}},
    "POST /instances tablespaces": {
        "instance": {"name": "new", "restorePoint": {"backupRef": "none", "tablespaces": {"far": "/srv/far"}}}
    },
    "POST /hosts": {"host": {"name": "new"}},
    "POST /catalog/rebuild": {},
    "POST /clusters": {"cluster": {"name": "new"}},
    "POST /clusters hosts": {"cluster": {"name": "new", "hosts": ["local"]}},
    "PATCH /backups/{backup}": {"backup": {"name": "renamed"}},
    "PATCH /clusters/{cluster}": {"cluster": {"name": "renamed"}},
    "POST /clusters/{cluster}": {"grow": []},
    "POST /clusters/{cluster} reset-status": {"reset-status": {}},
    "POST /clusters/{cluster}/backup": {"backup": {"name": "new"}},
    "POST /clusters/{cluster}/restore": {"restore": {"backupRef": "{backup}"}},
    "POST /clusters/{cluster}/recover": {"recover": {}},
    "POST /policies": {"policy": {"name": "new", "full": "daily", "keep_last": 3}},
    "PATCH /policies/{policy}": {"policy": {"full": "sun 02:00"}},
    "POST /policies/{policy}/action": {"attach": {"whole_project": True}},
    "POST /retention/{instance}/confirm": {"confirm": {"code": "0123456789ab"}},
}
"""What routes need to get as far as they can."""
NAMES = {
    "name": "db",
    "user": "u",
    "database": "db",
    "flavor": "d1",
    "datastore": "mariadb",
    "version": "10.11",
    "thing": "x",
    "host": "local",
    "server": "none",
}
OWNED = ("cluster", "instance", "backup", "job", "policy")


class World(Site):
    """The API with users; mine are in project ``mine``, where things are named as in ``theirs``."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.mine: dict[str, str] = {}
        self.theirs: dict[str, str] = {}

    def furnish(self) -> None:
        """Put things into both projects, without any authentication."""
        self.mine = {**self._things("mine"), "owner": "mine"}
        self.theirs = {**self._things("theirs"), "owner": "theirs"}

    def guard(self, users: Path) -> None:
        """Let only users of the file in from now on."""
        self.app = create_app(self.control, method=BasicAuthentication(users, attempts=10, window=60))

    def _things(self, project: str) -> dict[str, str]:
        """Ids of an instance, a backup of it, the job that made that, and of a cluster."""
        instance = self.instance(f"db-of-{project}", project=project)
        reply = self.ask("POST", "/backups", {"backup": {"name": f"b-of-{project}", "instance": instance}}, project=project)
        backup = reply.json()["backup"]["id"]
        self.end_jobs()

        def done(row: Backup) -> None:
            row.status, row.lineage, row.data_size, row.location = "COMPLETED", "L1", 1, f"file:///s/{backup}"

        self.edit(Backup, backup, done)
        strategy = {"backup_strategy": {"swift_container": f"c-of-{project}"}}
        reply = self.ask("POST", "/backup_strategies", strategy, project=project)
        assert reply.status_code == 202
        reply = self.ask("POST", "/clusters", {"cluster": {"name": f"c-of-{project}"}}, project=project)
        assert reply.status_code == 200
        self.end_jobs()
        policy = {"policy": {"name": f"p-of-{project}", "full": "daily", "keep_last": 3}}
        created = self.ask("POST", "/policies", policy, project=project)
        assert created.status_code == 200
        return {
            "cluster": reply.json()["cluster"]["id"],
            "instance": instance,
            "backup": backup,
            "job": reply_job(self, backup),
            "policy": created.json()["policy"]["id"],
        }

    def ask_as(
        self, user: str | None, method: str, path: str, body: Any = None, *, project: str = "mine", **params: Any
    ) -> httpx.Response:
        headers = {"content-type": "application/json"}
        if user is not None:
            headers["authorization"] = f"Basic {b64encode(f'{user}:{PASSWORD}'.encode()).decode()}"
        return self.send(method, f"/v1.0/{project}{path}", headers=headers, json=body, params=params or None)

    def use(self, user: str | None, route: str, things: dict[str, str], *, project: str = "mine") -> httpx.Response:
        """Send a request that means something to the route, about ``things``."""
        method, path, *_ = route.split()
        body = BODIES.get(route)
        return self.ask_as(user, method, fill(path, things), fill(body, things), project=project)

    def dump(self, project: str) -> list[Any]:
        """All that the catalog has of the project."""
        with self.control.catalog.read() as session:
            return [
                {column.name: getattr(row, column.key) for column in table.__table__.columns}
                for table in (Instance, Cluster, Backup, Job, Strategy, Policy, Attachment)
                for row in session.query(table).filter_by(project=project)
            ]

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The SQL of all that is asked of the catalog meanwhile."""
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        event.listen(self.control.catalog.engine, "before_cursor_execute", note)
        yield seen
        event.remove(self.control.catalog.engine, "before_cursor_execute", note)


def reply_job(site: Site, backup: str) -> str:
    with site.control.catalog.read() as session:
        return str(session.query(Job).filter_by(backup_id=backup).one().id)


def fill(value: Any, things: dict[str, str]) -> Any:
    """``value`` with the names of parameters replaced by things."""
    if isinstance(value, dict):
        return {key: fill(item, things) for key, item in value.items()}
    return re.sub(r"\{(\w+)\}", lambda m: (NAMES | things)[m[1]], value) if isinstance(value, str) else value


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, empty_catalog: Path) -> World:
    """A closed world to copy."""
    place = tmp_path_factory.mktemp("world")
    shutil.copy(empty_catalog, place)
    world = World(place)
    world.furnish()
    with world.control.catalog.write() as session:
        session.query(Host).delete()  # each copy brings its own
    world.control.catalog.close()
    with edit_users(place / "users.json") as users:
        for role in RANK:
            users[role] = User(password=HASH, projects={"mine": role})
        users["outsider"] = User(password=HASH, projects={"elsewhere": "admin"})
    return world


@pytest.fixture
def world(place: Path, furnished: World) -> Iterator[World]:
    for name in ("catalog.sqlite", "users.json"):
        shutil.copy(furnished.control.settings.service.data_dir / name, place)
    world = World(place)
    world.mine, world.theirs = furnished.mine, furnished.theirs
    world.guard(place / "users.json")
    yield world
    world.control.catalog.close()


def routes(site: Site) -> list[str]:
    found = []
    for route in iter_route_contexts(site.app.routes):
        path = route.path_format or ""
        if path.startswith(PREFIX):
            found += [f"{method} {path.removeprefix(PREFIX)}" for method in route.methods or ()]
    return found


def test_every_route_has_a_rule_and_every_rule_a_route(site: Site) -> None:
    assert set(routes(site)) == {" ".join(route.split()[:2]) for route in RULES}
    assert set(routes(site)) <= set(RULES)


def test_readers_may_only_read() -> None:
    assert {route for route, role in RULES.items() if role == "reader" and not route.startswith("GET ")} == set()


def test_unknown_role_may_do_nothing() -> None:
    for route in [*RULES, "GET /new"]:
        with pytest.raises(Forbidden, match="you have none"):
            authorize(Principal("mine", "u", frozenset()), route)


def test_routes_without_a_rule_are_for_administrators() -> None:
    with pytest.raises(Forbidden, match="role admin required"):
        authorize(Principal("mine", "u", frozenset({"reader", "member"})), "GET /new")
    authorize(Principal("mine", "u", frozenset({"admin"})), "GET /new")


def test_credentials_are_required(world: World) -> None:
    before = world.dump("mine")
    for route in [*RULES, "GET /nonsense"]:
        reply = world.use(None, route, world.mine)
        told(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"].startswith("Basic ")
    assert world.dump("mine") == before
    for path in ("/", "/v1.0", "/v1.0/", "/healthcheck", "/openapi.json"):
        assert world.send("GET", path).status_code == 200


@pytest.mark.parametrize("user", [*RANK, "outsider"])
def test_project_without_a_role_of_the_caller_is_forbidden(world: World, user: str) -> None:
    before = world.dump("theirs")
    for route in RULES:
        there = told(world.use(user, route, world.theirs, project="theirs"), 403, "forbidden")
        nowhere = told(world.use(user, route, world.theirs, project="nowhere"), 403, "forbidden")
        assert there["message"] == nowhere["message"].replace("nowhere", "theirs"), "it tells which projects there are"
    assert world.dump("theirs") == before


@pytest.mark.parametrize("role", RANK)
@pytest.mark.parametrize("route", [route for route in RULES if not route.startswith("GET ")])
def test_members_may_change_their_own_resources(world: World, role: str, route: str) -> None:
    before = world.dump("mine")
    reply = world.use(role, route, world.mine)
    if RANK.index(role) < RANK.index(RULES[route]):
        assert " required; you have " in told(reply, 403, "forbidden")["message"]
        assert world.dump("mine") == before
    else:
        assert reply.status_code not in (400, 401, 403), reply.text


@pytest.mark.parametrize("role", RANK)
def test_readers_may_read_their_own_resources(world: World, role: str) -> None:
    for route in (route for route in RULES if route.startswith("GET ")):
        reply = world.use(role, route, world.mine)
        if RANK.index(role) < RANK.index(RULES[route]):
            told(reply, 403, "forbidden")
        else:
            assert reply.status_code not in (400, 401, 403), f"{route}: {reply.text}"


@pytest.mark.parametrize("role", ["reader", "member"])
def test_resources_of_others_seem_not_to_exist(world: World, role: str) -> None:
    """By id or by name, by reply or by the work that was done for it."""
    unknown = {noun: str(uuid.uuid4()) for noun in OWNED} | {"owner": "nowhere"}
    names = {
        "instance": "db-of-theirs",
        "backup": "b-of-theirs",
        "job": "j-of-theirs",
        "cluster": "c-of-theirs",
        "policy": "p-of-theirs",
        "owner": "theirs",
    }
    nobody = {
        "instance": "db-of-nobody",
        "backup": "b-of-nobody",
        "job": "j-of-nobody",
        "cluster": "c-of-nobody",
        "policy": "p-of-nobody",
        "owner": "nowhere",
    }
    before = world.dump("theirs")
    for route in RULES:
        for foreign, absent in ((world.theirs, unknown), (names, nobody)):
            if fill(BODIES.get(route), foreign) == BODIES.get(route) and "{" not in route:
                continue
            with world.statements() as for_foreign:
                reply = world.use(role, route, foreign)
            with world.statements() as for_absent:
                expected = world.use(role, route, absent)
            assert reply.status_code == expected.status_code, route
            assert anonymous(reply.text, foreign) == anonymous(expected.text, absent), route
            assert for_foreign == for_absent, route
            if any(f"{{{noun}}}" in route for noun in OWNED):
                assert reply.status_code in (403, 404, 501), f"{route}: {reply.text}"
    assert world.dump("theirs") == before


def anonymous(text: str, things: dict[str, str]) -> str:
    for noun, ref in things.items():
        text = text.replace(ref, noun)
    return text


@pytest.mark.parametrize("role", ["reader", "member"])
@pytest.mark.parametrize(
    ("path", "filters"),
    [
        ("/instances", ["marker=instance"]),
        ("/instances/detail", ["marker=instance"]),
        ("/backups", ["marker=backup", "instance_id=instance", "marker=backup~instance"]),
        ("/jobs", ["marker=job", "instance_id=instance", "backup_id=backup"]),
        ("/backup_strategies", ["instance_id=instance"]),
    ],
)
def test_lists_and_filters_reveal_nothing_about_other_projects(world: World, role: str, path: str, filters: list[str]) -> None:
    absent = {noun: str(uuid.uuid4()) for noun in OWNED}
    own = world.ask_as(role, "GET", path)
    assert own.status_code == 200
    assert not any(word in own.text for word in (*world.theirs.values(), "theirs"))
    for one in filters:
        key, _, value = one.partition("=")
        words = re.compile("|".join(OWNED))
        foreign = world.ask_as(role, "GET", path, **{key: words.sub(lambda m: world.theirs[m[0]], value)})
        unknown = world.ask_as(role, "GET", path, **{key: words.sub(lambda m: absent[m[0]], value)})
        assert foreign.status_code == unknown.status_code, one
        assert anonymous(foreign.text, world.theirs) == anonymous(unknown.text, absent), one


@pytest.mark.parametrize("role", ["reader", "member"])
@pytest.mark.parametrize("path", ["/backups", "/jobs", "/backup_strategies", "/policies"])
def test_only_administrators_may_list_other_projects(world: World, role: str, path: str) -> None:
    told(world.ask_as(role, "GET", path, project_id="theirs"), 403, "forbidden")
    told(world.ask_as(role, "GET", path, all_projects="True"), 403, "forbidden")
    assert "theirs" in world.ask_as("admin", "GET", path, all_projects="True").text
    seen = world.ask_as("admin", "GET", path, project_id="theirs").text
    assert "theirs" in seen and "mine" not in seen


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/backups", {"backup": {"name": "x", "instance": "mine:instance", "parent_id": "theirs:backup"}}),
        ("POST", "/instances", {"instance": {"name": "x", "restorePoint": {"backupRef": "theirs:backup"}}}),
        ("POST", "/instances/mine:instance/action", {"restore": {"backupRef": "theirs:backup"}}),
        ("DELETE", "/backup_strategies?project_id=theirs", None),
    ],
)
def test_member_cannot_reach_resources_of_others_indirectly(world: World, method: str, path: str, body: Any) -> None:
    def put_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put_in(item) for key, item in value.items()}
        return re.sub(r"(mine|theirs):(\w+)", lambda m: getattr(world, m[1])[m[2]], value) if isinstance(value, str) else value

    before = world.dump("mine"), world.dump("theirs")
    reply = world.ask_as("member", method, put_in(path), put_in(body))
    assert reply.status_code in (403, 404), reply.text
    assert (world.dump("mine"), world.dump("theirs")) == before


class TestAnAdministrator:
    """Works on things of others by their ids; what comes of it is the owner's."""

    def test_sees_what_others_have(self, world: World) -> None:
        for noun in OWNED:
            for user, status in (("admin", 200), ("member", 404)):
                reply = world.ask_as(user, "GET", f"/{noun.replace('policy', 'policie')}s/{world.theirs[noun]}")
                assert reply.status_code == status, reply.text
        links = world.ask_as("admin", "GET", f"/instances/{world.theirs['instance']}").json()["instance"]["links"]
        assert "/v1.0/mine/instances/" in links[0]["href"], "a link that would be refused"

    def test_names_are_looked_up_only_in_the_own_project(self, world: World) -> None:
        told(world.ask_as("admin", "GET", "/instances/db-of-theirs"), 404, "itemNotFound")

    def test_its_backup_of_a_foreign_instance_is_the_owners(self, world: World) -> None:
        self._goes_to_theirs(world, "POST", "/backups", {"backup": {"name": "x", "instance": world.theirs["instance"]}})
        names = [b["name"] for b in world.ask_as("admin", "GET", "/backups").json()["backups"]]
        assert names == ["b-of-mine"]

    def test_its_incremental_may_be_based_on_the_owners_backup(self, world: World) -> None:
        requested = {"name": "x", "instance": world.theirs["instance"], "parent_id": world.theirs["backup"]}
        self._goes_to_theirs(world, "POST", "/backups", {"backup": requested})

    @pytest.mark.parametrize("action", ["restart", "stop"])
    def test_its_action_is_the_owners_job(self, world: World, action: str) -> None:
        self._goes_to_theirs(world, "POST", f"/instances/{world.theirs['instance']}/action", {action: {}})

    def test_its_restore_of_a_foreign_backup_stays_there(self, world: World) -> None:
        point = {"restorePoint": {"backupRef": world.theirs["backup"]}}
        self._goes_to_theirs(world, "POST", "/instances", {"instance": {"name": "x", **point}})

    def test_its_strategy_of_a_foreign_instance_is_the_owners(self, world: World) -> None:
        requested = {"instance_id": world.theirs["instance"], "swift_container": "c"}
        self._goes_to_theirs(world, "POST", "/backup_strategies", {"backup_strategy": requested})
        self._goes_to_theirs(world, "DELETE", f"/backup_strategies?instance_id={world.theirs['instance']}")

    def test_it_deletes(self, world: World) -> None:
        self._goes_to_theirs(world, "DELETE", f"/backups/{world.theirs['backup']}")
        self._goes_to_theirs(world, "DELETE", f"/instances/{world.theirs['instance']}")

    def test_administrator_is_bound_to_the_path_of_the_own_project(self, world: World) -> None:
        told(world.ask_as("admin", "GET", "/instances", project="theirs"), 403, "forbidden")

    def _goes_to_theirs(self, world: World, method: str, path: str, body: Any = None) -> None:
        mine, theirs = world.dump("mine"), world.dump("theirs")
        reply = world.ask_as("admin", method, path, body)
        assert reply.status_code in (200, 202), reply.text
        assert world.dump("mine") == mine
        assert world.dump("theirs") != theirs


@pytest.mark.parametrize("user", ["reader", "admin"])
def test_only_administrators_see_their_fields(world: World, user: str) -> None:
    secret = {"tenant_id", "server_id", "volume_id", "encrypted_rpc_messaging", "host", "socket"}
    for path in ("/instances", "/instances/detail"):
        (view,) = world.ask_as(user, "GET", path).json()["instances"]
        assert secret & set(view) == (secret if user == "admin" else set())
    view = world.ask_as(user, "GET", f"/instances/{world.mine['instance']}").json()["instance"]
    assert secret & set(view) == (secret if user == "admin" else set())
    cluster = world.ask_as(user, "GET", f"/clusters/{world.mine['cluster']}").json()["cluster"]
    job = world.ask_as(user, "GET", f"/jobs/{world.mine['job']}").json()["job"]
    plan = world.ask_as(user, "GET", f"/backups/{world.mine['backup']}/restore-plan").json()["plan"]
    whole = world.ask_as(user, "GET", f"/clusters/{world.mine['cluster']}/restore/{world.mine['backup']}").json()["plan"]
    nodes = [*cluster["instances"], *whole["nodes"]]
    for host in (*(node.get("host") for node in nodes), job["host"], plan["host"]):
        assert host == ("local" if user == "admin" else None)


@pytest.mark.parametrize("user", ["reader", "member", "admin"])
def test_only_administrators_see_hosts_and_paths_in_texts(world: World, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults, progress, outputs, details and refusals, wherever a route shows them."""
    agents = world.control.agents
    agents.connect("db7.example", agents._clients["local"], "https://10.1.2.3:8780")
    agents.urls["orders"] = ""  # a host of the same name as an instance
    text = (
        "instance orders (01234567-0000) is on host orders: the agent of host db7.example at https://10.1.2.3:8780 cannot write "
        "/var/lib/strongroom/x: no space left; wanted: file:///srv/store, sent by s3://bucket/key, 12/24"
    )
    secrets = ("db7.example", "10.1.2.3", "host orders", "/var/lib", "/srv/store")
    failure = {"code": "HostSilent", "message": text, "remedy": text}
    fault = {"message": text, "details": text, "created": now().isoformat()}

    def fail(row: Any) -> None:
        if isinstance(row, Job):
            row.message, row.fault, row.output = text, failure, {"warnings": [text], "backups": [{"at": text}]}
        elif isinstance(row, Backup):
            row.fault, row.reason = failure, text
        else:
            row.fault = fault
            if isinstance(row, Instance):
                row.detail = text

    for table, noun in ((Job, "job"), (Backup, "backup"), (Instance, "instance"), (Cluster, "cluster")):
        world.edit(table, world.mine[noun], fail)
        replies = [world.ask_as(user, "GET", f"/{noun}s/{world.mine[noun]}"), world.ask_as(user, "GET", f"/{noun}s")]
        for reply in replies:
            assert reply.status_code == 200
            seen = " ".join(reply.text.replace("\\n", " ").split())  # Trove wraps the lines of faults
            assert "no space left" in seen
            for secret in secrets:
                assert (secret in seen) == (user == "admin"), (noun, secret, seen)
            assert "instance orders (01234567-0000)" in seen

    def refuse(*_: Any, **__: Any) -> None:
        raise HostSilent(text, remedy=text)

    monkeypatch.setattr("strongroom.api.records.plan_delete_backup", refuse)
    refused = world.ask_as(user, "GET", f"/backups/{world.mine['backup']}/delete-plan")
    assert refused.status_code >= 400
    for secret in secrets:
        assert (secret in refused.text) == (user == "admin"), refused.text


@pytest.mark.parametrize(("user", "status"), [("member", 403), ("admin", 200)])
def test_only_administrators_may_specify_commands(world: World, user: str, status: int) -> None:
    adopt = {"address": "127.0.0.1", "start_command": ["/bin/true"]}
    reply = world.ask_as(user, "POST", "/instances", {"instance": {"name": "a", "adopt": adopt}})
    assert reply.status_code == status, reply.text
