"""Policies and schedules over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from strongroom.catalog import Policy, PolicyRun, Schedule, now
from strongroom.flows.policies.tick import begin_due_runs
from support.site import Site, told

GOLD: dict[str, Any] = {
    "name": "gold",
    "full": "sun 02:00",
    "incremental": "daily 02:00",
    "time_zone": "Europe/Vienna",
    "keep_within": "7d",
    "keep_daily": 14,
    "max_age": "26h",
}


def test_a_policy_is_created_changed_and_deleted(site: Site) -> None:
    created = site.ask("POST", "/policies", {"policy": GOLD})
    assert created.status_code == 200, created.text
    policy = created.json()["policy"]
    assert (policy["settings"]["keep_within"], policy["settings"]["max_age"], policy["settings"]["spread"]) == (
        "7d",
        "1d2h",
        "5m",
    )
    assert len(policy["next_runs"]) == 5
    assert policy["next_runs"][0]["local"].split()[1] == "02:00"
    assert site.get("/policies")["policies"] == [site.get("/policies/gold")["policy"]]
    again = told(site.ask("POST", "/policies", {"policy": GOLD}), 409, "conflict")
    assert "policy update gold" in again["remedy"]

    changed = site.ask("PATCH", "/policies/gold", {"policy": {"name": "silver", "keep_daily": 7, "full": "first sun 02:00"}})
    settings = changed.json()["policy"]["settings"]
    assert (settings["keep_daily"], settings["full"], settings["incremental"]) == (7, "first sun 02:00", "daily 02:00")
    assert site.get(f"/policies/{policy['id']}")["policy"]["name"] == "silver"
    assert site.ask("DELETE", "/policies/silver").status_code == 202
    told(site.ask("GET", "/policies/silver"), 404, "itemNotFound")


def test_wrong_settings_are_refused_with_a_remedy(site: Site) -> None:
    for wrong, message in (
        ({"full": "often"}, "'often' is not a schedule"),
        ({"time_zone": "Mars"}, "no time zone 'Mars'"),
        ({"keep_within": "soon"}, "not a duration"),
        ({"keep_within": 7}, "must be a duration"),
        ({"keep_within": "0s", "keep_daily": 0}, "keeps nothing"),
        ({"keep_dayly": 3}, "keep_dayly: is not a parameter"),
        ({"name": "!"}, "letter or digit"),
    ):
        refused = told(site.ask("POST", "/policies", {"policy": {**GOLD, **wrong}}), 400, "badRequest")
        assert message in refused["message"]
        assert refused["remedy"]
    site.ask("POST", "/policies", {"policy": GOLD})
    refused = told(site.ask("PATCH", "/policies/gold", {"policy": {"incremental": "every 1m"}}), 400, "badRequest")
    assert refused["remedy"] == "The shortest interval is 5m."


def test_a_policy_that_is_cron_of_two_kinds_of_days_warns(site: Site) -> None:
    reply = site.ask("POST", "/policies", {"policy": {**GOLD, "full": "0 2 1-7 * 0"}})
    assert "also on every one of the weekdays" in reply.json()["policy"]["warnings"][0]


def act(site: Site, body: dict[str, Any], status: int = 202) -> Any:
    reply = site.ask("POST", "/policies/gold/action", body)
    assert reply.status_code == status, reply.text
    return reply


def run_chore(site: Site) -> None:
    begin_due_runs(site.control)


def test_schedules_show_what_runs_next_and_what_ran(site: Site) -> None:
    site.control.alarm.wake = lambda _chore: run_chore(site)
    key = site.instance("orders")
    site.ask("POST", "/policies", {"policy": {**GOLD, "full": "every 24h", "incremental": "every 6h"}})
    assert site.get("/schedules") == {"schedules": []}
    act(site, {"attach": {"databases": ["orders"]}})
    assert site.get("/policies/gold")["policy"]["attached"] == [{"id": key, "name": "orders", "type": "instance"}]
    (schedule,) = site.get("/schedules")["schedules"]
    assert (schedule["database_name"], schedule["policy_name"], schedule["database_type"]) == ("orders", "gold", "instance")
    assert (schedule["last_run"]["kind"], schedule["last_run"]["outcome"]) == ("full", "running")
    assert schedule["next_run"] is not None
    busy = told(act(site, {"run": {"database": "orders"}}, 422), 422, "unprocessableEntity")
    assert "is busy: backup job" in busy["message"]
    site.end_jobs({"code": "ToolFailed", "message": "disk full", "remedy": "Free some space."})
    assert site.row(Schedule, key).retry is not None

    job = act(site, {"run": {"database": "orders", "kind": "full"}}).headers["Strongroom-Job"]
    (schedule,) = site.get("/schedules", policy="gold", database="orders")["schedules"]
    assert (schedule["last_run"]["job_id"], schedule["last_run"]["by_hand"]) == (job, True)
    site.end_jobs()
    assert site.row(PolicyRun, schedule["last_run"]["id"]).outcome == "succeeded"
    told(site.ask("DELETE", "/policies/gold"), 409, "conflict")
    act(site, {"detach": {"databases": ["orders"]}})
    assert site.get("/schedules") == {"schedules": []}


def test_past_runs_are_listed_and_filtered(site: Site) -> None:
    site.instance("orders")
    site.instance("billing")
    site.ask("POST", "/policies", {"policy": {**GOLD, "full": "every 6h"}})
    site.ask("POST", "/policies", {"policy": {**GOLD, "name": "silver", "full": "every 6h"}})
    act(site, {"attach": {"databases": ["orders"]}})
    site.ask("POST", "/policies/silver/action", {"attach": {"databases": ["billing"]}})
    run_chore(site)
    site.end_jobs({"code": "Cancelled", "message": "a user cancelled it", "remedy": ""})
    with site.control.catalog.write() as session:
        first = session.query(PolicyRun).filter_by(database_id=site.get("/instances")["instances"][0]["id"]).one()
        missed = {"id": "m", "outcome": "missed", "reason": "service down", "nominal": now() - timedelta(days=2)}
        columns = {column.name: getattr(first, column.name) for column in PolicyRun.__table__.columns}
        session.add(PolicyRun(**{**columns, **missed, "last": now() - timedelta(days=1), "count": 4, "backup_id": None}))
    runs = site.get("/schedules/runs")["runs"]
    assert [run["outcome"] for run in runs] == ["cancelled", "cancelled", "missed"]
    assert {(run["database_name"], run["policy_name"]) for run in runs} == {("orders", "gold"), ("billing", "silver")}
    assert runs[0]["backup_name"].startswith(runs[0]["database_name"])

    def count(**query: Any) -> int:
        return len(site.get("/schedules/runs", **query)["runs"])

    assert (count(limit=1), count(outcome="missed"), count(outcome="failed"), count(policy="gold")) == (
        1,
        1,
        0,
        count(database="orders"),
    )
    assert count(since=(now() - timedelta(hours=30)).isoformat()) == 3, "of several in a row, the last counts"
    assert count(since=(now() - timedelta(hours=3)).isoformat()) == 2
    told(site.ask("GET", "/schedules/runs?database=nothing"), 404, "itemNotFound")
    told(site.ask("GET", "/schedules/runs?policy=nothing"), 404, "itemNotFound")
    told(site.ask("GET", "/schedules/runs?outcome=odd"), 400, "badRequest")


def test_a_policy_whose_time_zone_does_not_exist_any_more_hides_no_other(site: Site) -> None:
    site.instance("orders")
    site.ask("POST", "/policies", {"policy": GOLD})
    site.ask("POST", "/policies", {"policy": {**GOLD, "name": "silver"}})
    act(site, {"attach": {"databases": ["orders"]}})
    run_chore(site)
    with site.control.catalog.write() as session:
        policy = session.query(Policy).filter_by(name="gold").one()
        policy.document = {**policy.document, "time_zone": "Mars/Base"}
    gold, silver = site.get("/policies")["policies"]
    assert (gold["next_runs"], gold["warnings"]) == ([], ["no run begins: there is no time zone 'Mars/Base'"])
    assert len(silver["next_runs"]) == 5
    (schedule,) = site.get("/schedules")["schedules"]
    assert schedule["next_run"] is None


def test_a_pause_has_a_reason_and_an_end(site: Site) -> None:
    site.ask("POST", "/policies", {"policy": GOLD})
    act(site, {"pause": {"reason": "the storage is moved", "until": "2099-01-01T00:00:00Z"}})
    pause = site.get("/policies/gold")["policy"]["paused"]
    assert (pause["reason"], pause["until"]) == ("the storage is moved", "2099-01-01T00:00:00.000Z")
    refused = told(act(site, {"pause": {"reason": "x", "until": "2001-01-01T00:00:00+05:00"}}, 400), 400, "badRequest")
    assert "(2001-01-01 00:00 +05:00) has passed" in refused["message"]
    refused = told(act(site, {"pause": {"reason": "x", "until": "9999-12-31T23:59:59-12:00"}}, 400), 400, "badRequest")
    assert "more than 100 years away" in refused["message"]
    act(site, {"resume": {}})
    assert site.get("/policies/gold")["policy"]["paused"] is None
    told(act(site, {"resume": {}}, 409), 409, "conflict")


def test_an_action_is_exactly_one(site: Site) -> None:
    site.ask("POST", "/policies", {"policy": GOLD})
    for body in ({}, {"resume": {}, "attach": {"whole_project": True}}):
        assert "must name one action" in told(act(site, body, 400), 400, "badRequest")["message"]
    assert "no database was named" in told(act(site, {"attach": {}}, 400), 400, "badRequest")["message"]
    act(site, {"attach": {"whole_project": True}})
    assert site.get("/policies/gold")["policy"]["whole_project"] is True
