"""Logs of running servers that are applied to an earlier state of their data, and what the source contained at some moments."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.archive import Stretch
from strongroom.artifact import Positions
from strongroom.datastores import get
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.protocol.logs import Replay, Replayed, Start
from support import mariadb, mysql
from support.identity import run_as
from support.logs import Log
from support.mariadb import MariaDBServer, scratch

LEFT = {"replay.log", "private.log", "private.cnf", "private.sql", "private.pid", "private.sock.lock", "plugins"}
"""What a replay leaves in its directory."""
Tables = dict[str, tuple[Any, ...]]


def read_tables(running: MariaDBServer, schema: str = "d") -> Tables:
    """Definition, checksum and rows of every table."""
    names = running.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1", schema)
    found: Tables = {}
    for (name,) in names:
        table = f"`{schema}`.`{name}`"
        found[name] = (
            running.sql(f"SHOW CREATE TABLE {table}")[0][1].partition(" AUTO_INCREMENT=")[0],
            running.sql(f"CHECKSUM TABLE {table} EXTENDED")[0][1],
            sorted(map(repr, running.sql(f"SELECT * FROM {table}"))),
        )
    return found


@dataclass
class Moment:
    """The end of the log at a moment at which nobody wrote, and what the source contained."""

    position: Position
    tables: Tables
    state: str


class Client(threading.Thread):
    """Commits numbered rows until ``stop``. It holds ``writes`` during each transaction."""

    def __init__(self, log: Log, number: int) -> None:
        super().__init__()
        self._log, self._number = log, number
        self._stopped = threading.Event()
        self.writes = threading.Lock()
        self.start()

    def run(self) -> None:
        row = 0
        with self._log.running.connect() as connection, connection.cursor() as cursor:
            while not self._stopped.wait(0.002):
                row += 1
                with self.writes:
                    cursor.execute("BEGIN")
                    cursor.execute("INSERT INTO d.ledger VALUES (%s, %s, %s)", (self._number, row, "x" * (row % 400)))
                    cursor.execute("UPDATE d.t SET b = %s WHERE a = %s", (str(row), 1 + self._number))
                    cursor.execute("COMMIT" if row % 7 else "ROLLBACK")

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@dataclass
class Source:
    """A server with a copy of its data at the beginning."""

    log: Log
    place: Path
    begin: Moment
    moments: dict[str, Moment] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """No client writes."""
        with ExitStack() as stack:
            for client in self.clients:
                stack.enter_context(client.writes)
            yield

    def note(self, name: str) -> None:
        """Keep this moment."""
        with self.quiet():
            self.moments[name] = note(self.log)

    @contextmanager
    def written_to(self, clients: int) -> Iterator[None]:
        """While so many clients write numbered rows to d.ledger."""
        self.clients = [Client(self.log, number) for number in range(clients)]
        try:
            yield
        finally:
            for client in self.clients:
                client.stop()
            self.clients = []

    def copy_data(self, name: str) -> MariaDBServer:
        """A server on the data of the beginning, not started."""
        kind = mariadb if self.log.kind == "mariadb" else mysql
        other = kind.make(self.place, None, name=name)
        shutil.rmtree(other.data_dir)
        subprocess.run(["cp", "-a", "--sparse=always", self.place / "begin", other.data_dir], check=True)
        return other

    def replay(
        self,
        stretch: Stretch,
        end: Position,
        name: str,
        *,
        data: MariaDBServer | None = None,
        start: Position | None = None,
        restored: Positions | None = None,
        on_progress: Callable[[int, int | None], None] = lambda *_: None,
    ) -> tuple[MariaDBServer, Replayed]:
        """A server on data to which the log was applied, not started. As the user of the server.

        ``data`` is at ``start``; the default is that of the beginning.
        """
        subprocess.run(["chmod", "-R", "a+rX", self.place / "store"], check=True)
        other = data or self.copy_data(name)
        begin = Start(stretch.pieces[0].series, str(start or self.begin.position))
        replay = Replay(stretch, begin, str(end), on_progress, restored=restored or Positions())
        work_dir = scratch(self.place, f"work-{name}")
        done = run_as(other.server.user, apply, other, work_dir, replay)
        assert {path.name for path in work_dir.iterdir()} <= LEFT
        return other, done


def apply(other: MariaDBServer, work_dir: Path, replay: Replay) -> Replayed:
    """To be called by ``run_as``."""
    server = other.server
    return get(server.datastore).require_logs().replay(server.version, other.data_dir, work_dir, replay, server)


def note(log: Log) -> Moment:
    return Moment(log.end(), read_tables(log.running), str(log.state()))


@contextmanager
def begun(log: Log, place: Path) -> Iterator[Source]:
    """A copy of the data of a server, without its log. The server has written to its log before."""
    log.running.stop()
    begin = place / "begin"
    subprocess.run(["cp", "-a", "--sparse=always", log.running.data_dir, begin], check=True)
    for path in begin.iterdir():
        if path.name.startswith("binlog.") or path.name == "auto.cnf":
            path.unlink()
    log.running.start()
    yield Source(log, place, note(log))


def kill_servers() -> None:
    """Kill the database servers that the main thread of this process has started."""
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if Path(f"/proc/{pid}/comm").read_text().strip() in ("mariadbd", "mysqld"):
            os.kill(int(pid), signal.SIGKILL)
