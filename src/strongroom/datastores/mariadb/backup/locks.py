"""Watches a backup that waits for a lock of the server: who holds the lock, and which statements wait behind the backup."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import connect, find_account, query
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import Busy, StrongroomError

PATIENCE = 300
"""Seconds that other statements may wait behind the backup before it is aborted."""
PATIENCE_ALONE = 3600
"""Seconds that the backup may wait for a lock if no statement waits behind it."""
_LOOK = 1.0
_SQL = "SELECT id, user, host, command, time, state, info FROM information_schema.processlist"
_OF_BACKUP = re.compile(r"\s*(BACKUP STAGE|BACKUP LOCK|FLUSH TABLES WITH READ LOCK)\b", re.IGNORECASE)
_WAITS = re.compile(r"Waiting for .*lock", re.IGNORECASE)
_HEAD = re.compile(
    r"\s*([A-Za-z]+(?:\s+[A-Za-z]+(?![\w.$`])){0,2}(?:\s+`[^`]{1,64}`(?:\.`[^`]{1,64}`)?|\s+[\w$]{1,64}\.[\w$]{1,64})?)"
)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Session:
    """A connection of the server, as shown in its process list."""

    id: int
    user: str
    host: str
    command: str
    seconds: int
    state: str
    statement: str

    def __str__(self) -> str:
        doing = f", {shorten_statement(self.statement)}" if self.statement else ", idle"
        return f"session {self.id} of {self.user}@{self.host.partition(':')[0]}{doing}"


def shorten_statement(statement: str) -> str:
    """The beginning of a statement without its values, which may be secrets."""
    match = _HEAD.match(statement)
    return " ".join(match[1].split()) if match else "a statement"


class LockWatch:
    """A thread that watches a backup tool. If the tool blocks others for too long, the thread aborts it and sets ``why``."""

    def __init__(self, server: Server, tool: Tool, tell: Callable[[str], None]) -> None:
        self.why: StrongroomError | None = None
        self._server = server
        self._tool = tool
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, because the tool has ended."""
        self._over.set()
        self._thread.join(5)

    def _run(self) -> None:
        told, user = "", find_account(self._server)[0]
        with suppress(StrongroomError, pymysql.MySQLError), connect(self._server, patience=30) as connection:
            while not self._over.wait(_LOOK):
                sessions = [_session(row) for row in query(connection, _SQL)]
                waiting = find_waits(user, sessions)
                if not waiting:
                    if told:
                        self._tell("The lock was acquired.")
                    told = ""
                    continue
                said = describe(connection, waiting[0], sessions)
                if said != told:
                    self._tell(f"Waits for a lock: {said}")
                told = said
                behind = any(_is_behind(session) for session in sessions)
                if waiting[0].seconds >= (PATIENCE if behind else PATIENCE_ALONE):
                    self._give_up(connection, waiting, said)
                    return

    def _give_up(self, connection: Connection[Cursor], waiting: Sequence[Session], said: str) -> None:
        self.why = Busy(
            f"the backup waited {waiting[0].seconds} s for a lock and was aborted: {said}",
            remedy="End the session that holds the lock, or back up when no tables are locked or changed.",
        )
        for session in waiting:  # the server may notice late that the tool has ended
            with suppress(pymysql.MySQLError):
                query(connection, f"KILL {session.id}")
        self._tool.abort()


def find_waits(user: str, sessions: Sequence[Session]) -> list[Session]:
    """Sessions of this backup that wait. Others may run backups too, such as a donor of a cluster; these are not aborted."""
    return [s for s in sessions if s.user == user and _OF_BACKUP.match(s.statement) and _WAITS.match(s.state) and s.seconds > 0]


def _session(row: Sequence[Any]) -> Session:
    number, user, host, command, seconds, state, statement = row
    return Session(int(number), _text(user), _text(host), _text(command), int(seconds or 0), _text(state), _text(statement))


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _is_behind(session: Session) -> bool:
    return bool(_WAITS.match(session.state)) and not _OF_BACKUP.match(session.statement)


def describe(connection: Connection[Cursor], waiting: Session, sessions: Sequence[Session]) -> str:
    """Describe the lock, its holders, and the statements that wait behind it."""
    others = [
        s
        for s in sessions
        if s.id != waiting.id
        and not _OF_BACKUP.match(s.statement)
        and not _is_behind(s)
        and (s.command != "Sleep" or s.seconds > waiting.seconds)  # those of the tool are idle since then
    ]
    holders, sure = _holders(connection, others)
    behind = [s for s in sessions if _is_behind(s)]
    text = f"{shorten_statement(waiting.statement)} waits"
    if holders:
        text += f" for {'' if sure else 'one of '}{'; '.join(holders[:_SHOWN])}"
    if behind:
        text += f"; behind it wait {'; '.join(str(s) for s in behind[:_SHOWN])}"
    if holders and not sure:
        text += " (INSTALL SONAME 'metadata_lock_info' shows which)"
    return text


def _holders(connection: Connection[Cursor], others: Sequence[Session]) -> tuple[list[str], bool]:
    """Sessions that hold locks, and whether this is certain. If the server does not show it, sessions that may hold locks."""
    by_id = {session.id: session for session in others}
    for sql in (
        "SELECT thread_id, table_schema, table_name FROM information_schema.metadata_lock_info WHERE lock_type LIKE 'Table%'",
        "SELECT t.processlist_id, m.object_schema, m.object_name FROM performance_schema.metadata_locks m"
        " JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id"
        " WHERE m.object_type = 'TABLE' AND m.lock_status = 'GRANTED'",
    ):
        with suppress(pymysql.MySQLError):
            rows = query(connection, sql)
            found = {int(row[0]): f"{by_id[row[0]]}, which holds {row[1]}.{row[2]}" for row in rows if row[0] in by_id}
            if found:
                return list(found.values()), True
    busy = [s for s in others if s.command == "Query" and not s.statement.startswith(_SQL[:40]) and s.seconds]
    idle = [s for s in others if s.command == "Sleep" and s.seconds]
    return [str(s) for s in (*busy, *sorted(idle, key=lambda s: -s.seconds))], False
