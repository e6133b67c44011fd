"""A Galera cluster's life: made, backed up, restored as a whole, brought back, restarted, deleted; by API and command line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.agents import until
from support.cluster import Shop, cluster_service
from support.service import Refused, Service, checksums

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with cluster_service() as service:
        yield service


@pytest.fixture(scope="module")
def shop(service: Service) -> Shop:
    return Shop(service)


def test_incremental_without_a_full_shows_the_command_to_run(shop: Shop) -> None:
    with pytest.raises(Refused, match="no completed backup") as refused:
        shop.backup("too-early", incremental=True)
    assert "strongroom cluster backup shop" in refused.value.remedy


def test_a_chain_stays_with_its_node_and_restores_to_all_nodes(shop: Shop, service: Service) -> None:
    full = shop.backup("monday")
    expected = shop.write("tuesday")
    child = shop.backup("tuesday", incremental=True)
    assert (child["kind"], child["parent_id"], child["instance_id"]) == ("incremental", full["id"], full["instance_id"])
    assert child["cluster_id"] == shop.view["id"]
    for node in shop.view["instances"]:  # tokens stay on the node: elsewhere they have another place in the log
        with service.sql(node["id"]) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM information_schema.tables WHERE table_name = 'strongroom_witness'")
            assert bool(cursor.fetchall()) == (node["id"] == full["instance_id"])
    lost = shop.write("too late")
    assert lost != expected
    before = shop.view["uuid"]

    plan = service.get("/clusters/shop/restore/tuesday")["plan"]
    assert (plan["method"], plan["chain"]) == ("seed", [full["id"], child["id"]])
    job = shop.restore("tuesday")
    shop.require(expected)
    view = shop.view
    assert view["uuid"] != before
    assert (view["epoch"], view["restore"]["phase"]) == (2, "done")
    assert job["output"]["outage_seconds"] < job["output"]["total_seconds"]
    assert all(node["old_bytes"] for node in view["instances"])
    shop.require_full_next()
    service.wait(shop.post("discard_old"))
    assert not any(node["old_bytes"] for node in shop.view["instances"])
    left = [p.name for node in shop.ids for p in (service.data_dir / "instances" / node).iterdir() if p.name.startswith("data.")]
    assert left == []


def test_incremental_of_another_node_than_its_full_is_impossible(shop: Shop, service: Service) -> None:
    full = shop.backup("home", node="node1")
    other = next(node for node in shop.view["instances"] if node["node"] == "node2")
    taken = shop.backup("away", node="node2", incremental=True)
    assert (taken["kind"], taken["instance_id"]) == ("full", other["id"])
    assert "is of node1, not of node2" in taken["reason"]
    with pytest.raises(Refused) as refused:
        service.backup(other["name"], "by-the-way", parent_id=full["id"])
    assert refused.value.status == 501


def test_all_nodes_recover_after_a_common_crash(shop: Shop, service: Service) -> None:
    expected = shop.write("before the cut")
    shop.power_cut()
    service.start()
    service.wait(shop.post("recover"), 240)
    shop.require(expected)


def test_nodes_are_restarted_one_at_a_time(shop: Shop, service: Service) -> None:
    expected = shop.write("before the restarts")
    old = set(shop.pids())
    service.wait(shop.post("restart"), 240)
    shop.require(expected)
    assert not old & set(shop.pids())


def test_restore_by_state_transfer(shop: Shop) -> None:
    with shop.sql(0) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE busy")
        cursor.execute("CREATE TABLE busy.clicks (id INT PRIMARY KEY, n INT)")
        cursor.execute("INSERT INTO busy.clicks VALUES (1, 0)")
    expected = shop.write("to be sent")
    shop.backup("sent")
    shop.write("lost")
    with shop.clients("UPDATE busy.clicks SET n = n + 1") as written:
        job = shop.restore("sent", method="sst")
        done = written()
        until(lambda: written() > done, 30)  # clients go on
    assert done > 10
    assert job["output"]["method"] == "sst"
    assert not job["output"].get("warnings")
    with shop.sql(0) as connection:
        connection.cursor().execute("DROP DATABASE busy")
    del expected["busy.clicks"]
    shop.require(expected)
    shop.require_full_next()


def test_command_line_shows_what_it_will_do(shop: Shop, service: Service) -> None:
    expected = shop.write("by hand")
    done = service.cli("cluster", "backup", "shop", "--name", "by-hand")
    assert "full backup of shop-" in done.stderr
    assert service.cli("cluster", "restore", "shop", "--backup", "by-hand", check=False).returncode == 2  # nobody to ask
    done = service.cli("cluster", "restore", "shop", "--backup", "by-hand", "--yes")
    for said in ("are lost", "all nodes restore the backup", "node1 on local bootstraps", "out of service for", "join node2"):
        assert said in done.stderr
    shop.require(expected)
    shown = json.loads(service.cli("cluster", "show", "shop", "--format", "json").stdout)
    assert [node["state"] for node in shown["instances"]] == ["Synced"] * 3
    done = service.cli("cluster", "restore", "shop", "--resume", check=False)
    assert done.returncode == 4
    assert "has no restore to resume" in done.stderr


def test_another_cluster_is_made_from_its_backup_and_deleted(shop: Shop, service: Service) -> None:
    expected = shop.write("to be copied")
    shop.backup("copied")
    backup = service.get("/backups/copied")["backup"]["id"]
    service.cli("cluster", "create", "two", "--nodes", "2", "--backup", backup)
    view = service.get("/clusters/two")["cluster"]
    for node in view["instances"]:
        with service.sql(node["id"]) as connection:
            assert checksums(connection) == expected
    # It is an isolated copy until a person activates it.
    assert all(node["isolated"] for node in view["instances"])
    assert "two is isolated" in service.cli("cluster", "show", "two").stderr
    service.cli("cluster", "activate", "two", "--yes")
    view = service.get("/clusters/two")["cluster"]
    assert not any(node["isolated"] for node in view["instances"])
    for node in view["instances"]:
        with service.sql(node["id"]) as connection:
            assert checksums(connection) == expected
    service.cli("cluster", "delete", "two", "--yes")
    with pytest.raises(Refused, match="cannot be found"):
        service.get("/clusters/two")
    assert [cluster["name"] for cluster in service.get("/clusters")["clusters"]] == ["shop"]
