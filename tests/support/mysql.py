"""Real MySQL servers in a test's own place: like those of MariaDB, of which they have all but the version."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from strongroom.datastores import get
from support import mariadb
from support.mariadb import MariaDBServer
from support.mysql_programs import version

driver = get("mysql")
MySQLServer = MariaDBServer


def make(place: Path, pool: str | None, **options: Any) -> MySQLServer:
    """See ``mariadb.make``. The test is skipped when MySQL cannot be had."""
    return mariadb.make(place, pool, of=version(), **options)


def running(place: Path, pool: str | None, **options: Any) -> AbstractContextManager[MySQLServer]:
    """A new server that runs, stopped at the end."""
    return mariadb.running(place, pool, of=version(), **options)
