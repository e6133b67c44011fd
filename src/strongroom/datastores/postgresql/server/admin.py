"""Databases and users, by SQL. Names are untrusted: they are checked, quoted, and never formatted into text.

Each database belongs to its own role, ``<database>:owner``, which cannot log in. Users with rights on the database are members of
that role, and all of them can read, write and drop what each of them creates. For objects that they own jointly, they use
``SET ROLE "<database>:owner"`` first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from strongroom.datastores.postgresql.server.account import find_account
from strongroom.datastores.postgresql.server.connection import MAINTENANCE, Connection, connect, escape_name, query
from strongroom.datastores.postgresql.server.superuser import DEFAULT, find_superuser
from strongroom.datastores.protocol.administration import DatabaseSpec, UserChange, UserSpec
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import AlreadyExists, Conflict, InvalidRequest, NotFound, ServerFailed

SYSTEM_DATABASES = frozenset({MAINTENANCE, "template0", "template1"})
SYSTEM_USERS = frozenset({DEFAULT, "public", "none"})
SUPERUSER = "root"
"""The superuser of Trove's clients. Strongroom uses another role, which does not change."""
_OWNER = ":owner"
_KINDS: tuple[LiteralString, ...] = ("TABLES", "SEQUENCES", "ROUTINES", "TYPES", "SCHEMAS")
_LONGEST = 63
_INVALID = ("22", "42", "28", "0L", "0P")
"""Classes of SQLSTATE for invalid requests."""


@contextmanager
def _session(server: Server, doing: str, database: str | None = None) -> Iterator[Connection]:
    """A connection. Errors of the server become InvalidRequest or ServerFailed, with what was being done."""
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
    """Raises InvalidRequest if no database may have this name."""
    _check_name("database", name, _LONGEST - len(_OWNER), SYSTEM_DATABASES)


def check_user(name: str, host: str, *, new: bool = False) -> None:
    """Raises InvalidRequest if no user, or no ``new`` one, may have this name or host. Older databases may have a user root."""
    _check_name("user", name, _LONGEST, SYSTEM_USERS | {SUPERUSER} if new else SYSTEM_USERS)
    if host != "%":
        raise InvalidRequest(f"a user of PostgreSQL has no host, and {host!r} was given", remedy="Leave the host out.")


def _run(connection: Connection, statement: LiteralString, *names: str) -> None:
    """Run a statement with quoted names instead of each ``{}``."""
    query(connection, SQL(statement).format(*map(Identifier, names)))


def _has_database(connection: Connection, name: str) -> bool:
    return bool(query(connection, "SELECT 1 FROM pg_database WHERE datname = %s", name))


def _require_databases(connection: Connection, names: Sequence[str]) -> None:
    for name in names:
        if not _has_database(connection, name):
            raise NotFound(f"there is no database {name!r}", remedy="Create the database first.")


def _create(spec: DatabaseSpec) -> Composed:
    """CREATE DATABASE from template0, the only template that supports other encodings and collations."""
    statement = SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(spec.name))
    if spec.character_set:
        statement += SQL(" ENCODING {}").format(Literal(spec.character_set))
    if spec.collate:
        statement += SQL(" LC_COLLATE {collate} LC_CTYPE {collate}").format(collate=Literal(spec.collate))
    return statement


def _own(connection: Connection, database: str) -> str:
    """The role that owns the database; created if the database has no role of its own."""
    owner = database + _OWNER
    if not query(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", owner):
        _run(connection, "CREATE ROLE {} NOLOGIN", owner)
    _run(connection, "ALTER DATABASE {} OWNER TO {}", database, owner)
    return owner


def _our_own(server: Server) -> str:
    """The role of Strongroom; on an adopted server the usual name of the superuser."""
    return find_superuser(server.data_dir) if not server.is_adopted else DEFAULT


def _is_user(connection: Connection, name: str) -> bool:
    found = query(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = %s AND rolcanlogin", name)
    return bool(found) and not (name == SUPERUSER and found == [(True,)])


def _require_user(connection: Connection, name: str) -> None:
    if not _is_user(connection, name):
        raise NotFound(f"there is no user {name!r}")


def _refuse_user(connection: Connection, name: str) -> None:
    if query(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", name):
        raise AlreadyExists(f"user {name!r} exists already", remedy="Choose another name.")


def _set_password(connection: Connection, name: str, password: str) -> None:
    """Set a password. Only its verifier is sent, so that the password cannot appear in a log."""
    kept = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    query(connection, SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(name), Literal(kept)))


def _grant(connection: Connection, name: str, databases: Sequence[str]) -> None:
    for database in databases:
        _run(connection, "GRANT {} TO {}", _own(connection, database), name)


def _share(server: Server, name: str, databases: Sequence[str]) -> None:
    """Share what the user creates in the databases with all users who have rights on them."""
    for database in databases:
        with _session(server, f"grant to user {name!r}", database) as connection, connection.transaction():
            for kind in _KINDS:
                statement = SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT ALL ON {} TO {}")
                query(connection, statement.format(Identifier(name), SQL(kind), Identifier(database + _OWNER)))


def _open_superusers(connection: Connection, server: Server) -> list[str]:
    names = [SUPERUSER, find_superuser(server.data_dir)] if not server.is_adopted else [SUPERUSER]
    found = query(
        connection,
        "SELECT rolname FROM pg_authid WHERE rolsuper AND rolcanlogin AND rolpassword IS NOT NULL AND rolname = ANY(%s)",
        names,
    )
    return [escape_name(name) for (name,) in found]


def _refuse_own(server: Server) -> None:
    if server.is_adopted and find_account(server).user == SUPERUSER:
        raise Conflict("root is the role that this service logs in as", remedy="Create a separate role for the service.")


class Databases:
    """Databases of users: see ``protocol.administration``."""

    def check(self, specs: Sequence[DatabaseSpec]) -> None:
        """Raises InvalidRequest for databases that no server would create."""
        for spec in specs:
            check_database(spec.name)

    def list_all(self, server: Server) -> list[DatabaseSpec]:
        """Databases of users, by name."""
        with _session(server, "list databases") as connection:
            rows = query(
                connection,
                "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database"
                " WHERE NOT datistemplate AND datname <> 'postgres'",
            )
        return [
            DatabaseSpec(name=escape_name(name), character_set=encoding, collate=collate)
            for name, encoding, collate in sorted(rows)
        ]

    def create(self, server: Server, specs: Sequence[DatabaseSpec]) -> None:
        """Create all of them, after checking each."""
        self.check(specs)
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

    def drop(self, server: Server, name: str) -> None:
        """Drop a database with its content; sessions in it are terminated."""
        check_database(name)
        with _session(server, f"drop database {name!r}") as connection:
            _require_databases(connection, [name])
            _run(connection, "DROP DATABASE {} WITH (FORCE)", name)
            _run(connection, "DROP ROLE IF EXISTS {}", name + _OWNER)


class Users:
    """Users of servers: see ``protocol.administration``."""

    def check(self, specs: Sequence[UserSpec]) -> None:
        """Raises InvalidRequest for users that no server would create."""
        for spec in specs:
            check_user(spec.name, spec.host, new=True)
            if not spec.password:
                raise InvalidRequest(f"user {spec.name!r} needs a password", remedy="Give one that is not empty.")
            for name in spec.databases:
                check_database(name)

    def list_all(self, server: Server) -> list[UserSpec]:
        """Users by name, with the databases on which they have rights."""
        with _session(server, "list users") as connection:
            accounts = query(
                connection,
                "SELECT rolname FROM pg_roles"
                " WHERE rolcanlogin AND oid <> 10 AND rolname <> %s AND NOT (rolsuper AND rolname = %s)",
                _our_own(server),
                SUPERUSER,
            )
            rights = query(
                connection,
                "SELECT m.rolname, d.datname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member"
                " JOIN pg_database d ON d.datdba = a.roleid",
            )
        granted: defaultdict[str, set[str]] = defaultdict(set)
        for name, database in rights:
            granted[name].add(database)
        return [
            UserSpec(name=escape_name(name), host="%", databases=sorted(map(escape_name, granted[name])))
            for (name,) in sorted(accounts)
        ]

    def create(self, server: Server, specs: Sequence[UserSpec]) -> None:
        """Create all of them, after checking each."""
        self.check(specs)
        with _session(server, "create a user") as connection:
            for spec in specs:
                _require_databases(connection, spec.databases)
                _refuse_user(connection, spec.name)
            for spec in specs:
                with connection.transaction():
                    _run(connection, "CREATE ROLE {} LOGIN", spec.name)
                    _set_password(connection, spec.name, spec.password or "")
                    _grant(connection, spec.name, spec.databases)
        for spec in specs:
            _share(server, spec.name, spec.databases)

    def drop(self, server: Server, name: str, host: str) -> None:
        """Drop a user and its rights. Its objects are reassigned to the owner of their database."""
        check_user(name, host)
        doing = f"drop user {name!r}"
        with _session(server, doing) as connection:
            _require_user(connection, name)
            found = query(
                connection,
                "SELECT d.datname, r.rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba"
                " WHERE datallowconn ORDER BY 1",
            )
        for database, owner in found:
            with _session(server, doing, database) as connection:
                _run(connection, "REASSIGN OWNED BY {} TO {}", name, _our_own(server) if owner == name else owner)
                _run(connection, "DROP OWNED BY {}", name)
        with _session(server, doing) as connection:
            _run(connection, "DROP ROLE {}", name)

    def change(self, server: Server, name: str, host: str, change: UserChange) -> None:
        """Change name and password in one transaction."""
        new_name = change.name or name
        check_user(name, host)
        check_user(new_name, change.host or host, new=new_name != name)
        with _session(server, f"change user {name!r}") as connection, connection.transaction():
            _require_user(connection, name)
            if new_name != name:
                _refuse_user(connection, new_name)
                _run(connection, "ALTER ROLE {} RENAME TO {}", name, new_name)
            if change.password:
                _set_password(connection, new_name, change.password)

    def grant(self, server: Server, name: str, host: str, databases: Sequence[str]) -> None:
        """Grant all rights on the databases, which must exist."""
        check_user(name, host)
        for database in databases:
            check_database(database)
        with _session(server, f"grant to user {name!r}") as connection, connection.transaction():
            _require_user(connection, name)
            _require_databases(connection, databases)
            _grant(connection, name, databases)
        _share(server, name, databases)

    def revoke(self, server: Server, name: str, host: str, database: str) -> None:
        """Revoke the rights on a database. Open connections keep theirs."""
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
            _run(connection, "ALTER ROLE {} IN DATABASE {} RESET role", name, database)  # set by earlier versions
            _run(connection, "REVOKE {} FROM {}", member[0][0], name)


class Superuser:
    """The administrator ``root``: see ``protocol.administration``."""

    def is_enabled(self, server: Server) -> bool:
        """Whether ``root``, or the role of Strongroom, can log in from other hosts: with a password."""
        with _session(server, "look for root") as connection:
            return bool(_open_superusers(connection, server))

    def enable(self, server: Server, password: str) -> str:
        """Create a separate role, so that the role of Strongroom does not change."""
        with _session(server, "enable root") as connection, connection.transaction():
            _refuse_own(server)
            found = query(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = %s", SUPERUSER)
            if found == [(False,)]:
                raise AlreadyExists("there is a user root that is not a superuser", remedy="Rename or delete that user first.")
            if not found:
                _run(connection, "CREATE ROLE {} SUPERUSER", SUPERUSER)
            _run(connection, "ALTER ROLE {} LOGIN", SUPERUSER)
            _set_password(connection, SUPERUSER, password)
        return SUPERUSER

    def disable(self, server: Server) -> None:
        """Disable root. Open connections stay open, and root keeps its objects."""
        with _session(server, "disable root") as connection, connection.transaction():
            _refuse_own(server)
            names = _open_superusers(connection, server)
            if not names:
                raise NotFound("root is not enabled")
            for name in names:
                _run(connection, "ALTER ROLE {} PASSWORD NULL", name)
                if name != _our_own(server):
                    _run(connection, "ALTER ROLE {} NOLOGIN", name)
