"""One way to drive instances of every datastore: for tests that hold for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from support import load, mariadb, mysql_programs, postgresql
from support.service import Service
from support.service import checksums as mariadb_checksums

Sums = dict[str, tuple[int, Any]]


@dataclass(frozen=True)
class Database:
    """A datastore as tests see it. Each method works on the instance ``name`` of the service, in its database ``db1``."""

    datastore: str

    @property
    def config(self) -> str:
        """What the configuration of a service has to say for it. Skips the test where the database cannot be had."""
        return ""

    @property
    def series(self) -> str:
        """The newest that a service has."""
        raise NotImplementedError

    def create(self, service: Service, name: str, rows: int, **fields: Any) -> dict[str, Any]:
        """A new instance with data in it."""
        view = service.create(name, datastore={"type": self.datastore}, databases=[{"name": "db1"}], **fields)
        self.fill(service, name, rows)
        return view

    def fill(self, service: Service, name: str, rows: int) -> None:
        raise NotImplementedError

    def sums(self, service: Service, name: str) -> Sums:
        """Rows and a hash of every table."""
        raise NotImplementedError

    def execute(self, service: Service, name: str, *statements: str) -> None:
        """Run statements of SQL."""
        raise NotImplementedError

    def login(self, view: dict[str, Any], user: str, password: str) -> None:
        """Come in by the network, as clients do. Raises the client's error."""
        raise NotImplementedError

    def pid(self, service: Service, name: str) -> int:
        """Of the server."""
        raise NotImplementedError


class MariaDB(Database):
    """See ``Database``."""

    @property
    def series(self) -> str:
        return mariadb.version().series

    def fill(self, service: Service, name: str, rows: int) -> None:
        with self._sql(service, name) as connection:
            load.fill(connection, rows)

    def sums(self, service: Service, name: str) -> Sums:
        with self._sql(service, name) as connection:
            return dict(mariadb_checksums(connection))

    def execute(self, service: Service, name: str, *statements: str) -> None:
        with self._sql(service, name, "db1") as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def login(self, view: dict[str, Any], user: str, password: str) -> None:
        pymysql.connect(host=view["ip"][0], port=view["port"], user=user, password=password, database="db1").close()

    def pid(self, service: Service, name: str) -> int:
        with self._sql(service, name) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@pid_file")
            (path,) = cursor.fetchone()  # type: ignore[misc]
        return int(Path(path).read_text())

    @contextlib.contextmanager
    def _sql(self, service: Service, name: str, database: str | None = None) -> Iterator[pymysql.Connection[Any]]:
        with service.sql(service.get(f"/instances/{name}")["instance"]["id"], database) as connection:
            yield connection


class MySQL(MariaDB):
    """The same, from a place of its own."""

    @property
    def config(self) -> str:
        return f'[datastores]\nmysql = ["{mysql_programs.programs()}"]\n'

    @property
    def series(self) -> str:
        return mysql_programs.version().series


class PostgreSQL(Database):
    """See ``Database``."""

    @property
    def series(self) -> str:
        return postgresql.version().series

    def fill(self, service: Service, name: str, rows: int) -> None:
        with self._sql(service, name) as connection:
            postgresql.fill(connection, rows)

    def sums(self, service: Service, name: str) -> Sums:
        with self._sql(service, name) as connection:
            return dict(postgresql.checksums(connection))

    def execute(self, service: Service, name: str, *statements: str) -> None:
        with self._sql(service, name) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def login(self, view: dict[str, Any], user: str, password: str) -> None:
        psycopg.connect(host=view["ip"][0], port=view["port"], user=user, password=password, dbname="db1").close()

    def pid(self, service: Service, name: str) -> int:
        view = service.get(f"/instances/{name}")["instance"]
        data = service.data_dir / "instances" / view["id"] / "data"
        return int((data / "postmaster.pid").read_text().splitlines()[0])

    @contextlib.contextmanager
    def _sql(self, service: Service, name: str) -> Iterator[postgresql.Connection]:
        view = service.get(f"/instances/{name}")["instance"]
        with psycopg.connect(
            host=str(Path(view["socket"]).parent), port=view["port"], user="postgres", dbname="db1", autocommit=True
        ) as connection:
            yield connection


MARIADB = MariaDB("mariadb")
POSTGRESQL = PostgreSQL("postgresql")
MYSQL = MySQL("mysql")
EVERY = (MARIADB, POSTGRESQL, MYSQL)
