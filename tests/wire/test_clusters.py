"""The stock client's commands for clusters. One node makes a cluster, too; the others are met in tests/end_to_end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cluster import CONFIG
from support.service import Service
from support.stock import Stock

pytestmark = pytest.mark.root


def test_clusters(serve: Callable[..., Service], stock: Stock) -> None:
    service = serve(config=CONFIG)
    openstack = stock.with_environment(OS_AUTH_TYPE="none", OS_ENDPOINT=f"{service.url}/v1.0/default")
    assert openstack("database cluster list").stdout.strip() == ""
    create = "database cluster create shop mariadb"
    openstack.refused(400, "version 5.5 of datastore mariadb", create, "5.5", "--instance", "flavor=d1,volume=1")
    openstack.refused(501, "datastore mysql", "database cluster create x mysql 8.0", "--instance", "flavor=d1,volume=1")
    openstack.refused(
        400, "must be alike", create, "10.11", "--instance", "flavor=d1,volume=1", "--instance", "flavor=d2,volume=1"
    )

    said = openstack(create, "10.11", "--instance", "flavor=d1,volume=1").fields()
    assert (said["datastore"], said["datastore_version"], said["instance_count"]) == ("mariadb", "10.11", "1")
    assert (said["task_name"], said["task_description"]) == ("BUILDING", "Building the initial cluster.")
    (row,) = openstack("database cluster list").table()
    assert (row["ID"], row["Name"], row["Datastore"], row["Task Name"]) == (said["id"], "shop", "mariadb", "BUILDING")
    service.wait(service.get("/clusters/shop")["cluster"]["job_id"])
    fields = openstack("database cluster show shop").fields()
    assert (fields["task_name"], fields["status"]) == ("NONE", "HEALTHY")
    (node,) = openstack("database cluster list instances shop").table()
    assert (node["Name"], node["Flavor ID"], node["Size"], node["Status"]) == ("shop-1", "d1", "1", "ACTIVE")
    assert fields["ip"] == service.get(f"/instances/{node['ID']}")["instance"]["ip"][0]

    # nodes are hidden from the list of instances, and not worked on alone
    assert openstack("database instance list").stdout.strip() == ""
    assert [i["Name"] for i in openstack("database instance list --include-clustered").table()] == ["shop-1"]
    for command in ("database instance restart", "database instance delete", "database backup create b -i"):
        openstack.refused(501, "node1 of a cluster", command, node["ID"])

    openstack.refused(501, "grow of a cluster", "database cluster grow shop", "--instance", "flavor=d1,volume=1")
    openstack.refused(501, "shrink of a cluster", "database cluster shrink shop shop-1")
    openstack.refused(501, "upgrade of a cluster", "database cluster upgrade shop 11.4")
    openstack("database cluster reset status shop")
    openstack("database cluster delete shop")
    listed = openstack("database cluster list")
    assert not listed.stdout.strip() or listed.table()[0]["Task Name"] == "DELETING"  # a deletion may be faster than the client
    assert "No cluster with a name or ID of 'nope'" in openstack.tried("database cluster show nope").stderr
