"""Hosts and a control plane on PostgreSQL, shared by the tests of a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import namespaces, processes
from support.hosts import Hosts
from support.load import fill
from support.own_postgresql import OwnPostgreSQL

DATABASE_PASSWORD = "password-of-the-database"


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    yield place
    processes.end(place)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def database(shared_place: Path) -> Iterator[OwnPostgreSQL]:
    """A PostgreSQL in which the role ``strongroom`` has a password and an empty database."""
    own = OwnPostgreSQL(shared_place, hba="local all postgres peer\nlocal all all scram-sha-256\n")
    own.sql(f"CREATE ROLE strongroom LOGIN PASSWORD '{DATABASE_PASSWORD}'")
    own.sql("CREATE DATABASE strongroom OWNER strongroom")
    yield own
    own.end()


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest, shared_place: Path, database: OwnPostgreSQL) -> Iterator[Hosts]:
    """Two, unless the module says how many: HOSTS. What else it may say: the seconds after which hosts are lost (LOST_AFTER),
    more of the configuration of agents (AGENTS).
    """
    if why := namespaces.missing():
        pytest.skip(why)
    passfile = shared_place / "pgpass"
    passfile.write_text(f"*:*:*:strongroom:{DATABASE_PASSWORD}\n")
    passfile.chmod(0o600)
    flags = ["--database", f"postgresql://strongroom@/strongroom?host={database.run}"]
    with Hosts(
        shared_place,
        getattr(request.module, "HOSTS", 2),
        config=f"[hosts]\nsilent_after = 3\nlost_after = {getattr(request.module, 'LOST_AFTER', 600)}\n",
        flags=flags,
        environment={"PGPASSFILE": str(passfile)},
        agents=getattr(request.module, "AGENTS", ""),
    ) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def there(hosts: Hosts) -> Hosts:
    """With an instance on each host."""
    for number in (1, 2):
        hosts.service.create(f"mysql{number}", host=f"h{number}")
        with hosts.sql(f"mysql{number}") as connection, connection.cursor() as cursor:
            fill(connection)
            cursor.execute("SET GLOBAL connect_timeout = 3600")  # a tool that is stopped while it logs in is waited for
    return hosts
