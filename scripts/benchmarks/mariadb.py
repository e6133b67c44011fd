"""MariaDB servers with several kinds of data, managed by Strongroom; and backups by Strongroom and by other tools."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
from demo_data import SCHEMA, DataSet, Loader, Prose

from benchmarks.bench import Bench
from benchmarks.machine import Rates, measure
from benchmarks.site import FLAVOR, VOLUME, Site

TABLES = 10_000
"""Rows per table for the kind ``tables``."""
PAGE = 16384
BASE = 32
"""Megabytes of the table from which the large one is filled repeatedly: more than the window of a codec at level 1."""
ROWS = 900
"""Rows per megabyte."""
_FAST = "SET GLOBAL innodb_flush_log_at_trx_commit = 0"
_SAFE = "SET GLOBAL innodb_flush_log_at_trx_commit = 1"


class MariaDB:
    """``kind``: ``rows`` (a shop: numbers, text, images), ``blobs`` (random), ``tables`` (many small), ``table`` (one large)."""

    def __init__(self, site: Site, kind: str, megabytes: int, tables: int) -> None:
        self.name = f"bench-{kind}"
        self._site = site
        site.ask("instance", "create", self.name, "--datastore", "mariadb", "--flavor", FLAVOR, "--size", VOLUME)
        view = site.ask("instance", "show", self.name)
        self.id: str = view["id"]
        self.socket: str = view["socket"]
        self.base = site.service.data_dir / "instances" / self.id
        self.data = self.base / "data"
        self.options = site.place / f"{self.name}.cnf"
        text = (self.base / "client.cnf").read_text().replace("[client]", "[mariadb-backup]")
        self.options.touch(mode=0o600)
        self.options.write_text(f"{text}\nsocket={self.socket}\ndatadir={self.data}\n")
        self._megabytes = 0
        self._rates: Rates | None = None
        with self.loading() as connection:
            getattr(self, f"_make_{kind}")(connection, megabytes, tables)

    @property
    def size(self) -> int:
        """The size of the data without logs, in bytes."""
        logs = ("ib_logfile", "ibtmp", "binlog.", "undo")
        return sum(f.stat().st_size for f in self.data.rglob("*") if f.is_file() and not f.name.startswith(logs))

    @property
    def rates(self) -> Rates:
        """The rates of this machine with this data."""
        if self._rates is None:
            self._rates = measure(self.data, self._site.place)
        return self._rates

    def connect(self) -> pymysql.Connection[Any]:
        """A connection with all privileges."""
        return pymysql.connect(read_default_file=str(self.base / "client.cnf"), unix_socket=self.socket, autocommit=True)

    @contextmanager
    def loading(self) -> Iterator[pymysql.Connection[Any]]:
        """Load data without durability. At the end the server has flushed everything, and its binary logs are deleted."""
        with self.connect() as connection:
            for statement in (_FAST, "SET sql_log_bin = 0, unique_checks = 0, foreign_key_checks = 0"):
                connection.query(statement)
            yield connection
            for statement in (
                _SAFE,
                "SET GLOBAL innodb_max_dirty_pages_pct = 0",
                "FLUSH BINARY LOGS",
                "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY",
            ):
                connection.query(statement)
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline:
                with connection.cursor() as cursor:
                    cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")
                    if int((cursor.fetchone() or (0, 0))[1]) < 50:
                        break
                time.sleep(0.2)
            connection.query("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT")

    def grow(self, megabytes: int) -> None:
        """Fill the large table to about this many megabytes."""
        with self.loading() as connection:
            self._fill(connection, megabytes)

    def change(self, share: float, turn: int) -> None:
        """Change one row in about ``share`` of the large table's pages, evenly distributed."""
        with self.connect() as connection, connection.cursor() as cursor:
            step = max(1, round(PAGE * ROWS / 2**20 / share))
            cursor.execute(f"UPDATE db1.large SET touched = touched + 1 WHERE id % {step} = {turn % step}")

    # --- kinds of data

    def _make_rows(self, connection: pymysql.Connection[Any], megabytes: int, _: int) -> None:
        for statement in ["CREATE DATABASE db1", "CREATE DATABASE db2", *filter(str.strip, SCHEMA.split(";"))]:
            connection.query(statement)
        loader = Loader(connection)
        DataSet(megabytes).fill(loader)
        loader.close()

    def _make_blobs(self, connection: pymysql.Connection[Any], megabytes: int, _: int) -> None:
        connection.query("CREATE DATABASE db1")
        connection.query("CREATE TABLE db1.blobs (id INT PRIMARY KEY, content LONGBLOB NOT NULL)")
        with connection.cursor() as cursor:
            for number in range(megabytes):
                cursor.execute("INSERT INTO db1.blobs VALUES (%s, UNHEX(%s))", (number, os.urandom(950_000).hex()))

    def _make_tables(self, connection: pymysql.Connection[Any], megabytes: int, tables: int) -> None:
        rows = max(1, (megabytes << 20) // tables // 130)
        connection.query("CREATE DATABASE db1")
        connection.select_db("db1")  # the sequence needs a current database
        with connection.cursor() as cursor:
            for number in range(tables):
                cursor.execute(
                    f"CREATE TABLE db1.small{number} (PRIMARY KEY (seq)) SELECT seq, MD5(seq + {number}) word,"
                    f" REPEAT(CHAR(97 + seq % 26), 40) text FROM seq_1_to_{rows}"
                )

    def _make_table(self, connection: pymysql.Connection[Any], megabytes: int, _: int) -> None:
        prose = Prose(random.Random(7))
        connection.query("CREATE DATABASE db1")
        for table in ("base", "large"):
            connection.query(
                f"CREATE TABLE db1.{table} (id INT PRIMARY KEY AUTO_INCREMENT, touched INT NOT NULL, body VARCHAR(2000) NOT NULL)"
            )
        loader = Loader(connection)
        loader.table("db1.base (touched, body)", ((0, prose.some(1000)) for _ in range(BASE * ROWS)))
        loader.close()
        self._fill(connection, megabytes)

    def _fill(self, connection: pymysql.Connection[Any], megabytes: int) -> None:
        while self._megabytes < megabytes:
            more = min(BASE, megabytes - self._megabytes)
            connection.query(f"INSERT INTO db1.large (touched, body) SELECT 0, body FROM db1.base LIMIT {more * ROWS}")
            self._megabytes += more
        self._rates = None


def mariadb(bench: Bench, kind: str, megabytes: float) -> MariaDB:
    """A server with about this many megabytes at full scale. It is recorded as the data of the case."""
    size, tables = bench.scaled(megabytes, 8), bench.scaled(TABLES, 10)
    server = bench.site.database(("mariadb", kind, size), lambda site: MariaDB(site, kind, size, tables))
    bench.result.data = f"{server.size / 1e9:.2f} GB in the data directory; {_KINDS[kind].format(tables=tables)}"
    return server


_KINDS = {
    "rows": "a shop database: customers, orders, items, reviews, documents (a third of them incompressible images)",
    "blobs": "random, incompressible blobs of 0.95 MB",
    "tables": "{tables} small tables",
    "table": "one large table of text, and the small table from which it was generated",
}


# --- backups

GZIP = "mariadb-backup | gzip"
ZSTD = "mariadb-backup | zstd -T0 -1"
ZSTD_PARALLEL = "mariadb-backup --parallel=2 | zstd -T0 -1"
NULL = "mariadb-backup --parallel=2 > /dev/null"
STRONGROOM = "Strongroom"


def tool(server: MariaDB, *options: str) -> str:
    """The command line of the tool."""
    many = "--open-files-limit=65535"  # for 10,000 tables
    return " ".join([f"mariadb-backup --defaults-file={server.options} --backup --stream=mbstream {many}", *options])


def back_up(bench: Bench, server: MariaDB, name: str = STRONGROOM, *more: str) -> dict[str, Any]:
    """Measure Strongroom's command line, until COMPLETED. Returns the backup with the ``output`` of its job."""
    view: dict[str, Any] = {}
    words = ("backup", "create", "--instance", server.name, *more)
    asked = time.time()
    bench.timed(
        name, lambda: view.update(bench.site.ask(*words)), f"strongroom backup create --instance {server.name}", data=server.data
    )
    bench.stored(name, view["stored_size"])
    view["output"] = bench.site.ask("job", "show", view["job_id"])["output"]
    view["waited"] = view["output"].get("first_byte", asked) - asked
    return view


def piped_backup(bench: Bench, server: MariaDB, name: str, end: str, *options: str) -> Path:
    """Measure the tool with a compressor. Returns the file that it wrote."""
    file = bench.place / "backup.piped"
    bench.piped(name, f"{tool(server, *options)} | {end} > {file}; sync", data=server.data)
    bench.stored(name, file.stat().st_size)
    return file
