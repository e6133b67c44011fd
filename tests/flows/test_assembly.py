"""A restore of a whole cluster, cut off or failing at every single call to an agent: it ends with all new, or with all old."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from strongroom.catalog import Backup, Cluster, Host, Instance, Job, Run, now, open_catalog
from strongroom.catalog.find import find_job, nodes_of
from strongroom.datastores import GALERA_PROGRAMS
from strongroom.errors import Busy, Conflict, NotFound, ServerFailed, StrongroomError, Unsupported
from strongroom.flows import open_site, outcomes, request_cancel, request_cluster_backup
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.clusters import backup, comparison, nodes, restore
from strongroom.flows.clusters.fence import fence
from strongroom.flows.kinds.backup import request_backup
from strongroom.flows.kinds.cluster_actions import request_cluster_action, request_recover
from strongroom.flows.kinds.cluster_create import request_cluster
from strongroom.flows.kinds.cluster_restore import request_cluster_restore, request_resume
from strongroom.flows.kinds.lifecycle import request_action, request_delete_instance
from strongroom.settings import load
from strongroom.storage import open_store
from support.ends import settle
from support.ring import Data, Killed, Node, Ring
from support.stages import run_stages

GB = 1024**3


def _careless(connection: Any, _record: Any) -> None:
    """No power cut is meant here: do not wait for the disk."""
    connection.execute("PRAGMA synchronous=OFF")


class World:
    """A control plane on a real catalog, and a cluster in memory. Runs jobs as the engine does, a step after the other."""

    def __init__(self, place: Path) -> None:
        settings = load(service={"data_dir": place}, hosts={"lost_after": 1})
        self.ring = Ring()
        agents: Any = {"local": lambda: self.ring}
        self.control = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), agents)
        self.control.queue.start = self._start
        version = {
            "datastore": "mariadb",
            "series": "10.11",
            "number": "10.11.19",
            "programs": dict.fromkeys(GALERA_PROGRAMS, "/x"),
        }
        with self.control.catalog.write() as session:
            session.merge(Host(name="local", view={"versions": [version], "free_bytes": 100 * GB}, seen=now()))
        event.listen(self.control.catalog.engine, "connect", _careless)
        self.prepares = "restored"

    def _start(self, job: Job) -> None:
        """Jobs of nodes are done at once; those of the cluster are run by ``run``."""
        if job.kind != "prepare" or self.job(job.id).finished is not None:
            return
        assert job.instance_id is not None
        self.ring.nodes.setdefault(job.instance_id, Node(job.instance_id)).new[f"{job.id}-1"] = Data(self.prepares)
        with self.control.catalog.write() as session:
            row = find_job(session, None, job.id)
            row.attempts = 1
            settle(session, row, None)

    def job(self, job_id: str) -> Job:
        with self.control.catalog.read() as session:
            return find_job(session, None, job_id)

    def run(self, job: Job, *, restarts: int = 1) -> dict[str, str] | None:
        """All steps of the job. A step in which the control plane dies is done again, as the engine would after its restart."""
        return run_stages(self.control, job, killed=Killed, restarts=restarts)

    def cluster(self) -> Cluster:
        with self.control.catalog.read() as session:
            return session.query(Cluster).one()

    def members(self) -> list[Instance]:
        with self.control.catalog.read() as session:
            return nodes_of(session, self.cluster().id)

    def mirror(self) -> None:
        """What the monitor does all the time."""
        with self.control.catalog.write() as session:
            for node in self.ring.nodes.values():
                row = session.get(Instance, node.id)
                assert row is not None
                outcomes.mirror(row, self.ring.server_view(node).model_dump(mode="json"))

    def edit(self, table: Any, key: str, change: Callable[[Any], None]) -> None:
        with self.control.catalog.write() as session:
            change(session.get(table, key))

    def took(self, backup: Backup) -> None:
        """The backup is done."""
        with self.control.catalog.write() as session:
            row = session.get(Backup, backup.id)
            assert row is not None
            row.status, row.data_size, row.finished = "COMPLETED", GB, now()
            for job in session.query(Job).filter(Job.finished.is_(None)):
                settle(session, job, None)

    def require(self, rows: str, epoch: int) -> None:
        """Every node serves this data, in one history, and knows its epoch."""
        nodes = [self.ring.nodes[member.id] for member in self.members()]
        assert [node.data.rows if node.data else None for node in nodes] == [rows] * 3
        assert all(node.serves for node in nodes)
        assert len({node.data.uuid for node in nodes if node.data}) == 1
        assert {node.member.epoch for node in nodes if node.member} == {epoch} == {self.cluster().epoch}
        assert self.cluster().task is None
        assert [member.task for member in self.members()] == [None] * 3


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A cluster of three that serves, and a backup of it: to be copied."""
    world = World(tmp_path_factory.mktemp("template"))
    world.prepares = "today"
    _, job = request_cluster(world.control, "p", name="shop")
    assert world.run(job) is None
    world.mirror()
    backup, _ = request_cluster_backup(world.control, "p", "shop", BackupOptions(name="monday"))
    world.took(backup)
    world.control.catalog.close()
    return world


Make = Callable[[], World]


@pytest.fixture
def make(place: Path, template: World) -> Iterator[Make]:
    """Copies of it; one at a time."""
    made: list[World] = []

    def copy() -> World:
        if made:
            made[-1].control.catalog.close()
        here = place / str(len(made))
        here.mkdir()
        shutil.copy(template.control.settings.service.data_dir / "catalog.sqlite", here)
        world = World(here)
        world.ring.nodes = deepcopy(template.ring.nodes)
        made.append(world)
        return world

    yield copy
    made[-1].control.catalog.close()


@pytest.fixture
def world(make: Make) -> World:
    return make()


def test_new_cluster_serves_on_all_its_nodes(world: World) -> None:
    world.require("today", 1)
    assert [member.node for member in world.members()] == ["node1", "node2", "node3"]
    assert not [call for call in world.ring.calls if call.startswith("stop")]


def test_restore_replaces_the_data_of_every_node_and_keeps_the_previous(world: World) -> None:
    job = request_cluster_restore(world.control, "p", "shop", "monday")
    assert world.cluster().task == "RESTORING"
    assert world.run(job) is None
    world.require("restored", 2)
    kept = [data for node in world.ring.nodes.values() for data in node.old.values() if data is not None]
    assert [data.rows for data in kept] == ["today"] * 3
    with world.control.catalog.read() as session:
        assert session.get(Run, job.id).phase == "done"
    assert world.job(job.id).output["outage_seconds"] >= 0
    assert world.run(request_cluster_action(world.control, "p", "shop", "discard_old")) is None
    assert not any(node.old for node in world.ring.nodes.values())


def test_prepared_data_is_verified_before_the_outage(world: World) -> None:
    job = request_cluster_restore(world.control, "p", "shop", "monday")
    world.run(job)
    operations = [call.split()[0] for call in world.ring.calls]
    assert max(i for i, operation in enumerate(operations) if operation == "seed") < operations.index("stop")
    assert max(i for i, operation in enumerate(operations) if operation == "prove") < operations.index("swap")
    stopped = [call.split()[1] for call in world.ring.calls if call.startswith("stop")]
    assert stopped == [member.id for member in reversed(world.members())]  # who bootstraps goes last


@pytest.mark.parametrize("method", ["seed", "sst"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_restore_continues_after_any_crash_of_the_control_plane(make: Make, method: Any, moment: str) -> None:
    for world in each_call(make, moment, Killed()):
        job = request_cluster_restore(world.control, "p", "shop", "monday", method=method)
        assert world.run(job) is None, world.ring.calls
        world.require("restored", 2)


def each_call(make: Make, moment: str, blow: BaseException) -> Iterator[World]:
    """Worlds in which ``blow`` comes with the first call to an agent, with the second… until none of them is met."""
    hit, number = True, 0
    while hit:
        world, hit, number = make(), False, number + 1

        def strike(count: int, at: int = number) -> None:
            nonlocal hit
            if count == at:
                hit = True
                raise blow

        setattr(world.ring, moment, strike)
        yield world
    assert number > 10


@pytest.mark.parametrize("method", ["seed", "sst"])
def test_any_failure_is_rolled_back_or_can_be_resumed(make: Make, method: Any) -> None:
    ended = set()
    for world in each_call(make, "before", ServerFailed("a disk broke")):
        job = request_cluster_restore(world.control, "p", "shop", "monday", method=method)
        failure = world.run(job)
        with world.control.catalog.read() as session:
            run = session.get(Run, job.id)
        assert run is not None
        ended.add(run.phase)
        if run.phase == "undone":
            assert failure is not None
            world.require("today", 1)
            assert not any(any(node.old.values()) or node.new for node in world.ring.nodes.values()), world.ring.calls
        elif run.phase != "done":
            assert failure is not None
            assert run.phase in ("join", "check")
            assert "--resume" in failure["remedy"]
            with pytest.raises(Conflict, match="interrupted in phase"):
                request_cluster_restore(world.control, "p", "shop", "monday")
            assert world.run(request_resume(world.control, "p", "shop")) is None
            world.require("restored", 2)
        else:
            world.require("restored", 2)
    assert {"undone", "check", "done"} <= ended


def test_failed_creation_must_be_started_again(world: World) -> None:
    with world.control.catalog.write() as session:
        for run in session.scalars(select(Run)):
            run.phase = "seed"
    with pytest.raises(Conflict, match=r"creation of cluster shop .* failed in phase seed") as refused:
        request_cluster_restore(world.control, "p", "shop", "monday")
    assert "strongroom cluster delete shop" in refused.value.remedy


def test_node_that_does_not_stop_aborts_the_restore_and_the_others_serve_again(world: World) -> None:
    world.ring.nodes[world.members()[1].id].hangs = True
    failure = world.run(request_cluster_restore(world.control, "p", "shop", "monday"))
    assert failure is not None
    assert failure["message"].startswith("node2: it does not stop")
    world.require("today", 1)
    assert "does not stop" in world.cluster().fault["message"]


def test_nodes_leave_one_at_a_time_and_their_ends_overlap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    stop = world.ring.stop_server

    async def slowly(server: str, *, kill: bool = False) -> Any:
        node = world.ring.nodes[server]
        assert all(each.serves or each.id in left for each in world.ring.nodes.values())  # no other is about to leave
        data, node.data = node.data, None  # it serves no more
        await asyncio.sleep(0.05)
        node.running, node.data = False, data
        left.append(server)
        async with asyncio.timeout(30):
            while len(left) < 3:
                await asyncio.sleep(0.01)
        return await stop(server)

    monkeypatch.setattr(world.ring, "stop_server", slowly)
    assert world.run(request_cluster_restore(world.control, "p", "shop", "monday")) is None
    world.require("restored", 2)
    assert len(left) == 3


def test_node_that_cannot_join_with_its_prepared_data_gets_a_state_transfer(world: World) -> None:
    second = world.ring.nodes[world.members()[1].id]
    job = request_cluster_restore(world.control, "p", "shop", "monday")
    second.rejects_join = True
    assert world.run(job) is None
    world.require("restored", 2)
    assert "node2 could not join" in world.job(job.id).output["warnings"][0]


def test_failed_prepare_changes_nothing(world: World) -> None:
    job = request_cluster_restore(world.control, "p", "shop", "monday")

    def full(child: Job) -> None:
        world._start(child)
        if child.kind == "prepare" and child.params["node"] == "node3":
            with world.control.catalog.write() as session:
                row = find_job(session, None, child.id)
                row.status, row.fault = "failed", {"code": "NoSpace", "message": "the disk is full", "remedy": "free some space"}

    world.control.queue.start = full
    failure = world.run(job)
    assert failure == {"code": "NoSpace", "message": "node3: the disk is full", "remedy": "free some space"}
    world.require("today", 1)
    assert not any(call.startswith(("stop", "swap")) for call in world.ring.calls)
    assert not any(node.new for node in world.ring.nodes.values())


@pytest.mark.parametrize("when", ["at first", "before the outage"])
def test_nodes_that_cannot_reach_each_other_abort_a_restore_before_the_outage(world: World, when: str) -> None:
    one, other, _ = world.members()
    assert other.address is not None

    def cut(_: int) -> None:
        if when == "at first" or any(call.startswith("seed") for call in world.ring.calls):
            world.ring.no_way = {one.id: {str(other.address): "no route"}}

    world.ring.before = cut
    world.ring.calls.clear()
    failure = world.run(request_cluster_restore(world.control, "p", "shop", "monday"))
    assert failure is not None
    assert f"node1 on local cannot reach node2 on local ({other.address}): no route" in failure["message"]
    assert not any(call.startswith(("stop", "swap")) for call in world.ring.calls)
    world.require("today", 1)
    assert not any(node.new for node in world.ring.nodes.values())


def test_cancellation_is_refused_after_the_point_of_no_return(world: World) -> None:
    job = request_cluster_restore(world.control, "p", "shop", "monday")
    world.edit(Run, job.id, lambda run: setattr(run, "phase", "join"))
    world.edit(Job, job.id, lambda row: setattr(row, "status", "running"))
    with pytest.raises(Busy, match="point of no return"):
        request_cancel(world.control, "p", job.id)


def test_one_thing_at_a_time(world: World) -> None:
    job = request_cluster_restore(world.control, "p", "shop", "monday")
    for attempt in (
        lambda: request_cluster_restore(world.control, "p", "shop", "monday"),
        lambda: request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b")),
        lambda: request_recover(world.control, "p", "shop"),
        lambda: request_cluster_action(world.control, "p", "shop", "restart"),
    ):
        with pytest.raises(Busy, match=job.id):
            attempt()


def test_copy_is_activated_one_node_at_a_time(world: World) -> None:
    with pytest.raises(Conflict, match="not isolated"):
        request_cluster_action(world.control, "p", "shop", "activate")
    for node in world.members():
        world.edit(Instance, node.id, lambda row: setattr(row, "isolated", True))
    job = request_cluster_action(world.control, "p", "shop", "activate")
    world.ring.calls.clear()
    assert world.run(job) is None
    assert [call for call in world.ring.calls if call.startswith("activate")] == [f"activate {n.id}" for n in world.members()]
    assert world.cluster().task is None


def test_operations_on_a_single_node_are_refused(world: World) -> None:
    node = world.members()[0].name
    for attempt in (
        lambda: request_action(world.control, "p", node, "stop"),
        lambda: request_backup(world.control, "p", node, BackupOptions(name="b")),
        lambda: request_delete_instance(world.control, "p", node),
    ):
        with pytest.raises(Unsupported, match="node1 of a cluster"):
            attempt()


# --- the check, while clients write


def _restore(world: World, **options: Any) -> tuple[dict[str, str] | None, dict[str, Any]]:
    job = request_cluster_restore(world.control, "p", "shop", "monday", **options)
    failure = world.run(job)
    return failure, world.job(job.id).output


def test_table_that_was_written_between_two_reads_is_compared_again(world: World) -> None:
    reads: list[str] = []

    def sums(node: Node) -> dict[str, str]:
        reads.append(node.id)
        return {"db1.busy": str(len(reads)) if len(reads) <= 6 else "at last"}

    world.ring.sums = sums
    failure, output = _restore(world)
    assert failure is None
    assert (output["tables"], output.get("warnings")) == (2, None)


def test_unchanging_table_that_differs_is_reported(world: World) -> None:
    odd = world.members()[1].id
    world.ring.sums = lambda node: {"db1.x": "odd" if node.id == odd else "even"}
    failure, _ = _restore(world)
    assert failure is not None
    assert failure["message"].startswith("1 tables are not the same on node1 and node2: db1.x")
    assert "--method sst" in failure["remedy"]


def test_table_that_differs_at_one_position_is_reported_even_if_clients_write_to_it(world: World) -> None:
    odd, reads = world.members()[2].id, 0

    def sums(node: Node) -> dict[str, str]:
        nonlocal reads
        reads += 1
        return {"db1.x": f"{(reads - 1) // 3} {node.id == odd}"}

    world.ring.sums = sums
    failure, _ = _restore(world)
    assert failure is not None
    assert "not the same on node1 and node3: db1.x" in failure["message"]


def test_table_that_cannot_be_compared_at_one_position_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RATE_SECONDS", 0.01)
    reads = 0

    def sums(node: Node) -> dict[str, str]:
        nonlocal reads
        reads += 1
        return {"db1.busy": str(reads)}

    summed = world.ring.checksums

    async def at_no_known_position(server: str, **options: Any) -> Any:
        return (await summed(server, **options)).model_copy(update={"seqno": None})

    world.ring.sums = sums
    monkeypatch.setattr(world.ring, "checksums", at_no_known_position)
    failure, output = _restore(world)
    assert failure is None
    (warning,) = output["warnings"]
    assert warning.startswith("1 of 2 tables could not be compared")
    assert "db1.busy" in warning


def _at_no_known_position(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    summed = world.ring.checksums

    async def checksums(server: str, **options: Any) -> Any:
        return (await summed(server, **options)).model_copy(update={"seqno": None})

    monkeypatch.setattr(world.ring, "checksums", checksums)


def test_table_that_switches_between_two_states_does_not_count_as_unchanging(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "RATE_SECONDS", 0.01)
    odd, reads = world.members()[1].id, 0

    def sums(node: Node) -> dict[str, str]:
        nonlocal reads
        reads += 1
        is_on = (node.id == odd) != ((reads - 1) // 3 % 4 == 3)  # three rounds in a row look like rest
        return {"db1.switch": "on" if is_on else "off"}

    world.ring.sums = sums
    _at_no_known_position(world, monkeypatch)
    failure, output = _restore(world)
    assert failure is None
    assert "db1.switch" in output["warnings"][0]


def test_unchanging_table_that_differs_is_reported_without_a_position(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RATE_SECONDS", 0.01)
    odd = world.members()[1].id
    world.ring.sums = lambda node: {"db1.x": "odd" if node.id == odd else "even"}
    _at_no_known_position(world, monkeypatch)
    failure, _ = _restore(world)
    assert failure is not None
    assert failure["message"].startswith("1 tables are not the same on node1 and node2: db1.x")


@pytest.mark.parametrize("said", ["error 1412", "None"])
def test_table_that_is_recreated_all_the_time_is_not_reported(world: World, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(comparison, "RATE_SECONDS", 0.01)
    odd, reads = world.members()[1].id, 0

    def sums(node: Node) -> dict[str, str]:
        nonlocal reads
        reads += 1
        return {"db1.staging": said if node.id == odd else str((reads - 1) // 3)}

    world.ring.sums = sums
    failure, output = _restore(world)
    assert failure is None
    assert "db1.staging" in output["warnings"][0]


def test_table_that_no_node_can_read_is_not_equal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RATE_SECONDS", 0.01)
    world.ring.sums = lambda node: {"db1.x": "error 1213"}
    failure, output = _restore(world)
    assert failure is None
    assert "db1.x" in output["warnings"][0]


# --- nodes that hang


def test_restore_does_not_wait_for_a_hanging_node_that_was_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "FENCE_PATIENCE", 0.1)
    left_out = world.members()[2].id
    enroll, hung = world.ring.put_galera, []

    async def hangs(server: str, member: Any) -> Any:
        if server == left_out:
            hung.append(server)
            await asyncio.sleep(600)
        return await enroll(server, member)

    monkeypatch.setattr(world.ring, "put_galera", hangs)
    failure, output = _restore(world, without=["node3"])
    assert (failure, output["nodes"]) == (None, 2)
    assert hung == [left_out]
    assert [world.ring.nodes[member.id].data.rows for member in world.members()[:2]] == ["restored"] * 2  # type: ignore[union-attr]


def test_node_that_does_not_start_does_not_keep_others_from_joining(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, start = world.members()[1].id, world.ring.start_server

    async def fails(server: str, how: Any = None) -> Any:
        if server == broken:
            raise ServerFailed("it hangs")
        return await start(server, how)

    monkeypatch.setattr(world.ring, "start_server", fails)
    failure, _ = _restore(world)
    assert failure is not None
    assert "it hangs" in failure["message"]
    assert "2 of 3 nodes of cluster shop serve the new data" in failure["message"]
    assert [world.ring.nodes[member.id].serves for member in world.members()] == [True, False, True]
    monkeypatch.setattr(world.ring, "start_server", start)
    assert world.run(request_resume(world.control, "p", "shop")) is None
    world.require("restored", 2)


def test_failing_node_aborts_a_restore_although_another_host_is_unreachable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, others = world.ring.start_server, []

    async def fails(server: str, how: Any = None) -> Any:
        if how.mode == "bootstrap":
            view = await start(server, how)
            others.extend(member.id for member in world.members() if member.id != server)
            world.ring.unreachable.add(others[0])
            return view
        if server == others[1]:
            raise ServerFailed("it hangs")
        return await start(server, how)

    monkeypatch.setattr(world.ring, "start_server", fails)
    failure, _ = _restore(world)
    assert failure is not None
    assert "it hangs" in failure["message"]
    assert "1 of 3 nodes of cluster shop serve the new data" in failure["message"]


def test_shown_outage_keeps_counting_while_a_node_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "TELL", 0.2)
    start, said = world.ring.start_server, []

    async def slowly(server: str, how: Any = None) -> Any:
        if how.mode == "bootstrap":
            for _ in range(6):
                await asyncio.sleep(0.5)
                with world.control.catalog.read() as session:
                    said.append(session.query(Job).filter_by(kind="cluster_restore").one().message)
        return await start(server, how)

    monkeypatch.setattr(world.ring, "start_server", slowly)
    assert _restore(world)[0] is None
    assert all(message.startswith("out of service for ") for message in said)
    assert len(set(said)) >= 3


# --- a service that was away


def _go_away(world: World, operation: str, seconds: int) -> None:
    """The control plane dies before the first such call, and is back after so long."""

    def strike(_: int) -> None:
        if world.ring.calls[-1].startswith(operation):
            world.ring.before = lambda number: None
            before = (now() - timedelta(seconds=seconds)).isoformat()
            with world.control.catalog.write() as session:
                run = session.scalars(select(Run).order_by(Run.created.desc()).limit(1)).one()
                run.facts = {**run.facts, "attended": before}
            raise Killed

    world.ring.before = strike


@pytest.mark.parametrize("operation", ["seed", "unreached"])
def test_outage_needs_consent_after_a_long_absence(world: World, operation: str) -> None:
    _go_away(world, operation, 3600)
    job = request_cluster_restore(world.control, "p", "shop", "monday")
    failure = world.run(job)
    assert failure is not None
    assert "down for 60 minutes" in failure["message"]
    assert "strongroom cluster restore shop --resume" in failure["remedy"]
    world.require("today", 1)
    assert all(node.new for node in world.ring.nodes.values())
    with pytest.raises(Conflict, match="waits for you to start the outage"):
        request_cluster_restore(world.control, "p", "shop", "monday")
    backup, _ = request_cluster_backup(world.control, "p", "shop", BackupOptions(name="meanwhile"))  # nothing is stopped yet
    with pytest.raises(Busy, match="backup job"):
        request_resume(world.control, "p", "shop")
    world.took(backup)
    assert world.run(request_resume(world.control, "p", "shop")) is None
    world.require("restored", 2)


def test_cluster_that_is_down_is_restored_after_a_long_absence(world: World) -> None:
    _down(world, (5, 5, 5))
    _go_away(world, "seed", 3600)
    assert _restore(world)[0] is None
    world.require("restored", 2)


def test_restore_that_waits_for_the_outage_can_be_abandoned(world: World) -> None:
    _go_away(world, "seed", 3600)
    assert world.run(request_cluster_restore(world.control, "p", "shop", "monday")) is not None
    assert world.run(request_recover(world.control, "p", "shop")) is None
    world.require("today", 1)
    assert not any(node.new for node in world.ring.nodes.values())
    assert world.run(request_cluster_restore(world.control, "p", "shop", "monday")) is None


@pytest.mark.parametrize(("operation", "seconds"), [("seed", 60), ("swap", 3600)])
def test_short_absence_or_absence_during_the_outage_does_not_stop_the_restore(world: World, operation: str, seconds: int) -> None:
    _go_away(world, operation, seconds)
    assert _restore(world)[0] is None
    world.require("restored", 2)


# --- backups


def test_incremental_is_taken_on_the_node_of_the_chain(world: World) -> None:
    home = world.job(_newest_job(world)).instance_id
    assert home == world.members()[2].id
    child, job = request_cluster_backup(world.control, "p", "shop", BackupOptions(name="tuesday", incremental=True))
    assert (child.kind, child.instance_id, job.instance_id) == ("incremental", home, home)


def _newest_job(world: World) -> str:
    with world.control.catalog.read() as session:
        return str(session.query(Job).filter_by(kind="backup").one().id)


def test_backup_avoids_nodes_with_client_writes(world: World) -> None:
    last = world.members()[2].id
    world.edit(Instance, last, lambda row: setattr(row, "galera", {**row.galera, "wsrep_local_commits": "77"}))
    assert request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b"))[1].instance_id == world.members()[1].id


def _gone(world: World, home: str) -> None:
    world.edit(Instance, home, lambda row: setattr(row, "galera", {**row.galera, "wsrep_local_state_comment": "Joining"}))


def _reseeded(world: World, home: str) -> None:
    world.edit(Instance, home, lambda row: setattr(row, "lineage", "another"))


@pytest.mark.parametrize(("happened", "says"), [(_gone, "is not Synced"), (_reseeded, "was replaced")])
def test_broken_chain_is_followed_by_a_full_with_the_reason(
    world: World, happened: Callable[[World, str], None], says: str
) -> None:
    home = world.members()[2].id
    happened(world, home)
    backup, _ = request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b", incremental=True))
    assert (backup.kind, backup.parent_id) == ("full", None)
    assert says in (backup.reason or "")


@pytest.mark.parametrize(("number", "options"), [(0, {"node": "node1"}), (2, {"incremental": True})])
def test_backup_waits_for_a_node_that_has_just_sent_its_data(world: World, number: int, options: dict[str, Any]) -> None:
    first = world.members()[number].id

    def say(state: str) -> None:
        world.edit(Instance, first, lambda row: setattr(row, "galera", {**row.galera, "wsrep_local_state_comment": state}))

    say("Donor/Desynced")
    timer = threading.Timer(0.5, say, ["Synced"])
    timer.start()
    backup, job = request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b", **options))
    timer.join()
    assert (backup.kind, job.instance_id) == ("incremental" if number else "full", first)


def test_backup_does_not_wait_for_a_partitioned_node(world: World) -> None:
    first = world.members()[0].id
    world.edit(Instance, first, lambda row: setattr(row, "galera", {**row.galera, "wsrep_cluster_status": "non-Primary"}))
    began = time.monotonic()
    with pytest.raises(Conflict, match="node1 of cluster shop is not Synced"):
        request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b", node="node1"))
    assert time.monotonic() - began < backup.SYNC_PATIENCE / 2


def test_another_node_never_continues_a_chain(world: World) -> None:
    backup, job = request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b", incremental=True, node="node1"))
    assert (backup.kind, job.instance_id) == ("full", world.members()[0].id)
    assert "is of node3, not of node1" in (backup.reason or "")


def test_incremental_without_a_parent_shows_the_command_to_run(world: World) -> None:
    with world.control.catalog.write() as session:
        for row in session.query(Backup):
            row.status = "FAILED"
    with pytest.raises(Conflict, match="no completed backup") as refused:
        request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b", incremental=True))
    assert "strongroom cluster backup shop" in refused.value.remedy
    with pytest.raises(NotFound):
        request_cluster_backup(world.control, "q", "shop", BackupOptions(name="b"))


# --- recovery


def _down(world: World, seqnos: tuple[int, int, int]) -> list[Node]:
    nodes = [world.ring.nodes[member.id] for member in world.members()]
    for node, seqno in zip(nodes, seqnos, strict=True):
        assert node.data is not None
        node.running, node.data.seqno = False, seqno
    return nodes


def test_most_advanced_node_bootstraps_and_the_others_join(world: World) -> None:
    _down(world, (5, 9, 7))
    job = request_recover(world.control, "p", "shop")
    assert world.run(job) is None
    output = world.job(job.id).output
    assert output["began"] == "node2"
    assert [position.rpartition(":")[2] for position in output["positions"].values()] == ["5", "9", "7"]
    ids = [member.id for member in world.members()]
    assert [c.split()[1] for c in world.ring.calls if c.startswith("stop")] == ids, "no agent starts its node again meanwhile"
    assert [c.split()[1] for c in world.ring.calls if c.startswith("start")] == [ids[n] for n in (1, 0, 2)]
    world.require("today", 1)


def test_node_ahead_of_the_named_one_joins_empty_and_its_data_is_kept(world: World) -> None:
    nodes = _down(world, (5, 9, 5))
    assert nodes[1].data is not None
    nodes[1].data.rows = "newer"
    failure = world.run(request_recover(world.control, "p", "shop", node="node1"))
    assert failure is not None
    assert "not the most advanced" in failure["message"]
    job = request_recover(world.control, "p", "shop", node="node1", force=True)
    assert world.run(job) is None
    world.require("today", 1)
    assert [data.rows for data in nodes[1].old.values() if data] == ["newer"]
    assert not any(nodes[2].old.values())
    assert world.job(job.id).output["how"] == "node1 was named and bootstrapped"


def test_node_that_cannot_join_does_not_keep_others_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = _down(world, (9, 5, 5))
    nodes[1].rejects_join = True
    failure = world.run(request_recover(world.control, "p", "shop"))
    assert failure is not None
    assert failure["message"].startswith("node2: it was aborted")
    assert [node.serves for node in nodes] == [True, False, True]


def test_no_node_bootstraps_after_a_power_failure(world: World) -> None:
    for node in _down(world, (9, 9, 8)):
        node.view = ["a", "b", "c"]
    job = request_recover(world.control, "p", "shop")
    assert world.run(job) is None
    assert world.job(job.id).output["began"] is None
    world.require("today", 1)


@pytest.mark.parametrize("others_serve", [False, True])
def test_hanging_node_is_killed_by_force_before_another_bootstraps(world: World, others_serve: bool) -> None:
    nodes = [world.ring.nodes[m.id] for m in world.members()] if others_serve else _down(world, (5, 9, 7))
    nodes[1].running = nodes[1].frozen = True
    if not others_serve:
        failure = world.run(request_recover(world.control, "p", "shop"))
        assert failure is not None and failure["message"].startswith("node2: it does not stop")
        assert "strongroom cluster recover shop --force" in failure["remedy"]
        assert [node.running for node in nodes] == [False, True, False]
    assert world.run(request_recover(world.control, "p", "shop", force=True)) is None
    world.require("today", 1)


@pytest.mark.parametrize("others_serve", [False, True])
def test_node_that_refuses_the_login_does_not_count_as_down(world: World, others_serve: bool) -> None:
    nodes = [world.ring.nodes[m.id] for m in world.members()] if others_serve else _down(world, (5, 9, 7))
    nodes[1].running, nodes[1].refuses = True, "refused the account"
    failure = world.run(request_recover(world.control, "p", "shop"))
    assert failure is not None and failure["message"].startswith("node2 of cluster shop refuses the login and may serve: refused")
    assert [node.running for node in nodes] == [others_serve, True, others_serve]
    assert not any(call.startswith(("stop", "start")) for call in world.ring.calls)


def test_other_nodes_join_those_that_serve(world: World) -> None:
    nodes = [world.ring.nodes[member.id] for member in world.members()]
    nodes[1].running = False
    assert world.run(request_recover(world.control, "p", "shop")) is None
    assert not any(call.startswith(("stop", "position")) for call in world.ring.calls)
    world.require("today", 1)


def test_unreachable_node_may_have_newer_transactions(world: World) -> None:
    nodes = _down(world, (5, 9, 7))
    world.ring.unreachable.add(nodes[1].id)
    failure = world.run(request_recover(world.control, "p", "shop"))
    assert failure is not None
    assert "node2 of cluster shop is unreachable" in failure["message"]
    assert "--force" in failure["remedy"]
    assert not any(node.running for node in nodes)
    assert nodes[1].data is not None
    nodes[1].data.rows = "newer"
    job = request_recover(world.control, "p", "shop", force=True)
    assert world.run(job) is None
    assert [node.running for node in nodes] == [True, False, True]
    assert "node2 was left out" in world.job(job.id).output["warnings"][0]
    world.ring.unreachable.clear()  # it comes back, and what only it knows was given up
    assert nodes[1].member is not None and nodes[0].member is not None
    assert nodes[1].member.group != nodes[0].member.group
    assert world.run(request_recover(world.control, "p", "shop")) is None
    world.require("today", 2)
    assert [data.rows for data in nodes[1].old.values() if data] == ["newer"]


def test_forced_recovery_continues_after_an_interruption_between_two_nodes(world: World) -> None:
    nodes = _down(world, (5, 9, 7))
    world.ring.unreachable.add(nodes[1].id)

    def strike(count: int) -> None:
        if world.ring.calls[-1].startswith("advance"):
            world.ring.before = lambda count: None
            raise StrongroomError("cut off")

    world.ring.before = strike
    assert world.run(request_recover(world.control, "p", "shop", force=True)) is not None
    assert world.run(request_recover(world.control, "p", "shop", force=True)) is None
    assert [node.serves for node in nodes] == [True, False, True]
    assert {node.data.epoch for node in (nodes[0], nodes[2]) if node.data} == {2}
    assert world.cluster().epoch == 2


@pytest.mark.parametrize("moment", ["stop", "swap", "start"])
def test_host_lost_during_the_outage_does_not_keep_the_others_down(world: World, moment: str) -> None:
    lost = world.ring.nodes[world.members()[0].id]  # it bootstraps

    def strike(count: int) -> None:
        if world.ring.calls[-1] == f"{moment} {lost.id}":
            world.ring.unreachable.add(lost.id)
            lost.running = False

    world.ring.before = strike
    assert world.run(request_cluster_restore(world.control, "p", "shop", "monday")) is not None
    failure = world.run(request_recover(world.control, "p", "shop"))
    assert failure is not None
    assert "does not answer" in failure["message"]
    assert world.run(request_recover(world.control, "p", "shop", force=True)) is None
    others = [world.ring.nodes[member.id] for member in world.members()[1:]]
    assert [(node.serves, node.data.rows if node.data else None) for node in others] == [(True, "today")] * 2
    world.ring.unreachable.clear()
    world.ring.before = lambda count: None
    assert world.run(request_recover(world.control, "p", "shop")) is None
    world.require("today", 3)  # one for the restore that was undone, one for what was forced without the lost node
    job = request_cluster_restore(world.control, "p", "shop", "monday")
    assert world.run(job) is None
    world.require("restored", 4)  # no data of an epoch that was used is ever met again


def test_serving_nodes_do_not_wait_for_an_unreachable_host(world: World) -> None:
    nodes = [world.ring.nodes[member.id] for member in world.members()]
    nodes[1].running = nodes[2].running = False
    world.ring.unreachable.add(nodes[2].id)
    job = request_recover(world.control, "p", "shop")
    assert world.run(job) is None
    assert [node.serves for node in nodes] == [True, True, False]
    (warning,) = world.job(job.id).output["warnings"]
    assert warning == "node3 was left out, because it is unreachable: the agent does not answer"


@pytest.mark.parametrize("others_serve", [False, True])
def test_query_of_a_node_is_repeated_while_its_host_answers(world: World, others_serve: bool) -> None:
    nodes = [world.ring.nodes[m.id] for m in world.members()] if others_serve else _down(world, (5, 9, 7))
    nodes[1].running = False
    world.control.agents.presence.expect("local")
    world.ring.unreachable.add(nodes[1].id)

    def strike(count: int) -> None:
        if world.ring.calls.count(f"look {nodes[1].id}") == 2:
            world.ring.unreachable.clear()

    world.ring.before = strike
    job = request_recover(world.control, "p", "shop", force=True)
    assert world.run(job) is None
    world.require("today", 1)
    assert "warnings" not in world.job(job.id).output


def test_unreachable_hosts_are_not_used(world: World) -> None:
    with world.control.catalog.write() as session:
        host = session.get(Host, "local")
        assert host is not None
        session.merge(Host(name="away", view=host.view, url="https://10.0.0.9:8780", seen=None))
    last = world.members()[2].id
    world.edit(Instance, last, lambda row: setattr(row, "host", "away"))
    with pytest.raises(Conflict, match="unreachable nodes: node3 on host away") as refused:
        request_cluster_restore(world.control, "p", "shop", "monday")
    assert "--without node3" in refused.value.remedy
    assert request_cluster_backup(world.control, "p", "shop", BackupOptions(name="b"))[1].instance_id == world.members()[1].id


def test_node_with_data_of_an_undone_restore_is_stopped(world: World) -> None:
    view = world.ring.server_view(world.ring.nodes[world.members()[2].id])
    member = world.ring.nodes[view.id].member
    assert member is not None
    world.ring.nodes[view.id].running = True
    ahead = view.model_copy(update={"member": member.model_copy(update={"epoch": 2})})
    asyncio.run(fence(world.control, world.ring, [ahead]))  # type: ignore[arg-type]
    assert not world.ring.nodes[view.id].running


def test_histories_are_not_mixed(world: World) -> None:
    nodes = _down(world, (5, 9, 7))
    assert nodes[1].data is not None
    nodes[1].data.uuid, nodes[1].data.rows = "11111111-1111-1111-1111-111111111111", "other"
    failure = world.run(request_recover(world.control, "p", "shop"))
    assert failure is not None
    assert "different histories" in failure["message"]
    assert not any(node.running for node in nodes)
    assert world.run(request_recover(world.control, "p", "shop", node="node1", force=True)) is None
    world.require("today", 1)
    assert [data.rows for data in nodes[1].old.values() if data] == ["other"]  # kept, not overwritten


def test_data_of_another_history_is_kept_when_other_nodes_serve(world: World) -> None:
    odd = world.ring.nodes[world.members()[1].id]
    assert odd.data is not None
    odd.running, odd.data.uuid, odd.data.rows = False, "11111111-1111-1111-1111-111111111111", "other"
    assert world.run(request_recover(world.control, "p", "shop")) is None
    world.require("today", 1)
    assert [data.rows for data in odd.old.values() if data] == ["other"]


def test_empty_node_never_bootstraps(world: World) -> None:
    nodes = _down(world, (5, 9, 7))
    nodes[1].data = Data("")
    assert world.run(request_recover(world.control, "p", "shop")) is None
    world.require("today", 1)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupted_recovery_continues(make: Make, moment: str) -> None:
    for world in each_call(make, moment, Killed()):
        _down(world, (5, 9, 7))
        assert world.run(request_recover(world.control, "p", "shop")) is None
        world.require("today", 1)
