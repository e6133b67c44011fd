"""Nodes of a Galera cluster: real servers, killed, cut off, restored; what they hold is compared."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strongroom.agent import Agent
from strongroom.agent.models import Seed, Start
from strongroom.datastores import GaleraMember
from strongroom.errors import Busy, Conflict, InvalidRequest, NotFound, ServerFailed, ToolFailed
from strongroom.settings import load
from strongroom.worker.spec import JobRequest
from support import processes
from support.agents import definition, finish, until
from support.galera import SCRIPTS, Cluster
from support.jobs import backup_job, restore_job


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    processes.end(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(ground: Path) -> Iterator[Cluster]:
    """One cluster for the module; ``cluster`` sees to it that it is whole again before each test."""
    low = os.getpid() % 250
    settings = load(
        None,
        service={"data_dir": str(ground / "d")},
        agent={"pool": f"127.19.{low}.0/24", "cancel_grace": 1, "start_timeout": 180},
        datastores={"mariadb": [str(SCRIPTS)]},
    )
    agent = Agent(settings)
    agent.start()
    cluster = Cluster(agent)
    cluster.make()
    cluster.sql("n1", "CREATE DATABASE app; CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT)")
    yield cluster
    cluster.agent.stop()


@pytest.fixture
def cluster(whole: Cluster) -> Cluster:
    try:
        whole.wait(seconds=60)
    except AssertionError:
        whole.stop()
        places = {node: whole.agent.servers.nodes.position(node).seqno for node in whole.nodes}
        whole.bring_up(max(places, key=lambda node: places[node]))
    return whole


def rows(cluster: Cluster, node: str) -> str:
    return cluster.sql(node, "SET SESSION wsrep_sync_wait=15; SELECT v FROM app.t ORDER BY v")


def add(cluster: Cluster, word: str, node: str = "n1") -> None:
    cluster.sql(node, f"INSERT INTO app.t (v) VALUES ('{word}')")


def backup(cluster: Cluster, ground: Path, node: str, id: str, parent: str | None = None, **more: object) -> dict[str, object]:
    server = cluster.agent.servers.server(node)
    job = backup_job(ground, server, id, parent, **more)
    cluster.agent.put_job(id, JobRequest(server=node, job=job))
    view = finish(cluster.agent, id, 60)
    assert view.result is not None
    assert view.status == "succeeded", view.result.failure
    return view.result.output


def test_three_nodes_form_one_cluster_with_the_same_data(cluster: Cluster) -> None:
    add(cluster, "same", "n2")
    views = [cluster.view(node) for node in cluster.nodes]
    assert len({view.uuid for view in views}) == 1
    assert {view.cluster for view in views} == {"t.1"}
    sums = [cluster.agent.servers.nodes.serving(node) for node in cluster.nodes]
    found = [clusters.running.sum_tables(server).sums for clusters, server in sums]
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == {"app.t"}
    for number, (clusters, server) in enumerate(sums):
        clusters.running.write_canary(server, f"word{number}")
    assert all(clusters.running.read_canaries(server) == ["word0", "word1", "word2"] for clusters, server in sums)
    sums[0][0].running.drop_canaries(sums[0][1])
    assert all(clusters.running.read_canaries(server) == [] for clusters, server in sums)


def test_tables_are_summed_at_one_position_while_clients_write(cluster: Cluster) -> None:
    nodes = [cluster.agent.servers.nodes.serving(node) for node in cluster.nodes]
    cluster.sql("n1", "CREATE TABLE app.busy (id INT PRIMARY KEY, n INT); INSERT INTO app.busy VALUES (1, 0)")
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            cluster.sql("n2", "UPDATE app.busy SET n = n + 1")

    with ThreadPoolExecutor(4) as pool:
        writer = pool.submit(write)
        try:
            met = 0
            for _ in range(100):
                if met == 3:
                    break
                at = (cluster.view("n2").seqno or 0) + 4
                found = list(pool.map(lambda node, at=at: node[0].running.sum_tables(node[1], at=at), nodes))  # type: ignore[misc]
                if found[0].seqno is not None and len({each.seqno for each in found}) == 1:
                    met += 1
                    assert found[0].sums == found[1].sums == found[2].sums
            assert met == 3
        finally:
            over.set()
        writer.result()
    (still,) = {clusters.running.sum_tables(server, tables=["app.busy"]).model_dump_json() for clusters, server in nodes}
    assert "app.t" not in still
    cluster.sql("n1", "DROP TABLE app.busy")


def test_no_secret_and_no_bootstrap_is_written_to_a_file(cluster: Cluster) -> None:
    server = cluster.agent.servers.server("n1")
    text = (server.base_dir / "my.cnf").read_text()
    assert "wsrep_cluster_address=gcomm://127." in text.replace('"', "")
    assert "new-cluster" not in text
    assert "bootstrap" not in text
    assert f"wsrep_sst_auth={server.user}:\n" in text.replace('"', "")


def test_killed_node_is_restarted_automatically(cluster: Cluster) -> None:
    cluster.kill("n2")
    add(cluster, "while n2 is away")
    cluster.wait()
    assert rows(cluster, "n2") == rows(cluster, "n1")


def test_power_failure_on_all_nodes_needs_no_bootstrap(cluster: Cluster) -> None:
    add(cluster, "before the cut")
    before = cluster.view("n1").uuid
    cluster.kill(*cluster.nodes)
    until(lambda: not any(cluster.view(node).synced for node in cluster.nodes))
    cluster.wait()
    assert {cluster.view(node).uuid for node in cluster.nodes} == {before}
    assert "before the cut" in rows(cluster, "n3")


def test_stopped_cluster_continues_from_the_most_advanced_node(cluster: Cluster) -> None:
    nodes = cluster.agent.servers.nodes
    with pytest.raises(Busy):
        nodes.position("n1")
    cluster.stop(["n1"])
    add(cluster, "without n1", "n2")
    cluster.stop(["n2"])
    cluster.wait(["n3"])
    add(cluster, "without n2", "n3")
    cluster.stop(["n3"])
    for node in cluster.nodes:
        nodes.prove_stopped(node)
    places = {node: nodes.position(node) for node in cluster.nodes}
    assert len({place.uuid for place in places.values()}) == 1
    assert places["n1"].seqno < places["n2"].seqno < places["n3"].seqno
    with pytest.raises(Conflict, match="is at"):
        cluster.agent.servers.start("n3", Start(mode="bootstrap", position=f"{places['n1']}"))
    assert cluster.view("n3").running is False
    cluster.bring_up("n3")
    assert {"without n1", "without n2"} <= set(rows(cluster, "n1").split("\n"))
    assert cluster.view("n1").uuid == places["n1"].uuid


def test_running_server_is_not_proven_stopped(cluster: Cluster) -> None:
    with pytest.raises(ServerFailed, match="still runs"):
        cluster.agent.servers.nodes.prove_stopped("n1")


def test_backup_of_a_node_contains_its_cluster_position(cluster: Cluster, ground: Path) -> None:
    add(cluster, "backed up")
    output = backup(cluster, ground, "n2", "place")
    place = output["manifest"]["positions"]["galera"]  # type: ignore[index]
    view = cluster.view("n2")
    assert place.partition(":")[0] == view.uuid
    assert 0 < int(place.partition(":")[2]) <= (view.seqno or 0)


@pytest.mark.parametrize("transfer", ["mariabackup", "rsync"])
def test_state_transfer_changes_the_lineage(cluster: Cluster, ground: Path, transfer: str) -> None:
    """An incremental over it would restore without an error, and have lost rows: it is refused."""
    servers = cluster.agent.servers
    add(cluster, f"before {transfer}")
    backup(cluster, ground, "n2", f"own-{transfer}")
    before = {node: servers.view(node).lineage for node in cluster.nodes}
    cluster.transfer = transfer
    cluster.enroll()
    cluster.stop(["n2"])
    (servers.server("n2").data_dir / "grastate.dat").unlink()  # it does not know where it is: it is sent all
    servers.start("n2")
    cluster.wait()
    after = {node: servers.view(node).lineage for node in cluster.nodes}
    assert after["n2"] not in before.values()
    assert after["n1"] == before["n1"]
    assert after["n3"] == before["n3"]
    assert rows(cluster, "n2") == rows(cluster, "n1")
    cluster.transfer = "mariabackup"
    cluster.enroll()
    job = backup_job(ground, servers.server("n2"), f"over-{transfer}", f"own-{transfer}")
    cluster.agent.put_job(f"over-{transfer}", JobRequest(server="n2", job=job))
    view = finish(cluster.agent, f"over-{transfer}", 60)
    assert view.result is not None
    assert view.result.failure is not None
    assert view.result.failure.code == "LineageChanged"


def test_node_that_was_reset_to_a_snapshot_takes_a_full(cluster: Cluster, ground: Path) -> None:
    """The others close its gap, by other pages at other positions than those that its last backup knew."""
    data = cluster.agent.servers.server("n3").data_dir
    snapshot = data.parent / "snapshot"
    add(cluster, "before the snapshot")
    backup(cluster, ground, "n3", "snap-full")
    cluster.stop(["n3"])
    shutil.copytree(data, snapshot, symlinks=True, copy_function=shutil.copy2)
    subprocess.run(["chown", "-R", "--reference", str(data), str(snapshot)], check=True)
    cluster.agent.servers.start("n3")
    cluster.wait()
    add(cluster, "after the snapshot", "n3")
    assert backup(cluster, ground, "n3", "snap-inc", "snap-full")["manifest"]["kind"] == "incremental"  # type: ignore[index]
    cluster.stop(["n3"])
    shutil.rmtree(data)
    snapshot.rename(data)
    cluster.agent.servers.start("n3")
    cluster.wait()
    add(cluster, "after it was put back")
    assert rows(cluster, "n3") == rows(cluster, "n1")
    taken = backup(cluster, ground, "n3", "snap-next", "snap-inc", fall_back_to_full=True)
    assert taken["manifest"]["kind"] == "full"  # type: ignore[index]
    assert str(taken["reason"]).startswith("A full backup was taken: ")


def test_node_of_an_earlier_epoch_is_stopped_and_stays_stopped(cluster: Cluster) -> None:
    """It was cut off while its cluster was restored: what it has must never be served again."""
    servers, nodes = cluster.agent.servers, cluster.agent.servers.nodes
    member = servers.view("n2").member
    assert member is not None
    nodes.enroll("n2", member.model_copy(update={"epoch": member.epoch + 1}))
    assert not cluster.view("n2").running
    with pytest.raises(Conflict, match="predates the last restore"):
        servers.start("n2")
    time.sleep(2.5)  # the supervisor looks
    assert not cluster.view("n2").running
    assert servers.view("n2").wanted == "stopped"
    nodes.enroll("n2", member)
    servers.start("n2")
    cluster.wait()


def test_nodes_of_different_epochs_never_meet(cluster: Cluster) -> None:
    """Even when an old one is started by hand, past all that the agent refuses."""
    servers, nodes = cluster.agent.servers, cluster.agent.servers.nodes
    member = servers.view("n3").member
    assert member is not None
    cluster.stop(["n3"])
    nodes.enroll("n3", member.model_copy(update={"epoch": member.epoch + 1}))
    record = servers._home.registry.get("n3")
    record.data_epoch = member.epoch + 1
    servers.start("n3", Start(wait=False))
    log = servers.server("n3").base_dir / "log/error.log"
    until(lambda: "primary view is not possible" in log.read_text().rpartition("connecting to group")[2], 60)
    time.sleep(3)
    view = cluster.view("n3")
    assert (view.primary, view.ready, view.synced) == (False, False, False)
    assert [cluster.view(node).size for node in ("n1", "n2")] == [2, 2]
    assert servers.view("n3").healthy is False
    cluster.stop(["n3"])
    assert not cluster.view("n3").running
    record.data_epoch = member.epoch
    nodes.enroll("n3", member)
    servers.start("n3")
    cluster.wait()


def test_desync_is_undone_after_the_backup_even_if_its_worker_is_killed(cluster: Cluster, ground: Path) -> None:
    backup(cluster, ground, "n2", "desynced", desync=True)
    until(lambda: not cluster.view("n2").desynced)
    server = cluster.agent.servers.server("n2")
    job = backup_job(ground, server, "killed", desync=True)
    view = cluster.agent.put_job("killed", JobRequest(server="n2", job=job))
    assert cluster.view("n2").desynced or view.status != "running"
    process = cluster.agent.jobs.record("killed").process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert finish(cluster.agent, "killed").status == "lost"
    until(lambda: not cluster.view("n2").desynced)
    cluster.sql("n2", "SET GLOBAL wsrep_desync=ON")
    backup(cluster, ground, "n2", "his-own", desync=True)
    time.sleep(1.5)
    assert cluster.view("n2").desynced  # its owner wanted it so before
    cluster.sql("n2", "SET GLOBAL wsrep_desync=OFF")


def test_empty_node_gets_a_state_transfer_as_soon_as_a_donor_can(cluster: Cluster) -> None:
    """The account for transfers is gone at first: the node dies, and nothing that it had is lost."""
    servers = cluster.agent.servers
    add(cluster, "kept aside")
    cluster.sql("n1", "DROP USER mysql@localhost")
    cluster.stop(["n2"])
    view = servers.swap("n2", "fill", start=False, empty=True)
    assert [old.name for old in view.old_data] == ["data.old-fill"]
    with pytest.raises(ServerFailed):
        servers.start("n2")
    cluster.sql("n1", "CREATE USER mysql@localhost IDENTIFIED VIA unix_socket; GRANT ALL ON *.* TO mysql@localhost")
    servers.start("n2")
    cluster.wait()
    assert rows(cluster, "n2") == rows(cluster, "n1")
    assert (servers.server("n2").data_dir.with_name("data.old-fill") / "ibdata1").exists()
    servers.discard_old("n2")


def test_interrupted_seeding_is_repeated(cluster: Cluster, ground: Path) -> None:
    nodes, identity = cluster.agent.servers.nodes, str(uuid.uuid4())
    backup(cluster, ground, "n1", "cut")
    cluster.agent.put_job("r-cut", JobRequest(server="n1", job=restore_job(ground, "cut")))
    assert finish(cluster.agent, "r-cut", 60).status == "succeeded"
    base = cluster.agent.servers.server("n1").base_dir

    def kill() -> None:
        def found() -> list[int]:
            return [pid for pid, command in processes.below(base).items() if "--wsrep-cluster-name=seed" in command]

        until(found)
        for pid in found():
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ToolFailed, match="SIGKILL"):
        nodes.seed("n1", Seed(job="r-cut", uuid=identity))
    killer.join()
    assert str(nodes.seed("n1", Seed(job="r-cut", uuid=identity))) == f"{identity}:1"
    assert cluster.view("n1").synced
    cluster.agent.jobs.cancel("r-cut")


def test_only_nodes_are_queried_about_their_cluster(cluster: Cluster) -> None:
    servers = cluster.agent.servers
    servers.define("single", definition("single"))
    with pytest.raises(NotFound):
        servers.nodes.view("single")
    with pytest.raises(Conflict):
        servers.nodes.position("single")
    with pytest.raises(NotFound):
        servers.undo_swap("n1", "never")
    with pytest.raises(InvalidRequest):
        servers.define("../x", definition())
    servers.delete("single")


def test_restored_cluster_has_a_new_identity_and_the_data_of_the_backup(cluster: Cluster, ground: Path) -> None:
    """All is prepared and seeded while the old cluster serves; then swapped, bootstrapped, joined; and undone after."""
    servers, nodes = cluster.agent.servers, cluster.agent.servers.nodes
    add(cluster, "kept")
    backup(cluster, ground, "n3", "restored-full")
    add(cluster, "in the incremental")
    backup(cluster, ground, "n3", "restored-inc", "restored-full")
    wanted = rows(cluster, "n1")
    add(cluster, "lost")
    old, identity = cluster.view("n1").uuid, str(uuid.uuid4())
    lineages = {node: servers.view(node).lineage for node in cluster.nodes}
    for node in cluster.nodes:
        job = restore_job(ground, "restored-inc")
        cluster.agent.put_job(f"r-{node}", JobRequest(server=node, job=job))
        assert finish(cluster.agent, f"r-{node}", 60).status == "succeeded"
        place = nodes.seed(node, Seed(job=f"r-{node}", uuid=identity))
        assert str(place) == f"{identity}:1"
        assert nodes.seed(node, Seed(job=f"r-{node}", uuid=identity)) == place
    assert all(cluster.view(node).synced for node in cluster.nodes)  # nobody has noticed anything
    add(cluster, "lost as well")
    with pytest.raises(NotFound):
        nodes.seed("n1", Seed(job="nothing", uuid=identity))
    cluster.stop()
    epoch = 2
    cluster.enroll(epoch)
    for node in cluster.nodes:
        nodes.prove_stopped(node)
        with pytest.raises(Conflict, match="predates the last restore"):
            servers.start(node)
        servers.swap(node, f"r-{node}", start=False)
        assert servers.swap(node, f"r-{node}", start=False).data_epoch == epoch
        assert not cluster.view(node).running
    paths = [servers.server(node).base_dir / "log/error.log" for node in cluster.nodes]
    logs = {path: len(path.read_text()) for path in paths}
    cluster.bring_up("n3")
    assert {cluster.view(node).uuid for node in cluster.nodes} == {identity} != {old}
    assert {cluster.view(node).cluster for node in cluster.nodes} == {f"t.{epoch}"}
    assert [rows(cluster, node) for node in cluster.nodes] == [wanted] * 3
    found = {node: servers.view(node).lineage for node in cluster.nodes}
    assert len(set(found.values()) | set(lineages.values())) == 6
    assert not any("Streaming the backup to joiner" in log.read_text()[size:] for log, size in logs.items())
    with pytest.raises(Conflict, match="epoch 2"):
        nodes.enroll("n1", GaleraMember(cluster="t", node="n1", epoch=1, peers=["127.0.0.1"]))

    # back to what was before
    cluster.stop()
    for node in cluster.nodes:
        servers.undo_swap(node, f"r-{node}")
        assert servers.undo_swap(node, f"r-{node}").data_epoch == 1
    cluster.enroll(1)
    cluster.bring_up("n3")
    assert {cluster.view(node).uuid for node in cluster.nodes} == {old}
    assert "lost as well" in rows(cluster, "n2")
    assert {node: servers.view(node).lineage for node in cluster.nodes} == lineages
    for node in cluster.nodes:
        servers.discard_old(node)
