"""A MySQL server of somebody else: adopted, backed up, restored in place with its owner's own commands, and let go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.databases import MYSQL
from support.keyring import installation, ring
from support.load import fill
from support.own_mysql import OwnMySQL
from support.service import Failed, Service, checksums

pytestmark = pytest.mark.root
RIGHTS = "BACKUP_ADMIN, REPLICATION SLAVE, REPLICATION CLIENT, RELOAD, PROCESS, SELECT"


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve(config=MYSQL.config)


@pytest.fixture
def own(place: Path) -> Iterator[OwnMySQL]:
    server = OwnMySQL(place, settings="log_bin=own\ngtid_mode=ON\nenforce_gtid_consistency=ON")
    yield server
    server.end()


def adopt(service: Service, own: OwnMySQL, *, check: bool = True) -> str:
    credentials = own.base / "credentials.cnf"
    credentials.write_text('[client]\nuser = keeper\npassword = "the keeper\'s"\n')
    credentials.chmod(0o644)
    done = service.cli(
        "instance", "adopt", "own", "--datastore", "mysql", "--socket", str(own.socket), "--credentials-file", str(credentials),
        "--start-command", str(own.start), "--stop-command", str(own.stop), check=check,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_adopt_back_up_restore_in_place_remove(service: Service, own: OwnMySQL) -> None:
    own.sql("CREATE USER keeper@localhost IDENTIFIED BY 'the keeper''s'")
    with own.connect() as connection:
        fill(connection, 300)
    before = own.sql("SHOW GRANTS FOR keeper@localhost")
    assert "ACTIVE" in adopt(service, own)

    # What it lacks is said, and nothing is done about it
    findings = service.cli("check", "--format", "json", check=False)
    said = [row for row in json.loads(findings.stdout) if "own" in str(row)]
    text = json.dumps(said)
    assert f"GRANT {RIGHTS} ON *.* TO 'keeper'@'localhost';" in text
    assert "INSTALL PLUGIN clone SONAME 'mysql_clone.so';" in text
    assert own.sql("SHOW GRANTS FOR keeper@localhost") == before
    own.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'", f"GRANT {RIGHTS} ON *.* TO 'keeper'@'localhost'")
    own.sql("SET PERSIST max_connections = 77")
    (own.data / "client-key.pem").unlink()  # its owner wants none there
    keys = {path.name: path.read_text() for path in own.data.glob("*.pem")}

    full = service.backup("own", "full")
    own.sql("UPDATE db1.customers SET note = 'changed' WHERE id < 100")
    with own.connect() as connection:
        expected = checksums(connection)
    child = service.backup("own", "inc", incremental=1)
    assert (child["kind"], child["parent_id"], child["reason"]) == ("incremental", full["id"], None)
    own.sql("DROP DATABASE db1")
    service.wait(service.act("/instances/own/action", {"restore": {"backupRef": child["id"]}}))
    with own.connect() as connection:
        assert checksums(connection) == expected
    assert own.data.owner() == own.user
    assert own.sql("SELECT @@max_connections") == [(77,)]
    assert {path.name: path.read_text() for path in own.data.glob("*.pem")} == keys != {}
    assert len(service.get("/instances/own")["instance"]["old_data"]) == 1
    assert {user for (user,) in own.sql("SELECT User FROM mysql.user")} == {
        *("keeper", "root", "mysql.infoschema", "mysql.session", "mysql.sys"),
    }  # nobody of ours came along
    service.wait(service.act("/instances/own/action", {"discard_old": {}}))

    # A new instance of ours can be made from it, too.
    copy = service.create("copy", restorePoint={"backupRef": child["id"]})
    with service.sql(copy["id"]) as connection:
        assert checksums(connection) == expected

    # Letting go of it leaves the server as it is.
    service.wait(service.call("DELETE", "/instances/own").headers["Strongroom-Job"])
    with own.connect() as connection:
        assert checksums(connection) == expected


def test_encrypted_tables_are_restored_in_place_with_the_keyring(serve: Callable[..., Service], place: Path) -> None:
    """The restore that cannot read them ends before anything is stopped or replaced."""
    version = installation(place, "usr", ring(place, "ring"))
    service = serve(config=f'[datastores]\nmysql = ["{version.programs["server"].parent}"]\n')
    settings = "log_bin=own\ngtid_mode=ON\nenforce_gtid_consistency=ON\nplugin-load-add=mysql_clone.so"
    own = OwnMySQL(place, use=version, settings=f"{settings}\nbasedir={place / 'usr'}")
    try:
        own.sql("CREATE USER keeper@localhost IDENTIFIED BY 'the keeper''s'", f"GRANT {RIGHTS} ON *.* TO keeper@localhost")
        own.sql("SET PERSIST default_table_encryption = ON", "SET PERSIST innodb_redo_log_encrypt = ON")
        with own.connect() as connection:
            fill(connection, 300)
            expected = checksums(connection)
        adopt(service, own)
        full = service.backup("own", "full")
        (job,) = (job for job in service.get("/jobs")["jobs"] if job.get("backup_id") == full["id"])
        warnings = service.job(job["id"])["output"]["warnings"]
        assert sum("keyring is not part of a backup" in warning for warning in warnings) == 1
        other = service.backup("own", "other", incremental=1)
        assert (other["kind"], "has a keyring" in other["reason"]) == ("full", True)
        own.sql("DROP TABLE db1.orders")
        (own.data / "component_keyring_file.cnf").write_text("{}")
        with own.connect() as connection:
            changed = checksums(connection)

        manifest = Path(f"{version.programs['server']}.my")
        manifest.rename(place / "away")
        (pid,) = own.base.glob("own.pid")
        before = pid.read_text()
        with pytest.raises(Failed) as failed:
            service.wait(service.act("/instances/own/action", {"restore": {"backupRef": full["id"]}}))
        fault = failed.value.job["fault"]
        assert fault["code"] == "ConfigurationError" and "lacks the master key INNODBKey-" in fault["message"]
        assert pid.read_text() == before
        with own.connect() as connection:
            assert checksums(connection) == changed

        (place / "away").rename(manifest)
        service.wait(service.act("/instances/own/action", {"restore": {"backupRef": full["id"]}}))
        with own.connect() as connection:
            assert checksums(connection) == expected
        assert pid.read_text() != before
        assert (own.data / "component_keyring_file.cnf").read_text() == "{}"
    finally:
        own.end()
