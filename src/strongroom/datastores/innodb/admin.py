"""Databases and users of MariaDB and MySQL, by SQL. Names are hostile: checked, quoted, and never formatted into text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb import passwords
from strongroom.datastores.innodb.connection import connect, query, quote_name, quote_text, split_error
from strongroom.datastores.innodb.paths import ACCOUNT
from strongroom.datastores.protocol.administration import DatabaseSpec, UserChange, UserSpec
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import AlreadyExists, InvalidRequest, NotFound, ServerFailed

SYSTEM_DATABASES = frozenset({"information_schema", "performance_schema", "mysql", "sys"})
SUPERUSER = "root"
SYSTEM_USERS = frozenset(
    {SUPERUSER, "mysql", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", ACCOUNT, "PUBLIC", ""}
)
MAX_DATABASE_NAME = 64
_HOST = re.compile(r"[A-Za-z0-9_.:%/-]{1,255}")
_WORD = re.compile(r"[A-Za-z0-9_]{1,64}")
_INVALID = {1059, 1064, 1102, 1115, 1253, 1273, 1372, 1396, 1470, 1819, 3866}


@contextmanager
def _session(server: Server, doing: str) -> Iterator[Connection[Cursor]]:
    """A connection. What the server refuses is raised as InvalidRequest or ServerFailed with the operation."""
    with connect(server) as connection:
        try:
            yield connection
        except pymysql.MySQLError as error:
            code, said = split_error(error)
            if code in _INVALID:
                raise InvalidRequest(f"cannot {doing}: {said}") from None
            if code in (0, 1053, 2006, 2013):
                raise
            raise ServerFailed(f"cannot {doing}: {said}", remedy="See the error log of the server.") from None


def _check_name(kind: str, name: str, longest: int, system: frozenset[str]) -> None:
    if not 1 <= len(name) <= longest or "\0" in name or name != name.rstrip(" ") or any(ord(c) > 0xFFFF for c in name):
        raise InvalidRequest(
            f"{name!r} cannot be the name of a {kind}",
            remedy=f"Use 1 to {longest} characters of the basic multilingual plane that do not end in a space.",
        )
    if name.lower() in {reserved.lower() for reserved in system}:
        raise InvalidRequest(f"the name {name!r} of a {kind} is reserved", remedy="Choose another name.")


def check_database(name: str) -> None:
    """Raises InvalidRequest if no database may have this name."""
    _check_name("database", name, MAX_DATABASE_NAME, SYSTEM_DATABASES)


def _account(connection: Connection[Cursor], name: str, host: str) -> str:
    return f"{quote_text(connection, name)}@{quote_text(connection, host)}"


def _exists(connection: Connection[Cursor], name: str) -> bool:
    found = query(connection, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s", name)
    return (name,) in found  # for the server, names that differ in case may be equal


def _pattern(database: str) -> str:
    """The name as a pattern for GRANT, in which _ and % are wildcards."""
    return re.sub(r"([\\%_])", r"\\\1", database)


def _plain(pattern: str) -> str:
    return re.sub(r"\\(.)", r"\1", pattern)


def _is_user(connection: Connection[Cursor], name: str, host: str) -> bool:
    return bool(query(connection, "SELECT 1 FROM mysql.user WHERE User = %s AND Host = %s", name, host))


def _require_user(connection: Connection[Cursor], name: str, host: str) -> None:
    if not _is_user(connection, name, host):
        raise NotFound(f"there is no user {name!r} at host {host!r}")


def _refuse_user(connection: Connection[Cursor], name: str, host: str) -> None:
    if _is_user(connection, name, host):
        raise AlreadyExists(f"user {name!r} at host {host!r} exists already", remedy="Choose another name or host.")


def _require_databases(connection: Connection[Cursor], names: Sequence[str]) -> None:
    for name in names:
        if not _exists(connection, name):
            raise NotFound(f"there is no database {name!r}", remedy="Create the database first.")


def _grant(connection: Connection[Cursor], account: str, names: Sequence[str]) -> None:
    for name in names:
        query(connection, f"GRANT ALL PRIVILEGES ON {quote_name(_pattern(name))}.* TO {account}")


class Databases:
    """Databases of users: see ``protocol.administration``."""

    def check(self, specs: Sequence[DatabaseSpec]) -> None:
        """Raises InvalidRequest for databases that no server would create."""
        for spec in specs:
            check_database(spec.name)
            for word in (spec.character_set, spec.collate):
                if word is not None and not _WORD.fullmatch(word):
                    raise InvalidRequest(f"{word!r} is not a character set or collation")

    def list_all(self, server: Server) -> list[DatabaseSpec]:
        """Databases of users, by name."""
        with _session(server, "list databases") as connection:
            rows = query(
                connection,
                "SELECT schema_name, default_character_set_name, default_collation_name FROM information_schema.schemata",
            )
        found = (DatabaseSpec(name=name, character_set=charset, collate=collation) for name, charset, collation in rows)
        return sorted((spec for spec in found if spec.name.lower() not in SYSTEM_DATABASES), key=lambda spec: spec.name)

    def create(self, server: Server, specs: Sequence[DatabaseSpec]) -> None:
        """All are checked before the first is created."""
        self.check(specs)
        with _session(server, "create a database") as connection:
            for spec in specs:
                if _exists(connection, spec.name):
                    raise AlreadyExists(f"database {spec.name!r} exists already", remedy="Choose another name, or drop it first.")
            for spec in specs:
                charset = f" CHARACTER SET {spec.character_set}" if spec.character_set else ""
                collate = f" COLLATE {spec.collate}" if spec.collate else ""
                query(connection, f"CREATE DATABASE {quote_name(spec.name)}{charset}{collate}")

    def drop(self, server: Server, name: str) -> None:
        """Drop the database with everything in it."""
        check_database(name)
        with _session(server, f"drop database {name!r}") as connection:
            if not _exists(connection, name):
                raise NotFound(f"there is no database {name!r}")
            query(connection, f"DROP DATABASE {quote_name(name)}")


class Users:
    """Users of servers: see ``protocol.administration``."""

    def __init__(self, accounts: str, longest_name: int, *, keeps_spaces: bool) -> None:
        """``accounts`` is the statement that lists the accounts that are not roles."""
        self._accounts = accounts
        self._longest_name = longest_name
        self._keeps_spaces = keeps_spaces

    def check(self, specs: Sequence[UserSpec]) -> None:
        """Raises InvalidRequest for users that no server would create."""
        for spec in specs:
            self._check_name(spec.name, spec.host)
            if not spec.password:
                raise InvalidRequest(f"user {spec.name!r} needs a password", remedy="Give one that is not empty.")
            for name in spec.databases:
                check_database(name)

    def list_all(self, server: Server) -> list[UserSpec]:
        """Users by name and host, with the databases that they have rights on."""
        with _session(server, "list users") as connection:
            accounts = query(connection, self._accounts)
            rights = query(connection, "SELECT User, Host, Db FROM mysql.db")
        granted: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for name, host, pattern in rights:
            granted[name, host].add(_plain(pattern))
        return [
            UserSpec(name=name, host=host, databases=sorted(granted[name, host]))
            for name, host in sorted(accounts)
            if name not in SYSTEM_USERS and (name, host) != (server.user, "localhost")  # created by initialize
        ]

    def create(self, server: Server, specs: Sequence[UserSpec]) -> None:
        """All are checked before the first is created."""
        self.check(specs)
        with _session(server, "create a user") as connection:
            for spec in specs:
                _require_databases(connection, spec.databases)
                _refuse_user(connection, spec.name, spec.host)
            for spec in specs:
                passwords.create_user(connection, server, spec.name, spec.host, spec.password or "")
                _grant(connection, _account(connection, spec.name, spec.host), spec.databases)

    def drop(self, server: Server, name: str, host: str) -> None:
        """Drop the user with all rights."""
        self._check_name(name, host)
        with _session(server, f"drop user {name!r}") as connection:
            _require_user(connection, name, host)
            query(connection, "DROP USER %s@%s", name, host)

    def change(self, server: Server, name: str, host: str, change: UserChange) -> None:
        """Change the name first, because the server may refuse it."""
        new_name, new_host = change.name or name, change.host or host
        self._check_name(name, host)
        self._check_name(new_name, new_host)
        with _session(server, f"change user {name!r}") as connection:
            _require_user(connection, name, host)
            if (new_name, new_host) != (name, host):
                _refuse_user(connection, new_name, new_host)
                query(connection, "RENAME USER %s@%s TO %s@%s", name, host, new_name, new_host)
            if change.password:
                passwords.change_password(connection, server, new_name, new_host, change.password)

    def grant(self, server: Server, name: str, host: str, databases: Sequence[str]) -> None:
        """Grant all rights on the databases, which must exist."""
        self._check_name(name, host)
        for database in databases:
            check_database(database)
        with _session(server, f"grant to user {name!r}") as connection:
            _require_user(connection, name, host)
            _require_databases(connection, databases)
            _grant(connection, _account(connection, name, host), databases)

    def revoke(self, server: Server, name: str, host: str, database: str) -> None:
        """Revoke all rights, also those of a grant without escapes."""
        self._check_name(name, host)
        check_database(database)
        with _session(server, f"revoke from user {name!r}") as connection:
            _require_user(connection, name, host)
            rows = query(connection, "SELECT Db FROM mysql.db WHERE User = %s AND Host = %s", name, host)
            patterns = [pattern for (pattern,) in rows if _plain(pattern) == database]
            if not patterns:
                raise NotFound(f"user {name!r} at host {host!r} has no rights on database {database!r}")
            for pattern in patterns:
                query(connection, f"REVOKE ALL PRIVILEGES ON {quote_name(pattern)}.* FROM {_account(connection, name, host)}")

    def _check_name(self, name: str, host: str) -> None:
        """Raises InvalidRequest if no account may have this name or host."""
        _check_name("user", name, self._longest_name, SYSTEM_USERS)
        if not self._keeps_spaces and name.startswith(" "):
            raise InvalidRequest(
                f"{name!r} cannot be the name of a user", remedy="MySQL would leave out the space at its beginning."
            )
        if not _HOST.fullmatch(host):
            raise InvalidRequest(f"{host!r} cannot be the host of a user", remedy="Use an address, a name, or a pattern with %.")


class Superuser:
    """The administrator ``root``: see ``protocol.administration``."""

    def is_enabled(self, server: Server) -> bool:
        """Whether ``root`` at any host exists. The one at localhost, who needs the socket and the OS user, always exists."""
        with _session(server, "look for root") as connection:
            return _is_user(connection, SUPERUSER, "%")

    def enable(self, server: Server, password: str) -> str:
        """Create a separate account, so that the account that the server and its tools use does not change."""
        with _session(server, "enable root") as connection:
            if _is_user(connection, SUPERUSER, "%"):
                passwords.change_password(connection, server, SUPERUSER, "%", password)
            else:
                passwords.create_user(connection, server, SUPERUSER, "%", password)
            query(connection, f"GRANT ALL PRIVILEGES ON *.* TO {_account(connection, SUPERUSER, '%')} WITH GRANT OPTION")
        return SUPERUSER

    def disable(self, server: Server) -> None:
        """Drop the account. Open connections stay open."""
        with _session(server, "disable root") as connection:
            if not _is_user(connection, SUPERUSER, "%"):
                raise NotFound("root is not enabled")
            query(connection, "DROP USER %s@%s", SUPERUSER, "%")
