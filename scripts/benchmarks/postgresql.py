"""Backup and restore, PostgreSQL: Strongroom, pgBackRest, Barman, Trove's command, and PostgreSQL's own tools.

pgBackRest works as people set it up: WAL archived by it, zstd level 1, two processes, bundles. Restores are compared by the
worker's part too, since starting the server is no part of what the others do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, size_of
from benchmarks.case import Case, Floor, Limit, Times
from benchmarks.mariadb_backup import MEMORY
from benchmarks.mariadb_restore import restore
from benchmarks.postgresql_server import AS_OWNER, BASEBACKUP_ZSTD, OLDER, PostgreSQL, back_up, own, postgresql
from support.postgresql_versions import programs

CHAPTER = "Backup and restore, PostgreSQL"
NEWER = "18"
LINKS = 10
"""Incrementals of the chain."""
SHARES = {"0.1 %": 0.001, "1 %": 0.01, "10 %": 0.1}
FULL, RESTORE, ACTIVE = "Strongroom, full", "Strongroom, restore, the same work", "Strongroom, restore to ACTIVE"
TROVE = "pg_basebackup -Ft -z (Trove)"
PGBACKREST, BARMAN = "pgBackRest, full", "Barman, full"
PGBACKREST_RESTORE, BARMAN_RESTORE = "pgBackRest, restore", "Barman, restore"


class PgBackRest:
    """A repository and a stanza, with WAL archived into it."""

    SETTINGS = "compress-type=zst compress-level=1 process-max=2 repo1-bundle=y start-fast=y"

    def __init__(self, bench: Bench, server: PostgreSQL) -> None:
        self.bench = bench
        top = own(bench.place / "pgbackrest")
        folders = {name: own(top / name) for name in ("repo", "log", "lock", "spool")}
        settings = {
            **{f"{name}-path": path for name, path in folders.items() if name != "repo"},
            "repo1-path": folders["repo"],
            "repo1-retention-full": 1,
            **dict(word.split("=") for word in self.SETTINGS.split()),
        }
        configuration = top / "pgbackrest.conf"
        lines = ["[global]", *(f"{name}={value}" for name, value in settings.items()), "[main]"]
        lines += [f"pg1-path={server.data}", f"pg1-socket-path={server.socket}", f"pg1-port={server.port}"]
        configuration.write_text("\n".join(lines) + "\n")
        configuration.chmod(0o644)
        self.command = f"pgbackrest --config={configuration} --stanza=main"
        self.latest = folders["repo"] / "backup" / "main" / "latest"
        server.restart_with(archive_mode="on", archive_command=f"{self.command} archive-push %p")
        bench.shell(f"{self.command} stanza-create", **AS_OWNER)

    def back_up(self, name: str, server: PostgreSQL, kind: str) -> None:
        """Measure a backup of a ``kind``: full or incr."""
        self.bench.piped(name, f"{self.command} --type={kind} backup; sync", data=server.data, **AS_OWNER)
        self.bench.stored(name, size_of(self.latest.resolve()))

    def restore(self, name: str) -> None:
        """Measure the restore of the newest backup."""
        target = own(self.bench.place / "restored")
        self.bench.piped(name, f"{self.command} --pg1-path={target} restore; sync", **AS_OWNER)
        shutil.rmtree(target)


class Barman:
    """A catalog with WAL received by streaming; pg_basebackup with zstd does the copying, as barman's manual advises."""

    def __init__(self, bench: Bench, server: PostgreSQL) -> None:
        self.bench = bench
        self.home = own(bench.place / "barman")
        configuration = self.home / "barman.conf"
        conninfo = f"host={server.socket} port={server.port} user=postgres dbname=postgres"
        configuration.write_text(
            f"""\
[barman]
barman_user = postgres
barman_home = {self.home}
log_file = {self.home}/log
[main]
description = main
conninfo = {conninfo}
streaming_conninfo = {conninfo}
backup_method = postgres
backup_compression = zstd
backup_compression_level = 1
backup_compression_format = tar
streaming_archiver = on
slot_name = barman
create_slot = auto
path_prefix = {OLDER}
recovery_staging_path = {self.home}
immediate_checkpoint = true
"""
        )
        configuration.chmod(0o644)
        self.command = f"barman -c {configuration}"
        bench.shell(f"{self.command} receive-wal --create-slot main", **AS_OWNER)
        self._receiver = subprocess.Popen(
            [*self.command.split(), "receive-wal", "main"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **AS_OWNER
        )
        self._first_segment()

    def _first_segment(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.bench.shell(f"{self.command} switch-wal --force main; {self.command} archive-wal main", **AS_OWNER)
            if any((self.home / "main" / "wals").rglob("0*")):
                return
            time.sleep(0.5)
        raise RuntimeError("barman receives no WAL")

    def back_up(self, name: str, server: PostgreSQL) -> None:
        """Measure a full."""
        self.bench.piped(name, f"{self.command} backup main; sync", data=server.data, **AS_OWNER)
        newest = max((self.home / "main" / "base").iterdir(), key=lambda path: path.name)
        self.bench.stored(name, size_of(newest))
        self.bench.shell(f"{self.command} switch-wal --force main; sleep 1; {self.command} archive-wal main", **AS_OWNER)

    def restore(self, name: str) -> None:
        """Measure the restore of the newest backup; only that one is kept."""
        target = own(self.bench.place / "restored")
        self.bench.piped(name, f"{self.command} recover main latest {target}; sync", **AS_OWNER)
        shutil.rmtree(target)
        self.bench.shell(f"{self.command} delete main oldest", **AS_OWNER)

    def close(self) -> None:
        """No more WAL is wanted."""
        self._receiver.terminate()
        self._receiver.wait()


def fulls(bench: Bench) -> None:
    """Backup and restore of a full by each."""
    server = postgresql(bench, "15", 1200)
    size = server.size
    pgbackrest, barman, memory = PgBackRest(bench, server), Barman(bench, server), 0
    try:
        for _ in bench.rounds():
            pgbackrest.back_up(PGBACKREST, server, "full")
            barman.back_up(BARMAN, server)
            server.basebackup(bench, TROVE, "", "-z", "--label=bench")
            server.basebackup(bench, BASEBACKUP_ZSTD, "zstd -q -T0 -1")
            view = back_up(bench, FULL, server)
            pgbackrest.restore(PGBACKREST_RESTORE)
            barman.restore(BARMAN_RESTORE)
            output = restore(bench, view["id"], ACTIVE, RESTORE)
            memory = max(memory, view["output"]["max_rss"], output["max_rss"])
            bench.site.forget_backups()
    finally:
        barman.close()
    stored = bench.result.variants[FULL].stored[-1]
    bench.floors(FULL, server.rates, size, stored=stored)
    for name in (RESTORE, ACTIVE):
        bench.floors(name, server.rates, size, stored=stored, back=True)
    bench.figure("memory of the worker", memory / 2**20, "MB")
    with server.connect() as connection:
        connection.execute("SELECT pg_drop_replication_slot('barman')")
    bench.site.drop()


def incrementals(bench: Bench) -> None:
    """On 15, where we carry the log: full, then each share of changes; pgBackRest the same."""
    server = postgresql(bench, "15", 1200)
    pgbackrest = PgBackRest(bench, server)
    turn = 0
    for _ in bench.rounds():
        pgbackrest.back_up(PGBACKREST, server, "full")
        last = back_up(bench, FULL, server)
        for text, share in SHARES.items():
            turn += 1
            server.change(share, turn)
            pgbackrest.back_up(f"pgBackRest, incremental, {text}", server, "incr")
            last = back_up(bench, f"Strongroom, incremental, {text}", server, "--parent", last["id"])
        pgbackrest.restore("pgBackRest, restore of the last")
        restore(bench, last["id"], "Strongroom, restore of the last to ACTIVE", "Strongroom, restore of the last, the same work")
    bench.site.drop()


def blocks(bench: Bench) -> None:
    """On 18, where the server tells the changed blocks: full, each share of changes, and a chain; its own tool the same."""
    with _newer(bench):
        server = postgresql(bench, NEWER, 1200)
        newer = programs(NEWER)
        back_up(bench, FULL, server)
        turn = 0
        for _ in bench.rounds():
            last = back_up(bench, FULL, server)
            for text, share in SHARES.items():
                turn += 1
                server.change(share, turn)
                last = back_up(bench, f"Strongroom, incremental, {text}", server, "--parent", last["id"])
        bench.site.forget_backups()
        chain = [back_up(bench, "(chain) full", server)]
        for _ in range(LINKS):
            turn += 1
            server.change(0.01, turn)
            chain.append(back_up(bench, "(chain) incremental, 1 %", server, "--parent", chain[-1]["id"]))
        for _ in bench.rounds():
            restore(bench, chain[-1]["id"], "Strongroom, chain of ten to ACTIVE", "Strongroom, chain of ten, the same work")
            _by_hand(bench, newer, chain)
        bench.site.drop()


def _by_hand(bench: Bench, newer: Path, chain: list[dict[str, Any]]) -> None:
    top = bench.place / "chain"
    store = bench.site.service.data_dir / "store"
    steps, directories = [], []
    for number, view in enumerate(chain):
        directories.append(top / str(number))
        directories[-1].mkdir(parents=True)
        steps.append(f"cat {store}/{view['container']}/{view['id']}/0* | zstd -q -dc | tar -x -C {directories[-1]}")
    steps.append(f"{newer}/pg_combinebackup {' '.join(map(str, directories))} -o {top}/out")
    bench.piped("chain of ten: zstd | tar, pg_combinebackup", "; ".join([*steps, "sync"]))
    shutil.rmtree(top)


@contextmanager
def _newer(bench: Bench) -> Iterator[None]:
    bench.site.drop()
    with bench.site.configured(DATASTORES__POSTGRESQL=json.dumps([str(programs(NEWER))])):
        yield


CASES = (
    Case(
        "postgresql-full",
        CHAPTER,
        "a full and its restore, PostgreSQL 15, rows, 1.2 GB",
        fulls,
        (
            Times("full: times faster than pgBackRest", 2, PGBACKREST, FULL),
            Times("full: times faster than Trove's command", 10, TROVE, FULL),
            Times("full: times faster than Barman", None, BARMAN, FULL),
            Times("full: stored, times pgBackRest's", 1.05, FULL, PGBACKREST, "stored", most=True),
            Floor("full: times the floor", 1.3, FULL),
            Times("restore, the same work: times faster than pgBackRest", 1.5, PGBACKREST_RESTORE, RESTORE),
            Times("restore to ACTIVE: times faster than Barman", None, BARMAN_RESTORE, ACTIVE),
            Floor("restore, the same work: times the floor", 1.3, RESTORE),
            Limit("memory of the worker, MB", MEMORY, "memory of the worker"),
        ),
        text=(
            f"pgBackRest: `{PgBackRest.SETTINGS}`, WAL archived by it. Barman: `backup_method = postgres`, "
            "`backup_compression = zstd`, level 1, WAL received by streaming."
        ),
        bound=(
            "zstd takes all cores for the time of the floor. The copy out of the page cache, the check of every page, two sums "
            "over every byte and the start of command and worker take half as much again; other settings of zstd are faster only "
            "with more bytes stored. pgBackRest pays for the same zstd, and checks and hashes, too. A restore has to write all "
            "data to the disk, pgBackRest's as ours; how fast a shared disk takes them differs from minute to minute, and the "
            "ratio with it."
        ),
    ),
    Case(
        "postgresql-incremental",
        CHAPTER,
        "incrementals by the log, PostgreSQL 15, rows, 1.2 GB",
        incrementals,
        tuple(
            Times(
                f"{text} changed: times faster than pgBackRest's incremental",
                None,
                f"pgBackRest, incremental, {text}",
                f"Strongroom, incremental, {text}",
            )
            for text in SHARES
        )
        + tuple(
            Times(
                f"{text} changed: stored, times smaller than pgBackRest's",
                None,
                f"pgBackRest, incremental, {text}",
                f"Strongroom, incremental, {text}",
                "stored",
            )
            for text in SHARES
        ),
        rounds=2,
        text="pgBackRest 2.45 has no block incremental yet: a file that has changed is stored whole.",
    ),
    Case(
        "postgresql-blocks",
        CHAPTER,
        "incrementals by blocks, PostgreSQL 18, rows, 1.2 GB",
        blocks,
        (
            Times("1 % changed: times faster than a full", 5, FULL, "Strongroom, incremental, 1 %"),
            Times("1 % changed: times smaller than a full", 10, FULL, "Strongroom, incremental, 1 %", "stored"),
            Times(
                "chain of ten: times faster than zstd | tar and pg_combinebackup",
                3,
                "chain of ten: zstd | tar, pg_combinebackup",
                "Strongroom, chain of ten, the same work",
            ),
        ),
        rounds=2,
        text="pgBackRest and Barman of Debian 12 know no PostgreSQL 18.",
        bound=(
            "The time of a small incremental is that of the command, the request, a checkpoint and the server's summary of "
            "its WAL, whatever it holds: the faster a full becomes, the smaller is the ratio. Most of the time "
            "of a chain goes into the full beneath it and into the newest backup, which names every file; Python opens each."
        ),
    ),
)
