"""An idle service: processor time, memory, and the time from a request to the start of its job."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

from demo import Service

from benchmarks.bench import Bench
from benchmarks.case import Case, Limit
from benchmarks.control_plane import CHAPTER, Client, cpu_seconds

SETTLES = 75.0
"""Seconds to wait after the start, or after the last instance was created, until the service is idle."""
SECONDS = 60.0
"""Seconds to measure."""
INSTANCES = 50


def resident(pid: int) -> float:
    """The resident memory of the process, in MB."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def idle(bench: Bench) -> None:
    """Measure the service with no instances, then with many."""
    place = bench.place / "idle"
    place.mkdir(mode=0o711)
    service = Service(place)
    count = bench.scaled(INSTANCES)
    bench.result.data = f"no instances, then {count} empty MariaDB servers"
    try:
        service.start()
        _measure(bench, service, "no instances")
        for number in range(count):
            service.ask("instance", "create", f"idle{number}", "--flavor", "d1")
        _measure(bench, service, "instances")
        waited = [asyncio.run(_start_job(service.port, "idle0")) for _ in range(3)]
        bench.figure("from a request to the start of its job", sorted(waited)[1], "ms")
    finally:
        service.stop()
        shutil.rmtree(place)


def _measure(bench: Bench, service: Service, name: str) -> None:
    time.sleep(max(1.0, SETTLES * min(1, bench.scale)))
    seconds = max(2.0, SECONDS * min(1, bench.scale))
    before = cpu_seconds(service.pid)
    time.sleep(seconds)
    bench.figure(f"{name}: processor", 100 * (cpu_seconds(service.pid) - before) / seconds, "% of a core")
    bench.figure(f"{name}: memory", resident(service.pid), "MB")


async def _start_job(port: int, instance: str) -> float:
    """Milliseconds from a request to restart the instance to the start of its job."""
    client = Client(port)
    began = time.perf_counter()
    status, _ = await client.ask(f"/v1.0/default/instances/{instance}/action", {"restart": {}})
    assert status == 202, status
    while True:
        job = json.loads((await client.ask("/v1.0/default/jobs?limit=1"))[1])["jobs"][0]
        if job["started"]:
            waited = time.perf_counter() - began
            break
        await asyncio.sleep(0.002)
    while not json.loads((await client.ask(f"/v1.0/default/jobs/{job['id']}?wait=30&after=1000000"))[1])["job"]["finished"]:
        pass
    return 1000 * waited


CASES = (
    Case(
        "idle",
        CHAPTER,
        "an idle service",
        idle,
        (
            Limit("no instances: processor, % of a core", 0.5, "no instances: processor"),
            Limit(f"{INSTANCES} instances: processor, % of a core", 0.5, "instances: processor"),
            Limit("no instances: memory, MB", 100, "no instances: memory"),
            Limit(f"{INSTANCES} instances: memory, MB", 100, "instances: memory"),
            Limit("from a request to the start of its job, ms", 100, "from a request to the start of its job"),
        ),
        rounds=1,
        quick=False,
        text="Processor time and memory are those of the service alone, not of the database servers.",
        bound="Loaded code uses the memory: 33 MB are functions and classes of libraries, of which SQLAlchemy has 19 MB, and 19 "
        "MB are those of Strongroom; 20 MB are pages of programs and libraries that other processes use, too. Caches take less "
        "than 1 MB. The first jobs add 6 MB: models that are built when they are used, and the drivers of the databases.",
    ),
)
