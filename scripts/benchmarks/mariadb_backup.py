"""Backup, MariaDB: Strongroom, pipelines with the tool, and the tool to /dev/null."""

from __future__ import annotations

from functools import partial

from benchmarks.bench import Bench
from benchmarks.case import Case, Floor, Limit, Times
from benchmarks.mariadb import GZIP, NULL, STRONGROOM, ZSTD, ZSTD_PARALLEL, MariaDB, back_up, mariadb, piped_backup, tool
from support import swift

CHAPTER = "Backup, MariaDB"
MEMORY = 300.0
"""MB of memory that a worker may use."""
SWIFT_GZIP, SWIFT_ZSTD = "mariadb-backup | gzip | curl", "mariadb-backup | zstd -T0 -1 | curl"


def to_directory(bench: Bench, kind: str, megabytes: float) -> None:
    """Measure every variant, to a directory on the same disk."""
    server = mariadb(bench, kind, megabytes)
    size, memory = server.size, 0
    for _ in bench.rounds():
        bench.piped(NULL, f"{tool(server, '--parallel=2')} > /dev/null", data=server.data)
        piped_backup(bench, server, GZIP, "gzip")
        piped_backup(bench, server, ZSTD, "zstd -q -T0 -1")
        file = piped_backup(bench, server, ZSTD_PARALLEL, "zstd -q -T0 -1", "--parallel=2")
        view = back_up(bench, server)
        memory = max(memory, view["output"]["max_rss"])
    file.unlink()
    _floors(bench, server, size, (GZIP, ZSTD, ZSTD_PARALLEL, STRONGROOM))
    bench.figure("memory of the worker", memory / 2**20, "MB")


def to_swift(bench: Bench) -> None:
    """Measure the variants to Swift on this machine: one process with one device, which shares the cores."""
    server = mariadb(bench, "rows", 1500)
    memory = 0
    store = swift.Swift(swift.install()).start()
    try:
        settings = store.storage()
        environment = {
            "STORAGE__DRIVER": "swift",
            "STORAGE__AUTH_VERSION": "1",
            "STORAGE__AUTH_URL": f"{store.url}/auth/v1.0",
            "STORAGE__USERNAME": store.user,
            "STORAGE__PASSWORD": store.password,
        }
        assert settings.driver == "swift"
        container = store.make_container("piped")
        with store.account() as account:
            headers = bench.place / "headers"
            headers.touch(mode=0o600)
            headers.write_text(f"X-Auth-Token: {account.headers['X-Auth-Token']}\n")
            url = f"{account.base_url}{container}/backup"
        with bench.site.configured(**environment):
            for _ in bench.rounds():
                for name, end in ((SWIFT_GZIP, "gzip"), (SWIFT_ZSTD, "zstd -q -T0 -1")):
                    put = f"{tool(server)} | {end} | curl -fsS -H @{headers} -T - {url}; sync"
                    bench.piped(name, put, data=server.data)
                view = back_up(bench, server)
                memory = max(memory, view["output"]["max_rss"])
    finally:
        store.close()
    _floors(bench, server, server.size, (STRONGROOM,))
    bench.figure("memory of the worker", memory / 2**20, "MB")


def _floors(bench: Bench, server: MariaDB, size: int, names: tuple[str, ...]) -> None:
    for name in names:
        stored = bench.result.variants[name].stored
        bench.floors(name, server.rates, size, stored=stored[-1] if stored else 0)


LIMIT = Limit("memory of the worker, MB", MEMORY, "memory of the worker")
GOALS = (
    Times("times faster than gzip", 15, GZIP, STRONGROOM),
    Times("times faster than zstd -T0 -1", 1, ZSTD, STRONGROOM),
    Times("times faster than zstd -T0 -1 and --parallel=2", None, ZSTD_PARALLEL, STRONGROOM),
    Times("stored: times smaller than with gzip", None, GZIP, STRONGROOM, "stored"),
    Floor("times the floor", 1.3, STRONGROOM),
    LIMIT,
)
BOUND = (
    "The pipeline with gzip uses one core for gzip, so the ratio depends on how slowly gzip compresses the data and on the "
    "number of cores. Strongroom's time is measured from the request to COMPLETED. It includes the start of the command and of "
    "the worker, checks of the server, hashing, and the sync and verification of every segment; the floor includes none of them. "
    "Nearly all of the worker's processor time is spent in zstd. The tool alone to `/dev/null` shows how much of the remaining "
    "time is the tool: with many tables, nearly all. Uploads to Swift also compute an MD5 and compare it with the store's; "
    "`curl` verifies nothing."
)

CASES = (
    Case("mariadb-backup-rows", CHAPTER, "rows, 1.5 GB", partial(to_directory, kind="rows", megabytes=1500), GOALS, bound=BOUND),
    Case(
        "mariadb-backup-swift",
        CHAPTER,
        "rows, 1.5 GB, to Swift",
        to_swift,
        (
            Times("times faster than gzip", None, SWIFT_GZIP, STRONGROOM),
            Times("times faster than zstd -T0 -1", 1, SWIFT_ZSTD, STRONGROOM),
            LIMIT,
        ),
        bound=BOUND,
    ),
    Case(
        "mariadb-backup-blobs", CHAPTER, "blobs, 1.5 GB", partial(to_directory, kind="blobs", megabytes=1500), GOALS, bound=BOUND
    ),
    Case(
        "mariadb-backup-many",
        CHAPTER,
        "10,000 small tables",
        partial(to_directory, kind="tables", megabytes=1000),
        GOALS,
        bound=BOUND,
    ),
    Case(
        "mariadb-backup-large",
        CHAPTER,
        "one large table, 1.5 GB",
        partial(to_directory, kind="table", megabytes=1500),
        GOALS,
        bound=BOUND,
    ),
    Case(
        "mariadb-backup-8g",
        CHAPTER,
        "one large table, 8 GB",
        partial(to_directory, kind="table", megabytes=8000),
        GOALS,
        rounds=1,
        quick=False,
        bound=BOUND,
    ),
)
