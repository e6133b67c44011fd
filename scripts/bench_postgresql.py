"""PostgreSQL: backup and restore beside pgBackRest and Trove's command; incrementals of 18 beside extract and pg_combinebackup.

Same server, same data, same run, variants in turn. pgBackRest works as people set it up: WAL archived by it, zstd level 1, two
processes, bundles. Everything is compared as a person would wait for it: commands to a synced file system, Strongroom from the
request to COMPLETED or ACTIVE; restores by the worker's part too, since starting the server is no part of pgBackRest's.
Only ratios mean something: machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from bench_run import Goal, Run, console, size_of, warm
from demo import Service
from demo_data import DataSet, Row
from rich.table import Table

from support.postgresql_versions import programs

OWNER = "postgres"
AS_OWNER: dict[str, Any] = {"user": OWNER, "group": OWNER, "extra_groups": [], "cwd": "/"}
OLDER = Path("/usr/lib/postgresql/15/bin")
"""The newest that Debian's pgBackRest knows."""
NEWER = "18"
LINKS = 10
"""Incrementals of the chain."""

FULL, RESTORE, ACTIVE = "strongroom full", "strongroom restore (worker)", "strongroom restore, to ACTIVE"
GOALS = (
    Goal("full: times faster than pgBackRest", 2, "pgbackrest full", FULL),
    Goal("full: times faster than Trove's command", 10, "trove full", FULL),
    Goal("full: stored, times smaller than pgBackRest's", 1 / 1.05, "pgbackrest full", FULL, "bytes"),
    Goal("restore, the same work: times faster than pgBackRest", 1.3, "pgbackrest restore", RESTORE),
    Goal("incremental (1 % changed): times faster than a full", 5, "18: full", "18: incremental"),
    Goal("incremental (1 % changed): times smaller than a full", 10, "18: full", "18: incremental", "bytes"),
    Goal("chain: times faster than extract + pg_combinebackup", 3, "18: extract + pg_combinebackup", "18: chain (worker)"),
)

SCHEMA = """
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
CHANGED = ("db1.customers.remarks", "db2.orders.address", "db2.items.quantity", "db2.reviews.stars")


class Copier:
    """Hands the rows of the data set to COPY."""

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


class Instance:
    """A PostgreSQL that Strongroom runs, with the data set in it."""

    def __init__(self, service: Service, name: str, *more: str) -> None:
        service.ask("instance", "create", name, "--datastore", "postgresql", "--flavor", "d3", "--size", "20", *more)
        self.service = service
        self.name = name
        view = service.ask("instance", "show", name)
        self.socket = Path(view["socket"]).parent
        self.port = view["port"]
        self.data = service.data_dir / "instances" / view["id"] / "data"

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection as the superuser."""
        with psycopg.connect(
            host=str(self.socket), port=self.port, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            yield connection

    def load(self, megabytes: int) -> None:
        """Fill it, and let it come to rest."""
        began = time.monotonic()
        with self.connect() as connection:
            connection.execute("CREATE SCHEMA db1")
            connection.execute("CREATE SCHEMA db2")
            connection.execute(SCHEMA.encode())
            # The data set allows for more overhead than there is here.
            DataSet(megabytes * 4 // 3).fill(Copier(connection))
            connection.execute(KEYS.encode())
            connection.execute("VACUUM (FREEZE, ANALYZE)")
            connection.execute("CHECKPOINT")
            connection.execute("CHECKPOINT")  # recycles the WAL of the load
        warm(self.data)
        data = size_of(self.data) - size_of(self.data / "pg_wal")
        console.print(f"{self.name}: {data / 1e9:.2f} GB of data loaded, {time.monotonic() - began:.0f} s")

    def change(self, number: int) -> None:
        """Change about one page of each hundred of the database: one row in each, evenly spread over the tables."""
        with self.connect() as connection:
            tables = ",".join(f"'{name.rpartition('.')[0]}'::regclass" for name in CHANGED)
            row = connection.execute(
                f"SELECT (SELECT sum(relpages) FROM pg_class),"
                f" (SELECT sum(relpages) FROM pg_class WHERE oid IN ({tables}))".encode()
            ).fetchone()
            assert row is not None
            step = max(1, round(100 * row[1] / row[0]))
            for name in CHANGED:
                table, _, column = name.rpartition(".")
                value = f"{number} % 5 + 1" if column in ("stars", "quantity") else f"left('{number} ' || {column}, 60)"
                connection.execute(
                    f"UPDATE {table} SET {column} = {value} WHERE ctid = ANY (ARRAY(SELECT format('(%s,%s)', page, line)::tid"
                    f" FROM pg_class, generate_series({number % step}, relpages - 1, {step}) page, generate_series(1, 1) line"
                    f" WHERE oid = '{table}'::regclass))".encode()
                )

    def restart_with(self, **settings: str) -> None:
        """Set what only a start can change."""
        with self.connect() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        self.service.ask("instance", "restart", self.name)


class Bench(Run):
    """One service, two instances."""

    def __init__(self, service: Service, place: Path) -> None:
        super().__init__(place)
        self.service = service
        self.phases: dict[str, dict[str, list[float]]] = {}
        self.last = ""

    def backup(self, name: str, instance: Instance, *more: str) -> dict[str, Any]:
        """Strongroom: request to COMPLETED, by the command line; and the worker's part alone."""
        view: dict[str, Any] = {}
        self.timed(name, lambda: view.update(self.service.ask("backup", "create", "--instance", instance.name, *more)))
        self.stored(name, view["stored_size"])
        self._worker(f"{name} (worker)", view["job_id"])
        return view

    def restore(self, name: str, backup: str, worker: str) -> None:
        """Strongroom: request to ACTIVE, by the command line; and the worker's part: fetch, verify, write, check, sync."""
        self.timed(name, lambda: self.service.ask("restore", backup, "--name", "copy"))
        self._worker(worker, self.service.ask("instance", "show", "copy")["job_id"])
        self.service.ask("instance", "delete", "copy", "--yes")

    def _worker(self, name: str, job_id: str) -> None:
        output = self.service.ask("job", "show", job_id)["output"]
        self.note(name, sum(output["seconds"].values()))
        self.memory.append(output["max_rss"])
        for phase, seconds in output["seconds"].items():
            self.phases.setdefault(name, {}).setdefault(phase, []).append(seconds)

    # --- fulls, beside pgBackRest and Trove's command

    def set_up_pgbackrest(self, instance: Instance) -> None:
        """A repository, a stanza, and WAL archived into it."""
        self.repository = self._own("pgbackrest")
        for name in ("repo", "log", "lock", "spool"):
            self._own(f"pgbackrest/{name}")
        self.configuration = self.repository / "pgbackrest.conf"
        self.configuration.write_text(
            f"""\
[global]
repo1-path={self.repository}/repo
repo1-bundle=y
repo1-retention-full=1
log-path={self.repository}/log
lock-path={self.repository}/lock
spool-path={self.repository}/spool
compress-type=zst
compress-level=1
process-max=2
start-fast=y

[main]
pg1-path={instance.data}
pg1-socket-path={instance.socket}
pg1-port={instance.port}
"""
        )
        self.configuration.chmod(0o644)
        command = f"pgbackrest --config={self.configuration} --stanza=main"
        instance.restart_with(archive_mode="on", archive_command=f"{command} archive-push %p")
        self.shell(f"{command} stanza-create", **AS_OWNER)
        self.pgbackrest = command

    def _own(self, name: str) -> Path:
        path = self.place / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        shutil.chown(path, OWNER, OWNER)
        return path

    def round(self, instance: Instance) -> None:
        """Every variant of full and restore, once."""
        self.timed("pgbackrest full", lambda: self.shell(f"{self.pgbackrest} --type=full backup; sync", **AS_OWNER))
        self.stored("pgbackrest full", size_of((self.repository / "repo" / "backup" / "main" / "latest").resolve()))
        base = self.place / "base.tar.gz"
        self.timed(
            "trove full",
            lambda: self.shell(
                f"{OLDER / 'pg_basebackup'} -h {instance.socket} -p {instance.port} -U postgres"
                f" -Ft -z --wal-method=fetch --label=bench --pgdata=- > {base}; sync"
            ),
        )
        self.stored("trove full", base.stat().st_size)
        base.unlink()
        full = self.backup(FULL, instance)
        target = self._own("restored")
        self.timed("pgbackrest restore", lambda: self.shell(f"{self.pgbackrest} --pg1-path={target} restore; sync", **AS_OWNER))
        shutil.rmtree(target)
        self.restore(ACTIVE, full["id"], RESTORE)
        self.service.ask("backup", "delete", full["id"], "--yes")

    # --- incrementals

    def chain(self, instance: Instance, rounds: int) -> None:
        """A full and ten incrementals; the restore of the last one, and the same by stock tools."""
        chain = [self.backup("18: full", instance)]
        for number in range(1, LINKS + 1):
            instance.change(number)
            chain.append(self.backup("18: incremental", instance, "--parent", chain[-1]["id"]))
        for _ in range(1, rounds):
            self.backup("18: full", instance)
        directories = [self.place / "chain" / str(number) for number in range(len(chain))]
        for _ in range(rounds):
            self.restore("18: chain, to ACTIVE", chain[-1]["id"], "18: chain (worker)")
            for directory in directories:
                directory.mkdir(parents=True)
            steps = [
                f"cat {self.service.data_dir}/store/{view['container']}/{view['id']}/0* | zstd -q -dc | tar -x -C {directory}"
                for view, directory in zip(chain, directories, strict=True)
            ]
            combine = f"{programs(NEWER) / 'pg_combinebackup'} {' '.join(map(str, directories))} -o {self.place}/chain/out"
            by_hand = "; ".join([*steps, combine, "sync"])
            self.timed("18: extract + pg_combinebackup", partial(self.shell, by_hand))
            shutil.rmtree(self.place / "chain")

    # --- the outcome

    def outcome(self) -> dict[str, Any]:
        """Print the tables; what they say, for programs."""
        goals, outcome = self.report(GOALS)
        table = Table("what the worker does", "seconds of each phase, medians")
        for name, phases in self.phases.items():
            table.add_row(name, ", ".join(f"{phase} {statistics.median(values):.2f}" for phase, values in phases.items()))
        console.print(table)
        console.print(goals)
        return outcome


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench --postgresql", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=int, default=1200, metavar="MB", help="size of the data set (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each variant runs (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="200 MB, one round: to see that it works")
    parser.add_argument("--part", choices=("full", "incremental"), help="measure only this")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TMPDIR", "/var/tmp")), help="where to work")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, too")
    options = parser.parse_args()
    if options.quick:
        options.size, options.rounds = 200, 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    place = Path(tempfile.mkdtemp(prefix="strongroom-bench-", dir=options.dir))
    place.chmod(0o711)
    service = Service(place)
    newer = options.part != "full"
    try:
        if newer:
            service.environment["STRONGROOM_DATASTORES__POSTGRESQL"] = json.dumps([str(programs(NEWER))])
        service.start()
        bench = Bench(service, place)
        if options.part != "incremental":
            one = Instance(service, "bench", "--version", "15")
            one.load(options.size)
            bench.set_up_pgbackrest(one)
            warm(one.data)
            for number in range(1, options.rounds + 1):
                console.print(f"round {number}")
                bench.round(one)
            service.ask("instance", "delete", one.name, "--yes")
        if newer:
            two = Instance(service, "newer", "--version", NEWER)
            two.load(options.size)
            bench.chain(two, options.rounds)
        outcome = bench.outcome()
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
