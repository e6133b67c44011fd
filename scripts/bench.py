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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
from demo import Service
from demo_data import SCHEMA, DataSet, Loader
from rich.console import Console
from rich.table import Table

console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 130)

GOALS = {
    "backup: times faster than the seed's pipeline": (15.0, "seed backup", "strongroom backup"),
    "backup: times faster than zstd -T0 -1": (1.0, "zstd backup", "strongroom backup"),
    "restore to ACTIVE: times faster than the seed's steps": (4.0, "seed restore", "strongroom restore"),
    "restore, the same work: times faster than zstd -dc": (1.0, "zstd restore", "strongroom restore (worker)"),
}
MEMORY = 300 * 1024**2
FIRST_BYTE = 1.0


class Bench:
    """One service, one instance, one data set."""

    def __init__(self, service: Service, place: Path) -> None:
        self.service = service
        self.place = place
        self.seconds: dict[str, list[float]] = {}
        self.bytes: dict[str, int] = {}
        self.memory: list[int] = []
        self.first_byte: list[float] = []
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
        size = sum(p.stat().st_size for p in self.data.rglob("*") if p.is_file())
        console.print(f"loaded: {size / 1e9:.2f} GB in the data directory, {time.monotonic() - began:.0f} s")

    def warm(self) -> None:
        """Everything into the page cache, and nothing left to write."""
        for path in self.data.rglob("*"):
            if path.is_file():
                with path.open("rb", buffering=0) as file:
                    while file.read(1 << 22):
                        pass
        os.sync()

    def timed(self, name: str, work: Callable[[], object]) -> None:
        """Run one variant and keep its time."""
        os.sync()
        began = time.monotonic()
        work()
        self.seconds.setdefault(name, []).append(time.monotonic() - began)
        console.print(f"  {name:<28} {self.seconds[name][-1]:7.2f} s")

    def shell(self, pipeline: str) -> None:
        """A pipeline as a person types it; every part of it must succeed."""
        subprocess.run(["bash", "-o", "pipefail", "-ec", pipeline], check=True, stderr=subprocess.DEVNULL)

    # --- backups

    def seed_backup(self) -> None:
        """The seed documents: mariabackup, one gzip."""
        self.shell(f"mariadb-backup --defaults-file={self.options} --backup --stream=mbstream | gzip > {self.place}/b.gz; sync")
        self.bytes["seed backup"] = (self.place / "b.gz").stat().st_size

    def zstd_backup(self) -> None:
        """The best that two stock tools do."""
        self.shell(
            f"mariadb-backup --defaults-file={self.options} --backup --stream=mbstream --parallel=2"
            f" | zstd -q -f -T0 -1 -o {self.place}/b.zst; sync"
        )
        self.bytes["zstd backup"] = (self.place / "b.zst").stat().st_size

    def strongroom_backup(self) -> None:
        """Request to COMPLETED, by the command line."""
        asked = time.time()
        view: dict[str, Any] = {}
        self.timed("strongroom backup", lambda: view.update(self.service.ask("backup", "create", "bench", "--instance", "bench")))
        self.last = view["id"]
        self.bytes["strongroom backup"] = view["stored_size"]
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
        self.seconds.setdefault("strongroom restore (worker)", []).append(sum(job["output"]["seconds"].values()))
        self.service.ask("instance", "delete", "copy", "--yes")

    # --- the outcome

    def report(self) -> dict[str, Any]:
        """Print the tables; what they say, for programs."""
        table = Table("variant", "median s", "all", "stored MB")
        median = {name: statistics.median(values) for name, values in self.seconds.items()}
        for name, values in self.seconds.items():
            stored = f"{self.bytes[name] / 1e6:.0f}" if name in self.bytes else ""
            table.add_row(name, f"{median[name]:.2f}", " ".join(f"{v:.2f}" for v in values), stored)
        console.print(table)
        goals = Table("goal", "wanted", "measured", "reached")
        outcome: dict[str, Any] = {}
        for text, (wanted, slow, fast) in GOALS.items():
            ratio = median[slow] / median[fast]
            outcome[text] = round(ratio, 2)
            goals.add_row(text, f"{wanted:g}", f"{ratio:.2f}", "yes" if ratio >= wanted else "NO")
        peak, first = max(self.memory), statistics.median(self.first_byte)
        outcome |= {"worker memory, peak bytes": peak, "request to first byte, seconds": round(first, 2)}
        goals.add_row("worker memory, MB", f"< {MEMORY >> 20}", f"{peak / 2**20:.0f}", "yes" if peak < MEMORY else "NO")
        goals.add_row(
            "request to the tool's first byte, s", f"< {FIRST_BYTE:g}", f"{first:.2f}", "yes" if first < FIRST_BYTE else "NO"
        )
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
        bench.warm()
        for number in range(1, options.rounds + 1):
            console.print(f"round {number}")
            bench.timed("seed backup", bench.seed_backup)
            bench.timed("zstd backup", bench.zstd_backup)
            bench.strongroom_backup()
            bench.seed_restore()
            bench.zstd_restore()
            bench.strongroom_restore()
        outcome = bench.report()
        if options.json:
            print(json.dumps(outcome))
    finally:
        service.stop()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
