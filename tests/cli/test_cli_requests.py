"""What each command asks of the API, and how it treats the person before it does."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from support.canned import BACKUP, DONE, INSTANCE, PLAN, Canned, Running

Run = Callable[..., Result]

STARTED = {"Strongroom-Job": "j1"}


@pytest.fixture
def happy(canned: Canned) -> Canned:
    """Everything works."""
    canned.on_job(DONE)
    for ref in ("mysql1", "i1"):
        canned.on("GET", f"/instances/{ref}", (200, {"instance": INSTANCE}))
    for ref in ("monday", BACKUP["id"]):
        canned.on("GET", f"/backups/{ref}", (200, {"backup": BACKUP}))
    canned.on("GET", f"/backups/{BACKUP['id']}/restore-plan", (200, {"plan": PLAN}))
    canned.on("GET", "/instances/i1/checks", (200, {"checks": []}))
    canned.on("GET", "/instances/mysql1/activation", (200, {"activation": {"isolated": True, "enables": []}}))
    canned.on("POST", "/instances", (200, {"instance": INSTANCE}, STARTED))
    for ref in ("mysql1", "i1"):
        canned.on("POST", f"/instances/{ref}/action", (202, None, STARTED))
    canned.on("DELETE", "/instances/mysql1", (202, None, STARTED))
    canned.on("POST", "/backups", (202, {"backup": BACKUP}, STARTED))
    canned.on("POST", "/backups/monday/action", (202, None, STARTED))
    canned.on("DELETE", "/backups/monday", (202, None, STARTED))
    canned.on("POST", "/instances/mysql1/databases", (202, None))
    canned.on("DELETE", "/instances/mysql1/databases/shop", (202, None))
    canned.on("POST", "/instances/mysql1/users", (202, None))
    canned.on("DELETE", "/instances/mysql1/users/u@%", (202, None))
    canned.on("PUT", "/instances/mysql1/users/u@10.%/databases", (202, None))
    for name in ("a", "b"):
        canned.on("DELETE", f"/instances/mysql1/users/u@%/databases/{name}", (202, None))
    strategy = {"project_id": "default", "instance_id": "i1", "backend": "swift", "swift_container": "c"}
    canned.on("POST", "/backup_strategies", (202, {"backup_strategy": strategy}))
    canned.on("GET", "/backup_strategies", (200, {"backup_strategies": [strategy]}))
    canned.on("DELETE", "/backup_strategies", (202, None))
    canned.on("DELETE", "/jobs/j1", (202, None))
    return canned


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("instance create new", {"instance": {"name": "new"}}),
        ("instance create mysql1 --allow-same-name", {"instance": {"name": "mysql1"}}),
        (
            "instance create new --flavor d2 --size 5 --datastore mariadb --version 10.11 --database a --database b",
            {
                "instance": {
                    "name": "new",
                    "flavorRef": "d2",
                    "volume": {"size": 5},
                    "datastore": {"type": "mariadb", "version": "10.11"},
                    "databases": [{"name": "a"}, {"name": "b"}],
                }
            },
        ),
        (
            "instance adopt shop --socket /run/m.sock --data-dir /var/lib/mysql --start-command 'systemctl start \"m x\"'",
            {
                "instance": {
                    "name": "shop",
                    "adopt": {
                        "socket": "/run/m.sock",
                        "data_dir": "/var/lib/mysql",
                        "start_command": ["systemctl", "start", "m x"],
                    },
                }
            },
        ),
        ("instance restart mysql1", {"restart": {}}),
        ("instance start mysql1", {"start": {}}),
        ("instance stop mysql1", {"stop": {}}),
        ("instance discard-old mysql1 --yes", {"discard_old": {}}),
        ("backup create b --instance mysql1", {"backup": {"name": "b", "instance": "mysql1", "incremental": 0}}),
        (
            "backup create b -i mysql1 --incremental --container c --description d --codec gzip",
            {
                "backup": {
                    "name": "b",
                    "instance": "mysql1",
                    "incremental": 1,
                    "swift_container": "c",
                    "description": "d",
                    "codec": "gzip",
                }
            },
        ),
        (
            "backup create b -i mysql1 --parent monday",
            {"backup": {"name": "b", "instance": "mysql1", "incremental": 1, "parent_id": "monday"}},
        ),
        ("instance activate mysql1 --yes", {"activate": {}}),
        ("backup verify monday", {"verify": {"prepare": False, "start": True}}),
        ("backup verify monday --prepare", {"verify": {"prepare": True, "start": True}}),
        ("backup verify monday --prepare --no-start", {"verify": {"prepare": True, "start": False}}),
        ("restore monday --name mysql2", {"instance": {"name": "mysql2", "restorePoint": {"backupRef": BACKUP["id"]}}}),
        ("restore monday --in-place mysql1 --yes", {"restore": {"backupRef": BACKUP["id"]}}),
        ("db create mysql1 shop --character-set utf8mb4", {"databases": [{"name": "shop", "character_set": "utf8mb4"}]}),
        ("strategy create --container c", {"backup_strategy": {"swift_container": "c"}}),
        ("strategy create --container c -i mysql1", {"backup_strategy": {"swift_container": "c", "instance_id": "i1"}}),
    ],
)
def test_the_request_is_what_was_typed(run: Run, happy: Canned, words: str, body: Any) -> None:
    result = run(*shlex.split(words))
    assert result.exit_code == 0, result.stderr
    assert happy.bodies("POST") == [body]


def test_a_backup_without_a_name_is_named_after_instance_and_time(run: Run, happy: Canned) -> None:
    assert run("backup", "create", "-i", "mysql1").exit_code == 0
    name = happy.bodies("POST")[0]["backup"]["name"]
    assert name.startswith("mysql1-20") and len(name) == len("mysql1-20261121-070000")


def test_grants_and_revokes_use_user_and_host(run: Run, happy: Canned) -> None:
    assert run("user", "grant", "mysql1", "u", "a", "b", "--host", "10.%").exit_code == 0
    assert run("user", "revoke", "mysql1", "u", "a", "b").exit_code == 0
    assert run("user", "delete", "mysql1", "u", "--yes").exit_code == 0
    assert happy.asked == [
        (
            "PUT",
            "/v1.0/default/instances/mysql1/users/u%4010.%25/databases",
            "",
            {"databases": [{"name": "a"}, {"name": "b"}]},
        ),
        ("DELETE", "/v1.0/default/instances/mysql1/users/u%40%25/databases/a", "", None),
        ("DELETE", "/v1.0/default/instances/mysql1/users/u%40%25/databases/b", "", None),
        ("DELETE", "/v1.0/default/instances/mysql1/users/u%40%25", "", None),
    ]


def test_deletes(run: Run, happy: Canned) -> None:
    for words in (
        "instance delete mysql1 --yes",
        "backup delete monday --cascade --yes",
        "db delete mysql1 shop -y",
        "strategy delete -i mysql1",
    ):
        assert run(*words.split()).exit_code == 0, words
    assert [(path, query) for verb, path, query, _ in happy.asked if verb == "DELETE"] == [
        ("/v1.0/default/instances/mysql1", ""),
        ("/v1.0/default/backups/monday", "cascade=true"),
        ("/v1.0/default/instances/mysql1/databases/shop", ""),
        ("/v1.0/default/backup_strategies", "instance_id=i1"),
    ]


class TestPassword:
    def test_comes_from_stdin(self, run: Run, happy: Canned) -> None:
        result = run("user", "create", "mysql1", "u", "--database", "a", "--password-stdin", stdin="s3 cret\nrest\n")
        assert result.exit_code == 0
        assert happy.bodies("POST") == [
            {"users": [{"name": "u", "host": "%", "password": "s3 cret", "databases": [{"name": "a"}]}]}
        ]

    def test_comes_from_a_file(self, run: Run, happy: Canned, tmp_path: Path) -> None:
        (tmp_path / "p").write_text("pässword\n")
        assert run("user", "create", "mysql1", "u", "--password-file", str(tmp_path / "p")).exit_code == 0
        assert happy.bodies("POST")[0]["users"][0]["password"] == "pässword"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ([], "--password-stdin"),
            (["--password-stdin"], "empty"),
            (["--password-file", "/nonexistent/p"], "/nonexistent/p"),
            (["--password-file", "/dev/null", "--password-stdin"], "exclude"),
        ],
    )
    def test_password_is_required(self, run: Run, happy: Canned, options: list[str], words: str) -> None:
        result = run("user", "create", "mysql1", "u", *options, stdin="")
        assert result.exit_code == 2
        assert words in result.stderr
        assert happy.asked == []

    def test_is_never_an_argument(self, run: Run) -> None:
        assert run("user", "create", "mysql1", "u", "s3cret").exit_code == 2
        assert run("user", "create", "mysql1", "u", "--password", "s3cret").exit_code == 2


class TestRestore:
    def test_needs_one_target(self, run: Run, happy: Canned) -> None:
        for extra in ([], ["--name", "a", "--in-place", "b"]):
            result = run("restore", "monday", *extra)
            assert result.exit_code == 2
            assert "--in-place" in result.stderr

    def test_restore_in_place_needs_confirmation(self, run: Run, happy: Canned) -> None:
        result = run("restore", "monday", "--in-place", "mysql1")
        assert result.exit_code == 2
        assert "--yes" in result.stderr
        assert happy.bodies("POST") == []

    def test_plan_changes_nothing(self, run: Run, happy: Canned) -> None:
        result = run("restore", "monday", "--in-place", "mysql1", "--plan")
        assert result.exit_code == 0, result.stderr
        assert "2 events of shop" in result.stdout and "innodb_page_size = 8192" in result.stdout
        assert happy.bodies("POST") == []
        assert happy.asked[-1][1:3] == (f"/v1.0/default/backups/{BACKUP['id']}/restore-plan", "instance=mysql1")
        result = run("restore", "monday", "--name", "mysql2", "--plan", "-f", "json")
        assert json.loads(result.stdout) == PLAN
        assert run("restore", "monday", "--name", "mysql2", "--flavor", "d2", "--size", "5", "--plan").exit_code == 0
        assert happy.asked[-1][2] == "flavor=d2&size=5"

    def test_restore_that_the_plan_refuses_is_not_started(self, run: Run, happy: Canned) -> None:
        effect = {"effect": "refused", "item": "undo", "message": "its undo logs lie outside", "remedy": "Move them."}
        refused = {**PLAN, "allowed": False, "effects": [effect]}
        happy.on("GET", f"/backups/{BACKUP['id']}/restore-plan", (200, {"plan": refused}))
        for words in (["--name", "mysql2"], ["--in-place", "mysql1", "--yes"]):
            result = run("restore", "monday", *words)
            assert result.exit_code == 2
            assert "its undo logs lie outside" in result.stderr and "Move them." in result.stderr
            assert run("restore", "monday", *words, "--plan").exit_code == 1
        assert happy.bodies("POST") == []

    def test_in_place_shows_the_plan_before_it_asks(self, run: Run, happy: Canned) -> None:
        result = run("restore", "monday", "--in-place", "mysql1")
        assert result.exit_code == 2
        assert "carried  innodb_page_size: innodb_page_size = 8192." in result.stderr
        assert "warned   events: 2 events of shop" in result.stderr

    def test_unreachable_host_only_delays_the_restore(self, run: Run, happy: Canned) -> None:
        fault = {"serviceUnavailable": {"code": 503, "message": "db1 does not answer", "error_code": "HostSilent"}}
        happy.on("GET", f"/backups/{BACKUP['id']}/restore-plan", (503, fault))
        assert run("restore", "monday", "--name", "mysql2").exit_code == 0
        assert run("restore", "monday", "--name", "mysql2", "--plan").exit_code == 5

    def test_in_place_takes_no_size(self, run: Run, happy: Canned) -> None:
        assert run("restore", "monday", "--in-place", "mysql1", "--yes", "--flavor", "d2").exit_code == 2
        assert happy.bodies("POST") == []


class TestCheck:
    def test_fails_on_an_error(self, run: Run, canned: Canned) -> None:
        good = {"name": "tools", "level": "ok", "message": "all there", "remedy": ""}
        for level, code, strict in (("ok", 0, 0), ("warning", 0, 1), ("error", 1, 1)):
            canned.on("GET", "/checks", (200, {"checks": [good, {**good, "level": level, "remedy": "Do [this]."}]}))
            result = run("check")
            assert result.exit_code == code
            assert "Do [this]." in result.stdout
            assert run("check", "--fail-on", "warning").exit_code == strict

    def test_a_service_that_does_not_answer_is_a_failure(self, run: Run, running: Running) -> None:
        running.stop()
        result = run("check")
        assert (result.exit_code, result.stdout) == (5, "")
        assert "is unreachable" in result.stderr

    def test_local_check_is_done_on_request_and_creates_nothing(self, run: Run, running: Running, place: Path) -> None:
        running.stop()
        config = place / "c.toml"
        config.write_text(f'[service]\ndata_dir = "{place}/data"\n')
        for words in (["--local", "--config", str(config)], ["--config", str(config)]):
            result = run("check", *words, "-f", "json")
            found = {check["name"]: check for check in json.loads(result.stdout)}
            assert found["store"]["message"].startswith(f"{place}/data/store is created at the first start")
        assert [entry.name for entry in place.iterdir()] == ["c.toml"]
        (place / "data" / "store").mkdir(parents=True)
        run("check", "--local", "--config", str(config))
        assert list((place / "data" / "store").iterdir()) == [], "the container of the probe is gone, too"


def test_info(run: Run, canned: Canned) -> None:
    version = {"id": "v1", "name": "10.11", "version": "10.11.19", "datastore": "id-of-mariadb"}
    canned.on(
        "GET",
        "/datastores",
        (200, {"datastores": [{"id": "d", "name": "mariadb", "default_version": "v1", "versions": [version]}]}),
    )
    canned.on("GET", "/flavors", (200, {"flavors": [{"id": None, "str_id": "d1", "name": "d1", "ram": 512, "vcpus": 1}]}))
    host = {
        "name": "local",
        "hostname": "h",
        "status": "up",
        "cores": 2,
        "memory_bytes": 2 * 1024**3,
        "free_bytes": 0,
        "versions": [{"datastore": "mariadb", "series": "10.11", "number": "10.11.19"}],
        "jobs_running": 0,
        "last_seen": "2026-11-21T07:00:00Z",
    }
    canned.on("GET", "/hosts", (200, {"hosts": [host]}))
    assert run("datastore", "list", "-f", "value").stdout == "mariadb\t10.11\t10.11.19\ttrue\tv1\n"
    assert run("flavor", "list").stdout.splitlines()[-1].split() == ["d1", "512.0", "MiB", "1"]
    assert "mariadb 10.11.19" in run("host", "list").stdout


def test_jobs_are_filtered(run: Run, canned: Canned) -> None:
    canned.on("GET", "/jobs", (200, {"jobs": []}))
    canned.on("GET", "/instances/mysql1", (200, {"instance": INSTANCE}))
    assert json.loads(run("job", "list", "-i", "mysql1", "--status", "running", "-f", "json").stdout) == []
    assert canned.asked[0][2] == "instance_id=mysql1&status=running&limit=50"
    assert run("job", "list", "--status", "nonsense").exit_code == 2
    assert run("job", "list", "-i", "typo").exit_code == 3, "as everywhere else"


@pytest.mark.parametrize(
    ("noun", "path", "body"),
    [
        ("instance", "/mgmt/instances", {"instances": [{**INSTANCE, "tenant_id": "shop"}]}),
        ("backup", "/backups", {"backups": [{**BACKUP, "project_id": "shop"}]}),
        ("job", "/jobs", {"jobs": [{**DONE, "id": "j1", "project_id": "shop", "created": "2026-11-21T07:00:00Z"}]}),
        ("strategy", "/backup_strategies", {"backup_strategies": [{"project_id": "shop", "instance_id": ""}]}),
    ],
)
def test_lists_of_all_projects(run: Run, canned: Canned, noun: str, path: str, body: Any) -> None:
    canned.on("GET", path, (200, body))
    heading, _, row = run(noun, "list", "--all-projects").stdout.splitlines()
    assert "Project" in heading and "shop" in row
    if noun != "instance":
        assert "all_projects=true" in canned.asked[-1][2]


def test_a_policy_is_sent_as_it_was_given(run: Run, canned: Canned) -> None:
    canned.on("PATCH", "/policies/gold", (404, {"itemNotFound": {"code": 404, "message": "no policy", "remedy": ""}}))
    run("policy", "update", "gold", "--incremental", "", "--keep-daily", "0", "--not-between", "", "--max-age", "26h")
    assert canned.bodies("PATCH") == [{"policy": {"incremental": "", "keep_daily": 0, "not_between": [], "max_age": "26h"}}]
    for words, message in (
        (["update", "gold"], "nothing to change"),
        (["attach", "gold"], "no database was named"),
        (["run", "gold"], "one database is required"),
        (["pause", "gold", "--reason", "x", "--until", "soon"], "'soon' is not a time"),
    ):
        refused = run("policy", *words)
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.stderr


@pytest.mark.parametrize(
    "words", [("policy", "attach", "gold", "--project", "p1"), ("--project", "p1", "policy", "attach", "gold")]
)
def test_a_policy_is_attached_to_a_named_project_only_after_a_confirmation(
    run: Run, canned: Canned, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    shown = {"name": "gold", "settings": {"log_archive": False}, "next_runs": [], "warnings": []}
    canned.on("POST", "/v1.0/p1/policies/gold/action", (202, {}))
    canned.on("GET", "/v1.0/p1/policies/gold", (200, {"policy": shown}))
    asked = run(*words)
    assert (asked.exit_code, canned.bodies("POST")) == (2, [])
    assert "confirmation required" in asked.stderr and "--yes" in asked.stderr
    assert run(*words, "--yes").exit_code == 0
    assert run("policy", "attach", "gold", "orders", "--project", "p1").exit_code == 0
    whole, one = canned.bodies("POST")
    assert whole == {"attach": {"databases": [], "whole_project": True}}
    assert one == {"attach": {"databases": ["orders"], "whole_project": False}}
    monkeypatch.setenv("STRONGROOM_PROJECT", "p1")  # only a project on the command line is meant
    refused = run("policy", "attach", "gold", "--yes")
    assert refused.exit_code == 2 and "pass --whole-project" in refused.stderr
    assert len(canned.bodies("POST")) == 2


def test_the_next_runs_of_a_policy_fit_80_columns(run: Run, canned: Canned) -> None:
    times = [
        {"local": "2026-11-30 11:03 CET", "at": "2026-11-30T10:03:00.000Z", "kind": "incremental"},
        {"local": "2026-11-30 10:03 UTC", "at": "2026-11-30T10:03:00.000Z", "kind": "full"},
    ]
    canned.on(
        "GET",
        "/policies/gold",
        (200, {"policy": {"name": "gold", "settings": {"log_archive": False}, "next_runs": times, "warnings": []}}),
    )
    shown = run("policy", "show", "gold").stdout
    assert "2026-11-30 11:03 CET (10:03 UTC)  incremental\n" in shown
    assert "2026-11-30 10:03 UTC  full" in shown
