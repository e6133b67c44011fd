"""What every datastore must do, asked for by the API alone: the same test for all of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from support.databases import EVERY, Database
from support.service import Refused, Service

PASSWORD = "pass of 'user1'"
NETWORK = str(uuid.uuid4())
AS_TEMPEST = {
    "flavorRef": "d1",
    "volume": {"size": 1, "type": "lvmdriver-1"},
    "nics": [{"net-id": NETWORK}],
    "access": {"is_public": True},
}
"""What the backup scenarios of Trove's tempest plugin send at every create, also at one from a backup."""


@pytest.mark.parametrize("database", EVERY, ids=lambda database: database.datastore)
def test_the_life_of_an_instance_and_its_backups(serve: Callable[..., Service], database: Database) -> None:
    service = serve(config="[artifact]\nsegment_size = 1048576\n" + database.config)

    # A server with databases, users and a superuser, as asked for
    users = [{"name": "user1", "password": PASSWORD, "databases": [{"name": "db1"}]}]
    one = database.create(service, "one", 500, users=users, **AS_TEMPEST)
    assert one["access"]["is_public"] is True
    assert [address["network"] for address in one["addresses"]] == [NETWORK]
    assert (one["status"], one["operating_status"], one["datastore"]["type"]) == ("ACTIVE", "HEALTHY", database.datastore)
    database.login(one, "user1", PASSWORD)
    service.call("POST", "/instances/one/databases", {"databases": [{"name": "db2"}, {"name": "db3"}]})
    service.call("DELETE", "/instances/one/databases/db3")
    assert [row["name"] for row in service.get("/instances/one/databases")["databases"]] == ["db1", "db2"]
    service.call(
        "POST", "/instances/one/users", {"users": [{"name": "user2", "password": "p2"}, {"name": "user3", "password": "p"}]}
    )
    service.call("DELETE", "/instances/one/users/user3")
    service.call("PUT", "/instances/one/users/user2/databases", {"databases": [{"name": "db1"}, {"name": "db2"}]})
    service.call("DELETE", "/instances/one/users/user2/databases/db2")
    found = {row["name"]: [d["name"] for d in row["databases"]] for row in service.get("/instances/one/users")["users"]}
    assert found == {"user1": ["db1"], "user2": ["db1"]}
    database.login(one, "user2", "p2")
    assert service.get("/instances/one/root")["rootEnabled"] is False
    root = service.call("POST", "/instances/one/root").json()["user"]
    assert root["name"] == "root"
    database.login(one, root["name"], root["password"])
    service.call("DELETE", "/instances/one/root")
    with pytest.raises(Exception, match=r"(?i)denied|password|rejects"):
        database.login(one, root["name"], root["password"])

    # A full and incrementals; two on one parent
    full = service.backup("one", "full")
    assert (full["kind"], full["status"], full["parent_id"]) == ("full", "COMPLETED", None)
    at_full = database.sums(service, "one")
    database.execute(service, "one", "UPDATE customers SET note = 'changed' WHERE id % 7 = 0", "CREATE TABLE more (id int)")
    first = service.backup("one", "first", incremental=1)
    assert (first["kind"], first["parent_id"], first["reason"]) == ("incremental", full["id"], None)
    at_first = database.sums(service, "one")
    database.execute(service, "one", "DROP TABLE more", "DELETE FROM orders WHERE id % 3 = 0")
    second = service.backup("one", "second", parent_id=full["id"])
    assert (second["kind"], second["parent_id"]) == ("incremental", full["id"])
    at_second = database.sums(service, "one")
    assert len({str(sums) for sums in (at_full, at_first, at_second)}) == 3
    service.wait(service.act(f"/backups/{first['id']}/action", {"verify": {"prepare": True}}))
    assert service.get(f"/backups/{first['id']}")["backup"]["verified"]["ok"] is True

    # To new instances, each to its own moment
    for name, backup, sums in (("two", first, at_first), ("three", second, at_second)):
        copy = service.create(
            name, restorePoint={"backupRef": backup["id"]}, databases=[{"name": "db1"}], users=users, **AS_TEMPEST
        )
        assert (copy["status"], copy["datastore"]["type"]) == ("ACTIVE", database.datastore)
        assert database.sums(service, name) == sums
        database.login(copy, "user1", PASSWORD)
        root = service.call("POST", f"/instances/{name}/root", {}).json()["user"]
        database.login(copy, "root", root["password"])
        assert [row["name"] for row in service.get(f"/instances/{name}/databases")["databases"]] == ["db1", "db2"]
        service.wait(service.call("DELETE", f"/instances/{name}").headers["Strongroom-Job"])

    # In place, after the accident; the old data is kept until it is discarded
    database.execute(service, "one", "DROP TABLE orders")
    service.wait(service.act("/instances/one/action", {"restore": {"backupRef": first["id"]}}))
    assert database.sums(service, "one") == at_first
    assert len(service.get("/instances/one")["instance"]["old_data"]) == 1
    service.wait(service.act("/instances/one/action", {"discard_old": {}}))
    assert service.get("/instances/one")["instance"]["old_data"] == []

    # Other data now: nothing goes on from the backups before
    with pytest.raises(Refused) as refused:
        service.backup("one", "on the old", parent_id=second["id"])
    assert refused.value.status in (400, 409)
    again = service.backup("one", "again", incremental=1)
    assert (again["kind"], bool(again["reason"])) == ("full", True)

    # A parent goes with its children only
    with pytest.raises(Refused) as refused:
        service.call("DELETE", f"/backups/{full['id']}")
    assert refused.value.status == 409
    service.wait(service.call("DELETE", f"/backups/{first['id']}", now="true").headers["Strongroom-Job"])
    service.wait(service.call("DELETE", f"/backups/{full['id']}", cascade=True, now=True).headers["Strongroom-Job"])
    assert {path.split("/")[0] for path in service.objects("database_backups")} == {again["id"]}
    service.wait(service.call("DELETE", "/instances/one").headers["Strongroom-Job"])
    assert list((service.data_dir / "instances").iterdir()) == []
