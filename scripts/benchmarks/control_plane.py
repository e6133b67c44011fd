"""The service: response times of the API with a full catalog, a thousand jobs at once, and start-up.

A client sends a request, reads the whole response, and sends the next one over the same connection. Times are what the client
waits. Clients and service share the machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo import PROGRAM, Service

from benchmarks.bench import Bench
from benchmarks.case import Case, Limit
from benchmarks.catalog_data import Project, fill
from benchmarks.mariadb import back_up, mariadb
from strongroom.catalog import Job

CHAPTER = "The service"
PROJECTS = 20
CLIENTS = 20
THINK = 0.25
"""Seconds that a client pauses between two requests, as people do."""
SECONDS = 20.0
"""Seconds of requests with and without pauses."""
PAGE = 20
EMPTY, AGAIN = "strongroom serve, the first time", "strongroom serve, from then on"

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
    """One connection with minimal HTTP, so that the time of a client library is not measured."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Send a request (POST if there is a ``body``). Returns the status and the content of the response."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        sent = json.dumps(body).encode() if body else b""
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: application/json\r\n"
        more = f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n" if body else ""
        self._writer.write(f"{head}{more}\r\n".encode() + sent)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.split("content-length: ")[1].split("\r\n")[0])
        return int(answer.split(" ")[1]), await self._reader.readexactly(length)


async def measure(port: int, projects: list[Project], clients: int, seconds: float, think: float) -> dict[str, list[float]]:
    """The seconds of each response, by kind of request."""
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
    """The processor time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory_of(pid: int) -> float:
    """The peak resident memory of the process so far, in MB."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def percentile(values: list[float], share: float) -> float:
    """The percentile of the values at ``share``."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextmanager
def full_catalog(bench: Bench) -> Iterator[tuple[Service, list[Project]]]:
    """A service for this case, with a full catalog."""
    place = bench.place / "control"
    place.mkdir(mode=0o711)
    service = Service(place)
    instances, backups = bench.scaled(1000, PROJECTS), bench.scaled(100_000, PROJECTS)
    bench.result.data = f"{instances:,} instances and {backups:,} backups, with the jobs that took them, in {PROJECTS} projects"
    try:
        service.data_dir.mkdir()
        projects = fill(service.data_dir, PROJECTS, instances, backups)
        began = time.monotonic()
        service.start()
        bench.figure("serve ready, full catalog", time.monotonic() - began, "s")
        yield service, projects
    finally:
        service.stop()
        shutil.rmtree(place)


def api(bench: Bench) -> None:
    """Lists, single resources and filters; first by clients with pauses, then by clients without."""
    with full_catalog(bench) as (service, projects):
        bench.figure("memory of the service, at rest", memory_of(service.pid), "MB")
        asyncio.run(measure(service.port, projects, CLIENTS, 2, THINK))
        seconds = max(1.0, SECONDS * min(1, bench.scale))
        for way, think in (("with pauses", THINK), ("without pauses", 0.0)):
            used = cpu_seconds(service.pid)
            waited = asyncio.run(measure(service.port, projects, CLIENTS, seconds, think))
            used = cpu_seconds(service.pid) - used
            every = [value for values in waited.values() for value in values]
            for name, values in [*waited.items(), ("all", every)]:
                if values:
                    bench.figure(f"{way}: {name}, 99th percentile", 1000 * percentile(values, 0.99), "ms")
            bench.figure(f"{way}: responses", len(every) / seconds, "/s")
            bench.figure(f"{way}: processor time per response", 1000 * used / len(every), "ms")
        bench.figure("peak memory of the service", memory_of(service.pid), "MB")


def queue(bench: Bench) -> None:
    """Backups of all instances are requested at once, while other clients read lists."""
    with full_catalog(bench) as (service, projects):
        asyncio.run(measure(service.port, projects, CLIENTS, 1, THINK))
        asked, looked, ended = asyncio.run(_ask_for_all(service.port, projects))
        count = len(asked)
        bench.figure("requested backups", count, "")
        bench.figure("acceptance of a request, 99th percentile", 1000 * percentile(asked, 0.99), "ms")
        bench.figure("all requests accepted after", sum(asked) / CLIENTS, "s")
        bench.figure("meanwhile: a page of backups, 99th percentile", 1000 * percentile(looked, 0.99), "ms")
        bench.figure("all jobs finished after", ended, "s")
        bench.figure("jobs", count / ended, "/s")
        bench.figure("peak memory of the service", memory_of(service.pid), "MB")


async def _ask_for_all(port: int, projects: list[Project]) -> tuple[list[float], list[float], float]:
    todo = [(project, instance) for project in projects for instance in project.instances]
    accepted: list[float] = []
    looked: list[float] = []
    over = asyncio.Event()
    began = time.monotonic()

    async def ask() -> None:
        client = Client(port)
        while todo:
            project, instance = todo.pop()
            body = {"backup": {"name": "nightly", "instance": instance}}
            asked = time.perf_counter()
            status, answer = await client.ask(f"/v1.0/{project.name}/backups", body)
            accepted.append(time.perf_counter() - asked)
            assert status == 202, answer

    async def look() -> None:
        client, dice = Client(port), random.Random(7)
        while not over.is_set():
            asked = time.perf_counter()
            await client.ask(f"/v1.0/{dice.choice(projects).name}/backups?limit={PAGE}")
            looked.append(time.perf_counter() - asked)
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    client = Client(port)
    for project in projects:
        while True:
            answers = [await client.ask(f"/v1.0/{project.name}/jobs?limit=1&status={status}") for status in Job.UNFINISHED]
            if not any(json.loads(answer)["jobs"] for _, answer in answers):
                break
            await asyncio.sleep(0.2)
    over.set()
    await looking
    return accepted, looked, time.monotonic() - began


def start_up(bench: Bench) -> None:
    """Start of the command line and of the service, and the time from a request to the first byte of the tool."""
    place = bench.place / "control"
    for _ in bench.rounds():
        bench.timed("strongroom --help", lambda: subprocess.run([PROGRAM, "--help"], check=True, stdout=subprocess.DEVNULL))
        place.mkdir(mode=0o711)
        for name in (EMPTY, AGAIN):
            service = Service(place)
            try:
                bench.timed(name, service.start)
            finally:
                service.stop()
        shutil.rmtree(place)
    server = mariadb(bench, "table", 50)
    waited = [back_up(bench, server)["waited"] for _ in bench.rounds()]
    bench.figure("strongroom --help", _median(bench, "strongroom --help"), "s")
    bench.figure("serve ready", _median(bench, AGAIN), "s")
    bench.figure("from the request to the first byte of the tool", sorted(waited)[len(waited) // 2], "s")
    bench.site.forget_backups()


def _median(bench: Bench, name: str) -> float:
    values = sorted(bench.result.variants[name].seconds)
    return values[len(values) // 2]


CASES = (
    Case(
        "start-up",
        CHAPTER,
        "start-up",
        start_up,
        (
            Limit("`strongroom --help`, s", 0.3, "strongroom --help"),
            Limit("`strongroom serve` ready, s", 2.0, "serve ready"),
            Limit("from the request to the first byte of the tool, s", None, "from the request to the first byte of the tool"),
        ),
        rounds=5,
        bound="Most of the start-up time is importing Python libraries. It depends on the disk cache.",
    ),
    Case(
        "api",
        CHAPTER,
        "the API with 100,000 backups",
        api,
        (
            Limit("a page of backups, 99th percentile, ms", 50, "with pauses: list: a page of backups, 99th percentile"),
            Limit("a page of instances, 99th percentile, ms", 50, "with pauses: list: a page of instances, 99th percentile"),
            Limit("all requests, 99th percentile, ms", 50, "with pauses: all, 99th percentile"),
            Limit("all requests without pauses, 99th percentile, ms", None, "without pauses: all, 99th percentile"),
        ),
        rounds=1,
        text=f"{CLIENTS} clients, first with pauses of {1000 * THINK:g} ms between two requests, then without pauses.",
        bound="The service answers one request at a time and shares the cores with its clients.",
    ),
    Case(
        "queue",
        CHAPTER,
        "1,000 jobs at once",
        queue,
        (
            Limit("acceptance of a request, 99th percentile, ms", None, "acceptance of a request, 99th percentile"),
            Limit("meanwhile: a page of backups, 99th percentile, ms", None, "meanwhile: a page of backups, 99th percentile"),
            Limit("peak memory of the service, MB", None, "peak memory of the service"),
        ),
        rounds=1,
        text=(
            "The instances are only rows in the catalog, so every job fails when the agent finds no server. This measures the "
            "queue, not backups."
        ),
    ),
)
