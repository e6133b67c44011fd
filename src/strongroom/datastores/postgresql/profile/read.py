"""Reads the server profile, what a restore depends on at its source: by SQL and by a walk through the data directory."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Literal

from strongroom.artifact import Fact, Notice, Profile
from strongroom.datastores.postgresql.files import tablespaces
from strongroom.datastores.postgresql.profile import carry, installation, notices
from strongroom.datastores.postgresql.profile.walk import examine_directory
from strongroom.datastores.postgresql.server import superuser
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, escape_name, query
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ServerFailed, StrongroomError

_PREFIX = "strongroom"
_SIZES = frozenset(
    [
        "autovacuum",
        "bgwriter",
        "checkpoint",
        "commit",
        "cpu",
        "effective",
        "huge",
        "hash",
        "io",
        "jit",
        "logging",
        "log",
        "maintenance",
        "parallel",
        "random",
        "seq",
        "shared_buffers",
        "stats",
        "temp",
        "track",
        "vacuum",
        "wal",
        "work",
        "max",
        "min",
    ]
)
"""First words of settings for size, speed and logging, which the target decides."""


_BY_TIME_ZONE: LiteralString = (
    "SELECT DISTINCT c.relname FROM ("
    " SELECT indexrelid AS id, pg_get_expr(indexprs, indrelid) AS said FROM pg_index"
    " UNION ALL SELECT indexrelid, pg_get_expr(indpred, indrelid) FROM pg_index"
    " UNION ALL SELECT partrelid, pg_get_expr(partexprs, partrelid) FROM pg_partitioned_table"
    " UNION ALL SELECT d.adrelid, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d"
    " JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum) WHERE a.attgenerated <> ''"
    ") e JOIN pg_class c ON c.oid = e.id"
    " WHERE c.oid >= 16384 AND NOT c.relispartition AND e.said ~* 'time zone|timezone|date_trunc'"
)
"""Indexes, partitioned tables and tables with generated columns whose stored values depend on time zone rules.

Partitions, of which there may be very many, are covered by their table or index.
To show an expression, the server locks its table and loads the libraries of the types of its constants.
"""
_LOCKED = "2s"
"""How long to wait for a table that another session has locked."""


def read_profile(server: Server) -> Profile:
    """Read the profile of a server. Raises ServerFailed, ConfigurationError."""
    try:
        with connect(server, patience=60) as connection:
            reading = _Reading(server, connection)
            reading.whole_server()
        for name in reading.databases:
            reading.database(name)
    except psycopg.Error as error:
        raise ServerFailed(f"{describe_server(server)} failed to answer a query: {error}", remedy="See its error log.") from error
    return reading.profile()


def query_if_allowed(connection: Connection, sql: LiteralString, *values: object) -> list[tuple[Any, ...]] | None:
    """Query rows; none if the user lacks the right, or the server is too old for the statement."""
    try:
        return query(connection, sql, *values)
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.UndefinedColumn,
    ):
        return None


class _Reading:
    def __init__(self, server: Server, connection: Connection) -> None:
        self._server, self._connection = server, connection
        self.databases: list[str] = []
        self._settings: dict[str, str] = {}
        self._plugins: list[str] = []
        self._facts: dict[str, Fact] = {}
        self._notices: list[Notice] = []
        self._outside: dict[str, str] = {}
        self._lists: dict[str, set[str]] = {
            name: set()
            for name in (
                "extensions",
                "access_methods",
                "libraries",
                "column_collations",
                "foreign_servers",
                "workers",
                "login_triggers",
                "by_time_zone",
            )
        }
        self._absent: list[str] = []
        self._unread: list[str] = []
        self._tables: Counter[str] = Counter()
        self._unlogged: list[str] = []

    def whole_server(self) -> None:
        """Read what all databases share."""
        self._read_settings()
        self._read_control()
        self._read_roles()
        self._read_replication()
        rows = query(
            self._connection,
            "SELECT datname, has_database_privilege(oid, 'CONNECT') FROM pg_database"
            " WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid",
        )
        self.databases = [name for name, allowed in rows if allowed]
        self._unread = [escape_name(name) for name, allowed in rows if not allowed]
        self._notices += examine_directory(self._server.data_dir)
        self._read_tablespaces()

    def _read_tablespaces(self) -> None:
        spaces = tablespaces.read(self._connection)
        self._facts[tablespaces.FACT] = [*tablespaces.make_fact(spaces)]
        self._outside = tablespaces.list_outside(spaces, self._server.data_dir)
        if problems := tablespaces.list_problems(spaces, self._server):
            message = f"tablespaces that cannot be backed up: {'; '.join(problems)}"
            self._notices.append(Notice(item="tablespaces", effect="refuse", message=message, remedy=tablespaces.REMEDY))

    def _read_settings(self) -> None:
        rows = query(self._connection, "SELECT name, setting, source, pending_restart FROM pg_settings")
        files = query_if_allowed(
            self._connection,
            "SELECT DISTINCT ON (name) name, setting FROM pg_file_settings WHERE applied ORDER BY name, seqno DESC",
        )
        in_files = dict(files or [])
        not_carried = []
        for name, setting, source, _ in rows:
            value = in_files.get(name, setting) if source in ("client", "user", "database", "database user") else setting
            if source in ("client", "user", "database", "database user") and name not in in_files:
                continue
            if name in carry.AT_LEAST or name == carry.SEGMENT:
                self._settings[name] = str(value)
            elif source in ("default", "override", "environment variable") and name != "wal_level":
                continue
            elif name in carry.AS_THERE and carry.AS_THERE[name](str(value)):
                self._settings[name] = str(value)
            elif name.partition("_")[0] not in _SIZES and name not in _OWN:
                not_carried.append(name)
        if segment := query(self._connection, "SELECT pg_size_bytes(current_setting('wal_segment_size'))::text"):
            self._settings[carry.SEGMENT] = segment[0][0]
        self._facts["not_carried"] = sorted(not_carried)
        known = {name: setting for name, setting, *_ in rows}
        preloaded = [part.strip().strip('"') for part in known["shared_preload_libraries"].split(",")]
        self._plugins = [part for part in dict.fromkeys(preloaded) if part]  # the order matters to some of them
        self._facts["data_checksums"] = known["data_checksums"]
        self._facts["archive_mode"] = known["archive_mode"]
        self._facts["synchronous_standby_names"] = bool(known["synchronous_standby_names"])
        self._notices += notices.judge_settings(known, [name for name, *_, pending in rows if pending])

    def _read_control(self) -> None:
        init = query(self._connection, "SELECT to_jsonb(i) FROM pg_control_init() i")[0][0]
        for name in ("database_block_size", "wal_block_size", "blocks_per_segment", "default_char_signedness"):
            if name in init:
                self._facts[name] = init[name]
        ((version,),) = query(self._connection, "SELECT catalog_version_no FROM pg_control_system()")
        self._facts["catalog_version"] = version
        self._facts["time_zones"] = installation.read_zones_version(self._server.version.programs["server"])
        self._facts["machine"] = platform.machine()
        with suppress(ValueError, OSError):
            self._facts["libc"] = os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
        managers = query_if_allowed(
            self._connection, "SELECT rm_name FROM pg_get_wal_resource_managers() WHERE NOT rm_builtin ORDER BY 1"
        )
        self._facts["wal_resource_managers"] = [escape_name(name) for (name,) in managers or []]
        self._notices += notices.judge_control(self._facts)

    def _read_roles(self) -> None:
        rows = query(
            self._connection,
            "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolsuper AND (oid = 10 OR rolcanlogin) ORDER BY oid",
        )
        bootstrap = rows[0][0] if rows else ""
        usable = [name for name, can_log_in in rows if can_log_in and superuser.is_usable(name)]
        self._facts["bootstrap_superuser"] = escape_name(bootstrap)
        self._facts[superuser.FACT] = usable[0] if usable else None
        self._notices += notices.judge_superuser(escape_name(bootstrap), usable)
        md5 = query_if_allowed(self._connection, "SELECT count(*) FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'md5%'")
        self._facts[carry.MD5] = bool(md5[0][0]) if md5 else None
        methods = query_if_allowed(
            self._connection, "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE error IS NULL ORDER BY 1"
        )
        self._facts["login_methods"] = [name for (name,) in methods or []]

    def _read_replication(self) -> None:
        rows = query_if_allowed(
            self._connection,
            "SELECT d.datname, s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid ORDER BY 1, 2",
        )
        self._facts["subscriptions"] = [f"{escape_name(database)}.{escape_name(name)}" for database, name in rows or []]
        slots = query(
            self._connection,
            "SELECT slot_name, slot_type, temporary, active FROM pg_replication_slots ORDER BY 1",
        )
        ((most,),) = query(self._connection, "SELECT current_setting('max_replication_slots')::int")
        self._notices += notices.judge_slots([(n, t) for n, t, *_ in slots if not n.startswith(_PREFIX)], len(slots) >= most)
        prepared = query(self._connection, "SELECT gid FROM pg_prepared_xacts ORDER BY 1")
        self._notices += notices.judge_prepared([escape_name(gid) for (gid,) in prepared])

    def database(self, name: str) -> None:
        """Read what one database contains. Add its name to ``unread`` if it refuses connections or its catalog is locked."""
        try:
            with connect(self._server, name, patience=60) as connection:
                self._read_objects(connection, escape_name(name))
        except (StrongroomError, psycopg.Error):
            self._unread.append(escape_name(name))

    def _read_objects(self, connection: Connection, database: str) -> None:
        def add(item: str, rows: Iterable[tuple[Any, ...]] | None) -> None:
            self._lists[item] |= {escape_name(str(row[0])) for row in rows or []}

        add("extensions", query(connection, "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'"))
        add("access_methods", query(connection, "SELECT amname FROM pg_am WHERE oid >= 16384"))
        add(
            "libraries",
            query(connection, "SELECT DISTINCT probin FROM pg_proc WHERE probin IS NOT NULL AND probin <> '$libdir/plpgsql'"),
        )
        add("column_collations", self._column_collations(connection))
        servers = query(connection, "SELECT srvname FROM pg_foreign_server")
        self._lists["foreign_servers"] |= {f"{database}.{escape_name(name)}" for (name,) in servers}
        triggers = query(connection, "SELECT evtname FROM pg_event_trigger WHERE evtevent = 'login' AND evtenabled <> 'D'")
        self._lists["login_triggers"] |= {f"{database}.{escape_name(name)}" for (name,) in triggers}
        for table, what in (("cron.job", "pg_cron"), ("pgagent.pga_job", "pgagent"), ("partman.part_config", "pg_partman")):
            found = query(  # to_regclass would require rights on the schema
                connection,
                "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = %s",
                table,
            )
            if found:
                self._lists["workers"].add(f"{what} in {database}")
        for method, count in query(
            connection,
            "SELECT coalesce(a.amname, 'none'), count(*) FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam"
            " WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.oid >= 16384 GROUP BY 1",
        ):
            self._tables[escape_name(method)] += count
        rows = query(
            connection,
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'S', 'm') ORDER BY 1",
        )
        self._unlogged += [f"{database}: {escape_name(name)}" for (name,) in rows]
        self._lists["by_time_zone"] |= _computed_by_time_zone(connection, database)

    def _column_collations(self, connection: Connection) -> list[tuple[str]]:
        """Collations of columns, indexes, domains and functions; those of databases are in ``BackupResult.collations``."""
        rows = query(
            connection,
            "SELECT DISTINCT to_jsonb(c) - 'collname', pg_collation_actual_version(c.oid) FROM pg_collation c"
            " JOIN pg_depend d ON d.refclassid = 'pg_collation'::regclass AND d.refobjid = c.oid"
            " WHERE c.collprovider <> 'd' AND d.deptype <> 'p'",
        )
        found = []
        for collation, version in rows:
            name = collation.get("colllocale") or collation.get("colliculocale") or collation.get("collcollate") or ""
            if name not in ("C", "POSIX", "ucs_basic"):
                found.append((f"{collation['collprovider']} {name} {version or ''}".rstrip(),))
        return found

    def profile(self) -> Profile:
        """The profile with everything that was read."""
        self._facts |= {name: sorted(found) for name, found in self._lists.items()}
        self._notices += notices.judge_objects(self._facts, self._plugins, self._unread)
        if self._unlogged:
            self._absent.append(notices.describe_unlogged(self._unlogged))
        return Profile(
            settings=self._settings,
            plugins=self._plugins,
            facts=self._facts,
            outside=self._outside,
            tables=dict(sorted(self._tables.items())),
            absent=self._absent,
            notices=self._notices,
        )


def _computed_by_time_zone(connection: Connection, database: str) -> set[str]:
    """Names of such indexes and tables. A locked table or a missing library hides those of its database, but no other fact."""
    try:
        with connection.transaction():
            query(connection, SQL("SET LOCAL lock_timeout = {}").format(Literal(_LOCKED)))
            return {f"{database}.{escape_name(name)}" for (name,) in query(connection, _BY_TIME_ZONE)}
    except psycopg.Error:
        if connection.closed or connection.broken:
            raise
        return {f"{database} (which could not be looked into)"}


_OWN = frozenset(
    {
        "application_name", "archive_cleanup_command", "archive_command", "archive_library", "archive_mode", "archive_timeout",
        "bonjour", "client_encoding", "cluster_name", "config_file", "data_directory", "dynamic_shared_memory_type",
        "event_triggers", "external_pid_file", "hba_file", "hot_standby", "ident_file", "lc_messages", "listen_addresses", "port",
        "primary_conninfo", "primary_slot_name", "recovery_end_command", "restore_command", "shared_preload_libraries", "ssl",
        "ssl_ca_file", "ssl_cert_file", "ssl_crl_file", "ssl_key_file", "summarize_wal", "superuser_reserved_connections",
        "synchronous_standby_names", "syslog_ident", "transaction_deferrable", "transaction_isolation", "transaction_read_only",
        "unix_socket_directories", "unix_socket_group", "unix_socket_permissions", "update_process_title",
        "statement_timeout", "search_path", "role", "local_preload_libraries",
        "session_preload_libraries", "synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout",
        "idle_session_timeout", "transaction_timeout", "zero_damaged_pages", "ignore_checksum_failure",
    }
)  # fmt: skip
"""Settings that nobody expects to be copied to a new server."""
