"""How fast the API answers with a full catalog: lists, single things and filters, asked by many clients at once.

The catalog holds 1,000 instances and 10,000 backups (and the jobs that made them). A client asks, reads the answer to its end,
and asks again, over one connection: first after it thought for a moment, as people do, then without a pause, as fast as it can.
Times are what the client waits. Clients and service share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from demo import Service
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from strongroom.catalog import Backup, Instance, Job, open_catalog
from strongroom.settings import load

console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 130)
GOAL = 0.050
"""Seconds that 99 of 100 answers may take."""
PAGE = 20


@dataclass
class Project:
    """A project with its instances and backups."""

    name: str
    instances: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of the backups."""


def fill(catalog_dir: Path, projects: int, instances: int, backups: int) -> list[Project]:
    """Write ``instances`` with ``backups`` in all, spread over the projects: chains of a full and nine incrementals."""
    made = [Project(f"project-{number}") for number in range(projects)]
    began = datetime.now(UTC) - timedelta(days=30)
    catalog = open_catalog(load(service={"data_dir": catalog_dir}))
    rows: dict[type[Instance] | type[Backup] | type[Job], list[dict[str, object]]] = {Instance: [], Backup: [], Job: []}
    for number in range(instances):
        project = made[number % projects]
        instance, created = str(uuid.uuid4()), began + timedelta(minutes=number)
        project.instances.append(instance)
        common = {"project": project.name, "host": "local", "datastore": "mariadb", "series": "10.11"}
        rows[Instance].append(
            {
                **common,
                "id": instance,
                "name": f"mysql-{number}",
                "version_number": "10.11.19",
                "flavor": "d2",
                "volume_size": 10,
                "state": "running",
                "healthy": True,
                "address": f"127.9.{number >> 8}.{number & 255}",
                "port": 3306,
                "socket": f"/var/lib/strongroom/instances/{instance}/run/mysqld.sock",
                "lineage": str(uuid.uuid4()),
                "data_bytes": 3 * 1024**3,
                "old_data": [],
                "request": {},
                "created": created,
                "updated": created,
            }
        )
        chain: list[str] = []
        for turn in range(backups // instances):
            backup, taken = str(uuid.uuid4()), created + timedelta(days=1 + turn)
            project.backups.append(backup)
            project.names.append(f"mysql-{number}-{turn}")
            rows[Backup].append(
                {
                    **{key: value for key, value in common.items() if key != "host"},
                    "id": backup,
                    "name": project.names[-1],
                    "instance_id": instance,
                    "instance_name": f"mysql-{number}",
                    "container": "database_backups",
                    "kind": "incremental" if chain else "full",
                    "parent_id": chain[-1] if chain else None,
                    "chain_id": chain[0] if chain else backup,
                    "status": "COMPLETED",
                    "server_version": "10.11.19-MariaDB",
                    "location": f"file:///var/lib/strongroom/store/database_backups/{backup}",
                    "lineage": str(uuid.uuid4()),
                    "positions": {"from_lsn": 0, "to_lsn": 10**7 * turn, "gtid": "0-1-2", "binlog": "binlog.000001", "offset": 4},
                    "data_size": 3 * 1024**3,
                    "raw_size": 2 * 1024**3,
                    "stored_size": 1024**3,
                    "created": taken,
                    "updated": taken,
                    "started": taken,
                    "finished": taken + timedelta(minutes=1),
                }
            )
            chain.append(backup)
            rows[Job].append(
                {
                    "id": str(uuid.uuid4()),
                    "project": project.name,
                    "kind": "backup",
                    "status": "succeeded",
                    "host": "local",
                    "instance_id": instance,
                    "instance_name": f"mysql-{number}",
                    "backup_id": backup,
                    "params": {},
                    "output": {},
                    "created": taken,
                    "finished": taken + timedelta(minutes=1),
                }
            )
    with catalog.write() as session:
        for table, values in rows.items():
            session.execute(insert(table), values)
    catalog.close()
    return made


QUESTIONS = {
    "list: a page of instances": lambda p, r: f"/instances?limit={PAGE}",
    "list: a page of backups": lambda p, r: f"/backups?limit={PAGE}",
    "list: all instances of the project": lambda p, r: "/instances?include_clustered=False",
    "show: an instance by id": lambda p, r: f"/instances/{r.choice(p.instances)}",
    "show: a backup by id": lambda p, r: f"/backups/{r.choice(p.backups)}",
    "show: a backup by name": lambda p, r: f"/backups/{r.choice(p.names)}",
    "filter: backups of an instance": lambda p, r: f"/backups?instance_id={r.choice(p.instances)}",
    "filter: backups of a datastore, a page": lambda p, r: f"/backups?datastore=mariadb&limit={PAGE}",
    "filter: jobs of an instance": lambda p, r: f"/jobs?instance_id={r.choice(p.instances)}",
}


class Client:
    """One connection, and as much HTTP as the measurement needs: what a real client library costs is not ours."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, path: str) -> tuple[int, int]:
        """Status and bytes of the answer."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: application/json\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        await self._reader.readexactly(length)
        return int(head.split(" ")[1]), length


async def measure(port: int, projects: list[Project], clients: int, seconds: float, think: float) -> dict[str, list[float]]:
    """Seconds that each answer took, by question."""
    waited: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    until = time.monotonic() + seconds

    async def work(number: int) -> None:
        client, rng, project = Client(port), random.Random(number), projects[number % len(projects)]
        await asyncio.sleep(rng.random() * max(think, 0.1))
        while time.monotonic() < until:
            name = rng.choice(list(QUESTIONS))
            began = time.perf_counter()
            status, _ = await client.ask(f"/v1.0/{project.name}{QUESTIONS[name](project, rng)}")
            waited[name].append(time.perf_counter() - began)
            assert status == 200, name
            await asyncio.sleep(rng.uniform(0.5, 1.5) * think)

    await asyncio.gather(*(work(number) for number in range(clients)))
    return waited


def cpu_seconds(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of all do not pass."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench --api", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--backups", type=int, default=10_000)
    parser.add_argument("--projects", type=int, default=20, help="how many share them (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--think", type=float, default=0.25, metavar="S", help="seconds to think (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to ask in each way (default: %(default)s)")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TMPDIR", "/var/tmp")), help="where to work")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, too")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="strongroom-bench-", dir=options.dir))
    place.chmod(0o711)
    service = Service(place)
    try:
        service.data_dir.mkdir()
        projects = fill(service.data_dir, options.projects, options.instances, options.backups)
        service.start()
        asyncio.run(measure(service.port, projects, options.clients, 2, options.think))
        outcome = {}
        for way, think in (("they think", options.think), ("without a pause", 0.0)):
            used = cpu_seconds(service.pid)
            waited = asyncio.run(measure(service.port, projects, options.clients, options.seconds, think))
            outcome[way] = report(way, waited, options, cpu_seconds(service.pid) - used)
        if options.json:
            print(json.dumps(outcome))
    finally:
        service.stop()
        shutil.rmtree(place, ignore_errors=True)


def report(way: str, waited: dict[str, list[float]], options: argparse.Namespace, cpu: float) -> dict[str, float]:
    """Print the table; 99th percentiles in seconds, by question."""
    title = f"{options.clients} clients, {way}"
    table = Table("question", "requests", "median ms", "99 of 100, ms", "goal", "reached", title=title, title_justify="left")
    every = [value for values in waited.values() for value in values]
    outcome: dict[str, float] = {}
    for name, values in [*waited.items(), ("all", every)]:
        p99 = percentile(values, 0.99)
        outcome[name] = round(p99, 4)
        cells = (f"{len(values)}", f"{1000 * statistics.median(values):.1f}", f"{1000 * p99:.1f}", f"< {1000 * GOAL:.0f}")
        table.add_row(name, *cells, "yes" if p99 < GOAL else "NO")
    console.print(table)
    console.print(
        f"{options.instances} instances, {options.backups} backups in {options.projects} projects;"
        f" {len(every) / options.seconds:.0f} answers a second; {1000 * cpu / len(every):.2f} ms of CPU an answer"
    )
    return outcome


if __name__ == "__main__":
    main()
