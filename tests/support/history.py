"""One server of each database, and what may come between two backups of it: snapshots, rollbacks, restarts, resets of its log."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from strongroom.datastores import DatabaseSpec, Version, get
from strongroom.errors import LineageChanged, StrongroomError, WalGone
from support import mariadb, mysql, postgresql
from support.identity import run_as

Rows = frozenset[tuple[int, str]]


class History:
    """A server whose table ``db1.h`` is all its data. Backups are taken as the worker does: a full where there is no proof."""

    def __init__(self, server: Any, place: Path) -> None:
        self.server, self.place = server, place
        self.reason = ""
        """Why the last backup is a full, though an incremental was wanted."""
        self._names = itertools.count()
        self._written = itertools.count(1)

    def name(self, what: str) -> str:
        return f"{what}-{next(self._names)}"

    # --- what happens to the server

    def write(self, rows: int = 20) -> None:
        """Rows that no other call writes, and changes of those and of an older call: other pages stay as they are."""
        call = next(self._written)
        values = ", ".join(f"({call * 100_000 + n}, '{call} {'x' * 200}')" for n in range(rows))
        self.sql(f"INSERT INTO {self.table} VALUES {values}")
        for changed in {call, call * 7919 % (call + 1)}:
            mine = f"a BETWEEN {changed * 100_000} AND {changed * 100_000 + 99_999}"
            self.sql(f"UPDATE {self.table} SET t = '{call} changed' WHERE {mine} AND a % 7 = {call % 7}")
            self.sql(f"DELETE FROM {self.table} WHERE {mine} AND a % 31 = {call % 31}")

    def stop(self) -> None:
        self.server.stop()

    def restart(self) -> None:
        self.stop()
        self.server.start()

    def crash(self) -> None:
        """The server dies, and recovers."""
        self.server.kill()
        self.server.start()

    def write_past(self, position: int) -> None:
        """Until the server has come further than ``position``, with a checkpoint there."""
        while self.position() <= position + self.margin:
            self.write(300)
        self.checkpoint()
        self.write()

    def snapshot(self) -> Path:
        """A copy of the data directory, as of a file system that was frozen."""
        kept = self.place / self.name("snapshot")
        self.stop()
        subprocess.run(["cp", "-a", str(self.data_dir), str(kept)], check=True)
        self.server.start()
        return kept

    def roll_back(self, kept: Path) -> None:
        """Put the copy in the place of the data directory. Whatever says in the directory whose it is goes back as well."""
        self.stop()
        shutil.rmtree(self.data_dir)
        subprocess.run(["cp", "-a", str(kept), str(self.data_dir)], check=True)
        self.server.start()

    @property
    def data_dir(self) -> Path:
        found: Path = self.server.server.data_dir
        return found

    # --- by database

    table = "db1.h"
    margin = 1 << 16
    """How much of a position two servers may be apart that hold the same."""

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.server.sql(statement)
        return found

    def reset_log(self) -> None:
        """What a person may do to the log of the server."""
        raise NotImplementedError

    def checkpoint(self) -> None:
        """All that was written is in the files of the tables."""
        self.restart()

    def position(self) -> int:
        """How far the server is."""
        raise NotImplementedError

    def rows(self) -> Rows:
        return frozenset(self.sql(f"SELECT a, t FROM {self.table}"))  # type: ignore[arg-type]

    def take(self, parent: Any = None, of: Any = None) -> Any:
        """A backup of the server, or of another one like it."""
        raise NotImplementedError

    def copied(self, chain: Sequence[Any]) -> AbstractContextManager[Any]:
        """A server that runs on the restored chain."""
        raise NotImplementedError

    def restored(self, chain: Sequence[Any]) -> Rows:
        """What a server on the restored chain holds."""
        with self.copied(chain) as copy:
            return frozenset(copy.sql(f"SELECT a, t FROM {self.table}"))

    # --- backups

    def back_up(self, chain: Sequence[Any]) -> list[Any]:
        """The chain with an incremental, or a chain of its own where the driver asks for a full."""
        self.reason = ""
        if chain:
            try:
                return [*chain, self.take(chain[-1])]
            except (LineageChanged, WalGone) as error:
                self.reason = error.message
        return [self.take()]


class MariaDB(History):
    """By mariadb-backup."""

    def reset_log(self) -> None:
        self.sql("RESET MASTER")

    def position(self) -> int:
        return int(self.sql("SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'")[0][1])

    def take(self, parent: Any = None, of: Any = None) -> Any:
        return mariadb.backup(of or self.server, self.place, self.name("backup"), parent)

    @contextmanager
    def copied(self, chain: Sequence[Any]) -> Iterator[Any]:
        name = self.name("copy")
        copy = mariadb.make(self.place, None, name=name, of=self.server.server.version)
        shutil.rmtree(copy.data_dir)
        target = mariadb.scratch(copy.server.base_dir, "data")
        work = mariadb.scratch(self.place, f"restore-{name}")
        driver = get(copy.server.datastore)
        run_as(copy.server.user, driver.restores.restore, copy.server.version, list(chain), target, work, len)
        driver.servers.ensure_lineage(copy.data_dir, renew=True)
        copy.start()
        try:
            yield copy
        finally:
            copy.kill()
            shutil.rmtree(copy.server.base_dir)
            shutil.rmtree(work)


class MySQL(MariaDB):
    """By clone and binary log."""

    margin = 0

    def checkpoint(self) -> None:
        """Its incrementals know the log only."""

    def reset_log(self) -> None:
        self.sql("RESET BINARY LOGS AND GTIDS")

    def position(self) -> int:
        """The number of the newest transaction."""
        ((executed,),) = self.sql("SELECT @@gtid_executed")
        return max((int(number) for number in re.findall(r"\d+(?=,|:|$)", executed.partition(":")[2])), default=0)


class PostgreSQL(History):
    """By WAL, or on a server that keeps summaries by changed blocks."""

    table = "h"

    def stop(self) -> None:
        self.server.end()

    def crash(self) -> None:
        self.server.end(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.server.start()
            except StrongroomError:  # its children are still on their way out
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def reset_log(self) -> None:
        """New WAL, begun in another file."""
        self.stop()
        program = self.server.server.version.programs["server"].with_name("pg_resetwal")
        run_as(self.server.server.user, subprocess.check_output, [program, "-D", self.data_dir])
        self.server.start()

    def checkpoint(self) -> None:
        self.sql("CHECKPOINT")

    def write_past(self, position: int) -> None:
        """Rows before and after it, and between them as little as can be: an incremental must not hold them all by chance."""
        self.write(300)
        self.checkpoint()
        while self.position() <= position + self.margin:
            self.sql("SELECT pg_create_restore_point('on')")
            self.sql("SELECT pg_switch_wal()")
        self.write()  # without a checkpoint, which would let go of the WAL since the parent

    def position(self) -> int:
        return int(self.sql("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")[0][0])

    def take(self, parent: Any = None, of: Any = None) -> Any:
        return postgresql.backup(of or self.server, self.place, self.name("backup"), parent)

    @contextmanager
    def copied(self, chain: Sequence[Any]) -> Iterator[Any]:
        server = postgresql.restore(chain, self.place, self.name("copy"), of=self.server.server.version)
        with postgresql.started(server) as copy:
            yield copy
        shutil.rmtree(server.base_dir)


@contextmanager
def mariadb_history(place: Path) -> Iterator[MariaDB]:
    with mariadb.running(place, None) as server:
        yield _prepared(MariaDB(server, place))


@contextmanager
def mysql_history(place: Path) -> Iterator[MySQL]:
    with mysql.running(place, None) as server:
        yield _prepared(MySQL(server, place))


@contextmanager
def postgresql_history(place: Path, of: Version) -> Iterator[PostgreSQL]:
    with postgresql.running(place, of=of) as server:
        get("postgresql").require_administration().databases.create(server.server, [DatabaseSpec(name="db1")])
        history = PostgreSQL(server, place)
        history.sql("CREATE TABLE h (a int PRIMARY KEY, t text) WITH (autovacuum_enabled = off)")  # it would touch every block
        history.sql("CHECKPOINT")
        yield history


def _prepared(history: Any) -> Any:
    history.sql("CREATE DATABASE db1")
    history.sql("CREATE TABLE db1.h (a INT PRIMARY KEY, t TEXT)")
    return history
