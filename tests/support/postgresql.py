"""Real PostgreSQL servers in a test's own place, made and started by the driver itself; and data that proves a restore."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest.mock
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from strongroom.artifact import Pages, Positions, Profile, Ranges, Witness
from strongroom.artifact.streams.tar import Tar, content
from strongroom.datastores import BackupKind, BackupRequest, BackupResult, Server, Version, discover, get, socket_path
from strongroom.datastores.postgresql.backup import copy as copy_module
from strongroom.datastores.postgresql.server.connection import connect
from strongroom.errors import StrongroomError
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from support.identity import run_as
from support.sessions import pieces

driver = get("postgresql")
Connection = psycopg.Connection[tuple[Any, ...]]


def server_user() -> str:
    """Who servers of tests run as."""
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


@cache
def version() -> Version:
    """The newest PostgreSQL of this machine."""
    return discover("postgresql", [])[0]


def describe(place: Path, name: str, address: str | None, of: Version | None = None) -> Server:
    """A server below ``place``, not made yet; of this machine's version unless another is given."""
    base = place / name
    return Server(
        id=f"id-{name}",
        name=name,
        datastore="postgresql",
        user=server_user(),
        base_dir=base,
        data_dir=base / "data",
        socket=socket_path(base, driver.socket_name),
        address=address,
        port=5432,
        ram_mb=64,
        version=of or version(),
    )


def scratch(place: Path, name: str) -> Path:
    """An empty directory, owned by the server's user."""
    path = place / name
    make_directory(path, find_user(server_user()).owner)
    return path


def _template(of: Version) -> Path:
    """An empty database that servers are copied from; it lives as long as the machine's temporary directory."""
    final = Path(f"/tmp/sr-template-pg-{server_user()}-{of.number}")
    if final.exists():
        return final
    place = Path(tempfile.mkdtemp(prefix="sr-template-", dir="/tmp"))
    server = describe(place, "template", None, of)
    _prepare(server)
    run_as(server.user, driver.servers.initialize, server, server.data_dir, server.base_dir / "log" / "install.log")
    with contextlib.suppress(OSError):  # another process of the test run was faster
        server.data_dir.rename(final)
    shutil.rmtree(place)
    return final


def _prepare(server: Server) -> None:
    if os.geteuid() == 0:
        server.base_dir.parent.chmod(0o711)
    for path in (server.base_dir, server.data_dir):
        make_directory(path, find_user(server.user).owner)
    driver.servers.configure(server)


@dataclass
class PostgreSQLServer:
    """A server and its process. ``connect`` comes in as our own account."""

    server: Server
    process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: float = 60) -> None:
        driver.servers.configure(self.server)
        driver.servers.check_data(self.server, self.server.data_dir)
        user = {"user": self.server.user, "group": find_user(self.server.user).owner[1], "extra_groups": []}
        self.process = subprocess.Popen(
            driver.servers.build_command(self.server),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **(user if os.geteuid() == 0 else {}),  # type: ignore[arg-type]
        )
        deadline = time.monotonic() + wait
        while True:
            try:
                driver.servers.read_facts(self.server)
                return
            except StrongroomError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def end(self, how: signal.Signals = driver.stop_signal) -> None:
        """End it, in good order unless another signal is given."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    @contextlib.contextmanager
    def connect(self, database: str = "db1") -> Iterator[Connection]:
        with connect(self.server, database) as connection:
            connection.execute('SET search_path = "$user", public')
            yield connection

    def sql(self, statement: str, database: str = "db1") -> list[tuple[Any, ...]]:
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def running(place: Path, pool: str | None = None, *, name: str = "a", of: Version | None = None) -> Iterator[PostgreSQLServer]:
    """A new, empty server that runs; without a pool it has its socket only."""
    server = describe(place, name, str(ipaddress.ip_network(pool)[1]) if pool else None, of)
    _prepare(server)
    subprocess.run(["cp", "-a", f"{_template(server.version)}/.", str(server.data_dir)], check=True)
    with started(server) as instance:
        yield instance


@contextlib.contextmanager
def started(server: Server) -> Iterator[PostgreSQLServer]:
    """A server on the data that it has, stopped at the end."""
    instance = PostgreSQLServer(server)
    try:
        instance.start()
        yield instance
    finally:
        instance.end(signal.SIGQUIT)


# --- data


def fill(connection: Connection, rows: int = 2000) -> None:
    """Tables with text, numbers, binary and large values, the same for the same ``rows``; and the writer's own."""
    rng = random.Random(rows)
    with connection.cursor() as cursor, connection.transaction():
        cursor.execute("CREATE TABLE customers (id int PRIMARY KEY, name text, note text)")
        cursor.execute("CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, amount numeric, doc bytea)")
        cursor.execute("CREATE UNLOGGED TABLE cache (id int)")
        with cursor.copy("COPY customers FROM STDIN") as copy:
            for n in range(rows):
                copy.write_row((n, f"customer {n} 数据 'q'", "".join(rng.choices("abcdefgh ", k=rng.choice((40, 40, 9000))))))
        with cursor.copy("COPY orders FROM STDIN") as copy:
            for n in range(rows):
                copy.write_row((n, rng.randrange(rows), rng.randrange(10**6) / 100, rng.randbytes(300)))
        cursor.execute("CREATE TABLE sequence (id bigint PRIMARY KEY)")


def checksums(connection: Connection) -> dict[str, tuple[int, str]]:
    """Row count and a hash over all rows, of every table of the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|info)'"
        )
        tables = sorted(name for (name,) in cursor.fetchall())
        result = {}
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t ORDER BY 1".encode())
            rows = [row for (row,) in cursor.fetchall()]
            result[table] = (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
    return result


class Writer:
    """Counts in table ``sequence``, a transaction each, until it is stopped. ``committed`` is how far it has come."""

    def __init__(self, connection: contextlib.AbstractContextManager[Connection]) -> None:
        self._connection = connection
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.committed = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        deadline = time.monotonic() + 30
        while self.committed < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        with self._connection as connection, contextlib.suppress(psycopg.Error):
            while not self._stop.is_set():
                connection.execute("INSERT INTO sequence VALUES (%s)", (self.committed + 1,))
                self.committed += 1
                time.sleep(0.002)


def proven(connection: Connection, at_least: int) -> None:
    """The writer's work has no gap, and holds all that was committed before the backup ended."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), coalesce(max(id), 0) FROM sequence")
        found = cursor.fetchone()
    assert found is not None
    assert found[0] == found[1] >= at_least, (found, at_least)


# --- backups


@contextlib.contextmanager
def taken_by(us: bool) -> Iterator[None]:
    """Backups that begin meanwhile are read by ourselves, or by pg_basebackup as where the account may do nothing else."""
    with unittest.mock.patch.object(copy_module, "is_possible", copy_module.is_possible if us else lambda *_: False):
        yield


def take(
    server: Server,
    work_dir: Path,
    stream: Path,
    parent: Positions | None = None,
    read: Callable[[str], bytes] | None = None,
    witness: Witness | None = None,
    *,
    by_us: bool = True,
) -> tuple[BackupResult, Pages | None]:
    """A backup into a plain file, looked at on its way as the worker does; to be called by ``run_as``."""
    tar = Tar(driver.capabilities.keep)
    kind: BackupKind = "incremental" if parent else "full"
    with taken_by(by_us):
        request = BackupRequest(kind, parent, work_dir, parent_file=read, kept=tar.kept, parent_witness=witness)
        session = driver.backups.begin(server, request)
    tar.tap = session.inspection
    try:
        with stream.open("wb") as file:
            for data in pieces(session.stdout):
                file.write(data)
                tar.feed(data)
                if session.inspection and (look := session.inspection.take()):
                    look()
        return session.finish(), session.inspection.pages() if session.inspection else None
    finally:
        session.abort()


@dataclass
class FileLink:
    """A backup whose stream is a plain file."""

    path: Path
    positions: Positions
    server_version: str
    data_size: int
    kind: str = "full"
    pages: Pages | None = None
    witness: Witness | None = None
    profile: Profile | None = None
    _files: dict[str, Ranges] | None = field(default=None, init=False, repr=False)

    @property
    def raw_size(self) -> int:
        return self.path.stat().st_size

    def chunks(self) -> Generator[bytes, None, None]:
        with self.path.open("rb") as file:
            while data := file.read(300_001):  # members begin and end anywhere in a piece
                yield data

    def files(self) -> dict[str, Ranges]:
        if self._files is None:
            tar = Tar()
            for data in self.chunks():
                tar.feed(data)
            self._files = dict(tar.ranges())
        return self._files

    def extract(self, paths: Iterable[str]) -> Iterator[bytes]:
        files = self.files()
        with self.path.open("rb") as file:
            for offset, length in sorted(part for path in paths for part in files[path]):
                file.seek(offset)
                while data := file.read(min(length, 300_001)):
                    length -= len(data)
                    yield data

    def read(self, path: str) -> bytes:
        return content(b"".join(self.extract([path])))


def backup(instance: PostgreSQLServer, place: Path, name: str = "full", parent: FileLink | None = None) -> FileLink:
    """Take a backup as the server's user, with a parent an incremental: ``name`` is its place below ``place``."""
    server, work_dir = instance.server, scratch(place, name)
    stream = work_dir / "stream"
    on = (parent.positions, parent.read, parent.witness) if parent else ()
    result, pages = run_as(server.user, take, server, work_dir, stream, *on)
    run_as(server.user, driver.backups.release, server, result.positions)
    kind = "incremental" if parent else "full"
    return FileLink(stream, result.positions, result.server_version, result.data_bytes, kind, pages, result.witness)


def restore(
    links: FileLink | Sequence[FileLink], place: Path, name: str, *, of: Version | None = None, known: bool = False
) -> Server:
    """A new server, not started, on what the backup, or the chain, holds. ``known``: the restore knows for which server."""
    chain = [links] if isinstance(links, FileLink) else list(links)
    server = describe(place, name, None, of)
    _prepare(server)
    run_as(
        server.user,
        driver.restores.restore,
        server.version,
        chain,
        server.data_dir,
        scratch(place, f"work-{name}"),
        str,
        server if known else None,
    )
    driver.servers.ensure_lineage(server.data_dir, renew=True)
    return server
