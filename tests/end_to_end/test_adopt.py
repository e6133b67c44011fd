"""A server that somebody else runs: adopted, backed up, restored in place with its owner's own commands, and let go."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pymysql
import pytest

from support.agents import until
from support.load import fill
from support.service import Failed, Refused, Service, checksums

pytestmark = pytest.mark.root


class OwnServer:
    """A plain MariaDB with its own option file, as a distribution would run it, and scripts to start and stop it."""

    def __init__(self, place: Path, address: str) -> None:
        self.base = place / "own"
        self.base.mkdir(mode=0o755)
        self.data = self.base / "mysql"
        self.socket = self.base / "own.sock"
        self.options = self.base / "own.cnf"
        self.options.write_text(
            f"[mysqld]\ndatadir={self.data}\nsocket={self.socket}\npid-file={self.base}/own.pid\n"
            f"log_error={self.base}/own.log\nbind-address={address}\nport=3306\nskip-name-resolve\nlog_bin=own-bin\ncharacter-set-server=utf8mb4\n"
        )
        self.start = self.base / "start"
        self.stop = self.base / "stop"
        self.start.write_text(
            f"#!/bin/sh\nsetsid setpriv --reuid=mysql --regid=mysql --clear-groups"
            f" mariadbd --defaults-file={self.options} >/dev/null 2>&1 </dev/null &\n"
        )
        self.stop.write_text(f"#!/bin/sh\nmariadb --no-defaults -S {self.socket} -uroot -e SHUTDOWN\n")
        for script in (self.start, self.stop):
            script.chmod(0o755)
        subprocess.run(["chown", "mysql:mysql", str(self.base)], check=True)
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--user=mysql", "--skip-test-db"],
            check=True,
            capture_output=True,
        )
        subprocess.run([str(self.start)], check=True)
        until(self.socket.exists, 50)

    def accepts(self) -> bool:
        try:
            self.connect().close()
        except pymysql.OperationalError:
            return False
        return True

    def connect(self) -> pymysql.Connection:  # type: ignore[type-arg]
        return pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True)


def test_adopt_back_up_restore_in_place_remove(service: Service, place: Path, pool: str) -> None:
    own = OwnServer(place, pool.replace(".0/24", ".200"))
    try:
        with own.connect() as connection:
            fill(connection)
        done = service.cli(
            "instance", "adopt", "own", "--socket", str(own.socket), "--defaults-file", str(own.options),
            "--start-command", str(own.start), "--stop-command", str(own.stop),
        )  # fmt: skip
        assert "ACTIVE" in done.stdout
        view = service.get("/instances/own")["instance"]
        assert (view["runtime"], view["status"], view["operating_status"]) == ("adopted", "ACTIVE", "HEALTHY")
        full = service.backup("own", "full")
        with own.connect() as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE db1.customers SET note = 'changed' WHERE id < 100")
            expected = checksums(connection)
        child = service.backup("own", "inc", incremental=1)
        assert (child["kind"], child["parent_id"]) == ("incremental", full["id"])
        planned = service.cli("restore", "inc", "--in-place", "own", "--plan", "-f", "json")
        plan = json.loads(planned.stdout)
        assert (plan["allowed"], plan["instance"], [link["name"] for link in plan["chain"]]) == (True, "own", ["full", "inc"])
        assert {("kept", "previous data"), ("kept", "configuration")} <= {(e["effect"], e["item"]) for e in plan["effects"]}
        with own.connect() as connection, connection.cursor() as cursor:
            cursor.execute("DROP DATABASE db1")
        service.wait(service.act("/instances/own/action", {"restore": {"backupRef": child["id"]}}))
        with own.connect() as connection:
            assert checksums(connection) == expected
        assert own.data.owner() == "mysql"
        assert len(service.get("/instances/own")["instance"]["old_data"]) == 1
        service.wait(service.act("/instances/own/action", {"discard_old": {}}))
        assert sorted(p.name for p in own.base.iterdir() if p.is_dir()) == ["mysql"]

        # A new instance of ours can be made from it, too.
        copy = service.create("copy", restorePoint={"backupRef": child["id"]})
        with service.sql(copy["id"]) as connection:
            assert checksums(connection) == expected

        # It is isolated until a person activates it.
        assert service.get("/instances/copy")["instance"]["isolated"]
        assert not service.get("/instances/own")["instance"]["isolated"]
        service.cli("instance", "activate", "copy", "--yes")
        assert not service.get("/instances/copy")["instance"]["isolated"]
        assert service.cli("instance", "activate", "copy", "--yes", check=False).returncode == 4
        with service.sql(copy["id"]) as connection:
            assert checksums(connection) == expected

        # Letting go of it leaves the server as it is.
        service.wait(service.call("DELETE", "/instances/own").headers["Strongroom-Job"])
        with own.connect() as connection:
            assert checksums(connection) == expected
    finally:
        subprocess.run([str(own.stop)], check=False)


def test_a_failed_adoption_names_its_cause_and_leaves_nothing(service: Service, place: Path, pool: str) -> None:
    done = service.cli("instance", "adopt", "ghost", "--socket", str(place / "none.sock"), check=False)
    assert done.returncode == 1
    assert f"there is no socket {place / 'none.sock'}" in done.stderr
    with pytest.raises(Refused) as refused:
        service.get("/instances/ghost")
    assert refused.value.status == 404
    own = OwnServer(place, pool.replace(".0/24", ".201"))
    keeper = place / "keeper.cnf"
    try:
        with own.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER keeper@localhost IDENTIFIED BY 'hush'")
            cursor.execute("GRANT ALL ON *.* TO keeper@localhost")
            cursor.execute("ALTER USER keeper@localhost PASSWORD EXPIRE")
        adopt = ["instance", "adopt", "ghost", "--socket", str(own.socket), "--start-command", str(own.start)]
        adopt += ["--stop-command", str(own.stop), "--defaults-file", str(own.options), "--credentials-file", str(keeper)]
        for password, cause in (("wrong", "refused the account 'keeper'"), ("hush", "whose password has expired")):
            keeper.write_text(f"[client]\nuser=keeper\npassword={password}\n")
            keeper.chmod(0o600)
            done = service.cli(*adopt, check=False)
            assert done.returncode == 1 and cause in done.stderr
            assert password not in done.stderr
        assert service.get("/instances")["instances"] == []
        with own.connect() as connection, connection.cursor() as cursor:
            cursor.execute("ALTER USER keeper@localhost IDENTIFIED BY 'hush' PASSWORD EXPIRE NEVER")
        assert "ACTIVE" in service.cli(*adopt).stdout
        again = service.cli(*(["instance", "adopt", "again", *adopt[3:]]), check=False)
        assert again.returncode != 0 and "is managed already, as ghost" in again.stderr
        assert [i["name"] for i in service.get("/instances")["instances"]] == ["ghost"]

        # One that runs, and has no free connection, is shown as that.
        with own.connect() as connection, connection.cursor() as cursor:
            cursor.execute("GRANT USAGE ON *.* TO keeper@localhost WITH MAX_USER_CONNECTIONS 1")
        with pymysql.connect(unix_socket=str(own.socket), user="keeper", password="hush"):
            until(lambda: service.get("/instances/ghost")["instance"]["status"] == "BLOCKED", 20)
            assert "has no free connection" in service.get("/instances/ghost")["instance"]["detail"]
        until(lambda: service.get("/instances/ghost")["instance"]["status"] == "ACTIVE", 20)

        # One that its owner stopped and started again can be used at once.
        subprocess.run([str(own.stop)], check=True)
        until(lambda: service.get("/instances/ghost")["instance"]["status"] == "SHUTDOWN", 20)
        subprocess.run([str(own.start)], check=True)
        until(own.accepts, 50)
        assert service.get("/instances/ghost/databases")["databases"] == []

        # Why a server does not start is said first.
        service.wait(service.act("/instances/ghost/action", {"stop": {}}))
        own.options.write_text(own.options.read_text() + "innodb_page_size=8k\n")
        own.start.write_text(own.start.read_text().replace(" &\n", "\n").replace("setsid ", ""))
        with pytest.raises(Failed) as failed:
            service.wait(service.act("/instances/ghost/action", {"start": {}}))
        fault = failed.value.job["fault"]["message"]
        assert "failed (exit status 1): " in fault and fault.index("page size 16384") < fault.index("the end of its error log")
    finally:
        subprocess.run([str(own.stop)], check=False)
