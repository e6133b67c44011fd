"""PostgreSQL servers with several kinds of data, managed by Strongroom; and backups by Strongroom."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from demo_data import DataSet, Prose, Row

from benchmarks.bench import Bench, size_of, warm
from benchmarks.machine import Rates, measure
from benchmarks.mariadb import ROWS
from benchmarks.site import FLAVOR, VOLUME, Site

OWNER = "postgres"
AS_OWNER: dict[str, Any] = {"user": OWNER, "group": OWNER, "extra_groups": [], "cwd": "/"}
OLDER = Path("/usr/lib/postgresql/15/bin")
BASEBACKUP_ZSTD = "pg_basebackup | zstd -T0 -1"

SCHEMA = """
CREATE SCHEMA db1;
CREATE SCHEMA db2;
CREATE TABLE db1.customers (id int, name text, email text, born date, remarks text);
CREATE TABLE db1.accounts (id int, customer int, balance numeric(12,2));
CREATE TABLE db2.products (id int, name text, price numeric(8,2), description text);
CREATE TABLE db2.orders (id int, customer int, placed timestamp, state text, address text);
CREATE TABLE db2.items (purchase int, line smallint, product int, quantity smallint, price numeric(8,2));
CREATE TABLE db2.reviews (id int, product int, stars smallint, body text);
CREATE TABLE db2.documents (id int, purchase int, kind text, content bytea);
"""
KEYS = """
ALTER TABLE db1.customers ADD PRIMARY KEY (id), ADD UNIQUE (email);
ALTER TABLE db1.accounts ADD PRIMARY KEY (id), ADD FOREIGN KEY (customer) REFERENCES db1.customers;
ALTER TABLE db2.products ADD PRIMARY KEY (id);
ALTER TABLE db2.orders ADD PRIMARY KEY (id);
CREATE INDEX ON db2.orders (customer, placed);
ALTER TABLE db2.items ADD PRIMARY KEY (purchase, line), ADD FOREIGN KEY (product) REFERENCES db2.products;
ALTER TABLE db2.reviews ADD PRIMARY KEY (id), ADD FOREIGN KEY (product) REFERENCES db2.products;
ALTER TABLE db2.documents ADD PRIMARY KEY (id);
"""
LARGE = """
CREATE SCHEMA db1;
CREATE TABLE db1.large (id int GENERATED ALWAYS AS IDENTITY, touched int NOT NULL, body text NOT NULL);
ALTER TABLE db1.large ALTER body SET STORAGE PLAIN;
"""
CHANGED = ("db1.customers.remarks", "db2.orders.address", "db2.items.quantity", "db2.reviews.stars")


class Copier:
    """Loads the rows of the data set with COPY."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def table(self, name: str, rows: Iterable[Row]) -> None:
        """Load ``rows`` into the table."""
        with self._connection.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN".encode()) as copy:
            pieces, size = [], 0
            for row in rows:
                line = "\t".join(map(_text, row)) + "\n"
                pieces.append(line)
                size += len(line)
                if size > 1 << 20:
                    copy.write("".join(pieces))
                    pieces, size = [], 0
            copy.write("".join(pieces))


def _text(value: Any) -> str:
    return rf"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


class PostgreSQL:
    """``kind``: ``rows`` (a shop: numbers, text, a few pictures) or ``table`` (one large table)."""

    def __init__(self, site: Site, series: str, kind: str, megabytes: int) -> None:
        self.name = f"bench-{series}"
        self._site = site
        site.ask(
            "instance",
            "create",
            self.name,
            "--datastore",
            "postgresql",
            "--version",
            series,
            "--flavor",
            FLAVOR,
            "--size",
            VOLUME,
        )
        view = site.ask("instance", "show", self.name)
        self.socket = Path(view["socket"]).parent
        self.port: int = view["port"]
        self.data = site.service.data_dir / "instances" / view["id"] / "data"
        self._rates: Rates | None = None
        with self.connect() as connection:
            getattr(self, f"_make_{kind}")(connection, megabytes)
            connection.execute("VACUUM (FREEZE, ANALYZE)")
            self.settle(connection)

    @property
    def size(self) -> int:
        """The size of the data without WAL, in bytes."""
        return size_of(self.data) - size_of(self.data / "pg_wal")

    @property
    def rates(self) -> Rates:
        """The rates of this machine with this data."""
        if self._rates is None:
            self._rates = measure(self.data / "base", self._site.place)
        return self._rates

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection as the superuser."""
        terms: dict[str, Any] = {"host": str(self.socket), "port": self.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**terms, autocommit=True) as connection:
            yield connection

    def settle(self, connection: psycopg.Connection[Any]) -> None:
        """Flush everything, so that no variant has to."""
        connection.execute("CHECKPOINT")
        connection.execute("CHECKPOINT")  # recycles the WAL of the load
        warm(self.data)

    def change(self, share: float, turn: int) -> None:
        """Change one row in about ``share`` of the shop database's pages, evenly distributed over the tables."""
        with self.connect() as connection:
            tables = ",".join(f"'{name.rpartition('.')[0]}'::regclass" for name in CHANGED)
            row = connection.execute(
                f"SELECT (SELECT sum(relpages) FROM pg_class),"
                f" (SELECT sum(relpages) FROM pg_class WHERE oid IN ({tables}))".encode()
            ).fetchone()
            assert row is not None
            step = max(1, round(row[1] / row[0] / share))
            for name in CHANGED:
                table, _, column = name.rpartition(".")
                value = f"{turn} % 5 + 1" if column in ("stars", "quantity") else f"left('{turn} ' || {column}, 60)"
                connection.execute(
                    f"UPDATE {table} SET {column} = {value} WHERE ctid = ANY (ARRAY(SELECT format('(%s,%s)', page, line)::tid"
                    f" FROM pg_class, generate_series({turn % step}, relpages - 1, {step}) page, generate_series(1, 1) line"
                    f" WHERE oid = '{table}'::regclass))".encode()
                )
            self.settle(connection)

    def restart_with(self, **settings: str) -> None:
        """Change a setting that requires a restart."""
        with self.connect() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        self._site.ask("instance", "restart", self.name)

    def basebackup(self, bench: Bench, name: str, end: str, *options: str, tool: Path = OLDER / "pg_basebackup") -> None:
        """Measure pg_basebackup. ``end`` compresses; it is empty if the options do."""
        file = bench.place / "base.tar"
        more = " ".join(["--wal-method=fetch", "--checkpoint=fast", *options])
        pipe = f" | {end}" if end else ""
        command = f"{tool} -h {self.socket} -p {self.port} -U postgres -Ft {more} --pgdata=-{pipe} > {file}; sync"
        bench.piped(name, command, data=self.data)
        bench.stored(name, file.stat().st_size)
        file.unlink()

    def _make_rows(self, connection: psycopg.Connection[Any], megabytes: int) -> None:
        connection.execute(SCHEMA.encode())
        DataSet(megabytes * 4 // 3).fill(Copier(connection))  # which allows for more overhead than there is here
        connection.execute(KEYS.encode())

    def _make_table(self, connection: psycopg.Connection[Any], megabytes: int) -> None:
        prose = Prose(random.Random(7))
        connection.execute(LARGE.encode())
        first = have = min(megabytes, 64)
        Copier(connection).table("db1.large (touched, body)", ((0, prose.some(1000)) for _ in range(first * ROWS)))
        while have < megabytes:
            more = min(have, megabytes - have)
            connection.execute(
                f"INSERT INTO db1.large (touched, body) SELECT 0, body FROM db1.large LIMIT {more * ROWS}".encode()
            )
            have += more
        connection.execute("ALTER TABLE db1.large ADD PRIMARY KEY (id)")


def postgresql(bench: Bench, series: str, megabytes: float, kind: str = "rows") -> PostgreSQL:
    """A server with about this many megabytes at full scale. It is recorded as the data of the case."""
    size = bench.scaled(megabytes, 16)
    server = bench.site.database(("postgresql", series, kind, size), lambda site: PostgreSQL(site, series, kind, size))
    what = "the same shop database as for MariaDB" if kind == "rows" else "one large table of text"
    bench.result.data = f"PostgreSQL {series}, {server.size / 1e9:.2f} GB in the data directory without WAL; {what}"
    return server


def back_up(bench: Bench, name: str, server: PostgreSQL, *more: str) -> dict[str, Any]:
    """Measure Strongroom's command line, until COMPLETED, and the part of the worker."""
    view: dict[str, Any] = {}
    words = ("backup", "create", "--instance", server.name, *more)
    shown = f"strongroom backup create --instance {server.name}{' --parent ID' if more else ''}"
    bench.timed(name, lambda: view.update(bench.site.ask(*words)), shown, data=server.data)
    bench.stored(name, view["stored_size"])
    view["output"] = bench.site.ask("job", "show", view["job_id"])["output"]
    return view


def own(path: Path) -> Path:
    """An empty directory that belongs to the OS user of the servers."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    shutil.chown(path, OWNER, OWNER)
    return path
