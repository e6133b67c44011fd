"""``/metrics``: who may read it, what it says of databases, jobs, hosts and schedules, and what it costs."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import event

from strongroom.api.metrics import page
from strongroom.catalog import Backup, Cluster, Host, Incident, Instance, Job, LogArchive, PolicyRun, Schedule, now
from strongroom.errors import ConfigurationError, StorageError
from strongroom.flows.retention.facts import refresh_facts
from strongroom.flows.retention.protection import note_incidents
from strongroom.settings import load
from support.site import Site, told

RULES = Path(__file__).parents[2] / "docs/monitoring/strongroom.rules.yml"
PAGE = Path(__file__).parents[2] / "docs/monitoring.md"
TOKEN = "correct horse battery"
Values = dict[tuple[tuple[str, str], ...], float]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request makes a new page."""
    monkeypatch.setattr(page, "FRESH", 0.0)
    monkeypatch.setattr(page, "REST", 0.0)


def scrape(site: Site) -> dict[str, Values]:
    """The values of each metric by their labels."""
    reply = site.send("GET", "/metrics")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, Values] = {}
    for family in text_string_to_metric_families(reply.text):
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            key = tuple(sorted(sample.labels.items()))
            assert key not in values, "Prometheus refuses a page with the same series twice"
            values[key] = sample.value
    return found


def of(values: Values, **labels: str) -> float:
    """The only value with these labels."""
    (value,) = (value for key, value in values.items() if labels.items() <= dict(key).items())
    return value


def test_a_new_service_has_only_metrics_of_itself(site: Site) -> None:
    found = scrape(site)
    assert list(found["strongroom_build_info"].values()) == [1]
    assert of(found["strongroom_metrics_timestamp_seconds"]) == pytest.approx(now().timestamp(), abs=60)
    assert of(found["strongroom_agent_up"], host="local") == 1
    assert not any(name.startswith(("strongroom_backup", "strongroom_db")) for name in found), "what is not known is left out"


def test_metrics_of_backups_say_what_the_store_contains(site: Site) -> None:
    instance = site.instance("shop")
    full, child, late = (
        site.backup(instance, "full"),
        site.backup(instance, "child", parent_id="full"),
        site.backup(instance, "x"),
    )
    at = now() - timedelta(hours=3)

    def taken(hours: int, raw: int) -> object:
        def change(row: Backup) -> None:
            row.started, row.finished = at + timedelta(hours=hours), at + timedelta(hours=hours, minutes=5)
            row.created, row.raw_size, row.stored_size = at, raw, raw // 4

        return change

    for key, hours, raw in ((full, 0, 4000), (child, 1, 400), (late, 2, 8000)):
        site.edit(Backup, key, taken(hours, raw))  # type: ignore[arg-type]
    db = {"project": "p", "db": "shop"}
    found = scrape(site)
    assert of(found["strongroom_backup_last_success_timestamp_seconds"], **db, kind="full") == pytest.approx(
        (at + timedelta(hours=2, minutes=5)).timestamp()
    )
    assert of(found["strongroom_backup_last_duration_seconds"], **db, kind="incremental") == 300
    assert of(found["strongroom_backup_last_raw_bytes"], **db, kind="full") == 8000
    assert of(found["strongroom_backup_last_stored_bytes"], **db, kind="incremental") == 100
    assert found["strongroom_backups"] == {(("db", "shop"), ("project", "p"), ("state", "restorable")): 3}
    assert of(found["strongroom_chain_length"], **db) == 1
    assert of(found["strongroom_oldest_restorable_timestamp_seconds"], **db) == pytest.approx(
        (at + timedelta(minutes=5)).timestamp()
    )
    assert "strongroom_newest_verified_timestamp_seconds" not in found
    assert of(found["strongroom_db_protection"], **db, state="unprotected", level="warning") == 1
    assert of(found["strongroom_db_info"], **db, engine="mariadb", engine_version="10.11.19", host="local", type="instance") == 1
    assert "strongroom_policy_backup_max_age_seconds" not in found, "there is no policy"

    site.edit(Backup, late, lambda row: setattr(row, "verified", {"at": "", "ok": False, "message": "damaged"}))
    site.edit(Backup, full, lambda row: setattr(row, "verified", {"at": "", "ok": True, "prepared": True, "message": ""}))
    site.control.watch.facts.missing.add(child)
    found = scrape(site)
    newest = found["strongroom_backup_last_success_timestamp_seconds"]
    assert len(newest) == 1 and of(newest, **db, kind="full") == pytest.approx((at + timedelta(minutes=5)).timestamp())
    assert {dict(key)["state"]: value for key, value in found["strongroom_backups"].items()} == {
        "restorable": 1,
        "missing": 1,
        "damaged": 1,
    }
    assert of(found["strongroom_newest_verified_timestamp_seconds"], **db) == pytest.approx(
        (at + timedelta(minutes=5)).timestamp()
    )


def test_remembered_measures_are_used_until_a_backup_changes(site: Site) -> None:
    shop, other = site.instance("shop"), site.instance("other")
    site.backup(shop), site.backup(other)
    note_incidents(site.control)
    assert site.control.watch.measured is not None
    for key in (shop, other):
        with site.control.catalog.write() as session:
            session.query(Backup).filter(Backup.instance_id == key).update({"updated": now() - timedelta(hours=1)})
    assert len(scrape(site)["strongroom_backups"]) == 2
    statements: list[str] = []
    event.listen(site.control.catalog.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    scrape(site)
    assert not any("backups.raw_size" in text for text in statements), "no database was measured"
    few = len(statements)
    third = site.instance("third")
    site.backup(third)
    statements.clear()
    assert len(scrape(site)["strongroom_backups"]) == 3
    assert len(statements) <= few + 12, "the number of queries does not grow with the number of databases"


def test_a_failed_backup_is_a_metric_with_the_code_of_its_error(site: Site) -> None:
    instance = site.instance("shop")
    assert site.ask("POST", "/backups", {"backup": {"name": "b", "instance": instance}}).status_code == 202
    site.end_jobs({"code": "StorageError", "message": "the store's disk is full", "remedy": ""})
    found = scrape(site)
    assert of(found["strongroom_backup_last_failure_timestamp_seconds"], db="shop", fault="StorageError") > 0
    assert of(found["strongroom_jobs_total"], operation="backup", outcome="failed", fault="StorageError") == 1
    assert of(found["strongroom_jobs_total"], operation="create", outcome="succeeded", fault="") == 1
    assert "disk is full" not in site.send("GET", "/metrics").text, "messages would be new series each time"


def test_jobs_are_counted_once_and_never_less(site: Site) -> None:
    instance = site.instance("shop")
    site.backup(instance, "one")
    done = {"operation": "backup", "outcome": "succeeded"}
    first = scrape(site)
    assert of(first["strongroom_jobs_total"], **done) == 1
    site.backup(instance, "two")
    assert of(scrape(site)["strongroom_jobs_total"], **done) == 2
    with site.control.catalog.write() as session:
        job = session.query(Job).filter(Job.kind == "backup").first()
        assert job is not None
        session.delete(job)
    assert of(scrape(site)["strongroom_jobs_total"], **done) == 2


def test_durations_are_a_histogram(site: Site) -> None:
    instance = site.instance("shop")
    with site.control.catalog.write() as session:
        for number, seconds in enumerate((0.5, 40, 40, 10_000_000)):
            end = now()
            session.add(
                Job(
                    id=f"j{number}",
                    project="p",
                    kind="verify",
                    status="succeeded",
                    instance_id=instance,
                    started=end - timedelta(seconds=seconds),
                    finished=end,
                )
            )
    found = scrape(site)
    buckets = found["strongroom_job_duration_seconds_bucket"]
    counts = {dict(key)["le"]: value for key, value in buckets.items() if dict(key)["operation"] == "verify"}
    assert (counts["1.0"], counts["15.0"], counts["60.0"], counts["43200.0"], counts["+Inf"]) == (1, 1, 3, 3, 4)
    assert of(found["strongroom_job_duration_seconds_sum"], operation="verify", engine="mariadb") == pytest.approx(10_000_080.5)


def test_queues_and_progress(site: Site) -> None:
    instance = site.instance("shop")
    common = {"project": "p", "host": "local", "instance_id": instance}
    with site.control.catalog.write() as session:
        session.add(Job(id="q", kind="backup", status="queued", **common))
        session.add(Job(id="r", kind="verify", status="running", done=30, total=120, **common))
    found = scrape(site)
    assert of(found["strongroom_jobs_unfinished"], host="local", state="queued") == 1
    assert of(found["strongroom_jobs_unfinished"], host="local", state="running") == 1
    assert of(found["strongroom_jobs_oldest_queued_timestamp_seconds"], host="local") <= now().timestamp()
    assert of(found["strongroom_job_progress_ratio"], project="p", db="shop", operation="verify") == 0.25


def test_silent_hosts_incidents_and_errors_of_stores(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = site.instance("shop")
    site.backup(instance)
    long_ago = now() - timedelta(days=1)
    site.edit(Host, "local", lambda row: setattr(row, "seen", long_ago))
    opened = now() - timedelta(hours=2)
    with site.control.catalog.write() as session:
        for key, database in (("i1", instance), ("i2", "gone")):
            session.add(
                Incident(
                    id=key, project="p", database_id=database, database_name="x", condition="late", detail="d", opened=opened
                )
            )

    def fail(*_: object) -> list[str]:
        raise StorageError("the store does not answer")

    monkeypatch.setattr(type(site.control.stores.of_project("p")), "folders", fail)
    refresh_facts(site.control)
    found = scrape(site)
    assert of(found["strongroom_agent_up"], host="local") == 0
    assert of(found["strongroom_agent_last_seen_timestamp_seconds"], host="local") == pytest.approx(long_ago.timestamp())
    assert found["strongroom_incident_opened_timestamp_seconds"] == {
        (("condition", "late"), ("db", "shop"), ("project", "p")): pytest.approx(opened.timestamp())
    }
    assert of(found["strongroom_store_errors_total"], fault="StorageError") == 1


def test_schedules_and_limits_of_policies(site: Site) -> None:
    instance = site.instance("shop")
    policy = {"name": "gold", "full": "daily 02:00", "max_age": "30h", "keep_last": 3}
    made = site.ask("POST", "/policies", {"policy": policy})
    assert made.status_code == 200, made.text
    attached = site.ask("POST", "/policies/gold/action", {"attach": {"databases": [instance]}})
    assert attached.status_code in (200, 202), attached.text
    ran, missed = now() - timedelta(days=1), now() - timedelta(days=2)
    with site.control.catalog.write() as session:
        common = {"project": "p", "policy_id": made.json()["policy"]["id"], "database_id": instance}
        session.add(Schedule(handled=now(), **common))
        session.add(PolicyRun(id="r1", nominal=missed, last=missed, outcome="missed", reason="down", finished=missed, **common))
        session.add(PolicyRun(id="r2", nominal=ran, last=ran, outcome="failed", reason="broken", finished=ran, **common))
    found = scrape(site)
    labels = {"project": "p", "db": "shop", "schedule": "gold"}
    assert of(found["strongroom_schedule_next_run_timestamp_seconds"], **labels) > now().timestamp()
    assert of(found["strongroom_schedule_last_run_timestamp_seconds"], **labels) == pytest.approx(ran.timestamp())
    assert of(found["strongroom_schedule_last_run_success"], **labels) == 0
    assert of(found["strongroom_schedule_last_missed_timestamp_seconds"], **labels) == pytest.approx(missed.timestamp())
    assert of(found["strongroom_schedule_paused"], **labels) == 0
    assert of(found["strongroom_policy_backup_max_age_seconds"], project="p", db="shop") == 30 * 3600
    assert site.ask("POST", "/policies/gold/action", {"pause": {"reason": "move"}}).status_code in (200, 202)
    found = scrape(site)
    assert of(found["strongroom_schedule_paused"], **labels) == 1
    assert "strongroom_schedule_next_run_timestamp_seconds" not in found


def test_log_archives_and_how_much_may_be_lost(site: Site) -> None:
    instance = site.instance("shop")
    policy = {"name": "gold", "full": "daily 02:00", "keep_last": 3, "log_archive": True, "max_loss": "5m"}
    assert site.ask("POST", "/policies", {"policy": policy}).status_code == 200
    assert site.ask("POST", "/policies/gold/action", {"attach": {"databases": [instance]}}).status_code == 202
    seen = now() - timedelta(seconds=30)
    with site.control.catalog.write() as session:
        names = {"instance_id": instance, "project": "p", "database_id": instance, "host": "local"}
        session.add(LogArchive(state="running", seen=seen, loss=12.0, complete_until=seen, **names))
    db = {"project": "p", "db": "shop"}
    found = scrape(site)
    assert of(found["strongroom_log_archive_lag_seconds"], **db) == pytest.approx(42, abs=30)
    assert of(found["strongroom_log_archive_up"], **db) == 1
    assert of(found["strongroom_log_archive_complete_timestamp_seconds"], **db) == pytest.approx(seen.timestamp())
    assert of(found["strongroom_policy_rpo_seconds"], **db) == 300
    site.edit(Instance, instance, lambda row: setattr(row, "state", "stopped"))
    site.edit(LogArchive, instance, lambda row: setattr(row, "trouble", "the disk is full"))
    found = scrape(site)
    assert of(found["strongroom_log_archive_up"], **db) == 0
    assert "strongroom_log_archive_lag_seconds" not in found, "a server that does not run writes nothing"


def test_databases_with_the_same_name_are_different_series(site: Site) -> None:
    one = site.instance("a")
    with site.control.catalog.write() as session:
        session.add(Cluster(id="c1", project="p", name="a", datastore="mariadb", series="10.11", wsrep_name="w"))
    site.instance("a", project="q")
    names = {(dict(key)["project"], dict(key)["db"]) for key in scrape(site)["strongroom_db_info"]}
    assert names == {("p", f"a ({one})"), ("p", "a (c1)"), ("q", "a")}


def test_a_page_is_sent_again_for_some_seconds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "FRESH", 60.0)
    before = site.send("GET", "/metrics").text
    site.instance("shop")
    assert site.send("GET", "/metrics").text == before


def test_the_token_opens_only_the_metrics(site: Site) -> None:
    site.control.settings.metrics.token = SecretStr(TOKEN)
    for headers in ({}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}):
        reply = site.send("GET", "/metrics", headers=headers)
        told(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer" and TOKEN not in reply.text
    assert site.send("GET", "/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert site.ask("GET", "/metrics").status_code == 200, "administrators read it in any project"


def test_without_a_token_the_metrics_are_closed_to_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.app.state.method, "name", "basic")
    assert "metrics.token" in told(site.send("GET", "/metrics"), 403, "forbidden")["remedy"]
    with pytest.raises(ConfigurationError, match="at least 16"):
        load(metrics={"token": "short"})


def names_of_metrics(site: Site) -> set[str]:
    """The names of all metrics that this version has."""
    lines = site.send("GET", "/metrics").text.splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE")}


def test_every_metric_is_described_and_no_other(site: Site) -> None:
    described = {line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `strongroom_")}
    assert described == names_of_metrics(site)


def test_rules_use_only_metrics_that_exist(site: Site) -> None:
    words = set(re.findall(r"strongroom_[a-z_]+", RULES.read_text()))
    assert words and words <= names_of_metrics(site)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_rules_fire_when_they_should() -> None:
    subprocess.run(["promtool", "check", "rules", RULES], check=True)
    subprocess.run(["promtool", "test", "rules", RULES.with_name("strongroom.rules.test.yml")], check=True)
