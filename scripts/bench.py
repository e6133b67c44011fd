"""Backup and restore beside the pipelines that people use today: same server, same data, same run, variants in turn.

Everything is compared as a person would wait for it: the pipelines from their first command to a synced file system, Strongroom
from the request to COMPLETED or ACTIVE (which includes hashing, the manifest, reading back, and starting the server).
Only ratios mean something: machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
from bench_run import Goal, Run, console, judge, size_of, warm
from demo import Service
from demo_data import SCHEMA, DataSet, Loader

GOALS = (
    Goal("backup: times faster than the seed's pipeline", 15, "seed backup", "strongroom backup"),
    Goal("backup: times faster than zstd -T0 -1", 1, "zstd backup", "strongroom backup"),
    Goal("backup: the same, the tool with --parallel=2", None, "zstd backup, --parallel=2", "strongroom backup"),
    Goal("restore to ACTIVE: times faster than the seed's steps", 4, "seed restore", "strongroom restore"),
    Goal("restore, the same work: times faster than zstd -dc", 1, "zstd restore", "strongroom restore (worker)"),
)
FIRST_BYTE = 1.0


class Bench(Run):
    """One service, one instance, one data set. mariadb-backup drops what it read from the page cache, so that is filled anew."""

    def __init__(self, service: Service, place: Path) -> None:
        super().__init__(place)
        self.service = service
        service.ask("instance", "create", "bench", "--flavor", "d3", "--size", "20")
        self.instance = service.ask("instance", "show", "bench")
        self.base = service.data_dir / "instances" / self.instance["id"]
        self.data = self.base / "data"
        self.options = place / "client.cnf"
        text = (self.base / "client.cnf").read_text().replace("[client]", "[mariadb-backup]")
        self.options.touch(mode=0o600)
        self.options.write_text(f"{text}\nsocket={self.instance['socket']}\ndatadir={self.data}\n")
        self.last = ""

    def load(self, megabytes: int) -> None:
        """Fill the instance, and let the server come to rest."""
        began = time.monotonic()
        with pymysql.connect(
            read_default_file=str(self.base / "client.cnf"), unix_socket=self.instance["socket"], autocommit=True
        ) as connection:
            with connection.cursor() as cursor:
                for statement in ["CREATE DATABASE db1", "CREATE DATABASE db2", *SCHEMA.split(";")]:
                    if statement.strip():
                        cursor.execute(statement)
            loader = Loader(connection)
            DataSet(megabytes).fill(loader)
            loader.close()
            with connection.cursor() as cursor:
                cursor.execute("SET GLOBAL innodb_max_dirty_pages_pct = 0")
                cursor.execute("FLUSH BINARY LOGS")
                cursor.execute("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
                deadline = time.monotonic() + 120
                while time.monotonic() < deadline:
                    cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")
                    row = cursor.fetchone()
                    assert row is not None
                    if int(row[1]) < 50:
                        break
                    time.sleep(0.2)
        console.print(f"loaded: {size_of(self.data) / 1e9:.2f} GB in the data directory, {time.monotonic() - began:.0f} s")

    def timed(self, name: str, work: Callable[[], object]) -> None:
        """Run one variant, with all data in the page cache, and keep its time."""
        warm(self.data)
        super().timed(name, work)

    # --- backups

    def seed_backup(self) -> None:
        """The seed documents: mariabackup, one gzip."""
        self.shell(f"mariadb-backup --defaults-file={self.options} --backup --stream=mbstream | gzip > {self.place}/b.gz; sync")
        self.stored("seed backup", (self.place / "b.gz").stat().st_size)

    def zstd_backup(self, name: str, *options: str) -> None:
        """The tool and a fast compressor on all cores."""
        tool = f"mariadb-backup --defaults-file={self.options} --backup --stream=mbstream {' '.join(options)}"
        self.timed(name, lambda: self.shell(f"{tool} | zstd -q -f -T0 -1 -o {self.place}/b.zst; sync"))
        self.stored(name, (self.place / "b.zst").stat().st_size)

    def strongroom_backup(self) -> None:
        """Request to COMPLETED, by the command line."""
        view: dict[str, Any] = {}
        asked = 0.0

        def back_up() -> None:
            nonlocal asked
            asked = time.time()
            view.update(self.service.ask("backup", "create", "bench", "--instance", "bench"))

        self.timed("strongroom backup", back_up)
        self.last = view["id"]
        self.stored("strongroom backup", view["stored_size"])
        job = self.service.ask("job", "show", view["job_id"])
        self.memory.append(job["output"]["max_rss"])
        self.first_byte.append(job["output"]["first_byte"] - asked)

    # --- restores

    def seed_restore(self) -> None:
        """The seed's steps: gunzip to a file, extract, prepare, copy back."""
        work = self.place / "seed"
        shutil.rmtree(work, ignore_errors=True)
        (work / "full").mkdir(parents=True)
        shutil.copy(self.place / "b.gz", work / "b.gz")
        os.sync()

        def steps() -> None:
            self.shell(
                f"cd {work}; gunzip b.gz; mbstream -x -C full < b; mariadb-backup --prepare --target-dir=full;"
                f" mariadb-backup --no-defaults --copy-back --target-dir=full --datadir={work}/data;"
                " chown -R mysql:mysql data; sync"
            )

        self.timed("seed restore", steps)
        shutil.rmtree(work)

    def zstd_restore(self) -> None:
        """The best that stock tools do: straight into the final directory."""
        work = self.place / "zstd"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        self.timed(
            "zstd restore",
            lambda: self.shell(
                f"zstd -q -dc {self.place}/b.zst | mbstream -x -p 2 -C {work};"
                f" mariadb-backup --prepare --use-memory=1G --target-dir={work}; chown -R mysql:mysql {work}; sync"
            ),
        )
        shutil.rmtree(work)

    def strongroom_restore(self) -> None:
        """Request to ACTIVE, by the command line; and the worker's part alone: fetch, verify, extract, prepare, sync."""
        self.timed("strongroom restore", lambda: self.service.ask("restore", self.last, "--name", "copy"))
        job = self.service.ask("job", "show", self.service.ask("instance", "show", "copy")["job_id"])
        self.memory.append(job["output"]["max_rss"])
        self.note("strongroom restore (worker)", sum(job["output"]["seconds"].values()))
        self.service.ask("instance", "delete", "copy", "--yes")

    # --- the outcome

    def outcome(self) -> dict[str, Any]:
        """Print the tables; what they say, for programs."""
        goals, outcome = self.report(GOALS)
        first = statistics.median(self.first_byte)
        outcome["request to first byte, seconds"] = round(first, 2)
        judge(goals, "request to the tool's first byte, s", f"< {FIRST_BYTE:g}", f"{first:.2f}", first < FIRST_BYTE)
        console.print(goals)
        return outcome


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=int, default=1500, metavar="MB", help="size of the data set (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each variant runs (default: %(default)s)")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TMPDIR", "/var/tmp")), help="where to work")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    place = Path(tempfile.mkdtemp(prefix="strongroom-bench-", dir=options.dir))
    place.chmod(0o711)
    service = Service(place)
    try:
        service.start()
        bench = Bench(service, place)
        bench.load(options.size)
        for number in range(1, options.rounds + 1):
            console.print(f"round {number}")
            bench.timed("seed backup", bench.seed_backup)
            bench.zstd_backup("zstd backup")
            bench.zstd_backup("zstd backup, --parallel=2", "--parallel=2")
            bench.strongroom_backup()
            bench.seed_restore()
            bench.zstd_restore()
            bench.strongroom_restore()
        outcome = bench.outcome()
        if options.json:
            print(json.dumps(outcome))
    finally:
        service.stop()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
