"""Backup and restore, MySQL: Strongroom, a dump, and the server's CLONE with a fast compressor."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pymysql
from demo_data import SCHEMA, DataSet, Loader

from benchmarks.bench import Bench, size_of
from benchmarks.case import Case, Limit, Times
from benchmarks.mariadb_backup import MEMORY
from benchmarks.mariadb_restore import restore
from benchmarks.site import FLAVOR, VOLUME, Site

FULL, ACTIVE, WORKER = "Strongroom, full", "Strongroom, restore to ACTIVE", "Strongroom, restore, worker only"
DUMP, LOAD, LOCAL = "mysqldump | gzip", "loading the dump", "CLONE LOCAL, then tar | zstd -T0 -1"


class MySQL:
    """A MySQL server that Strongroom manages."""

    def __init__(self, site: Site, name: str) -> None:
        self.name = name
        site.ask("instance", "create", name, "--datastore", "mysql", "--flavor", FLAVOR, "--size", VOLUME)
        view = site.ask("instance", "show", name)
        self.socket = view["socket"]
        self.base = site.service.data_dir / "instances" / view["id"]
        self.data = self.base / "data"
        self.access = f"--defaults-file={self.base / 'client.cnf'} --socket={self.socket}"

    def connect(self) -> pymysql.Connection[Any]:
        """A connection as Strongroom's own user."""
        return pymysql.connect(read_default_file=str(self.base / "client.cnf"), unix_socket=self.socket, autocommit=True)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Execute statements. Returns the rows of the last one."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def load(self, megabytes: int) -> None:
        """Load the shop database, and wait until the server has flushed everything."""
        self.execute("CREATE DATABASE db1", "CREATE DATABASE db2", *(text for text in SCHEMA.split(";") if text.strip()))
        with self.connect() as connection:
            loader = Loader(connection)
            DataSet(megabytes).fill(loader)
            loader.close()
        self.execute(
            "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0",
            "SET GLOBAL innodb_max_dirty_pages_pct = 0",
            "FLUSH BINARY LOGS",
            "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY",
        )
        deadline = time.monotonic() + 120
        while int(self.execute("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1]) > 50:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)


def mysql(bench: Bench) -> None:
    """Measure every variant on the shop database."""
    from support.mysql_programs import programs  # makes a root of its own for them

    server = programs()
    bench.site.drop()
    with bench.site.configured(DATASTORES__MYSQL=json.dumps([str(server)])):
        source = MySQL(bench.site, "bench-mysql")
        source.load(bench.scaled(1500, 8))
        bench.result.data = f"{size_of(source.data) / 1e9:.2f} GB in the data directory; the same shop database as for MariaDB"
        memory = max(_round(bench, source, server.parent / "bin") for _ in bench.rounds())
        bench.figure("memory of the worker", memory / 2**20, "MB")
        bench.site.ask("instance", "delete", source.name, "--yes")


def _round(bench: Bench, source: MySQL, bindir: Path) -> int:
    view: dict[str, Any] = {}
    words = ("backup", "create", "--instance", source.name)
    bench.timed(FULL, lambda: view.update(bench.site.ask(*words)), f"strongroom {' '.join(words)}", data=source.data)
    bench.stored(FULL, view["stored_size"])
    memory: int = bench.site.ask("job", "show", view["job_id"])["output"]["max_rss"]
    local, archive = source.base / "tmp" / "clone", bench.place / "local.tar.zst"

    def clone() -> None:
        source.execute(f"CLONE LOCAL DATA DIRECTORY '{local}'")
        bench.shell(f"tar -c -C {local} . | zstd -q -f -T0 -1 -o {archive}; sync")

    bench.timed(LOCAL, clone, "CLONE LOCAL DATA DIRECTORY 'clone'; tar -c -C clone . | zstd -q -T0 -1", data=source.data)
    bench.stored(LOCAL, archive.stat().st_size)
    shutil.rmtree(local)
    archive.unlink()
    memory = max(memory, restore(bench, view["id"], ACTIVE, WORKER)["max_rss"])
    bench.site.forget_backups()
    dump = bench.place / "dump.sql.gz"
    tool = f"{bindir}/mysqldump {source.access} --single-transaction --set-gtid-purged=OFF --databases db1 db2"
    bench.piped(DUMP, f"{tool} | gzip > {dump}; sync", data=source.data)
    bench.stored(DUMP, dump.stat().st_size)
    target = MySQL(bench.site, "target")
    bench.piped(LOAD, f"gunzip -c {dump} | {bindir}/mysql {target.access}; sync")
    bench.site.ask("instance", "delete", target.name, "--yes")
    dump.unlink()
    return memory


CASES = (
    Case(
        "mysql",
        "Backup and restore, MySQL",
        "full backup and restore, MySQL 9.7, rows, 1.5 GB",
        mysql,
        (
            Times("full: times faster than mysqldump | gzip", 5, DUMP, FULL),
            Times("full: times the time of CLONE LOCAL and tar | zstd", 1.5, FULL, LOCAL, most=True),
            Times("restore: times faster than loading the dump", 10, LOAD, ACTIVE),
            Limit("memory of the worker, MB", MEMORY, "memory of the worker"),
        ),
        rounds=1,
    ),
)
