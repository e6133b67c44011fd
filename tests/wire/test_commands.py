"""Every command of the stock client for instances, backups, databases and users, and its messages for refused requests."""

from __future__ import annotations

import json
import os
import signal
import uuid
from typing import Any

import pymysql
import pytest

from strongroom.flows import version_id
from support import processes

MARIADB = version_id("mariadb")
VERSION = version_id("mariadb", "10.11")
CREATE = "database instance create --flavor d1 --size 1"


def done(cloud: Any, path: str, expect: str = "succeeded") -> dict[str, Any]:
    """The thing, when its newest job is over."""
    (view,) = cloud.service.get(path).values()
    cloud.service.wait(view["job_id"], expect=expect)
    (view,) = cloud.service.get(path).values()
    return dict(view)


def names(said: Any) -> list[str]:
    return [row["Name"] for row in said.table()]


def test_instances(none_directory: Any) -> None:
    cloud, openstack = none_directory, none_directory.stock
    said = openstack(
        f"{CREATE} one --databases db1 db2 --users u1:first-password u2:second-password --datastore",
        *(
            MARIADB,
            "--datastore-version",
            VERSION,
            "--nic",
            f"net-id={(network := str(uuid.uuid4()))},subnet-id={uuid.uuid4()}",
        ),
        *("--availability-zone", "nova", "--volume-type", "ssd", "--is-public", "--allowed-cidr", "10.0.0.0/8"),
    )
    one = said.fields()["id"]
    assert done(cloud, f"/instances/{one}")["status"] == "ACTIVE"
    shown = openstack("database instance show one").fields()
    assert (shown["public"], shown["allowed_cidrs"]) == ("True", "['10.0.0.0/8']")
    assert f"'network': '{network}'" in shown["addresses"]
    users = [(row["Name"], row["Databases"]) for row in openstack("database user list one").table()]
    assert users == [("u1", "db1, db2"), ("u2", "db1, db2")]
    with cloud.service.sql(one) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE db1.t (id INT PRIMARY KEY)")
        cursor.execute("SELECT @@innodb_buffer_pool_size")
        (small,) = cursor.fetchone()

    # what makes no sense is refused with a sentence
    openstack.refused(501, "replica_of is not supported", "database instance create copy --replica-of one --size 1")
    fixed = f"net-id={uuid.uuid4()},subnet-id={uuid.uuid4()},ip-address=10.0.0.9"
    openstack.refused(501, "ip_address is not supported", f"{CREATE} fixed --nic", fixed)
    openstack.refused(400, "'mysql' of a database is reserved", f"{CREATE} x --databases mysql")
    openstack.refused(400, "'root' of a user is reserved", f"{CREATE} x --databases db1 --users root:password")
    openstack.refused(501, "configuration is not supported", f"{CREATE} tuned --configuration x")
    openstack.refused(404, "datastore oracle cannot be found", f"{CREATE} x --datastore oracle")
    openstack.refused(400, "version 5.5 of datastore mariadb cannot be found", f"{CREATE} x --datastore-version 5.5")
    openstack.refused(400, "more than once", f"{CREATE} x --databases db1 db1")
    assert "No flavor with a name or ID of 'd99'" in openstack.tried("database instance create x --flavor d99").stderr
    assert "No instance with a name or ID of 'nope'" in openstack.tried("database instance show nope").stderr
    openstack.refused(400, "is not a replica.", "database instance promote one")
    openstack.refused(400, "is not a replica source.", "database instance eject one")
    openstack.refused(400, "is not a replica.", "database instance detach one")
    openstack.refused(400, "is not a replica.", "database instance update one --detach-replica-source")
    openstack.refused(501, "datastore_version is not supported", "database instance upgrade one 11.8")
    openstack.refused(501, "not virtual machines", "database instance rebuild", one, str(uuid.uuid4()))
    assert openstack("database cluster list").stdout.strip() == ""
    assert openstack("database configuration list").stdout.strip() == ""
    openstack.refused(501, "logs", "database log list one")

    # update, restart, resize
    openstack("database instance update one --name renamed --remove-configuration")
    assert openstack.value("name", "database instance show", one) == "renamed"
    openstack("database instance update", one, "--name", "one", "--is-private")
    shown = openstack("database instance show one").fields()
    assert (shown["public"], shown["allowed_cidrs"]) == ("False", "['10.0.0.0/8']")
    for command, ref in (("restart", "one"), ("reboot", one)):  # by name, reboot sends nonsense
        openstack(f"database instance {command}", ref)
        assert openstack.value("status", "database instance show one") in ("REBOOT", "ACTIVE")
        done(cloud, f"/instances/{one}")
    openstack.refused(400, "must be larger than the current 1 GB", "database instance resize volume one 1")
    openstack("database instance resize volume one 2")
    assert openstack.value("volume", "database instance show one") == "2"
    openstack.refused(400, "already has flavor d1", "database instance resize flavor one d1")
    (server,) = (pid for pid, command in processes.below(cloud.service.place).items() if "mariadbd" in command and one in command)
    os.kill(server, signal.SIGSTOP)  # the job must not end before the client has started
    try:
        openstack("database instance resize flavor one d2")
        openstack.refused(422, "is busy: resize job", "database instance restart one")
    finally:
        os.kill(server, signal.SIGCONT)
    assert done(cloud, f"/instances/{one}")["flavor"]["id"] == "d2"
    with cloud.service.sql(one) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_buffer_pool_size")
        (large,) = cursor.fetchone()
    assert 1.9 < large / small < 2.1

    # lists
    two = openstack(f"{CREATE} two").fields()["id"]
    done(cloud, f"/instances/{two}")
    assert names(openstack("database instance list --include-clustered")) == ["two", "one"]
    assert names(openstack("database instance list --limit 1")) == ["two"]
    assert names(openstack("database instance list --limit 1 --marker", two)) == ["one"]
    everywhere = openstack.with_environment(OS_ENDPOINT=f"{cloud.service.url}/v1.0/another")
    assert everywhere("database instance list").stdout.strip() == ""
    for option in ("--all-projects", f"--project-id={cloud.project}"):
        said = everywhere("database instance list", option)
        assert [(row["Name"], row["Tenant ID"]) for row in said.table()] == [
            ("two", cloud.project),
            ("one", cloud.project),
        ]
        assert len({row["Server ID"] for row in said.table()}) == 1
    assert everywhere("database instance list --project-id nobody").stdout.strip() == ""

    # reset, and every way to delete
    openstack("database instance reset status one")
    assert openstack.value("status", "database instance show one") == "ACTIVE"
    said = openstack("database instance delete one", two)
    assert said.stdout.count("has been accepted") == 2
    stuck = openstack(f"{CREATE} stuck").fields()["id"]
    openstack("database instance delete stuck --force")
    stuck2 = openstack(f"{CREATE} stuck2").fields()["id"]
    openstack("database instance force delete stuck2")
    for instance in (one, two, stuck, stuck2):
        cloud.service.wait(cloud.service.get("/jobs", instance_id=instance)["jobs"][0]["id"])
    assert openstack("database instance list").stdout.strip() == ""
    assert sorted((cloud.service.data_dir / "instances").iterdir()) == []


def test_two_instances_with_one_name(none_directory: Any) -> None:
    openstack = none_directory.stock
    first = openstack(f"{CREATE} twin").fields()["id"]
    second = openstack(f"{CREATE} twin").fields()["id"]
    assert "More than one" in openstack.tried("database instance show twin").stderr
    assert openstack.value("name", "database instance show", second) == "twin"
    openstack("database instance force delete", first)
    openstack("database instance force delete", second)


def test_backups_and_strategies(none_directory: Any) -> None:
    cloud, openstack = none_directory, none_directory.stock
    one = openstack(f"{CREATE} one --databases db1").fields()["id"]
    done(cloud, f"/instances/{one}")

    def backup(name: str, *options: str) -> dict[str, str]:
        fields = openstack("database backup create", name, "-i", "one", *options).fields()
        done(cloud, f"/backups/{fields['id']}")
        return dict(openstack("database backup show", fields["id"]).fields())

    # the container: configuration, project, instance, request
    full = backup("full", "--description", "of a Monday")
    assert (full["kind"], full["container"], full["description"]) == ("full", "database_backups", "of a Monday")
    fields = openstack("database backup strategy create --swift-container of-project").fields()
    assert fields == {"backend": "directory", "instance_id": "", "project_id": cloud.project, "swift_container": "of-project"}
    inc1 = backup("inc1", "--incremental")
    assert (inc1["kind"], inc1["parent_id"], inc1["container"]) == ("incremental", full["id"], "of-project")
    openstack("database backup strategy create --swift-container of-instance --instance-id", one)
    inc2 = backup("inc2", "--parent", inc1["id"])
    assert (inc2["parent_id"], inc2["container"]) == (inc1["id"], "of-instance")
    side = backup("side", "--parent", full["id"], "--swift-container", "of-request", "--storage-driver", "swift")
    assert (side["parent_id"], side["container"]) == (full["id"], "of-request")
    said = openstack("database backup strategy list")
    assert [(row["Instance ID"], row["Swift Container"]) for row in said.table()] == [("", "of-project"), (one, "of-instance")]
    assert len(openstack("database backup strategy list --instance-id", one).table()) == 1
    openstack("database backup strategy delete --instance-id", one)
    openstack("database backup strategy delete")
    openstack("database backup strategy delete")  # it is no error when there is none
    assert openstack("database backup strategy list").stdout.strip() == ""

    # lists: newest first, with every filter
    assert names(openstack("database backup list")) == ["side", "inc2", "inc1", "full"]
    for options in (
        ("-i", "one"),
        ("--instance", one),
        ("--instance-id", one),
        ("--datastore", "mariadb"),
        ("--datastore", MARIADB),
    ):
        assert names(openstack("database backup list", *options)) == ["side", "inc2", "inc1", "full"], options
    for options in (("--all-projects",), ("--project-id", cloud.project)):
        assert len(openstack("database backup list", *options).table()) == 4
    assert openstack("database backup list --project-id nobody").stdout.strip() == ""
    assert openstack("database backup list --instance-id", str(uuid.uuid4())).stdout.strip() == ""
    openstack.refused(404, "datastore oracle cannot be found", "database backup list --datastore oracle")
    assert names(openstack("database backup list --limit 2")) == ["side", "inc2"]
    assert names(openstack("database backup list --limit 2 --marker", inc2["id"])) == ["inc1", "full"]
    said = openstack("database backup list instance one")
    assert said.columns() == ["ID", "Instance ID", "Name", "Status", "Parent ID", "Updated"]
    assert names(said) == ["side", "inc2", "inc1", "full"]
    assert names(openstack("database backup list instance one --limit 1 --marker", inc2["id"])) == ["inc1"]

    # refusals
    openstack.refused(409, "is the parent of", "database backup delete full")
    openstack.refused(404, "cannot be found", "database backup create x -i one --parent", str(uuid.uuid4()))
    openstack.refused(400, "swift_container", "database backup create x -i one --swift-container", "a b; rm")
    openstack.refused(400, "cinder is not supported", "database backup create x -i one --storage-driver cinder")
    openstack.refused(404, "cannot be found", "database backup create x -i", str(uuid.uuid4()))
    restore = f"database instance create r --flavor d1 --size 1 --backup {full['id']}"
    openstack.refused(400, "10.6", f"{restore} --datastore-version 10.6")
    running = openstack("database backup create running -i one").fields()["id"]
    if openstack.tried("database backup create second -i one").status:  # on a fast machine the first is over already
        said = openstack.tried("database backup delete", running)
        assert said.status == 0 or "because it is running. (HTTP 422)" in said.stdout
        if said.status:
            done(cloud, f"/backups/{running}")
    else:
        done(cloud, f"/backups/{running}")

    # records of what is in the store already
    where = full["locationRef"]
    said = openstack(
        *("database backup create again --restore-from", where, "--restore-datastore-version", VERSION, "--restore-size", "0.3")
    )
    assert (said.fields()["status"], said.fields()["locationRef"], said.fields()["size"]) == ("RESTORED", where, "0.3")
    openstack.refused(
        *(400, "local_datastore_version_id", "database backup create bad --restore-from", where, "--restore-size", "1")
    )

    # delete, by name and by id, several at a time
    said = openstack("database backup delete again side", inc2["id"])
    assert said.stdout.count("has been accepted") == 3
    for job in cloud.service.get("/jobs", limit=3)["jobs"]:
        cloud.service.wait(job["id"])
    assert {"full", "inc1"} <= set(names(openstack("database backup list"))) <= {"full", "inc1", "running", "second"}
    assert "No backup with a name or ID of 'side'" in openstack.tried("database backup show side").stderr
    deleted = {b["name"] for b in cloud.service.get("/backups", trashed="true")["backups"] if b["sweep_at"]}
    assert {"again", "side", "inc2"} <= deleted, "they stay in the store for a while, out of sight"


def test_databases_users_and_root(none_directory: Any) -> None:
    cloud, openstack = none_directory, none_directory.stock
    one = openstack(f"{CREATE} one").fields()["id"]
    address = done(cloud, f"/instances/{one}")["ip"][0]

    def login(user: str, password: str) -> set[str]:
        with pymysql.connect(host=address, user=user, password=password) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW DATABASES")
            return {name for (name,) in cursor.fetchall()} - {"information_schema"}

    for name in ("db1", "db2", "db3"):
        openstack("database db create one", name, "--character_set", "utf8mb4", "--collate", "utf8mb4_unicode_ci")
    openstack.refused(409, "exists already", "database db create one db1")
    openstack.refused(400, "reserved", "database db create one mysql")
    assert names(openstack("database db list one")) == ["db1", "db2", "db3"]
    openstack("database db delete", one, "db3")
    assert "there is no database 'db3'" in openstack.tried("database db delete one db3").stderr

    openstack("database user create one u1 first-password --databases db1")
    openstack("database user create one u1 of-one-host --host 10.0.0.1")
    openstack.refused(400, "reserved", "database user create one root password")
    said = openstack("database user list one")
    assert [(r["Name"], r["Host"], r["Databases"]) for r in said.table()] == [("u1", "%", "db1"), ("u1", "10.0.0.1", "")]
    said = openstack("database user show one u1 --host 10.0.0.1")
    assert (said.fields()["name"], said.fields()["host"]) == ("u1", "10.0.0.1")
    openstack("database user grant access one u1 db1 db2")
    assert names(openstack("database user show access one u1")) == ["db1", "db2"]
    assert login("u1", "first-password") == {"db1", "db2"}
    openstack("database user revoke access one u1 db1")
    openstack.refused(404, "has no rights on database 'db1'", "database user revoke access one u1 db1")
    openstack("database user update attributes one u1 --new_password second-password --new_name u2")
    assert login("u2", "second-password") == {"db2"}
    openstack("database user update attributes one u1 --host 10.0.0.1 --new_host 10.0.0.2")
    assert openstack("database user show one u1 --host 10.0.0.2").fields()["host"] == "10.0.0.2"
    for command in ("show", "show access", "delete", "update attributes", "grant access", "revoke access"):
        more = {"update attributes": ["--new_password", "stolen"], "grant access": ["db1"], "revoke access": ["db2"]}
        said = openstack.tried(f"database user {command} one u1", *more.get(command, []))
        assert "u1@% cannot be found" in said.stderr, command
    assert openstack("database user show one u1 --host 10.0.0.2").fields()["databases"] == "[]"
    openstack("database user delete one u1 --host 10.0.0.2")
    openstack("database user delete one u2")
    assert "cannot be found" in openstack.tried("database user delete one u2").stderr
    assert openstack("database user list one").stdout.strip() == ""

    assert openstack("database root show one").fields() == {"is_root_enabled": "False"}
    openstack.refused(404, "root is not enabled", "database root disable one")
    made_up = openstack("database root enable one").fields()
    assert made_up["name"] == "root"
    assert login("root", made_up["password"]) >= {"db1", "mysql"}
    given = openstack("database root enable one --root_password given-by-a-person").fields()
    assert given == {"name": "root", "password": "given-by-a-person"}
    assert login("root", "given-by-a-person") >= {"db1", "mysql"}
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        login("root", made_up["password"])
    assert openstack("database root show", one).fields() == {"is_root_enabled": "True"}
    openstack("database root disable one")
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        login("root", "given-by-a-person")
    assert openstack("database root show one").fields() == {"is_root_enabled": "False"}
    assert "No instance or cluster with a name or ID of 'nope'" in openstack.tried("database root show nope").stderr


def test_datastores_flavors_and_limits(none_directory: Any) -> None:
    cloud, openstack = none_directory, none_directory.stock
    said = openstack("database flavor list")
    assert said.columns() == ["ID", "Name", "RAM", "vCPUs", "Disk", "Ephemeral"]
    assert [(row["ID"], row["Name"], row["RAM"]) for row in said.table()[:2]] == [("d1", "d1", "512"), ("d2", "d2", "1024")]
    said = openstack("database flavor list --datastore-type mariadb --datastore-version-id", VERSION)
    assert len(said.table()) == 5
    assert openstack("database flavor show d2").fields()["ram"] == "1024"

    assert {"ID": MARIADB, "Name": "mariadb"} in openstack("datastore list").table()
    fields = openstack("datastore show mariadb").fields()
    assert (fields["id"], fields["default_version"], fields["versions (id)"]) == (MARIADB, "10.11", f"10.11 ({VERSION})")
    for datastore in ("mariadb", MARIADB):
        (row,) = openstack("datastore version list", datastore).table()
        assert (row["ID"], row["Name"]) == (VERSION, "10.11")
    for options in ((VERSION,), ("10.11", "--datastore", "mariadb"), (VERSION, "--datastore", MARIADB)):
        fields = openstack("datastore version show", *options).fields()
        assert (fields["id"], fields["name"], fields["datastore"]) == (VERSION, "10.11", MARIADB)

    said = openstack("database limit list")
    assert "max_backups" in said.stdout
    assert "ABSOLUTE" in said.stdout

    openstack.refused(404, "cpus", "database quota update", str(uuid.uuid4()), "cpus", "1")
    project = uuid.uuid4().hex  # to look a name up takes Keystone
    mine = openstack.with_environment(OS_ENDPOINT=f"{cloud.service.url}/v1.0/{project}")
    assert mine("database quota update", project, "instances", "1").fields() == {"instances": "1"}
    mine("database quota update", project, "backups", "0")
    one = mine(f"{CREATE} one").fields()["id"]
    mine.refused(413, "Quota exceeded for resources: ['instances'].", f"{CREATE} two")
    rows = json.loads(mine("database quota show", project, "-f", "json").stdout)
    assert {row["Resource"]: (row["In Use"], row["Reserved"], row["Limit"]) for row in rows} == {
        "instances": (1, 0, 1),
        "ram": (512, 0, -1),
        "volumes": (1, 0, -1),
        "backups": (0, 0, 0),
    }
    in_project = cloud.service.http.base_url.copy_with(path=f"/v1.0/{project}/")
    job = cloud.service.http.get(f"{in_project}jobs").json()["jobs"][0]["id"]
    while cloud.service.http.get(f"{in_project}jobs/{job}", params={"wait": 5, "after": 10**9}).json()["job"]["finished"] is None:
        pass
    mine.refused(413, "Quota exceeded for resources: ['backups'].", "database backup create b -i", one)
    mine("database quota update", project, "ram", "600")
    mine.refused(413, "Quota exceeded for resources: ['ram'].", "database instance resize flavor one d2")
