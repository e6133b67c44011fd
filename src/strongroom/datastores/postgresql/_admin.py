"""Databases and users, by SQL. Names are hostile: they are checked, quoted, and never formatted into text.

A database belongs to a role of its own, ``<database>:owner``, that nobody can log in as. Who has rights on the database is a
member of that role and acts as it there, so that all of them own what each of them makes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from strongroom.datastores._protocol import DatabaseSpec, UserChange, UserSpec
from strongroom.datastores._servers import Server
from strongroom.datastores.postgresql._connection import MAINTENANCE, Connection, connect, query, shown
from strongroom.datastores.postgresql._superuser import DEFAULT, superuser
from strongroom.errors import AlreadyExists, InvalidRequest, NotFound, ServerFailed

SYSTEM_DATABASES = frozenset({MAINTENANCE, "template0", "template1"})
SYSTEM_USERS = frozenset({DEFAULT, "public", "none"})
_OWNER = ":owner"
_LONGEST = 63
_INVALID = ("22", "42", "28", "0L", "0P")
"""Classes of SQLSTATE that say that the request was wrong."""


@contextmanager
def _session(server: Server, doing: str, database: str | None = None) -> Iterator[Connection]:
    """A connection; what the server refuses comes out as InvalidRequest or ServerFailed that says what was being done."""
    with connect(server, database) as connection:
        try:
            yield connection
        except psycopg.Error as error:
            if connection.closed or connection.broken:
                raise
            said = error.diag.message_primary or str(error)
            if (error.sqlstate or "").startswith(_INVALID):
                raise InvalidRequest(f"cannot {doing}: {said}") from None
            raise ServerFailed(f"cannot {doing}: {said}", remedy="Look into the error log of the server.") from None


def _check_name(kind: str, name: str, longest: int, system: frozenset[str]) -> None:
    if not 1 <= len(name.encode(errors="replace")) <= longest or "\0" in name or not name.isprintable():
        raise InvalidRequest(
            f"{name!r} cannot be the name of a {kind}", remedy=f"Use 1 to {longest} bytes of printable characters."
        )
    if name.lower() in system or name.startswith("pg_") or name.endswith(_OWNER):
        raise InvalidRequest(f"the name {name!r} of a {kind} is reserved", remedy="Choose another name.")


def check_database(name: str) -> None:
    """Raises InvalidRequest when no database may have this name."""
    _check_name("database", name, _LONGEST - len(_OWNER), SYSTEM_DATABASES)


def check_user(name: str, host: str) -> None:
    """Raises InvalidRequest when no account may have this name or host."""
    _check_name("user", name, _LONGEST, SYSTEM_USERS)
    if host != "%":
        raise InvalidRequest(f"a user of PostgreSQL has no host, and {host!r} was given", remedy="Leave the host out.")


def _run(connection: Connection, statement: LiteralString, *names: str) -> None:
    """A statement with quoted names in the place of each ``{}``."""
    query(connection, SQL(statement).format(*map(Identifier, names)))


# --- databases


def databases(server: Server) -> list[DatabaseSpec]:
    """Databases of users, by name."""
    with _session(server, "list databases") as connection:
        rows = query(
            connection,
            "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database"
            " WHERE NOT datistemplate AND datname <> 'postgres'",
        )
    return [DatabaseSpec(name=shown(name), character_set=encoding, collate=collate) for name, encoding, collate in sorted(rows)]


def _has_database(connection: Connection, name: str) -> bool:
    return bool(query(connection, "SELECT 1 FROM pg_database WHERE datname = %s", name))


def _require_databases(connection: Connection, names: Sequence[str]) -> None:
    for name in names:
        if not _has_database(connection, name):
            raise NotFound(f"there is no database {name!r}", remedy="Create the database first.")


def create_databases(server: Server, specs: Sequence[DatabaseSpec]) -> None:
    """All are checked before the first is made."""
    for spec in specs:
        check_database(spec.name)
    with _session(server, "create a database") as connection:
        for spec in specs:
            if _has_database(connection, spec.name):
                raise AlreadyExists(f"database {spec.name!r} exists already", remedy="Choose another name, or drop it first.")
        for spec in specs:
            query(connection, _create(spec))
            try:
                _own(connection, spec.name)
                _run(connection, "REVOKE ALL ON DATABASE {} FROM PUBLIC", spec.name)
            except psycopg.Error:
                _run(connection, "DROP DATABASE {}", spec.name)
                raise


def _create(spec: DatabaseSpec) -> Composed:
    """From template0, the only one that takes another encoding or order."""
    statement = SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(spec.name))
    if spec.character_set:
        statement += SQL(" ENCODING {}").format(Literal(spec.character_set))
    if spec.collate:
        statement += SQL(" LC_COLLATE {collate} LC_CTYPE {collate}").format(collate=Literal(spec.collate))
    return statement


def _own(connection: Connection, database: str) -> str:
    """The role that owns the database, made when it has none of its own."""
    owner = database + _OWNER
    if not query(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", owner):
        _run(connection, "CREATE ROLE {} NOLOGIN", owner)
    _run(connection, "ALTER DATABASE {} OWNER TO {}", database, owner)
    return owner


def drop_database(server: Server, name: str) -> None:
    """With all that is in it, and whoever is connected."""
    check_database(name)
    with _session(server, f"drop database {name!r}") as connection:
        _require_databases(connection, [name])
        _run(connection, "DROP DATABASE {} WITH (FORCE)", name)
        _run(connection, "DROP ROLE IF EXISTS {}", name + _OWNER)


# --- users


def users(server: Server) -> list[UserSpec]:
    """Accounts of users, by name, with the databases that they have rights on."""
    with _session(server, "list users") as connection:
        accounts = query(
            connection,
            "SELECT rolname FROM pg_roles WHERE rolcanlogin AND oid <> 10 AND rolname <> ALL(%s::text[])",
            [_our_own(server)],
        )
        rights = query(
            connection,
            "SELECT m.rolname, d.datname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member"
            " JOIN pg_database d ON d.datdba = a.roleid",
        )
    granted: defaultdict[str, set[str]] = defaultdict(set)
    for name, database in rights:
        granted[name].add(database)
    return [UserSpec(name=shown(name), host="%", databases=sorted(map(shown, granted[name]))) for (name,) in sorted(accounts)]


def _our_own(server: Server) -> str:
    """The role that we log in as, on a server that we run; the usual name of the superuser on others."""
    return superuser(server.data_dir) if server.runtime == "process" else DEFAULT


def _is_user(connection: Connection, name: str) -> bool:
    return bool(query(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin", name))


def _require_user(connection: Connection, name: str) -> None:
    if not _is_user(connection, name):
        raise NotFound(f"there is no user {name!r}")


def _refuse_user(connection: Connection, name: str) -> None:
    if query(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", name):
        raise AlreadyExists(f"user {name!r} exists already", remedy="Choose another name.")


def _set_password(connection: Connection, name: str, password: str) -> None:
    """Only what the server keeps of a password is sent, so that none comes into a log."""
    kept = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    query(connection, SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(name), Literal(kept)))


def _grant(connection: Connection, name: str, databases: Sequence[str]) -> None:
    for database in databases:
        owner = _own(connection, database)
        _run(connection, "GRANT {} TO {}", owner, name)
        _run(connection, "ALTER ROLE {} IN DATABASE {} SET role TO {}", name, database, owner)


def create_users(server: Server, specs: Sequence[UserSpec]) -> None:
    """All are checked before the first is made."""
    for spec in specs:
        check_user(spec.name, spec.host)
        if not spec.password:
            raise InvalidRequest(f"user {spec.name!r} needs a password", remedy="Give one that is not empty.")
        for database in spec.databases:
            check_database(database)
    with _session(server, "create a user") as connection:
        for spec in specs:
            _require_databases(connection, spec.databases)
            _refuse_user(connection, spec.name)
        for spec in specs:
            with connection.transaction():
                _run(connection, "CREATE ROLE {} LOGIN", spec.name)
                _set_password(connection, spec.name, spec.password or "")
                _grant(connection, spec.name, spec.databases)


def drop_user(server: Server, name: str, host: str) -> None:
    """With all its rights. What it owns goes to the owner of the database that it is in."""
    check_user(name, host)
    doing = f"drop user {name!r}"
    with _session(server, doing) as connection:
        _require_user(connection, name)
        found = query(
            connection,
            "SELECT d.datname, r.rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datallowconn ORDER BY 1",
        )
    for database, owner in found:
        with _session(server, doing, database) as connection:
            _run(connection, "REASSIGN OWNED BY {} TO {}", name, _our_own(server) if owner == name else owner)
            _run(connection, "DROP OWNED BY {}", name)
    with _session(server, doing) as connection:
        _run(connection, "DROP ROLE {}", name)


def change_user(server: Server, name: str, host: str, change: UserChange) -> None:
    """Both at once or not at all."""
    new_name = change.name or name
    check_user(name, host)
    check_user(new_name, change.host or host)
    with _session(server, f"change user {name!r}") as connection, connection.transaction():
        _require_user(connection, name)
        if new_name != name:
            _refuse_user(connection, new_name)
            _run(connection, "ALTER ROLE {} RENAME TO {}", name, new_name)
        if change.password:
            _set_password(connection, new_name, change.password)


def grant(server: Server, name: str, host: str, names: Sequence[str]) -> None:
    """All rights on the databases, which must exist."""
    check_user(name, host)
    for database in names:
        check_database(database)
    with _session(server, f"grant to user {name!r}") as connection, connection.transaction():
        _require_user(connection, name)
        _require_databases(connection, names)
        _grant(connection, name, names)


def revoke(server: Server, name: str, host: str, database: str) -> None:
    """Connections that are open keep what they have."""
    check_user(name, host)
    check_database(database)
    with _session(server, f"revoke from user {name!r}") as connection, connection.transaction():
        _require_user(connection, name)
        member = query(
            connection,
            "SELECT r.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles r ON r.oid = a.roleid"
            " JOIN pg_database d ON d.datdba = r.oid WHERE m.rolname = %s AND d.datname = %s",
            name,
            database,
        )
        if not member:
            raise NotFound(f"user {name!r} has no rights on database {database!r}")
        _run(connection, "ALTER ROLE {} IN DATABASE {} RESET role", name, database)
        _run(connection, "REVOKE {} FROM {}", member[0][0], name)


# --- the superuser


def superuser_enabled(server: Server) -> bool:
    """With a password the superuser can log in from outside; by the socket it needs none, but the right OS user."""
    with _session(server, "look for the superuser") as connection:
        return bool(query(connection, "SELECT 1 FROM pg_authid WHERE rolname = %s AND rolpassword IS NOT NULL", _our_own(server)))


def enable_superuser(server: Server, password: str) -> str:
    """The same account that we use; what we use stays as it is."""
    with _session(server, "enable the superuser") as connection:
        _set_password(connection, _our_own(server), password)
    return _our_own(server)


def disable_superuser(server: Server) -> None:
    """Connections that are open stay open."""
    if not superuser_enabled(server):
        raise NotFound(f"{_our_own(server)} is not enabled")
    with _session(server, "disable the superuser") as connection:
        _run(connection, "ALTER ROLE {} PASSWORD NULL", _our_own(server))
