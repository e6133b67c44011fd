"""Growth: throughput and memory from 0.5 to 8 GB."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.case import Case, Limit
from benchmarks.mariadb import back_up, mariadb
from benchmarks.mariadb_backup import MEMORY
from benchmarks.mariadb_restore import restore

SIZES = (500, 1000, 2000, 4000, 8000)


def growth(bench: Bench) -> None:
    """Back up and restore a table whose size doubles each time."""
    rates, memory = [], []
    for megabytes in SIZES:
        server = mariadb(bench, "table", SIZES[0])
        server.grow(bench.scaled(megabytes, 8))
        size = f"{megabytes / 1000:g} GB"
        view = back_up(bench, server, f"backup, {size}")
        seconds = bench.result.variants[f"backup, {size}"].seconds[-1]
        rates.append(server.size / 1e6 / seconds)
        bench.floors(f"backup, {size}", server.rates, server.size, stored=view["stored_size"])
        bench.figure(f"backup, {size}: throughput", rates[-1], "MB/s")
        bench.figure(f"backup, {size}: memory of the worker", view["output"]["max_rss"] / 2**20, "MB")
        output = restore(bench, view["id"], f"restore to ACTIVE, {size}", f"restore, {size}")
        bench.floors(f"restore, {size}", server.rates, server.size, stored=view["stored_size"], back=True)
        bench.figure(f"restore, {size}: throughput", server.size / 1e6 / sum(output["seconds"].values()), "MB/s")
        bench.figure(f"restore, {size}: memory of the worker", output["max_rss"] / 2**20, "MB")
        memory += [view["output"]["max_rss"], output["max_rss"]]
        bench.site.forget_backups()
    bench.site.drop()  # its size no longer matches its key
    bench.figure("peak memory of the worker", max(memory) / 2**20, "MB")
    bench.figure("throughput, largest size to best", rates[-1] / max(rates), "")


CASES = (
    Case(
        "growth",
        "Growth",
        "0.5 to 8 GB, one large table",
        growth,
        (Limit("peak memory of the worker, all sizes, MB", MEMORY, "peak memory of the worker"),),
        rounds=1,
        quick=False,
    ),
)
