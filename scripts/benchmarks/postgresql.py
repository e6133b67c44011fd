"""Backup and restore, PostgreSQL: Strongroom, pgBackRest, Barman, Trove's command, and PostgreSQL's own tools.

pgBackRest has a usual configuration: WAL archiving, zstd level 1, two processes, bundles. Restores are also compared by the
worker's part only, because the other tools do not start the server.
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
"""Incremental backups in the chain."""
SHARES = {"0.1 %": 0.001, "1 %": 0.01, "10 %": 0.1}
FULL, RESTORE, ACTIVE = "Strongroom, full", "Strongroom, restore, worker only", "Strongroom, restore to ACTIVE"
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
        """Measure a backup of this kind: full or incr."""
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
        raise RuntimeError("Barman receives no WAL")

    def back_up(self, name: str, server: PostgreSQL) -> None:
        """Measure a full backup."""
        self.bench.piped(name, f"{self.command} backup main; sync", data=server.data, **AS_OWNER)
        newest = max((self.home / "main" / "base").iterdir(), key=lambda path: path.name)
        self.bench.stored(name, size_of(newest))
        self.bench.shell(f"{self.command} switch-wal --force main; sleep 1; {self.command} archive-wal main", **AS_OWNER)

    def restore(self, name: str) -> None:
        """Measure the restore of the newest backup, and delete the older one."""
        target = own(self.bench.place / "restored")
        self.bench.piped(name, f"{self.command} recover main latest {target}; sync", **AS_OWNER)
        shutil.rmtree(target)
        self.bench.shell(f"{self.command} delete main oldest", **AS_OWNER)

    def close(self) -> None:
        """Stop receiving WAL."""
        self._receiver.terminate()
        self._receiver.wait()


def fulls(bench: Bench) -> None:
    """Measure a full backup and its restore by each tool."""
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
    """PostgreSQL 15, where an incremental consists of WAL: a full backup, then each share of changes; also by pgBackRest."""
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
        restore(bench, last["id"], "Strongroom, restore of the last to ACTIVE", "Strongroom, restore of the last, worker only")
    bench.site.drop()


def blocks(bench: Bench) -> None:
    """PostgreSQL 18, where an incremental consists of changed blocks: a full backup, each share of changes, and a chain."""
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
            restore(bench, chain[-1]["id"], "Strongroom, chain of ten to ACTIVE", "Strongroom, chain of ten, worker only")
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
        "full backup and restore, PostgreSQL 15, rows, 1.2 GB",
        fulls,
        (
            Times("full: times faster than pgBackRest", 2, PGBACKREST, FULL),
            Times("full: times faster than Trove's command", 10, TROVE, FULL),
            Times("full: times faster than Barman", None, BARMAN, FULL),
            Times("full: stored bytes, times those of pgBackRest", 1.05, FULL, PGBACKREST, "stored", most=True),
            Floor("full: times the floor", 1.3, FULL),
            Times("restore, worker only: times faster than pgBackRest", 1.5, PGBACKREST_RESTORE, RESTORE),
            Times("restore to ACTIVE: times faster than Barman", None, BARMAN_RESTORE, ACTIVE),
            Floor("restore, worker only: times the floor", 1.3, RESTORE),
            Limit("memory of the worker, MB", MEMORY, "memory of the worker"),
        ),
        text=(
            f"pgBackRest: `{PgBackRest.SETTINGS}`, with WAL archiving. Barman: `backup_method = postgres`, "
            "`backup_compression = zstd`, level 1, with WAL streaming."
        ),
        bound=(
            "zstd uses all cores for the time of the floor. Copying the data out of the page cache, checking every page, hashing "
            "every byte twice and starting the command and the worker take half of that time in addition. Other settings of zstd "
            "are faster only if more bytes are stored. pgBackRest also uses zstd, checks and hashes. A restore must write all "
            "data to the disk with either tool. The speed of a shared disk changes from minute to minute, and with it the ratio."
        ),
    ),
    Case(
        "postgresql-incremental",
        CHAPTER,
        "incremental backups from WAL, PostgreSQL 15, rows, 1.2 GB",
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
                f"{text} changed: stored bytes, times smaller than pgBackRest's",
                None,
                f"pgBackRest, incremental, {text}",
                f"Strongroom, incremental, {text}",
                "stored",
            )
            for text in SHARES
        ),
        rounds=2,
        text="pgBackRest 2.45 has no block incremental: it stores a changed file completely.",
    ),
    Case(
        "postgresql-blocks",
        CHAPTER,
        "incremental backups of blocks, PostgreSQL 18, rows, 1.2 GB",
        blocks,
        (
            Times("1 % changed: times faster than a full", 5, FULL, "Strongroom, incremental, 1 %"),
            Times("1 % changed: times smaller than a full", 10, FULL, "Strongroom, incremental, 1 %", "stored"),
            Times(
                "chain of ten: times faster than zstd | tar and pg_combinebackup",
                3,
                "chain of ten: zstd | tar, pg_combinebackup",
                "Strongroom, chain of ten, worker only",
            ),
        ),
        rounds=2,
        text="pgBackRest and Barman in Debian 12 do not support PostgreSQL 18.",
        bound=(
            "A small incremental takes the time of the command, the request, a checkpoint and the server's WAL summary, whatever "
            "it contains. So the faster a full backup, the smaller the ratio. Most of the time of a chain is spent on its full "
            "backup and on the newest backup, which lists every file; Python opens each of them."
        ),
    ),
)
