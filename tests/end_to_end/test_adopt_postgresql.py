"""A PostgreSQL server of somebody else: adopted, backed up, restored in place with its owner's own commands, and let go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_adopt_back_up_restore_in_place_let_go(service: Service, own: OwnPostgreSQL) -> None:
    own.sql("CREATE TABLE t AS SELECT id, md5(id::text) AS note FROM generate_series(1, 3000) id")
    settings_before = own.sql("SELECT count(*) FROM pg_file_settings")
    adopt(service, own)
    view = service.get("/instances/own")["instance"]
    assert (view["runtime"], view["status"], view["operating_status"]) == ("adopted", "ACTIVE", "HEALTHY")
    expected = own.sql(SUMS)
    full = service.backup("own", "full")
    own.sql("DROP TABLE t")
    own.sql("ALTER SYSTEM SET work_mem = '5MB'")
    conf = own.data / "postgresql.conf"
    conf.write_text(conf.read_text() + "deadlock_timeout = '1234ms'\n")

    service.wait(service.act("/instances/own/action", {"restore": {"backupRef": full["id"]}}))
    assert own.sql(SUMS) == expected
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
    assert own.sql(SUMS) == expected
