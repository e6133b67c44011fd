"""The recovery window and restores to a moment, as a person sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
from typer.testing import Result

from support.canned import DONE, INSTANCE, PLAN, Canned

Run = Callable[..., Result]
NOON = "2026-11-29T12:59:00+00:00"
BASE = {"id": "b1", "name": "monday", "kind": "full", "finished": "2026-11-23T01:10:00Z"}
WINDOW: dict[str, Any] = {
    "instance_id": "i1",
    "instance_name": "orders",
    "datastore": "postgresql",
    "intervals": [
        {
            "begin": "2026-11-23T01:10:00Z",
            "end": "2026-11-29T13:00:04Z",
            "first_position": "0/5A28",
            "last_position": "0/9000060",
            "series": [0],
            "first_base": BASE,
            "newest_base": BASE,
            "bases": 7,
            "segments": 120,
            "raw_size": 3 * 1024**2,
            "stored_size": 1024**2,
        }
    ],
    "gaps": [
        {
            "begin": "2026-11-20T08:00:00Z",
            "end": "2026-11-23T01:10:00Z",
            "after": "0/3000000",
            "before": "0/4000000",
            "reason": "the server deleted log that was not archived",
            "remedy": "",
        }
    ],
    "covered_until": "2026-11-29T13:00:04.250000Z",
    "series": 2,
    "segments": 150,
    "raw_size": 4 * 1024**2,
    "stored_size": 1024**2,
}
REACHED: dict[str, Any] = {
    "instance_id": "i1",
    "instance_name": "orders",
    "target": NOON,
    "time": "2026-11-29T12:59:00Z",
    "position": "0/8000028",
    "last": {"name": "731", "time": "2026-11-29T12:58:59.500000Z", "begin": "0/7F00000", "end": "0/8000028", "tables": []},
    "next": {
        "name": "733",
        "time": "2026-11-29T12:59:00.100000Z",
        "begin": "0/8000028",
        "end": "0/8000060",
        "tables": [" a"],
    },
    "base_finished": "2026-11-29T01:10:00Z",
    "other_bases": 2,
    "segments": 40,
    "log_raw_size": 2 * 1024**2,
    "log_stored_size": 1024**2,
    "lost_until": "2026-11-29T13:00:04.250000Z",
    "lost_transactions": 17,
    "restore": PLAN,
}
MOMENT = ("restore", "--instance", "orders", "--to", "2026-11-29 13:59:00+01:00")


@pytest.fixture
def orders(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> Canned:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    canned.on("GET", "/instances/orders/window", (200, {"window": WINDOW}))
    canned.on("GET", "/instances/orders/recovery-plan", (200, {"plan": REACHED}))
    canned.on("GET", "/instances/orders", (200, {"instance": {**INSTANCE, "id": "i1", "name": "orders"}}))
    canned.on("GET", "/instances/i1", (200, {"instance": {**INSTANCE, "id": "i1", "name": "orders"}}))
    canned.on("GET", "/instances/i2", (200, {"instance": {**INSTANCE, "id": "i2", "name": "orders2"}}))
    canned.on("POST", "/instances", (200, {"instance": {**INSTANCE, "id": "i2"}}, {"Strongroom-Job": "j1"}))
    canned.on("POST", "/instances/i1/action", (202, None, {"Strongroom-Job": "j1"}))
    canned.on_job({**DONE, "kind": "create"})
    return canned


def query(canned: Canned) -> dict[str, list[str]]:
    return next(parse_qs(text) for _, path, text, _ in canned.asked if path.endswith("recovery-plan"))


def test_the_window_shows_intervals_gaps_and_how_much_log_there_is(run: Run, orders: Canned) -> None:
    shown = run("window", "orders")
    assert shown.exit_code == 0, shown.stderr
    assert "2026-11-23 01:10:00" in shown.stdout and "2026-11-29 13:00:04" in shown.stdout and "monday" in shown.stdout
    assert "the server deleted log that was not archived" in shown.stdout
    assert (
        "150 segments (4.0 MiB, 1.0 MiB in the store)" in shown.stderr and "Covered until 2026-11-29 13:00:04 UTC" in shown.stderr
    )
    assert json.loads(run("window", "orders", "--format", "json").stdout) == WINDOW
    orders.on("GET", "/instances/orders/window", (200, {"window": {**WINDOW, "segments": 1}}))
    assert "Log of orders: 1 segment (4.0 MiB" in run("window", "orders").stderr
    orders.on("GET", "/instances/orders/window", (200, {"window": {**WINDOW, "intervals": [], "gaps": []}}))
    assert "No moment can be restored" in run("window", "orders").stderr


def test_a_restore_to_a_time_shows_the_time_first_and_then_the_plan(run: Run, orders: Canned) -> None:
    done = run(*MOMENT, "--name", "orders2")
    assert done.exit_code == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Target: 2026-11-29 12:59:00 UTC (2026-11-29 ") and lines[0].endswith(" local time).")
    assert query(orders)["target"] == [NOON]
    for text in ("731 at 2026-11-29 12:58:59.500000 UTC", "733 at", " a", "about 17 transactions", "40 segments", "2 older"):
        assert text in done.stderr
    (body,) = orders.bodies("POST")
    assert body == {"instance": {"name": "orders2", "restorePoint": {"instance": "i1", "target": NOON}}}


def test_the_plan_is_a_result_and_nothing_is_requested(run: Run, orders: Canned) -> None:
    shown = run(*MOMENT, "--name", "orders2", "--plan")
    assert shown.exit_code == 0 and "0/8000028" in shown.stdout and "events" in shown.stdout
    assert json.loads(run(*MOMENT, "--name", "orders2", "--plan", "--format", "json").stdout) == REACHED
    assert orders.bodies("POST") == []


def test_a_restore_in_place_is_confirmed(run: Run, orders: Canned) -> None:
    asked = run("restore", "--instance", "orders", "--to", "latest", "--in-place", "orders")
    assert asked.exit_code == 2 and "Pass --yes" in asked.stderr and orders.bodies("POST") == []
    assert query(orders) == {"target": ["latest"], "in_place": ["orders"]}
    done = run("restore", "--instance", "orders", "--to", "latest", "--in-place", "orders", "--yes")
    assert done.exit_code == 0, done.stderr
    assert orders.bodies("POST") == [{"restore": {"instance": "i1", "target": "latest"}}]


def test_a_time_without_a_zone_is_refused_unless_it_is_utc(run: Run, orders: Canned) -> None:
    naive = ("restore", "--instance", "orders", "--to", "2026-11-29 12:59:00", "--name", "orders2", "--plan")
    refused = run(*naive)
    assert refused.exit_code == 2 and "has no time zone" in refused.stderr and "--utc" in refused.stderr and not orders.asked
    assert run(*naive, "--utc").exit_code == 0 and query(orders)["target"] == [NOON]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("monday", "--instance", "orders", "--to", "latest"),
        ("--instance", "orders"),
        ("--to", "latest"),
        ("monday", "--to", "x"),
    ],
)
def test_it_must_be_clear_what_to_restore(run: Run, canned: Canned, arguments: tuple[str, ...]) -> None:
    refused = run("restore", *arguments, "--name", "new")
    assert refused.exit_code == 2 and "it is not clear what to restore" in refused.stderr and canned.asked == []


def test_a_backup_as_a_target_is_a_plain_restore(run: Run, orders: Canned) -> None:
    run("restore", "--instance", "orders", "--to", "backup:monday", "--name", "new", "--plan")
    assert [path for _, path, _, _ in orders.asked if "/backups/" in path] == ["/v1.0/default/backups/monday"]


def test_events_of_the_log_are_found(run: Run, canned: Canned) -> None:
    event = {
        "kind": "drop",
        "first_time": "2026-11-29T12:00:00Z",
        "time": "2026-11-29T12:00:00Z",
        "tables": ["shop.items"],
        "text": "DROP TABLE items /* generated by server */",
        "begin": "binlog.000002:77",
        "end": "binlog.000002:99",
        "before": "2026-11-29T11:59:59.999999Z",
    }
    canned.on("GET", "/instances/orders/log-events", (200, {"events": [event]}))
    shown = run("log", "find", "orders", "--drop", "--truncate", "--table", "items", "--since", "2026-11-29T10:00")
    assert shown.exit_code == 0 and "DROP TABLE items" in shown.stdout and "generated" not in shown.stdout
    assert '--to "2026-11-29T11:59:59.999999Z" --name NEW' in shown.stderr
    sent = parse_qs(canned.asked[0][2])
    assert sent["kind"] == ["drop", "truncate"] and sent["since"] == ["2026-11-29T10:00:00+00:00"] and sent["table"] == ["items"]
    assert run("log", "find", "orders", "--since", "yesterday").exit_code == 2
