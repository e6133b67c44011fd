"""MySQL: backup and restore beside mysqldump, and beside CLONE LOCAL with tar and zstd, which needs a second copy on the disk.

Same server, same data, same run, variants in turn. Everything is compared as a person would wait for it: commands to a synced
file system, Strongroom from the request to COMPLETED or ACTIVE. Only ratios mean something: machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pymysql
from bench_run import Goal, Run, console, size_of, warm
from demo import Service
from demo_data import SCHEMA, DataSet, Loader

from support.mysql_programs import programs

FULL, ACTIVE = "strongroom full", "strongroom restore, to ACTIVE"
DUMP, LOAD, LOCAL = "mysqldump | gzip", "load of the dump", "CLONE LOCAL, tar | zstd -T0 -1"
GOALS = (
    Goal("full: times faster than mysqldump | gzip", 5, DUMP, FULL),
    Goal("full: times faster than CLONE LOCAL, tar | zstd", 1 / 1.5, LOCAL, FULL),
    Goal("restore: times faster than loading the dump", 10, LOAD, ACTIVE),
)


def create(service: Service, name: str) -> Instance:
    """A new one."""
    service.ask("instance", "create", name, "--datastore", "mysql", "--flavor", "d3", "--size", "20")
    return Instance(service, name)


class Instance:
    """A MySQL that Strongroom runs."""

    def __init__(self, service: Service, name: str) -> None:
        view = service.ask("instance", "show", name)
        self.name = name
        self.socket = view["socket"]
        self.base = service.data_dir / "instances" / view["id"]
        self.data = self.base / "data"
        self.options = self.base / "client.cnf"

    def connect(self) -> pymysql.Connection[Any]:
        """A connection as Strongroom's own account."""
        return pymysql.connect(read_default_file=str(self.options), unix_socket=self.socket, autocommit=True)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Rows of the last one."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def load(self, megabytes: int) -> None:
        """Fill it, and let the server come to rest."""
        began = time.monotonic()
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
        size = sum(path.stat().st_size for path in self.data.rglob("*.ibd"))
        console.print(f"{self.name}: {size / 1e9:.2f} GB of tables loaded, {time.monotonic() - began:.0f} s")

    def checksums(self) -> list[tuple[Any, ...]]:
        """CHECKSUM TABLE of all."""
        tables = self.execute("SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema LIKE 'db_'")
        return [self.execute(f"CHECKSUM TABLE `{schema}`.`{name}`")[0] for schema, name in sorted(tables)]


class Bench(Run):
    """One service, one instance with data."""

    def __init__(self, service: Service, place: Path, bindir: Path) -> None:
        super().__init__(place)
        self.service = service
        self.bindir = bindir

    def round(self, source: Instance, check: bool) -> None:
        """Every variant, once."""
        warm(source.data)
        view: dict[str, Any] = {}
        self.timed(FULL, lambda: view.update(self.service.ask("backup", "create", "full", "--instance", source.name)))
        self.stored(FULL, view["stored_size"])
        self.memory.append(self.service.ask("job", "show", view["job_id"])["output"]["max_rss"])
        local = source.base / "tmp" / "clone"
        archive = self.place / "local.tar.zst"

        def clone() -> None:
            source.execute(f"CLONE LOCAL DATA DIRECTORY '{local}'")
            self.shell(f"tar -c -C {local} . | zstd -q -f -T0 -1 -o {archive}; sync")

        self.timed(LOCAL, clone)
        self.stored(LOCAL, archive.stat().st_size)
        shutil.rmtree(local)
        archive.unlink()
        self.timed(ACTIVE, lambda: self.service.ask("restore", view["id"], "--name", "copy"))
        job = self.service.ask("job", "show", self.service.ask("instance", "show", "copy")["job_id"])
        console.print(f"    {job['output']['seconds']}")
        if check:
            if Instance(self.service, "copy").checksums() != source.checksums():
                raise SystemExit("the restored data differs")
            console.print("    CHECKSUM TABLE is equal for all tables")
        self.service.ask("instance", "delete", "copy", "--yes")
        self.service.ask("backup", "delete", view["id"], "--yes")
        dump = self.place / "dump.sql.gz"
        access = f"--defaults-file={source.options} --socket={source.socket}"
        tool = f"{self.bindir}/mysqldump {access} --single-transaction --set-gtid-purged=OFF --databases db1 db2"
        self.timed(DUMP, lambda: self.shell(f"{tool} | gzip > {dump}; sync"))
        self.stored(DUMP, dump.stat().st_size)
        target = create(self.service, "target")
        access = f"--defaults-file={target.options} --socket={target.socket}"
        self.timed(LOAD, lambda: self.shell(f"gunzip -c {dump} | {self.bindir}/mysql {access}; sync"))
        self.service.ask("instance", "delete", "target", "--yes")
        dump.unlink()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench --mysql", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=int, default=1500, metavar="MB", help="size of the data set (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each variant runs (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="200 MB, one round: to see that it works")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TMPDIR", "/var/tmp")), help="where to work")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, too")
    options = parser.parse_args()
    if options.quick:
        options.size, options.rounds = 200, 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    place = Path(tempfile.mkdtemp(prefix="strongroom-bench-", dir=options.dir))
    place.chmod(0o711)
    service = Service(place)
    server = programs()
    try:
        service.environment["STRONGROOM_DATASTORES__MYSQL"] = json.dumps([str(server)])
        service.start()
        bench = Bench(service, place, server.parent / "bin")
        source = create(service, "bench")
        source.load(options.size)
        console.print(f"data directory: {size_of(source.data) / 1e9:.2f} GB")
        for number in range(1, options.rounds + 1):
            console.print(f"round {number}")
            bench.round(source, check=number == 1)
        goals, outcome = bench.report(GOALS)
        console.print(goals)
        if options.json:
            print(json.dumps(outcome))
    except subprocess.CalledProcessError as error:
        console.print(f"{error}\n{service.place / 'serve.log'}:\n{(service.place / 'serve.log').read_text()[-2000:]}")
        sys.exit(1)
    finally:
        service.stop()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
