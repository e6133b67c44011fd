"""Real MariaDB (and MySQL) servers in a test's own place, made and started by the driver itself."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pymysql

from strongroom.artifact import Format, Pages, Positions, Profile, Witness
from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.datastores import BackupKind, BackupRequest, BackupResult, Server, Version, discover, get, socket_path
from strongroom.datastores.innodb.connection import connect
from strongroom.errors import LogPastEnd, StrongroomError
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from support.identity import run_as, server_user
from support.load import fill
from support.sessions import pieces

driver = get("mariadb")


@cache
def version() -> Version:
    """The MariaDB of this machine."""
    return discover("mariadb", [])[0]


def _template(user: str, of: Version) -> Path:
    """An empty database that servers of ``user`` are copied from; it lives as long as the machine's temporary directory."""
    final = Path(f"/tmp/sr-template-{user}-{of.datastore}-{of.number}")
    if final.exists():
        return final
    place = Path(tempfile.mkdtemp(prefix="sr-template-", dir="/tmp"))
    server = describe(place, "template", None, user=user, of=of)
    prepare_directories(server)
    get(of.datastore).servers.configure(server)
    run_as(user, get(of.datastore).servers.initialize, server, server.data_dir, place / "template" / "log" / "install.log")
    (server.data_dir / "auto.cnf").unlink(missing_ok=True)  # of MySQL: every server has an id of its own
    with contextlib.suppress(OSError):  # another process of the test run was faster
        server.data_dir.rename(final)
    shutil.rmtree(place)
    return final


def describe(place: Path, name: str, address: str | None, *, user: str, ram_mb: int = 64, of: Version | None = None) -> Server:
    """A server below ``place``, not made yet; of this machine's MariaDB unless another version is given."""
    base = place / name
    of = of or version()
    return Server(
        id=f"id-{name}",
        name=name,
        datastore=of.datastore,
        user=user,
        base_dir=base,
        data_dir=base / "data",
        socket=socket_path(base),
        address=address,
        port=3306,
        ram_mb=ram_mb,
        version=of,
    )


def prepare_directories(server: Server) -> None:
    """What the agent does for a new server."""
    place = server.base_dir.parent
    if os.geteuid() == 0:
        place.chmod(0o711)
    for path in (server.base_dir, server.data_dir):
        make_directory(path, find_user(server.user).owner)


def scratch(place: Path, name: str, user: str | None = None) -> Path:
    """A directory of a job, owned by the server's user."""
    path = place / name
    make_directory(path, find_user(user or server_user()).owner)
    return path


@dataclass
class MariaDBServer:
    """A server and its process. ``sql`` talks to it as our own account."""

    server: Server
    process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        return self.server.data_dir

    def start(self, *, wait: float = 60) -> None:
        driver = get(self.server.datastore)
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

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with connect(self.server) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def connect(self) -> AbstractContextManager[pymysql.Connection[Any]]:
        return connect(self.server)

    def fill(self, rows: int = 1000) -> None:
        """The data of ``support.load`` in database db1."""
        with self.connect() as connection:
            fill(connection, rows)

    def checkpoint(self) -> None:
        """Until all that was written is in the tables: the next backup begins after it."""
        ((lsn,),) = [row[1:] for row in self.sql("SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'")]
        self.sql("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0, GLOBAL innodb_max_dirty_pages_pct = 0")
        deadline = time.monotonic() + 30
        while int(self.sql("SHOW GLOBAL STATUS LIKE 'Innodb_lsn_last_checkpoint'")[0][1]) < int(lsn):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.sql("SET GLOBAL innodb_max_dirty_pages_pct = 90")

    def checksums(self, database: str = "db1") -> dict[str, tuple[int, int]]:
        """CHECKSUM TABLE and the number of rows, by table."""
        tables = self.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1", database)
        result = {}
        for (table,) in tables:
            ((_, checksum),) = self.sql(f"CHECKSUM TABLE `{database}`.`{table}` EXTENDED")
            ((count,),) = self.sql(f"SELECT COUNT(*) FROM `{database}`.`{table}`")
            result[table] = (checksum, count)
        return result


def make(
    place: Path,
    pool: str | None,
    *,
    name: str = "a",
    number: int = 1,
    user: str | None = None,
    ram_mb: int = 64,
    of: Version | None = None,
) -> MariaDBServer:
    """A new empty server, not started. ``number`` is its address in the pool; without a pool it has its socket only."""
    user = user or server_user()
    address = str(ipaddress.ip_network(pool)[number]) if pool else None
    server = describe(place, name, address, user=user, ram_mb=ram_mb, of=of)
    prepare_directories(server)
    subprocess.run(["cp", "-a", "--sparse=always", f"{_template(user, server.version)}/.", str(server.data_dir)], check=True)
    return MariaDBServer(server)


def take(
    server: Server,
    kind: BackupKind,
    parent: Positions | None,
    work_dir: Path,
    stream: Path,
    parent_profile: Profile | None = None,
    witness: Witness | None = None,
) -> tuple[BackupResult, Profile]:
    """A backup into a plain file; to be called by ``run_as``. ``witness`` is that of the parent."""
    driver = get(server.datastore)
    profile = driver.profiles.read(server)
    walk = Mbstream((), driver.capabilities.keep_end) if server.datastore == "mariadb" else None

    def paths() -> list[str]:
        return [path for path, _ in walk.ranges()] if walk else []

    request = BackupRequest(
        kind,
        parent,
        work_dir,
        kept=walk.kept if walk else {},
        paths=paths,
        profile=profile,
        parent_profile=parent_profile,
        parent_witness=witness,
    )
    session = driver.backups.begin(server, request)
    try:
        with stream.open("wb") as file:
            for data in pieces(session.stdout):
                file.write(data)
                if walk:
                    walk.feed(data)
        return session.finish(), profile
    finally:
        session.abort()


@dataclass
class FileLink:
    """A link of a chain whose stream is a plain file."""

    path: Path
    kind: BackupKind
    positions: Positions
    server_version: str
    data_size: int
    pages: Pages | None = None
    stream: Format = "mbstream"
    profile: Profile | None = None
    witness: Witness | None = None

    @property
    def raw_size(self) -> int:
        return self.path.stat().st_size

    def chunks(self) -> Generator[bytes, None, None]:
        with self.path.open("rb") as file:
            while data := file.read(1 << 20):
                yield data


def backup(running: MariaDBServer, place: Path, name: str, parent: FileLink | None = None) -> FileLink:
    """Take a backup as the server's user, and again where the worker would. ``name`` is its place below ``place``."""
    for number in range(1, 4):
        try:
            return _backup(running, place, name, parent)
        except LogPastEnd:
            name = f"{name}-{number}"
    return _backup(running, place, name, parent)


def _backup(running: MariaDBServer, place: Path, name: str, parent: FileLink | None) -> FileLink:
    user = running.server.user
    work_dir = scratch(place, name, user)
    stream = work_dir / "stream"
    kind: BackupKind = "incremental" if parent else "full"
    before = (parent.positions, parent.profile, parent.witness) if parent else (None, None, None)
    result, profile = run_as(user, take, running.server, kind, before[0], work_dir, stream, *before[1:])
    made = get(running.server.datastore).backups.stream_format(running.server)
    facts = (result.positions, result.server_version, result.data_bytes)
    return FileLink(stream, kind, *facts, stream=made, profile=profile, witness=result.witness)


@contextlib.contextmanager
def running(place: Path, pool: str | None, **options: Any) -> Iterator[MariaDBServer]:
    """A new server that runs, stopped at the end."""
    instance = make(place, pool, **options)
    try:
        instance.start()
        yield instance
    finally:
        instance.kill()
