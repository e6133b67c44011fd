"""Restores of an instance to any moment, on a real catalog and a real store; positions of the log are plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.orm import Session

from strongroom.archive import Activity, Event, LogLocation, SegmentIndex
from strongroom.catalog import Backup, Instance, Job
from strongroom.errors import ArtifactCorrupt, ConfigurationError, Unsupported
from strongroom.flows.kinds.restore import order_restore
from strongroom.flows.recovery import past
from strongroom.flows.recovery.decision import take_older_base
from strongroom.flows.retention.holdings import list_backups_in_use
from strongroom.storage import Store
from strongroom.worker.spec import LogReplay, RestoreJob
from support.archives import LOST, append, begin
from support.ends import settle
from support.number_logs import get_datastore
from support.site import Site, told


@dataclass
class Orders:
    """An instance whose log consists of segments of ten positions, which are seconds since 1970."""

    site: Site
    id: str
    store: Store
    log: LogLocation

    def add_log(
        self, at: int, count: int, *, seam: tuple[int, int] | None = None, started: int | None = None, lineage: str = "L1"
    ) -> None:
        """Another series of the log."""
        started = at if started is None else started
        head = begin(self.store, at, seam=seam, started=started * 10**6, log=self.log, lineage=lineage)
        append(self.store, head, [b"x" * 10] * count)

    def add_backup(self, name: str, at: int, **columns: Any) -> str:
        """A backup that ends at a position."""
        key = self.site.backup(self.id, name, **({"parent_id": columns.pop("parent")} if "parent" in columns else {}))

        def place(row: Backup) -> None:
            row.positions = {"to_lsn": at}
            row.finished = datetime.fromtimestamp(at, UTC)
            for column, value in columns.items():
                setattr(row, column, value)

        self.site.edit(Backup, key, place)
        return key

    @property
    def window(self) -> dict[str, Any]:
        found: dict[str, Any] = self.site.get("/instances/orders/window")["window"]
        return found

    def plan(self, target: str, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = self.site.get("/instances/orders/recovery-plan", target=target, **query)["plan"]
        return found

    def refuse(self, target: str, status: int = 409, key: str = "conflict") -> dict[str, Any]:
        return told(self.site.ask("GET", "/instances/orders/recovery-plan", target=target), status, key)

    def restore(self, target: str, name: str = "orders2") -> Job:
        """The job of a restore to a new instance."""
        point = {"instance": "orders", "target": target}
        reply = self.site.ask("POST", "/instances", {"instance": {"name": name, "restorePoint": point}})
        assert reply.status_code == 200, reply.text
        job: Job = self.site.row(Job, reply.headers["Strongroom-Job"])
        return job

    def order(self, job: Job) -> RestoreJob:
        """The request for the worker of the job."""
        with self.site.control.catalog.read() as session:
            found = order_restore(self.site.control, session, session.get_one(Job, job.id)).job
        assert isinstance(found, RestoreJob)
        return found

    def replay(self, job: Job) -> LogReplay:
        found = self.order(job).replay
        assert found is not None
        return found


@pytest.fixture
def orders(site: Site, monkeypatch: pytest.MonkeyPatch) -> Orders:
    monkeypatch.setattr(past.datastores, "get", get_datastore)
    key = site.instance("orders")
    store = site.control.stores.default
    return Orders(site, key, store, LogLocation(container="database_backups", database=key, source=key))


@pytest.fixture
def day(orders: Orders) -> Orders:
    """Ten segments, from 0 to 100, with a full backup at 25 and an incremental at 55."""
    orders.add_log(0, 10)
    full = orders.add_backup("full", 25)
    orders.add_backup("inc", 55, parent=full)
    return orders


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def spans(found: Sequence[dict[str, Any]]) -> list[tuple[str | None, str | None]]:
    return [tuple(each[side] and each[side][14:19] for side in ("begin", "end")) for each in found]  # type: ignore[misc]


def test_the_window_begins_with_the_first_backup_and_shows_how_much_log_there_is(day: Orders) -> None:
    found = day.window
    (interval,) = found["intervals"]
    assert (interval["begin"], interval["end"]) == ("1970-01-01T00:00:25Z", "1970-01-01T00:01:40Z")
    assert (interval["first_base"]["name"], interval["newest_base"]["name"], interval["bases"]) == ("full", "inc", 2)
    assert (interval["segments"], interval["raw_size"]) == (8, 80)
    assert (found["segments"], found["raw_size"], found["series"], found["gaps"]) == (10, 100, 1, [])
    assert found["covered_until"] == "1970-01-01T00:01:40Z"


def test_a_gap_reaches_to_the_next_backup(day: Orders) -> None:
    day.add_log(150, 5)
    (gap,) = day.window["gaps"]
    assert (gap["begin"], gap["end"], gap["reason"]) == ("1970-01-01T00:01:40Z", None, LOST)
    assert "next backup of orders" in gap["remedy"]
    day.add_backup("second", 165)
    found = day.window
    assert spans(found["intervals"]) == [("00:25", "01:40"), ("02:45", "03:20")]
    assert spans(found["gaps"]) == [("01:40", "02:45")]
    assert found["gaps"][0]["remedy"] == ""


def test_a_damaged_segment_is_a_gap_although_its_record_was_read_before(day: Orders) -> None:
    assert len(day.window["intervals"]) == 1
    key = next(stat.key for stat in day.store.list(day.log.series(0).data) if "/0000000007-" in stat.key)
    day.store.delete([key])
    found = day.window
    assert spans(found["intervals"]) == [("00:25", "01:10")]
    assert "log segment 7 is missing" in found["gaps"][0]["reason"]


@pytest.mark.parametrize(
    "columns",
    [
        {"trashed": True},
        {"status": "FAILED"},
        {"lineage": "another"},
        {"positions": None},
        {"verified": {"ok": False, "message": "a hash is wrong", "at": "2026-11-21T07:00:00Z", "prepared": False}},
    ],
    ids=lambda columns: str(next(iter(columns))),
)
def test_a_backup_that_cannot_be_used_is_no_base(day: Orders, columns: dict[str, Any]) -> None:
    bad = day.add_backup("bad", 75, **columns)
    assert day.plan(moment(90))["restore"]["backup"]["name"] == "inc"
    assert day.window["intervals"][0]["bases"] == 2
    if columns.get("status") or columns.get("verified"):
        day.add_backup("child", 80, parent_id=bad, kind="incremental", chain_id=bad)
        assert day.window["intervals"][0]["bases"] == 2, "and neither is what is based on it"


def test_the_plan_names_the_base_the_cut_and_what_is_lost(day: Orders) -> None:
    plan = day.plan(moment(75.5))
    assert (plan["position"], plan["time"]) == ("70", "1970-01-01T00:01:15.500000Z")
    assert [link["name"] for link in plan["restore"]["chain"]] == ["full", "inc"]
    assert (plan["last"]["name"], plan["last"]["tables"], plan["next"]["time"]) == ("t70", ["shop.items"], "1970-01-01T00:01:20Z")
    assert (plan["segments"], plan["log_raw_size"], plan["other_bases"]) == (2, 20, 1)
    assert (plan["lost_transactions"], plan["lost_until"]) == (3, "1970-01-01T00:01:40Z")
    older = day.plan(moment(40))
    assert older["restore"]["backup"]["name"] == "full" and older["other_bases"] == 0
    assert day.plan("lsn:30")["restore"]["backup"]["name"] == "full"
    newest = day.plan("latest")
    assert (newest["position"], newest["lost_until"], newest["next"]) == ("100", None, None)


def test_a_backup_that_may_contain_more_than_the_target_is_no_base(day: Orders) -> None:
    day.add_backup("wide", 60, positions={"to_lsn": 60, "last_lsn": 80})
    for target, name in (("lsn:60", "inc"), ("lsn:70", "inc"), ("lsn:80", "wide"), ("latest", "wide")):
        assert day.plan(target)["restore"]["backup"]["name"] == name


def test_an_unreachable_target_is_refused_with_the_nearest_moments(day: Orders) -> None:
    day.add_log(150, 5)
    day.add_backup("second", 165)
    between = day.refuse(moment(120))
    assert f"a part of its log is missing there ({LOST})" in between["message"]
    assert "1970-01-01 00:01:40 UTC and 1970-01-01 00:02:45 UTC" in between["remedy"]
    early = day.refuse(moment(10))
    assert "no good backup is old enough" in early["message"] and "00:00:25 UTC." in early["remedy"]
    late = day.refuse(moment(900))
    assert "its log is stored until 1970-01-01 00:03:20 UTC" in late["message"] and "00:03:20 UTC." in late["remedy"]
    assert "the log contains no lsn:7777" in day.refuse("lsn:7777")["message"]
    assert "has no time zone" in day.refuse("1970-01-01 00:01:00", 400, "badRequest")["message"]
    assert "is not a target" in day.refuse("yesterday", 400, "badRequest")["message"]
    assert not [job for job in day.site.started if day.site.row(Job, job).kind == "create" and job != day.site.started[0]]


def test_an_instance_without_a_log_archive_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past.datastores, "get", get_datastore)
    site.instance("orders")
    for path, query in (("window", {}), ("recovery-plan", {"target": "latest"})):
        refused = told(site.ask("GET", f"/instances/orders/{path}", **query), 409, "conflict")
        assert "has no log archive" in refused["message"] and "--log-archive" in refused["remedy"]


def test_the_job_of_a_restore_knows_its_log_by_positions(day: Orders) -> None:
    job = day.restore(moment(75))
    replay = day.replay(job)
    assert (replay.start.position, replay.end, replay.raw_size) == ("55", "70", 20)
    (piece,) = replay.pieces
    assert (piece.series, piece.first, piece.stop, piece.begin) == (0, 5, 7, "50")
    assert replay.log == day.log
    request = day.order(job)
    assert not request.in_place and request.makes_copy
    with day.site.control.catalog.read() as session:
        assert {"full", "inc"} <= {session.get_one(Backup, key).name for key in list_backups_in_use(session)}
    day.site.end_jobs()
    output = day.site.row(Job, job.id).output
    assert output["target"].startswith("1970-01-01T00:01:15") and output["cut"]["position"] == "70"


def test_a_backup_that_ends_at_the_target_needs_no_log(day: Orders) -> None:
    day.add_backup("exact", 70)
    job = day.restore(moment(70))
    assert day.order(job).replay is None and job.backup_id == day.site.get("/backups/exact")["backup"]["id"]


def test_a_restore_in_place_takes_the_past_of_the_same_instance(day: Orders) -> None:
    body = {"restore": {"instance": "orders", "target": "latest"}}
    reply = day.site.ask("POST", "/instances/orders/action", body)
    assert reply.status_code == 202, reply.text
    job = day.site.row(Job, reply.headers["Strongroom-Job"])
    request = day.order(job)
    assert request.in_place and not request.makes_copy and request.replay is not None and request.replay.end == "100"
    assert day.plan("latest", in_place="orders")["restore"]["in_place"]
    told(day.site.ask("POST", "/instances/orders/action", body), 422, "unprocessableEntity")


@pytest.mark.parametrize(
    "point", [{"instance": "orders"}, {"target": "latest"}, {}, {"backupRef": "b", "instance": "orders", "target": "latest"}]
)
def test_a_restore_point_is_either_a_backup_or_a_moment(day: Orders, point: dict[str, str]) -> None:
    reply = day.site.ask("POST", "/instances", {"instance": {"name": "new", "restorePoint": point}})
    assert "either backupRef, or instance and target" in told(reply, 400, "badRequest")["message"]


def test_an_older_base_is_used_if_the_first_one_is_damaged(day: Orders) -> None:
    job = day.restore(moment(75))

    def fail(session: Session, error: Exception, phase: str = "extract") -> bool:
        row = session.get_one(Job, job.id)
        row.phase = phase
        return take_older_base(session, row, error)  # type: ignore[arg-type]

    with day.site.control.catalog.write() as session:
        assert not fail(session, ConfigurationError("the tool is missing")), "another backup would not help"
        assert not fail(session, ArtifactCorrupt("log segment 6 is damaged"), "replay"), "neither if the log is damaged"
        assert fail(session, ArtifactCorrupt("its SHA-256 is wrong"))
    replay = day.replay(job)
    assert (replay.start.position, replay.end, replay.pieces[0].first) == ("25", "70", 2)
    with day.site.control.catalog.write() as session:
        assert not fail(session, ArtifactCorrupt("its SHA-256 is wrong")), "there is no other"
        settle(session, session.get_one(Job, job.id), None)
    (warning,) = day.site.row(Job, job.id).output["warnings"]
    assert "backup inc" in warning and "so full is restored" in warning and "its SHA-256 is wrong" in warning


def test_positions_that_occur_again_after_a_restore_belong_to_the_newer_data(day: Orders) -> None:
    """The restored data has another lineage; its log begins another series with the same positions."""
    day.add_log(60, 10, lineage="L2")
    day.add_backup("after", 65, lineage="L2")
    found = day.window
    assert [(i["first_base"]["name"], i["newest_base"]["name"]) for i in found["intervals"]] == [
        ("full", "inc"),
        ("after", "after"),
    ]
    newer = day.plan(moment(90))
    assert (newer["restore"]["backup"]["name"], newer["position"]) == ("after", "90")
    assert day.replay(day.restore(moment(90))).pieces[0].series == 1


def test_a_time_means_the_data_that_was_live_then(day: Orders) -> None:
    """A restore in place to 60, at 200: until then the other data was live."""
    day.add_log(60, 3, seam=(0, 60), started=200)
    found = day.window
    assert spans(found["intervals"]) == [("00:25", "01:40"), ("03:20", "03:20")]
    assert day.plan(moment(90))["position"] == "90"
    assert day.plan(moment(60))["position"] == "60"
    newest = day.plan("latest")
    assert (newest["position"], newest["restore"]["backup"]["name"]) == ("90", "inc")
    assert [piece.series for piece in day.replay(day.restore("latest")).pieces] == [0, 1]
    assert "1970-01-01 00:01:40 UTC and 1970-01-01 00:03:20 UTC" in day.refuse(moment(150))["remedy"]


def test_a_series_that_continues_another_one_is_applied_with_it(day: Orders) -> None:
    day.add_log(93, 3, seam=(0, 93))
    plan = day.plan("latest")
    assert (plan["position"], plan["restore"]["backup"]["name"]) == ("123", "inc")
    replay = day.replay(day.restore("latest"))
    assert [(piece.series, piece.first, piece.stop, piece.end) for piece in replay.pieces] == [(0, 5, 10, "93"), (1, 0, 3, "123")]


def test_drops_and_deletions_are_found_in_the_log(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    def event(kind: str, at: int, text: str, *tables: str) -> Event:
        return Event(kind=kind, begin=str(at), end=str(at + 1), time=at * 10**6, text=text, objects=tables)

    index = SegmentIndex(
        events=(
            event("drop", 3, "DROP TABLE items", "shop.items"),
            event("ddl", 4, "CREATE USER a IDENTIFIED BY 'secret'"),
            event("restore-point", 5, "strongroom 0123"),
            event("restore-point", 6, "before-release"),
            event("drop", 7, "DROP TABLE other", "shop.other"),
        ),
        activity=(Activity(table="shop.items", kind="delete", bytes=77), Activity(table="shop.items", kind="insert", bytes=5)),
    )
    head = begin(orders.store, 0, log=orders.log)
    append(orders.store, head, [b"x" * 10], index=index)

    def find(**query: Any) -> list[tuple[str, str | None]]:
        found = orders.site.get("/instances/orders/log-events", **query)["events"]
        return [(each["kind"], each["time"] and each["time"][17:19]) for each in found]

    assert find() == [("drop", "07"), ("restore-point", "06"), ("drop", "03"), ("delete", "10")]
    assert find(kind="drop", table="items") == [("drop", "03")]
    assert find(kind="delete", table="shop.items") == [("delete", "10")]
    assert find(kind=["drop", "restore-point"], since=moment(6)) == [("drop", "07"), ("restore-point", "06")]
    assert find(limit=1) == [("drop", "07")]
    (drop,) = orders.site.get("/instances/orders/log-events", kind="drop", table="items")["events"]
    assert (drop["before"], drop["begin"], drop["text"]) == ("1970-01-01T00:00:02.999999Z", "3", "DROP TABLE items")
    told(orders.site.ask("GET", "/instances/orders/log-events", kind="ddl"), 400, "badRequest")
    nameless = replace(
        get_datastore("mariadb"), capabilities=replace(get_datastore("mariadb").capabilities, log_names_tables=False)
    )
    monkeypatch.setattr(past.datastores, "get", lambda _: nameless)
    refused = told(orders.site.ask("GET", "/instances/orders/log-events", table="items"), 400, "badRequest")
    assert "has no names of tables" in refused["message"]


def test_a_restore_point_is_written_into_the_log_of_the_server(site: Site) -> None:
    site.instance("orders")
    path, body = "/instances/orders/restore-points", {"restore_point": {"name": "before-release"}}
    reply = site.ask("POST", path, body)
    assert reply.status_code == 200 and reply.json() == {"restore_point": {"name": "before-release", "position": "0/5A28"}}
    told(site.ask("POST", path, {"restore_point": {}}), 400, "badRequest")
    site.agent.broken = Unsupported("MariaDB has no restore points")
    told(site.ask("POST", path, body), 501, "notImplemented")
    assert site.agent.points == ["before-release"]


def test_a_deleted_instance_is_restored_by_its_id(day: Orders) -> None:
    day.site.edit(Instance, day.id, lambda row: setattr(row, "deleted", datetime.now(UTC)))
    found = day.site.get(f"/instances/{day.id}/recovery-plan", target=moment(75))["plan"]
    assert found["instance_name"] == "orders" and found["position"] == "70"
