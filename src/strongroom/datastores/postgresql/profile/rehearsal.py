"""Starts a private server on prepared data and reads every table and index. The data must not be used afterwards."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from strongroom.artifact import Profile
from strongroom.datastores.postgresql.profile import installation, read
from strongroom.datastores.postgresql.profile.notices import name_some
from strongroom.datastores.postgresql.restore import way_in
from strongroom.datastores.postgresql.server import config, facts
from strongroom.datastores.postgresql.server.connection import Connection, connect, escape_name, query
from strongroom.datastores.protocol.profiles import Rehearsal, RestoredProfile, write_restored_profile
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.datastores.toolkit.tools import FULL, LIMITS, Tool, hide_secrets, read_lines, read_tail
from strongroom.errors import (
    ArtifactCorrupt,
    ConfigurationError,
    NoSpace,
    ServerFailed,
    StrongroomError,
    ToolStopped,
    VersionMismatch,
)
from strongroom.system.directories import make_directory
from strongroom.system.users import current_user, find_owner

_SCHEMA = "strongroom_check"
_MOST_THREADS = 4
_PATIENCE = 0
"""No limit: a large table may take long, and a server that hangs is stopped for that reason."""
_NOT_YET = ("nothing listens at", "there is no socket", "timeout expired", "the database system is", "is still in recovery")
"""Parts of errors while a server replays its WAL, which may take long."""
_LONGEST_REFUSAL = 30.0
"""Seconds for which a server may refuse connections. A refusal is final, but every refusal looks like progress."""
_NOT_HERE = ("42883", "0A000")
"""SQLSTATEs for functions and features that this host lacks."""
_NOT_LOADED = ("could not access file", "could not load library")
"""How messages begin if this host lacks a library. Other files that cannot be opened are damage."""
_NO_RESOURCES = "53"
"""The class of SQLSTATEs for a full disk or insufficient memory."""
_KILLED = "was terminated by signal 9"
_NO_LOCALE = "incompatible with operating system"
"""Part of a server's message if its C library does not know the locale of a database."""
_END = 2.0
"""Seconds that a server may take to exit after its connection broke."""
_LOUD = ("-c", "autovacuum=off", "-c", "fsync=off", "-c", "logging_collector=off", "-c", "log_min_messages=warning")


@dataclass
class _Found:
    tables: int = 0
    broken: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hindered: str = ""
    """Why this host cannot read a table."""
    lock: threading.Lock = field(default_factory=threading.Lock)


_ALLOW = """DO $$ DECLARE name text; BEGIN
FOR name IN SELECT datname FROM pg_database WHERE NOT datallowconn AND datconnlimit <> -2
LOOP EXECUTE format('ALTER DATABASE %I ALLOW_CONNECTIONS true', name); END LOOP; END $$"""
"""Runs on the server, since a name may contain bytes that are not text."""


def rehearse(version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
    """See ``Profiles``."""
    _require_catalogs(version, profile)
    write_restored_profile(data_dir, RestoredProfile(profile=profile or Profile(), isolated=True))
    if way_in.is_needed(profile):
        way_in.admit(version, data_dir, work_dir, profile)
    found = _Found()
    with _running(version, data_dir, work_dir) as server:
        with connect(server) as connection:
            names = [
                name for (name,) in query(connection, "SELECT datname FROM pg_database WHERE datconnlimit <> -2 ORDER BY oid")
            ]
            query(connection, _ALLOW)
        for name in names:
            _end_prepared(server, name)
            _read_database(server, name, found, same_libc=_has_same_libc(profile))
        if profile is not None and profile.tables is not None:
            _compare(profile.tables, read.read_profile(server).tables or {}, found)
    if found.broken:
        raise ArtifactCorrupt(
            f"{len(found.broken)} tables or indexes cannot be read: {name_some(found.broken)}",
            remedy="Restore an older backup, and look for the damage in the database itself.",
        )
    return Rehearsal(tables=found.tables, warnings=found.warnings)


def _require_catalogs(version: Version, profile: Profile | None) -> None:
    """Raise VersionMismatch if no installed server can start on the data, for example between two release candidates."""
    there = profile.facts.get("catalog_version") if profile is not None else None
    here = installation.read_catalog_version(version.programs["server"])
    if isinstance(there, int) and here is not None and there != here:
        raise VersionMismatch(
            f"the backup has catalogs of version {there}, and PostgreSQL {version.number} here reads {here} only",
            remedy="Verify on a host with the version that the backup was taken from.",
        )


def _end_prepared(server: Server, database: str) -> None:
    """Roll prepared transactions back, since their locks would block readers. The data is not used afterwards."""
    with connect(server, database) as connection:
        for (name,) in query(connection, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
            query(connection, SQL("ROLLBACK PREPARED {}").format(Literal(name)))


@contextmanager
def _running(version: Version, data_dir: Path, work_dir: Path) -> Iterator[Server]:
    """A running server that only this process can reach. Raises ServerFailed if it does not start."""
    base = work_dir / "server"
    make_directory(base, find_owner(work_dir))
    server = Server(
        id="rehearsal",
        name="rehearsal",
        datastore="postgresql",
        user=current_user().name,
        base_dir=base,
        data_dir=data_dir,
        socket=socket_path(base, ".s.PGSQL.5432"),
        version=version,
    )
    config.configure(server)
    log = work_dir / "server.log"
    tool = Tool([*config.build_command(server), *_LOUD], log)
    answered: float | None = None
    try:
        while True:
            try:
                facts.read_facts(server)
                break
            except StrongroomError as error:
                if not tool.running:
                    text = "\n".join(read_tail(log))
                    raise ServerFailed(f"no server starts on the restored data: {text}", remedy=error.remedy) from error
                if any(sign in error.message for sign in _NOT_YET):
                    answered = None
                elif time.monotonic() - (answered := answered or time.monotonic()) > _LONGEST_REFUSAL:
                    raise ServerFailed(error.message, remedy=error.remedy) from error
                time.sleep(0.1)
        yield server
    except ServerFailed as error:
        _raise_if_stopped(tool, log, error)
        raise
    finally:
        tool.abort()
        with suppress(OSError):
            config.socket_dir(server).rmdir()


def _raise_if_stopped(tool: Tool, log: Path, error: ServerFailed) -> None:
    """Raise ToolStopped if a user or the kernel killed the server or a process of it: that says nothing about the data.

    Raise NoSpace if the disk was full, ConfigurationError if this host lacks a locale.
    """
    if _NO_LOCALE in error.message:
        raise ConfigurationError(
            f"the locale of a database is not installed on this host, so that nothing is known of the data: {error.message}",
            remedy="Install the locale (`locale -a` lists those that exist), or verify on another host.",
        ) from error
    lines = read_lines(log, 1 << 16)
    if full := next((line for line in lines if FULL in line), None):
        raise NoSpace(
            f"the private server had no space to write: {hide_secrets(full)}", remedy="Free space, then verify again."
        ) from error
    stopped = any(sign in line for line in lines for sign in (_KILLED, *LIMITS))
    if not stopped and tool.ends(_END):
        try:
            tool.check()
        except ToolStopped:
            stopped = True
        except StrongroomError:
            return
    if stopped:
        raise ToolStopped(
            "a process of the private server was ended from outside, or met a limit of this host, so that nothing is known of "
            f"the data: {error.message}",
            remedy="Look for out-of-memory kills in the kernel log, and at memory and open files, then verify again.",
        ) from error


def _compare(expected: dict[str, int], tables: dict[str, int], found: _Found) -> None:
    for method, count in sorted(expected.items()):
        has = tables.get(method, 0)
        if not has and count:
            found.broken.append(f"all {count} tables of access method {method} are missing")
        elif has < count:
            found.warnings.append(
                f"{has} tables of access method {method} instead of {count}: some were dropped during the backup"
            )


def _has_same_libc(profile: Profile | None) -> bool:
    """Whether the C library is that of the source, as far as known. Servers before 15 do not record its version."""
    there = profile.facts.get("libc") if profile is not None else None
    return there in (None, "unknown", os.confstr("CS_GNU_LIBC_VERSION"))


def _read_database(server: Server, database: str, found: _Found, *, same_libc: bool) -> None:
    with connect(server, database, patience=_PATIENCE) as connection:
        amcheck, prewarm = _prepare(connection)
        work: queue.SimpleQueue[_Piece] = queue.SimpleQueue()
        for piece in _pieces(connection, amcheck, prewarm):
            work.put(piece)
        trusted = same_libc and _has_same_collations(connection, server)
    threads = [
        threading.Thread(target=_read_pieces, args=(server, database, work, found, trusted))
        for _ in range(min(_MOST_THREADS, len(os.sched_getaffinity(0))))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if found.hindered:
        raise ToolStopped(
            f"database {escape_name(database)} could not be read on this host: {found.hindered}",
            remedy="Free disk space or memory, then verify again. Nothing is known of the data.",
        )
    if not work.empty():
        raise ServerFailed(f"the private server died while it read database {escape_name(database)}", remedy="See its log.")


@dataclass(frozen=True, slots=True)
class _Piece:
    """An object to read."""

    name: str
    statement: str
    kind: str
    """``table``, ``check`` or ``index``."""


def _prepare(connection: Connection) -> tuple[str | None, str | None]:
    """Create amcheck and pg_prewarm if the host has them, and return their schemas. Disables the owner's event triggers."""
    for (name,) in query(connection, "SELECT evtname FROM pg_event_trigger WHERE evtenabled <> 'D'"):
        query(connection, SQL("ALTER EVENT TRIGGER {} DISABLE").format(Identifier(name)))
    return _extension(connection, "amcheck"), _extension(connection, "pg_prewarm")


def _extension(connection: Connection, name: str) -> str | None:
    place = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = %s"
    if not query(connection, "SELECT 1 FROM pg_available_extensions WHERE name = %s", name):
        return None  # even if the data has it: this host lacks its library
    rows = query(connection, place, name)
    if not rows:
        try:
            query(connection, SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(_SCHEMA)))
            query(connection, SQL("CREATE EXTENSION {} SCHEMA {}").format(Identifier(name), Identifier(_SCHEMA)))
        except psycopg.Error:  # listed, but not installed
            return None
        rows = query(connection, place, name)
    return str(rows[0][0]) if rows else None


def _pieces(connection: Connection, amcheck: str | None, prewarm: str | None) -> Iterator[_Piece]:
    rows = query(
        connection,
        "SELECT c.oid::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind, coalesce(a.amname, '')"
        " FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am a ON a.oid = c.relam"
        " WHERE c.relkind IN ('r', 'm', 'S') AND c.relpersistence <> 't' AND c.relispopulated AND n.nspname <> %s"
        " ORDER BY c.relpages DESC",
        _SCHEMA,
    )
    heap_check = amcheck is not None and _has_function(connection, f"{amcheck}.verify_heapam")  # not before PostgreSQL 14
    for oid, name, kind, method in rows:
        if kind == "S":
            yield _Piece(name, _fill("SELECT last_value FROM {}", name), "sequence")
            continue
        source = "{}" if kind == "r" else "(SELECT * FROM {})"
        yield _Piece(name, _fill(f"COPY {source} TO '/dev/null'", name), "table")
        if amcheck is not None and heap_check and method == "heap":
            yield _Piece(name, _fill(_CHECK, amcheck, oid), "check")
    indexes = query(
        connection,
        "SELECT i.indexrelid::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.amname,"
        " i.indexprs IS NULL AND i.indpred IS NULL"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_am a ON a.oid = c.relam WHERE i.indisvalid AND i.indisready AND c.relkind = 'i' AND c.relpersistence <> 't'"
        " ORDER BY c.relpages DESC",
    )
    for oid, name, method, plain in indexes:
        if method == "btree" and amcheck is not None:  # an expression would run the owner's functions
            statement = _fill("SELECT NULL WHERE {}.bt_index_check({}, {}) IS NULL", amcheck, oid, "true" if plain else "false")
            yield _Piece(f"index {name}", statement, "index")
        elif prewarm is not None:
            yield _Piece(f"index {name}", _fill("SELECT NULL WHERE {}.pg_prewarm({}) IS NULL", prewarm, oid), "index")


def _has_function(connection: Connection, name: str) -> bool:
    return query(connection, "SELECT to_regproc(%s) IS NOT NULL", name) == [(True,)]


_CHECK = "SELECT format('block %s, row %s: %s', blkno, offnum, msg) FROM {}.verify_heapam({}, check_toast => true)"


def _fill(statement: str, *names: str) -> str:
    """Insert names, which the server has already quoted, into a statement."""
    return statement.format(*names)


def _has_same_collations(connection: Connection, server: Server) -> bool:
    """Whether this host sorts text as the source does. If not, a different order does not mean that an index is damaged."""
    differ = ["SELECT 1 FROM pg_collation WHERE collversion <> pg_collation_actual_version(oid)"]
    if int(server.version.series) >= 15:
        differ.append(
            "SELECT 1 FROM pg_database WHERE datname = current_database()"
            " AND datcollversion <> pg_database_collation_actual_version(oid)"
        )
    with connection.cursor() as cursor:
        for statement in differ:
            cursor.execute(statement.encode())
            if cursor.fetchall():
                return False
    return True


def _read_pieces(server: Server, database: str, work: queue.SimpleQueue[_Piece], found: _Found, trusted: bool) -> None:
    """Read pieces until none are left. If the server dies, pieces remain."""
    with suppress(StrongroomError, queue.Empty), connect(server, database, patience=_PATIENCE) as connection:
        while True:
            _read_piece(connection, work, database, found, trusted)


def is_missing_library(sqlstate: str | None, said: str) -> bool:
    """Whether the cause of an error is a library that this host lacks, not the data."""
    return sqlstate in _NOT_HERE or said.startswith(_NOT_LOADED) or "shared_preload_libraries" in said


_TOO_LONG = "invalid memory alloc request size"
"""The message for damaged values, and for a bytea of more than 512 MB, whose text would be larger than 1 GB."""
_BINARY = " (FORMAT binary)"


def _read_piece(connection: Connection, work: queue.SimpleQueue[_Piece], database: str, found: _Found, trusted: bool) -> None:
    piece = work.get_nowait()
    problem = missing = ""
    try:
        with connection.cursor() as cursor:
            cursor.execute(piece.statement.encode("utf-8", "surrogateescape"))
            rows = cursor.fetchmany(3) if cursor.description else []
        if piece.kind == "check" and rows:
            problem = "; ".join(str(text) for (text,) in rows)
    except psycopg.Error as error:
        if connection.closed or connection.broken:
            work.put(piece)
            raise
        said = f"{error.diag.message_primary or str(error).strip()}"
        if (error.sqlstate or "").startswith(_NO_RESOURCES):
            found.hindered = f"{escape_name(piece.name)}: {said}"
        elif is_missing_library(error.sqlstate, said):
            missing = said
        elif _TOO_LONG in said and piece.kind == "table" and not piece.statement.endswith(_BINARY):
            work.put(replace(piece, statement=piece.statement + _BINARY))  # damage causes an error there, too
            return
        else:
            problem = said
    with found.lock:
        found.tables += piece.kind == "table"
        where = f"{escape_name(piece.name)} in {escape_name(database)}"
        if missing:
            found.warnings.append(f"{where} cannot be read on this host: {missing}")
        elif problem and piece.kind == "index" and not trusted:
            found.warnings.append(f"{where} has another order of text than this host: {problem}; REINDEX after a restore")
        elif problem:
            found.broken.append(f"{where}: {problem}")
