"""Policies: what retention and schedules cost with a full catalog, and how quick the API is while many runs begin."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from sqlalchemy import select, update

from benchmarks.bench import Bench
from benchmarks.case import Case, Limit
from benchmarks.catalog_data import Project, fill
from benchmarks.control_plane import CHAPTER, PROJECTS, Client, full_catalog, memory_of, percentile
from strongroom.catalog import Attachment, Backup, Policy, now, open_catalog
from strongroom.flows import open_site
from strongroom.flows.chores.retention import retain
from strongroom.flows.policies.coverage import cover_databases
from strongroom.flows.policies.requests import attach_policy, create_policy
from strongroom.flows.retention.protection import show_protection
from strongroom.protection.policy import PolicySpec
from strongroom.settings import load
from strongroom.storage import open_store

GOLD = PolicySpec.model_validate(
    {
        "full": "sun 02:00",
        "incremental": "daily 02:00",
        "time_zone": "Europe/Vienna",
        "keep_within": "30d",
        "keep_daily": 14,
        "keep_weekly": 8,
        "keep_monthly": 12,
        "max_age": "26h",
    }
)
CHANGED = 10
"""Instances with a new backup since the last tick."""
TICKS = 5
READERS = 4
PAUSE = 0.05
"""Seconds that a reader waits between two requests."""


def policies(bench: Bench) -> None:
    """Ticks and a look at everything, in a process of their own, without a service."""
    place = bench.place / "policies"
    place.mkdir()
    instances, backups = bench.scaled(1000, PROJECTS), bench.scaled(100_000, PROJECTS)
    bench.result.data = f"{instances:,} instances and {backups:,} backups in {PROJECTS} projects, one policy for each project"
    try:
        fill(place, PROJECTS, instances, backups)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            for name, (value, unit) in process.submit(measure, place).result().items():
                bench.figure(name, value, unit)
    finally:
        shutil.rmtree(place)


def measure(data_dir: Path) -> dict[str, tuple[float, str]]:
    """The figures of the case, by name, with their units. For a new process: its peak memory counts."""
    settings = load(service={"data_dir": data_dir})
    site = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {})
    site.queue.start = lambda job: None
    for number in range(PROJECTS):
        create_policy(site, f"project-{number}", "gold", GOLD)
        attach_policy(site, f"project-{number}", "gold", [], whole_project=True)
    with site.catalog.write() as session:  # as if that was yesterday
        session.execute(update(Policy).values(updated=now() - timedelta(days=1)))
        session.execute(update(Attachment).values(created=now() - timedelta(days=1)))
    cover_databases(site, now())
    found: dict[str, tuple[float, str]] = {"memory, before": (_memory(), "MB")}
    began = time.process_time()
    retain(site)
    found["everything recomputed: processor"] = (time.process_time() - began, "s")
    found["everything recomputed: memory"] = (_memory(), "MB")
    spent = []
    for _ in range(TICKS):
        began = time.process_time()
        retain(site)
        spent.append(time.process_time() - began)
    found["a tick, nothing changed: processor"] = (1000 * sorted(spent)[TICKS // 2], "ms")
    with site.catalog.write() as session:
        some = select(Backup.instance_id).distinct().limit(CHANGED)
        for key in list(session.scalars(some)):
            newest = select(Backup).where(Backup.instance_id == key).order_by(Backup.created.desc()).limit(1)
            session.scalars(newest).one().updated = now()
    began = time.process_time()
    retain(site)
    found[f"a tick, {CHANGED} instances changed: processor"] = (1000 * (time.process_time() - began), "ms")
    began = time.process_time()
    show_protection(site, None)
    found["status of everything: processor"] = (time.process_time() - began, "s")
    found["memory, at the end"] = (_memory(), "MB")
    site.catalog.close()
    return found


def _memory() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def runs(bench: Bench) -> None:
    """All instances have the same nominal time: lists are read from its beginning until all runs are claimed."""
    with full_catalog(bench) as (service, projects):
        waited, took = asyncio.run(_read_while_runs_begin(service.port, projects, service.data_dir / "catalog.sqlite"))
        bench.figure("claimed runs", sum(len(project.instances) for project in projects), "")
        bench.figure("all runs claimed after", took, "s")
        bench.figure("meanwhile: GET /instances, median", 1000 * percentile(waited, 0.5), "ms")
        bench.figure("meanwhile: GET /instances, 99th percentile", 1000 * percentile(waited, 0.99), "ms")
        bench.figure("peak memory of the service", memory_of(service.pid), "MB")


async def _read_while_runs_begin(port: int, projects: list[Project], catalog: Path) -> tuple[list[float], float]:
    """The seconds of each response, and how many it took until all runs were claimed."""
    client = Client(port)
    due = (datetime.now(UTC) + timedelta(seconds=20)).replace(second=0, microsecond=0) + timedelta(minutes=1)
    policy = {"name": "gold", "full": f"daily {due:%H:%M}", "keep_within": "30d", "spread": "0s"}
    for project in projects:
        for path, body in (
            ("policies", {"policy": policy}),
            ("policies/gold/action", {"attach": {"whole_project": True}}),
        ):
            status, answer = await client.ask(f"/v1.0/{project.name}/{path}", body)
            assert status in (200, 202), answer
    wanted = sum(len(project.instances) for project in projects)
    waited: list[float] = []
    over = asyncio.Event()

    async def read(number: int) -> None:
        reader, dice = Client(port), random.Random(number)
        while not over.is_set():
            asked = time.perf_counter()
            status, answer = await reader.ask(f"/v1.0/{dice.choice(projects).name}/instances?limit=20")
            waited.append(time.perf_counter() - asked)
            assert status == 200, json.loads(answer)
            await asyncio.sleep(PAUSE)

    await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
    began = time.monotonic()
    readers = [asyncio.create_task(read(number)) for number in range(READERS)]
    try:
        with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as rows:
            while rows.execute("SELECT count(*) FROM policy_runs WHERE job_id IS NOT NULL").fetchone()[0] < wanted:
                assert time.monotonic() - began < 600, "the runs are not claimed"
                await asyncio.sleep(0.1)
        took = time.monotonic() - began
    finally:
        over.set()
        await asyncio.gather(*readers)
    return waited, took


CASES = (
    Case(
        "policies",
        CHAPTER,
        "retention of 100,000 backups",
        policies,
        (
            Limit("a tick, nothing changed: processor, ms", 50, "a tick, nothing changed: processor"),
            Limit("everything recomputed: processor, s", 3, "everything recomputed: processor"),
            Limit("status of everything: processor, s", None, "status of everything: processor"),
            Limit("everything recomputed: memory, MB", None, "everything recomputed: memory"),
        ),
        rounds=1,
        text="A tick looks at what has changed. Everything is recomputed after a start, and every six hours.",
        bound="A row of the catalog costs most: each of 100,000 is read and converted, three times of it each.",
    ),
    Case(
        "runs",
        CHAPTER,
        "1,000 runs of one nominal time",
        runs,
        (
            Limit("meanwhile: GET /instances, median, ms", None, "meanwhile: GET /instances, median"),
            Limit("meanwhile: GET /instances, 99th percentile, ms", None, "meanwhile: GET /instances, 99th percentile"),
        ),
        rounds=1,
        quick=False,
        text=f"{READERS} clients read pages of instances, with pauses of {1000 * PAUSE:g} ms, from the nominal time until "
        "each run has its job. The instances are only rows in the catalog, so every job fails when the agent finds no server.",
    ),
)
