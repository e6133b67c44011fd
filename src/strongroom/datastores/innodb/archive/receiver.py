"""Archives the binary log of a server as long as it is wanted. Where to continue is what the store holds."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pymysql
from pymysql.connections import Connection

from strongroom.archive import Head, begin_series, list_series, load_head
from strongroom.datastores.innodb.archive.continuation import Begin, Identity, plan_continuation, skip_damage
from strongroom.datastores.innodb.archive.stream import LogStream
from strongroom.datastores.innodb.binlog.files import LogFile, find_warnings, list_files
from strongroom.datastores.innodb.binlog.groups import Dialect
from strongroom.datastores.innodb.connection import connect, describe_server, explain_refusals, query
from strongroom.datastores.innodb.versions import extract_number
from strongroom.datastores.protocol.logs import LogRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ArtifactError, LogCorrupt, LogTaken, ServerFailed, StrongroomError

SEGMENT = 4 * 1024**2
"""Bytes of the log in a segment. Two are in memory: one on its way to the store, one that is being read."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_DAMAGE_PATIENCE = 4
"""Attempts to read an event before the rest of its file is given up."""


class LogReceiver:
    """See ``protocol.logs.Archiver``.

    ``find_identity`` says how the database names its server, by a connection and the id of its data directory, which is empty if
    it is not known.
    """

    def __init__(
        self,
        server: Server,
        request: LogRequest,
        dialect: Dialect,
        find_identity: Callable[[Connection[Any], str], str],
        find_lineage: Callable[[], str],
        *,
        limit: int = SEGMENT,
    ) -> None:
        self._server, self._request, self._dialect, self._limit = server, request, dialect, limit
        self._find_identity, self._find_lineage = find_identity, find_lineage
        self._server_id = zlib.crc32(f"{request.log.prefix} log archive".encode()) or 1
        """As that of a replica: the server ends an earlier reader with the same one."""
        self._stopped = threading.Event()
        self._head: Head | None = None
        self._stream: LogStream | None = None
        self._trouble: StrongroomError | None = None
        self._complete_until: int | None = None
        self.warnings: tuple[str, ...] = ()
        """See ``Archiver``."""
        self._damage: tuple[str, int] = ("", 0)
        """The position after which the log cannot be read, and how often that was tried."""

    @property
    def durable(self) -> Head | None:
        """See ``Archiver``."""
        stream = self._stream
        return stream.durable if stream is not None else self._head

    @property
    def trouble(self) -> StrongroomError | None:
        """See ``Archiver``."""
        stream = self._stream
        return stream.trouble if stream is not None and stream.is_reading else self._trouble

    @property
    def complete_until(self) -> int | None:
        """See ``Archiver``."""
        stream = self._stream
        return (stream.complete_until if stream else None) or self._complete_until

    def stop(self) -> None:
        """See ``Archiver``."""
        self._stopped.set()
        stream = self._stream
        if stream is not None:
            stream.stop()

    def close(self) -> None:
        """Nothing is held after ``run``."""

    def run(self) -> None:
        """Archive until ``stop``; if the server or the store fails, try again.

        Raises LogTaken if another process writes the same archive, ArtifactError if the end of the archive is damaged.
        """
        pause = _FIRST_PAUSE
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._archive()
                self._trouble = None
            except LogTaken:
                raise
            except LogCorrupt as error:
                self._note_damage(error)
            except ArtifactError:
                raise
            except StrongroomError as error:
                self._trouble = error
            except pymysql.MySQLError as error:
                self._trouble = ServerFailed(f"{describe_server(self._server)} failed: {error}", remedy="See its error log.")
            pause = _FIRST_PAUSE if time.monotonic() - began > _LONGEST_PAUSE else min(_LONGEST_PAUSE, pause * 2)
            self._stopped.wait(pause)

    def _note_damage(self, error: LogCorrupt) -> None:
        where = self._head.position if self._head else ""
        count = self._damage[1] + 1 if self._damage[0] == where else 1
        self._damage = (where, count)
        self._trouble = error

    def _archive(self) -> None:
        """Over one connection, until it ends."""
        request = self._request
        with connect(self._server) as connection:
            files = list_files(self._server, connection)
            self.warnings = find_warnings(self._server, connection)
            identity = self._identify(connection)
        known = list_series(request.store, request.log)
        self._head = load_head(request.store, known[-1]) if known else None
        plan = self._plan(identity, files)
        head = self._begin(plan, identity) if plan else self._head
        assert head is not None
        self._head = head
        stream = LogStream(
            self._server,
            self._dialect,
            request.store,
            head,
            request.settings,
            request.recipients,
            server_id=self._server_id,
            limit=self._limit,
            max_age=request.max_age,
        )
        self._stream = stream
        try:
            if not self._stopped.is_set():
                stream.run()
        finally:
            self._complete_until = stream.complete_until or self._complete_until
            self._head, self._stream = stream.durable, None

    def _identify(self, connection: Connection[Any]) -> Identity:
        try:
            lineage = self._find_lineage()
        except OSError:  # the data directory is on another host
            lineage = self._request.lineage
        with explain_refusals(self._server):
            ((version,),) = query(connection, "SELECT @@version")
            return Identity(self._find_identity(connection, lineage), lineage, extract_number(str(version)))

    def _plan(self, identity: Identity, files: list[LogFile]) -> Begin | None:
        plan = plan_continuation(self._server, self._head, identity, files, self._dialect.starts, self._server_id)
        error = self._trouble
        if plan is None and self._head is not None and isinstance(error, LogCorrupt):
            where, count = self._damage
            if where == self._head.position and count >= _DAMAGE_PATIENCE:
                return skip_damage(error, where.rpartition(":")[0], files)
        return plan

    def _begin(self, plan: Begin, identity: Identity) -> Head:
        return begin_series(
            self._request.store,
            self._request.log,
            datastore=self._server.datastore,
            server_version=identity.version,
            identity=identity.id,
            lineage=identity.lineage,
            began=plan.began,
            reason=plan.reason[:1000],
            begin=f"{plan.file}:0",
            started=time.time_ns() // 1000,
        )
