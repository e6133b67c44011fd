"""Effect on the database: transactions per second and their 99th percentile during a backup."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.case import Case, Limit
from benchmarks.load import CONNECTIONS, PAUSE, Load
from benchmarks.mariadb import NULL, ROWS, STRONGROOM, ZSTD_PARALLEL, back_up, mariadb, piped_backup, tool
from benchmarks.postgresql_server import BASEBACKUP_ZSTD, postgresql
from benchmarks.postgresql_server import back_up as back_up_postgresql

CHAPTER = "Effect on the database"
QUIET = 5.0
"""Seconds without a backup in each round."""


def on_mariadb(bench: Bench) -> None:
    """No backup, the tool alone, the tool with a fast compressor, and Strongroom."""
    server = mariadb(bench, "table", 1500)
    terms = {"read_default_file": str(server.base / "client.cnf"), "unix_socket": server.socket}
    rows = bench.scaled(1500, 8) * ROWS
    _measure(
        bench,
        {**terms, "postgresql": False, "rows": rows},
        {
            NULL: lambda: bench.piped(NULL, f"{tool(server, '--parallel=2')} > /dev/null", data=server.data),
            ZSTD_PARALLEL: lambda: _unlink(piped_backup(bench, server, ZSTD_PARALLEL, "zstd -q -T0 -1", "--parallel=2")),
            STRONGROOM: lambda: back_up(bench, server),
        },
        ZSTD_PARALLEL,
    )


def on_postgresql(bench: Bench) -> None:
    """No backup, pg_basebackup with a fast compressor, and Strongroom."""
    server = postgresql(bench, "15", 1500, kind="table")
    terms = {"host": str(server.socket), "port": server.port, "user": "postgres", "dbname": "postgres"}
    _measure(
        bench,
        {**terms, "postgresql": True, "rows": bench.scaled(1500, 16) * ROWS},
        {
            BASEBACKUP_ZSTD: lambda: server.basebackup(bench, BASEBACKUP_ZSTD, "zstd -q -T0 -1"),
            STRONGROOM: lambda: back_up_postgresql(bench, STRONGROOM, server),
        },
        BASEBACKUP_ZSTD,
    )


def _measure(bench: Bench, terms: dict[str, object], variants: dict[str, Callable[[], object]], bare: str) -> None:
    windows: dict[str, list[tuple[float, float]]] = {}
    quiet = max(0.5, QUIET * min(1, bench.scale))
    with Load(terms) as load:
        for _ in bench.rounds():
            began = time.monotonic()
            time.sleep(quiet)
            windows.setdefault("no backup", []).append((began, time.monotonic()))
            for name, work in variants.items():
                work()
                ended = time.monotonic()
                windows.setdefault(name, []).append((ended - bench.result.variants[name].seconds[-1], ended))
    latency: dict[str, list[float]] = {}
    for name, times in windows.items():
        per_round = [load.between(*window) for window in times]
        latency[name] = [_percentile(found) for found in per_round if found]
        seconds = sum(ended - began for began, ended in times)
        bench.figure(f"{name}: transactions per second", sum(map(len, per_round)) / seconds, "/s")
        bench.figure(f"{name}: 99th percentile of latency", 1000 * statistics.median(latency[name]), "ms")
    ratios = [strongroom / tool for strongroom, tool in zip(latency[STRONGROOM], latency[bare], strict=True)]
    bench.figure("99th percentile of latency, Strongroom / bare tool", statistics.median(ratios), "x")


def _percentile(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


def _unlink(path: Path) -> None:
    path.unlink()


GOALS = (
    Limit("99th percentile of latency: times that with the bare tool", 1.0, "99th percentile of latency, Strongroom / bare tool"),
)
TEXT = (
    f"{CONNECTIONS} connections run transactions in a loop: read five rows, change one, pause for {1000 * PAUSE:g} ms. "
    "Transactions that end while a variant runs count for it. The database, the load and the backup share the cores."
)
BOUND = (
    "The threads of Strongroom and of the tool use all cores, as `zstd -T0` does, but for a shorter time. "
    "`artifact.threads` limits them."
)

CASES = (
    Case("effect-mariadb", CHAPTER, "MariaDB, one large table, 1.5 GB", on_mariadb, GOALS, text=TEXT, bound=BOUND),
    Case("effect-postgresql", CHAPTER, "PostgreSQL 15, one large table, 1.5 GB", on_postgresql, GOALS, text=TEXT, bound=BOUND),
)
