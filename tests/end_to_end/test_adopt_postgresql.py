"""A PostgreSQL server of somebody else: adopted, backed up, restored in place with its owner's own commands, and let go."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agents import until
from support.own_postgresql import OwnPostgreSQL
from support.service import Service

pytestmark = pytest.mark.root


@pytest.fixture
def own(place: Path) -> Iterator[OwnPostgreSQL]:
    server = OwnPostgreSQL(place)
    yield server
    server.end()


SUMS = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t"


def adopt(service: Service, own: OwnPostgreSQL, *more: object) -> None:
    done = service.cli(
        "instance", "adopt", "own", "--datastore", "postgresql", "--socket", str(own.run),
        "--start-command", str(own.start), "--stop-command", str(own.stop), *map(str, more),
    )  # fmt: skip
    assert "ACTIVE" in done.stdout


def test_adopt_back_up_restore_in_place_remove(service: Service, own: OwnPostgreSQL) -> None:
    own.sql("CREATE TABLE t AS SELECT id, md5(id::text) AS note FROM generate_series(1, 3000) id")
    settings_before = own.sql("SELECT count(*) FROM pg_file_settings")
    adopt(service, own)
    view = service.get("/instances/own")["instance"]
    assert (view["runtime"], view["status"], view["operating_status"]) == ("adopted", "ACTIVE", "HEALTHY")
    expected = own.sql(SUMS)
    full = service.backup("own", "full")
    own.sql("UPDATE t SET note = 'changed' WHERE id % 10 = 0")
    changed = own.sql(SUMS)
    child = service.backup("own", "inc", incremental=1)
    assert (child["kind"], child["parent_id"]) == ("incremental", full["id"])
    own.sql("DROP TABLE t")
    own.sql("ALTER SYSTEM SET work_mem = '5MB'")
    conf = own.data / "postgresql.conf"
    conf.write_text(conf.read_text() + "deadlock_timeout = '1234ms'\n")

    service.wait(service.act("/instances/own/action", {"restore": {"backupRef": full["id"]}}))
    assert own.sql(SUMS) == expected
    service.wait(service.act("/instances/own/action", {"discard_old": {}}))
    service.wait(service.act("/instances/own/action", {"restore": {"backupRef": child["id"]}}))
    assert own.sql(SUMS) == changed
    # The data is that of the backup, the configuration is as its owner has it now.
    assert own.sql("SHOW work_mem") == "5MB"
    assert own.sql("SHOW deadlock_timeout") == "1234ms"
    assert own.data.owner() == own.user
    (old,) = service.get("/instances/own")["instance"]["old_data"]
    assert (own.base / old["name"] / "PG_VERSION").is_file()
    service.wait(service.act("/instances/own/action", {"discard_old": {}}))
    assert sorted(p.name for p in own.base.iterdir() if p.is_dir()) == ["data", "run"]

    # A new instance of ours can be made from it, too, with our configuration.
    copy = service.create("copy", restorePoint={"backupRef": full["id"]})
    assert service.get(f"/instances/{copy['id']}")["instance"]["operating_status"] == "HEALTHY"

    # Nothing was left in it: no role, no slot, no setting.
    assert own.sql("SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolname !~ '^pg_'") == own.user
    assert own.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    assert int(own.sql("SELECT count(*) FROM pg_file_settings")) == int(settings_before) + 2

    # Letting go of it leaves the server as it is.
    service.wait(service.call("DELETE", "/instances/own").headers["Strongroom-Job"])
    assert own.sql(SUMS) == changed


def findings(service: Service) -> dict[str, tuple[str, str]]:
    """What ``strongroom check`` says of the server: level and remedy, by message."""
    done = service.cli("check", "-f", "json", check=False)
    found = [check for check in json.loads(done.stdout) if check["name"] == "server own"]
    assert done.returncode == int(any(check["level"] == "error" for check in found))
    return {check["message"]: (check["level"], check["remedy"]) for check in found}


def test_check_reports_what_is_missing_and_its_statements_help(service: Service, place: Path) -> None:
    hba = "local all backup scram-sha-256\nlocal all all peer\n"
    own = OwnPostgreSQL(place, settings="wal_level = minimal\nmax_wal_senders = 0\n", hba=hba)
    credentials = place / "backup.pgpass"
    credentials.write_text("# ours\nlocalhost:5432:*:backup:a\\:secret\\\\word\n")
    credentials.chmod(0o600)
    shutil.chown(credentials, own.user)
    try:
        own.sql("CREATE ROLE backup LOGIN PASSWORD 'a:secret\\word'")
        own.sql("CREATE TABLE t AS SELECT 1 AS id")
        arguments = (
            "instance", "adopt", "own", "--datastore", "postgresql", "--socket", str(own.run / ".s.PGSQL.5432"),
            "--credentials-file", str(credentials),
        )  # fmt: skip
        refused = service.cli(*arguments, check=False)
        assert refused.returncode != 0
        assert "GRANT pg_read_all_settings" in refused.stderr
        assert service.get("/instances")["instances"] == []
        own.sql("GRANT pg_read_all_settings TO backup")
        service.cli(*arguments)

        found = findings(service)
        errors = {message: remedy for message, (level, remedy) in found.items() if level == "error"}
        assert errors.pop("wal_level is minimal").startswith("ALTER SYSTEM SET wal_level = replica;")
        assert errors.pop("max_wal_senders is 0").startswith("ALTER SYSTEM SET max_wal_senders = 10;")
        assert errors.pop("role backup may not take backups") == 'ALTER ROLE "backup" REPLICATION;'
        ((message, remedy),) = errors.items()
        assert "replication" in message
        assert "local  replication  backup  scram-sha-256" in remedy
        assert any("start" in message for message, (level, _) in found.items() if level == "warning")

        # What the lines say is done by the owner, and then it works.
        own.sql("ALTER SYSTEM SET wal_level = replica")
        own.sql("ALTER SYSTEM SET max_wal_senders = 10")
        own.sql('ALTER ROLE "backup" REPLICATION')
        (own.data / "pg_hba.conf").write_text("local  replication  backup  scram-sha-256\n" + hba)
        own.end()
        subprocess.run([str(own.start)], check=True)
        assert [message for message, (level, _) in findings(service).items() if level == "error"] == []
        until(lambda: service.get("/instances/own")["instance"]["status"] == "ACTIVE", 30)
        full = service.backup("own", "full")
        assert full["status"] == "COMPLETED"
        for path in (service.data_dir, place / "serve.log"):
            for file in [path, *path.rglob("*")]:
                assert not file.is_file() or b"secret\\word" not in file.read_bytes(), file
    finally:
        own.end()
