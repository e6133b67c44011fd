"""What every request meets: the shape of errors, limits, hostile input, who may come in at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from strongroom.errors import ConfigurationError
from strongroom.identity import open_method
from strongroom.settings import load
from support.site import Site, told

ROUTES_WITH_BODY = [
    ("POST", "/instances"),
    ("PUT", "/instances/mysql1"),
    ("PATCH", "/instances/mysql1"),
    ("POST", "/instances/mysql1/action"),
    ("POST", "/backups"),
    ("POST", "/backups/b1/action"),
    ("POST", "/backup_strategies"),
    ("POST", "/instances/mysql1/databases"),
    ("POST", "/instances/mysql1/users"),
    ("PUT", "/instances/mysql1/users/u/databases"),
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One for all: nothing here changes what another test looks at."""
    with tempfile.TemporaryDirectory(prefix="sr-") as place:
        site = Site(Path(place))
        site.backup(site.instance(), "b1")
        yield site
        site.control.catalog.close()


@pytest.mark.parametrize(
    "path", ["/nope", "/v2.0/p/instances", "/v1.0/p", "/v1.0/p/nope", "/v1.0/p/instances/", "/docs", "/redoc"]
)
def test_an_unknown_route_is_404(site: Site, path: str) -> None:
    assert path in told(site.send("GET", path), 404, "itemNotFound")["message"]


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1.0/p/instances"), ("POST", "/v1.0/p/flavors"), ("PUT", "/")])
def test_a_wrong_method_is_405(site: Site, method: str, path: str) -> None:
    reply = site.send(method, path)
    told(reply, 405, "badMethod")
    assert reply.headers["allow"] == ("GET, HEAD, OPTIONS, POST" if path.endswith("/instances") else "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/", "/v1.0/", "/healthcheck", "/openapi.json", "/v1.0/p/instances", "/v1.0/p/flavors/d1"])
def test_load_balancers_may_ask_with_head_and_options(site: Site, path: str) -> None:
    got, head, options = (site.send(method, path, headers={}) for method in ("GET", "HEAD", "OPTIONS"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert (options.status_code, options.content) == (200, b"")
    assert {"GET", "HEAD", "OPTIONS"} <= set(options.headers["allow"].split(", "))


def test_head_and_options_of_nothing_are_404(site: Site) -> None:
    for method in ("HEAD", "OPTIONS"):
        assert site.send(method, "/v1.0/p/instances/none", headers={}).status_code == (404 if method == "HEAD" else 200)
        assert site.send(method, "/v1.0/p/nope", headers={}).status_code == 404


@pytest.mark.parametrize(
    "query",
    ["instance_id=", "limit=", "datastore=", "project_id=&all_projects=", "marker=&limit=1", "limit=1&instance_id="],
)
def test_empty_parameter_counts_as_absent(site: Site, query: str) -> None:
    reply = site.send("GET", f"/v1.0/p/backups?{query}")
    assert reply.status_code == 200, reply.text
    assert [backup["name"] for backup in reply.json()["backups"]] == ["b1"]


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_BODY)
@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"x"', "1", "{}", "\x00", "[" * 100_000, '{"a":' * 50_000, "1" * 5000]
)
def test_invalid_json_body_is_400(site: Site, method: str, path: str, content: str) -> None:
    told(site.send(method, f"/v1.0/p{path}", content=content), 400, "badRequest")


def test_bytes_that_are_not_utf8_are_400(site: Site) -> None:
    told(site.send("POST", "/v1.0/p/backups", content=b'{"backup":{"name":"\xff\xfe"}}'), 400, "badRequest")


@pytest.mark.parametrize(
    "media", [None, "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_media_type_is_415(site: Site, media: str | None) -> None:
    headers = {} if media is None else {"content-type": media}
    fault = told(site.send("POST", "/v1.0/p/backups", content="{}", headers=headers), 415, "badMediaType")
    assert "application/json" in fault["remedy"]


def test_too_large_body_is_413(site: Site) -> None:
    name = json.dumps({"backup": {"name": "b", "padding": "x" * 2**20}})
    told(site.send("POST", "/v1.0/p/backups", content=name), 413, "overLimit")

    async def drip() -> Any:
        for _ in range(40):
            yield b" " * 2**15

    told(site.send("POST", "/v1.0/p/backups", content=drip()), 413, "overLimit")


def test_many_mistakes_are_counted(site: Site) -> None:
    databases = [{"name": ""} for _ in range(10)]
    fault = told(site.ask("POST", "/instances", {"instance": {"name": "a", "databases": databases}}), 400, "badRequest")
    assert "(and 7 more)" in fault["message"]


def test_the_reply_to_a_defect_contains_only_an_id(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(site.control.catalog, "read", broken)
    with capture_logs() as logged:
        fault = told(site.ask("GET", "/instances"), 500, "instanceFault")
    assert "secret" not in json.dumps(fault)
    (line,) = logged
    assert line["id"] in fault["message"]
    assert "secret" in str(line["exc_info"])


@pytest.mark.parametrize("project", ["a%00b", "a%0Ab", "x" * 256])
def test_invalid_project_is_400(site: Site, project: str) -> None:
    told(site.send("GET", f"/v1.0/{project}/instances"), 400, "badRequest")


@pytest.mark.parametrize(
    "path", ["instances/a%00b", "backups?instance_id=%00", "backups?marker=a%00", "jobs/%00", "instances/x/users/a%00"]
)
def test_nul_is_refused_before_it_reaches_a_database(site: Site, path: str) -> None:
    """PostgreSQL accepts none in a text, and the response would report a defect."""
    told(site.send("GET", f"/v1.0/p/{path}"), 400, "badRequest")
    assert site.send("GET", "/v1.0/p/instances/a%2500b").status_code == 404


@pytest.mark.parametrize("project", ["5bd4", "Ünïcode", "a%2Fb", "50%25", "%FF"])
def test_any_other_project_is_one(site: Site, project: str) -> None:
    reply = site.send("GET", f"/v1.0/{project}/instances")
    assert (reply.status_code, reply.json()) == (200, {"instances": []})


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8779", "127.0.0.1.evil.example", "10.0.0.1:8779", "", "[::1", "0.0.0.0"]
)
@pytest.mark.parametrize("path", ["/", "/openapi.json", "/v1.0/p/instances", "/nope"])
def test_a_foreign_host_name_is_refused(site: Site, host: str, path: str) -> None:
    told(site.send("GET", path, headers={"host": host}), 403, "forbidden")


@pytest.mark.parametrize("host", ["127.0.0.1:8779", "localhost", "LOCALHOST:1", "[::1]:8779", "127.8.8.8"])
def test_names_of_this_machine_are_accepted(site: Site, host: str) -> None:
    assert site.send("GET", "/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:3000", "https://localhost", ""])
def test_page_of_another_site_is_refused(site: Site, origin: str) -> None:
    headers = {"origin": origin, "content-type": "application/json"}
    told(site.send("POST", "/v1.0/p/backup_strategies", content="{}", headers=headers), 403, "forbidden")


def test_page_of_the_service_itself_may_use_it(site: Site) -> None:
    assert site.send("GET", "/v1.0/p/instances", headers={"origin": "http://127.0.0.1:8779"}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_method_none_is_allowed_on_loopback(host: str) -> None:
    assert open_method(load(service={"host": host})).name == "none"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "localhost.evil"])
def test_method_none_is_refused_elsewhere(host: str) -> None:
    with pytest.raises(ConfigurationError, match="without authentication") as refused:
        open_method(load(service={"host": host}))
    assert "127.0.0.1" in refused.value.remedy


def test_openapi_describes_the_extensions(site: Site) -> None:
    page = site.send("GET", "/openapi.json").json()
    paths = page["paths"]
    for path in ("/jobs", "/jobs/{job}", "/hosts", "/checks", "/backups/{backup}/action"):
        assert f"/v1.0/{{project}}{path}" in paths
    schemas = page["components"]["schemas"]
    assert {"restore", "discard_old", "start", "stop", "restart"} <= set(schemas["InstanceAction"]["properties"])
    assert {"stored_size", "restorable", "verified"} <= set(schemas["BackupView"]["properties"])


words = st.sampled_from(
    [
        *(
            "instance",
            "backup",
            "backup_strategy",
            "databases",
            "users",
            "name",
            "password",
            "host",
            "restore",
            "restart",
            "verify",
        ),
        *("flavorRef", "volume", "size", "datastore", "type", "version", "nics", "restorePoint", "backupRef", "access", "adopt"),
        *("incremental", "parent_id", "swift_container", "description", "prepare", "codec", "allowed_cidrs", "configuration"),
    ]
)
texts = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=()), max_size=300), st.sampled_from(["mysql1", "b1", "d1", "mariadb"])
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
trees = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=5)), max_leaves=20
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(route=st.sampled_from(ROUTES_WITH_BODY), tree=trees, top=words)
def test_no_body_breaks_the_service(site: Site, route: tuple[str, str], tree: Any, top: str) -> None:
    method, path = route
    for body in (tree, {top: tree}):
        reply = site.send(method, f"/v1.0/p{path}", content=json.dumps(body))
        assert reply.status_code < 500 or reply.status_code == 501, (reply.text, body)
        if reply.status_code >= 400:
            (fault,) = reply.json().values()
            assert fault["message"]
    site.end_jobs()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    resource=st.sampled_from(["instances", "backups", "jobs", "flavors", "datastores", "instances/mysql1/users"]),
    ref=st.binary(min_size=1, max_size=300),
    tail=st.sampled_from(["", "/backups", "/databases", "/versions"]),
    query=st.dictionaries(
        st.sampled_from(["limit", "marker", "instance_id", "datastore", "wait", "status"]), st.text(max_size=20)
    ),
)
def test_no_address_breaks_the_service(site: Site, resource: str, ref: bytes, tail: str, query: dict[str, str]) -> None:
    quoted = "".join(f"%{byte:02X}" for byte in ref)
    params = {key: value.encode(errors="replace").decode() for key, value in query.items() if key != "wait" or len(value) < 2}
    reply = site.send("GET", f"/v1.0/p/{resource}/{quoted}{tail}", params=params)
    assert reply.status_code < 500, (reply.text, quoted)
    assert site.send("GET", f"/v1.0/p/{resource}", params=params).status_code < 500


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/jobs?status=succeded", "did you mean succeeded?"),
        ("/jobs?kind=bakcup", "Did you mean backup?"),
        ("/jobs?kind=xyz", "Known are: activate, adopt, backup"),
        ("/backups?status=complete", "Did you mean COMPLETED?"),
        ("/backups?kind=incremantal", "did you mean incremental?"),
    ],
)
def test_an_unknown_value_of_a_filter_is_refused_with_a_suggestion(site: Site, path: str, says: str) -> None:
    fault = told(site.send("GET", f"/v1.0/p{path}"), 400, "badRequest")
    assert says in f"{fault['message']} {fault['remedy']}"


def test_filters_of_lists(site: Site) -> None:
    key = site.instance()
    full = site.backup(key, "full")
    site.backup(key, "child", parent_id=full)
    fulls = {b["name"] for b in site.get("/backups", kind="full", status="COMPLETED")["backups"]}
    assert "full" in fulls and "child" not in fulls
    assert site.get("/backups", status="FAILED")["backups"] == []
    assert {job["kind"] for job in site.get("/jobs", kind="backup")["jobs"]} == {"backup"}
