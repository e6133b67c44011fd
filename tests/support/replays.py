"""Logs of running servers that are applied to an earlier state of their data, and what the source contained at some moments."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.archive import Stretch
from strongroom.datastores import get
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.protocol.logs import Replay, Replayed, Start
from support import mariadb, mysql
from support.identity import run_as
from support.logs import Log
from support.mariadb import MariaDBServer, scratch

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


@dataclass
class Source:
    """A server with a copy of its data at the beginning. ``writing`` is held by each client while it writes."""

    log: Log
    place: Path
    begin: Moment
    moments: list[Moment] = field(default_factory=list)
    writing: threading.Lock = field(default_factory=threading.Lock)

    def note(self) -> Moment:
        with self.writing:
            moment = note(self.log)
        self.moments.append(moment)
        return moment

    def copy_data(self, name: str) -> MariaDBServer:
        """A server on the data of the beginning, not started."""
        kind = mariadb if self.log.kind == "mariadb" else mysql
        other = kind.make(self.place, None, name=name)
        shutil.rmtree(other.data_dir)
        subprocess.run(["cp", "-a", "--sparse=always", self.place / "begin", other.data_dir], check=True)
        return other

    def replay(
        self, stretch: Stretch, end: Position, name: str, on_progress: Callable[[int, int | None], None] = lambda *_: None
    ) -> tuple[MariaDBServer, Replayed]:
        """A server on data to which the log was applied, not started. As the user of the server."""
        other = self.copy_data(name)
        start = Start(stretch.pieces[0].series, str(self.begin.position))
        replay = Replay(stretch, start, str(end), on_progress)
        work_dir = scratch(self.place, f"work-{name}")
        return other, run_as(other.server.user, apply, other, work_dir, replay)


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


def kill_servers() -> int:
    """Kill the database servers that this process has started; how many there were."""
    killed = 0
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() in ("mariadbd", "mysqld"):
                os.kill(int(pid), signal.SIGKILL)
                killed += 1
    return killed
