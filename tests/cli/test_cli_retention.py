"""Holds, deletions that can be taken back, retention and the status, as a person and a monitoring system see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from support.canned import BACKUP, DELETE_PLAN, Canned

Run = Callable[..., Result]
SWEEP = "2026-12-01T09:00:00Z"
ACTION = "/backups/monday/action"
FATE = {
    "id": BACKUP["id"],
    "name": "monday",
    "kind": "full",
    "created": "2026-11-21T07:00:00Z",
    "point": "2026-11-21T07:01:00Z",
    "status": "COMPLETED",
    "stored_size": 2**20,
    "kept": False,
    "reasons": ["no rule keeps it (last 2)"],
    "until": None,
    "sweep_at": None,
}
OUTLOOK = {
    "database_id": "i1",
    "database": "orders",
    "policy": "gold",
    "rules": "last 2",
    "at": "2027-03-01T00:00:00Z",
    "simulated": True,
    "waiting": None,
    "ending_holds": [],
    "kept": 2,
    "expired": 1,
    "expired_bytes": 2**20,
    "lost": ["2026-11-21T07:01:00Z"],
    "backups": [FATE],
}
ENDING = {"backup_id": BACKUP["id"], "backup": "monday", "until": SWEEP, "reason": "audit 2026"}
WAITING = {"brake": "mass", "message": "6 of 8 good backups would be removed", "code": "0123456789ab"}


def test_a_hold_ends_with_its_last_day(run: Run, canned: Canned) -> None:
    canned.on("POST", ACTION, (202, {}))
    ran = run("backup", "hold", "monday", "--reason", "audit 2026", "--until", "2027-12-31")
    assert "held until 2028-01-01 00:00" in ran.stderr
    run("backup", "hold", "monday", "--reason", "x", "--until", "2027-12-31T12:00")
    run("backup", "release", "monday")
    run("backup", "undelete", "monday")
    assert canned.bodies("POST") == [
        {"hold": {"reason": "audit 2026", "until": "2028-01-01T00:00:00+00:00"}},
        {"hold": {"reason": "x", "until": "2027-12-31T12:00:00+00:00"}},
        {"release": {}},
        {"undelete": {}},
    ]


def test_a_deletion_says_that_it_can_be_taken_back(run: Run, canned: Canned) -> None:
    plan = {**DELETE_PLAN, "noun": "backup", "name": "monday", "sweep_at": SWEEP}
    canned.on("GET", "/backups/monday/delete-plan", (200, {"plan": plan}))
    canned.on("DELETE", "/backups/monday", (202, {}))
    asked = run("backup", "delete", "monday").stderr
    assert "Until 2026-12-01 09:00" in asked and "`strongroom backup undelete`" in asked
    assert "`strongroom backup undelete monday` brings it back" in run("backup", "delete", "monday", "--yes").stderr
    canned.on_job({"status": "succeeded", "finished": "2026-11-21T07:00:00Z"})
    canned.on("DELETE", "/backups/monday", (202, {}, {"Strongroom-Job": "j1"}))
    assert "brings it back" not in run("backup", "delete", "monday", "--now", "--yes").stderr
    assert canned.asked[-2][2] == "now=true"


@pytest.mark.parametrize(("trashed", "status"), [(True, "deleted"), (False, "expired")])
def test_a_list_shows_which_backups_go(run: Run, canned: Canned, trashed: bool, status: str) -> None:
    canned.on("GET", "/backups", (200, {"backups": [BACKUP, {**BACKUP, "name": "old", "sweep_at": SWEEP, "trashed": trashed}]}))
    listed = run("backup", "list")
    lines = {line.split()[0]: line.split() for line in listed.stdout.splitlines() if " " in line}
    assert status in lines["old"] and status not in lines[BACKUP["name"]]
    assert "2 restorable" in listed.stderr and "1 deleted or expired" in listed.stderr
    assert run("backup", "list", "-f", "value", "-c", "status").stdout == "COMPLETED\nCOMPLETED\n"


def test_a_simulation_shows_what_would_go(run: Run, canned: Canned) -> None:
    canned.on("GET", "/retention/orders", (200, {"retention": OUTLOOK}))
    ran = run("retention", "show", "orders", "--at", "2027-03-01", "--policy", "silver")
    assert "no rule keeps it (last 2)" in ran.stdout
    assert "2 backups would be kept, 1 (1.0 MiB) expired at 2027-03-01 00:00" in ran.stderr
    assert "No longer restorable then: 2026-11-21 07:01" in ran.stderr
    assert canned.asked[-1][2] == "at=2027-03-01T00%3A00%3A00%2B00%3A00&policy=silver"
    canned.on("GET", "/retention/orders", (200, {"retention": {**OUTLOOK, "ending_holds": [ENDING]}}))
    assert "The hold of backup monday ends" in run("retention", "show", "orders").stderr
    assert json.loads(run("retention", "show", "orders", "-f", "json").stdout)["lost"] == OUTLOOK["lost"]


def test_a_confirmation_names_what_was_seen(run: Run, canned: Canned) -> None:
    canned.on("GET", "/retention/orders", (200, {"retention": {**OUTLOOK, "simulated": False, "waiting": WAITING}}))
    canned.on("POST", "/retention/orders/confirm", (200, {"confirmed": WAITING}))
    assert "retention confirm orders" in run("retention", "show", "orders").stderr
    refused = run("retention", "confirm", "orders")
    assert refused.exit_code == 2 and WAITING["message"] in refused.stderr
    assert run("retention", "confirm", "orders", "--yes").exit_code == 0
    assert canned.bodies("POST") == [{"confirm": {"code": WAITING["code"]}}]


def test_past_runs_are_listed(run: Run, canned: Canned) -> None:
    missed = {
        "database_name": "orders", "policy_name": "gold", "due": "2026-11-20T02:00:00Z", "last_due": "2026-11-23T02:00:00Z",
        "count": 4, "kind": "full", "outcome": "missed", "reason": "service down", "attempts": 0, "by_hand": False,
        "backup_name": "", "finished": "2026-11-23T09:00:00Z", "job_id": None,
    }  # fmt: skip
    canned.on("GET", "/schedules/runs", (200, {"runs": [missed]}))
    listed = run("schedule", "runs", "orders", "--outcome", "missed", "--since", "2026-11-01", "--limit", "5").stdout
    assert "2026-11-20 02:00:00 and 3 more until 2026-11-23 02:00:00" in listed and "service down" in listed
    query = canned.asked[-1][2]
    assert "database=orders" in query and "outcome=missed" in query and "limit=5" in query and "since=2026-11-01T00" in query
    assert json.loads(run("schedule", "runs", "--format", "json").stdout)[0]["count"] == 4


def test_removals_are_listed(run: Run, canned: Canned) -> None:
    removal = {"id": BACKUP["id"], "name": "old", "instance_name": "orders", "kind": "full", "stored_size": 1}
    rest = {"removed": SWEEP, "reason": "deleted by kim", "asked_by": "kim", "policy_changed_by": ""}
    canned.on("GET", "/removals", (200, {"removals": [{**removal, **rest}]}))
    assert "deleted by kim" in run("retention", "removals", "orders").stdout
    assert canned.asked[-1][2] == "database=orders"


def protection(level: str, code: int) -> dict[str, Any]:
    condition = {
        "condition": "late",
        "level": level,
        "message": "the newest backup is 30h old",
        "remedy": "strongroom policy run",
    }
    database = {
        "id": "i1",
        "name": "orders",
        "type": "instance",
        "project_id": "p",
        "policy": "gold",
        "state": "late",
        "level": level,
        "conditions": [condition],
        "newest": SWEEP,
        "newest_verified": None,
        "restorable": 3,
        "chain": 2,
        "max_age": None,
        "next_run": None,
        "log_archive": None,
        "read_at": None,
        "incidents": [],
        "ending_holds": [ENDING],
    }
    summary = "CRITICAL: 1 late of 1 | late=1;"
    return {"protection": {"level": level, "exit_code": code, "summary": summary, "databases": [database]}}


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_check_is_one_line_and_an_exit_code(run: Run, canned: Canned, code: int) -> None:
    canned.on("GET", "/protection", (200, protection("critical", code)))
    ran = run("status", "--check")
    assert ran.exit_code == code
    assert ran.stdout == "CRITICAL: 1 late of 1 | late=1;\norders: late: the newest backup is 30h old\n"
    shown = run("status")
    assert shown.exit_code == 0 and "the newest backup is 30h old" in shown.stdout
    assert "The hold of backup monday ends 2026-12-01 09:00:00 UTC: audit 2026." in shown.stderr


def test_a_service_that_is_down_is_critical_to_a_check(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_URL", "http://127.0.0.1:1")
    ran = run("status", "--check")
    assert (ran.exit_code, ran.stdout.startswith("CRITICAL: the service at http://127.0.0.1:1 is unreachable")) == (2, True)
    assert run("status").exit_code == 5


def test_wrong_arguments_and_credentials_are_unknown_to_a_check(run: Run, canned: Canned) -> None:
    """Exit code 2, as for other commands, would be critical."""
    for words in (("--al-projects",), ("--format", "xml"), ("orders",)):
        ran = run("status", "--check", *words)
        assert (ran.exit_code, ran.stdout.startswith("UNKNOWN: ")) == (3, True), words
        assert run("status", *words).exit_code == 2
    ran = run("status", "--check", "--url", "gopher://here")
    assert (ran.exit_code, ran.stdout.startswith("UNKNOWN: ")) == (3, True)
    canned.on("GET", "/protection", (401, {"unauthorized": {"code": 401, "message": "the password is wrong"}}))
    ran = run("status", "--check")
    assert (ran.exit_code, ran.stdout.count("\n")) == (3, 1)
