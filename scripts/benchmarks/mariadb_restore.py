"""Restore, MariaDB: a full backup by Strongroom, by the usual steps and by the fastest stock tools; chains of 1, 5 and 20."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Floor, Limit, Times
from benchmarks.mariadb import GZIP, STRONGROOM, ZSTD, MariaDB, back_up, mariadb, piped_backup
from benchmarks.mariadb_backup import MEMORY

CHAPTER = "Restore, MariaDB"
USUAL_STEPS, STOCK = "gunzip, mbstream, prepare, copy back", "zstd -dc | mbstream, prepare in place"
ACTIVE, WORKER = "Strongroom, to ACTIVE", "Strongroom, worker only"
LINKS = (1, 5, 20)
CHANGED = 0.002
"""Share of the pages that change between two backups of a chain."""


def full(bench: Bench) -> None:
    """Restore the same data, each tool from its own backup."""
    server = mariadb(bench, "rows", 1500)
    gzip = piped_backup(bench, server, f"(backup) {GZIP}", "gzip").rename(bench.place / "backup.gz")
    zstd = piped_backup(bench, server, f"(backup) {ZSTD}", "zstd -q -T0 -1").rename(bench.place / "stock.zst")
    view = back_up(bench, server, f"(backup) {STRONGROOM}")
    size = server.size
    memory = 0
    for _ in bench.rounds():
        work = _empty(bench.place / "restored")
        (work / "full").mkdir()
        shutil.copy(gzip, work / "b.gz")
        bench.piped(
            USUAL_STEPS,
            f"cd {work}; gunzip b.gz; mbstream -x -C full < b; mariadb-backup --prepare --target-dir=full;"
            f" mariadb-backup --no-defaults --copy-back --target-dir=full --datadir={work}/data; chown -R mysql:mysql data; sync",
        )
        work = _empty(work)
        bench.piped(
            STOCK,
            f"zstd -q -dc {zstd} | mbstream -x -p 2 -C {work};"
            f" mariadb-backup --prepare --use-memory=1G --target-dir={work}; chown -R mysql:mysql {work}; sync",
        )
        shutil.rmtree(work)
        memory = max(memory, restore(bench, view["id"], ACTIVE, WORKER)["max_rss"])
    for name in (ACTIVE, WORKER):
        bench.floors(name, server.rates, size, stored=view["stored_size"], back=True)
    gzip.unlink()
    zstd.unlink()
    bench.figure("memory of the worker", memory / 2**20, "MB")


def chains(bench: Bench) -> None:
    """Restore a full backup and chains based on it; the chain of 5 also with stock tools from the same artifacts."""
    server = mariadb(bench, "table", 1500)
    backups = [back_up(bench, server, "(backup) full")]
    for turn in range(1, max(LINKS) + 1):
        server.change(CHANGED, turn)
        backups.append(back_up(bench, server, "(backup) incremental", "--parent", backups[-1]["id"]))
    for _ in bench.rounds():
        restore(bench, backups[0]["id"], "full, to ACTIVE", "full")
        for links in LINKS:
            restore(bench, backups[links]["id"], f"chain of {links}, to ACTIVE", f"chain of {links}")
        by_hand(bench, server, backups[:6], "chain of 5, stock tools")


def restore(bench: Bench, backup: str, active: str, worker: str) -> dict[str, Any]:
    """Measure Strongroom's command line, until ACTIVE, and the part of the worker. Returns the output of the job."""
    bench.timed(active, lambda: bench.site.ask("restore", backup, "--name", "copy"), "strongroom restore ID --name copy")
    output: dict[str, Any] = bench.site.ask("job", "show", bench.site.ask("instance", "show", "copy")["job_id"])["output"]
    bench.note(worker, sum(output["seconds"].values()))
    bench.site.ask("instance", "delete", "copy", "--yes")
    return output


def by_hand(bench: Bench, server: MariaDB, chain: list[dict[str, Any]], name: str) -> None:
    """Restore as described in docs/recover-by-hand.md."""
    store = bench.site.service.data_dir / "store"
    work = _empty(bench.place / "restored")
    steps = []
    for number, view in enumerate(chain):
        directory = work / str(number)
        directory.mkdir()
        incremental = f" --incremental-dir={directory}" if number else " --use-memory=1G"
        steps.append(f"cat {store}/{view['container']}/{view['id']}/0* | zstd -q -dc | mbstream -x -p 2 -C {directory}")
        steps.append(f"mariadb-backup --prepare --target-dir={work}/0{incremental}")
    bench.piped(name, "; ".join([*steps, f"chown -R mysql:mysql {work}/0", "sync"]))
    shutil.rmtree(work)


def _empty(work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    os.sync()
    return work


CASES = (
    Case(
        "mariadb-restore-full",
        CHAPTER,
        "full backup, rows, 1.5 GB",
        full,
        (
            Times("to ACTIVE: times faster than gunzip and copy back", 4, USUAL_STEPS, ACTIVE),
            Times("worker only: times faster than zstd -dc", 1, STOCK, WORKER),
            Floor("to ACTIVE: times the floor", 1.3, ACTIVE),
            Floor("worker only: times the floor", 1.3, WORKER),
            Limit("memory of the worker, MB", MEMORY, "memory of the worker"),
        ),
        bound=(
            "The floor includes only reading, decompressing and writing. It does not include `mariadb-backup --prepare`, which "
            "can begin only after the last byte is written, nor the sync of its changes, nor (to ACTIVE) the start of the server."
        ),
    ),
    Case(
        "mariadb-restore-chains",
        CHAPTER,
        "chains of 1, 5 and 20, one large table, 1.5 GB",
        chains,
        (
            Times("chain of 5: times the time of the full backup", 1.5, "chain of 5, to ACTIVE", "full, to ACTIVE", most=True),
            Times("chain of 20: times the time of the full backup", None, "chain of 20, to ACTIVE", "full, to ACTIVE"),
            Times("chain of 5: times faster than stock tools", 1, "chain of 5, stock tools", "chain of 5"),
        ),
        quick=False,
        text=f"Between two backups, one row is changed in {100 * CHANGED:g} % of the pages.",
        bound=(
            "Every incremental needs one run of `mariadb-backup --prepare --incremental-dir`, one after the other. Each run "
            "opens every tablespace and makes its changes durable. The next incremental is fetched at the same time, so fetching "
            "adds no time. The faster the restore of the full backup, the larger the ratio."
        ),
    ),
)
