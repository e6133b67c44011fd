"""Reads the profile of a running server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.connection import connect, find_server_pid, query, quote_name, read_variables, split_error
from strongroom.datastores.innodb.versions import extract_number, extract_series, make_sort_key
from strongroom.datastores.mysql.backup.incremental import is_replica
from strongroom.datastores.mysql.profile.settings import filter_settings, is_reported
from strongroom.datastores.mysql.server.versions import XTRABACKUP, is_innovation
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit import nets

SYSTEM = "('mysql', 'sys', 'information_schema', 'performance_schema')"
_NO_TABLE, _NO_RIGHT = 1146, (1142, 1227, 1401)
_DIRECTORIES = (
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "innodb_doublewrite_dir",
    "innodb_data_home_dir",
    "innodb_temp_tablespaces_dir",
)
_BUILT_IN = {"caching_sha2_password", "sha256_password", "sha2_cache_cleaner"}
_HOST_NAME = re.compile(r"(?!localhost$)[^%]*[A-Za-z][^%]*(%.*)?|%.*[A-Za-z].*")
_LEFT = ("*.pem", "mysqld-auto.cnf", "*.cnf", "mysqld.my", "*.sql", "*.txt")
_MOST = 20
_NAMED = 10


def read_profile(server: Server) -> Profile:
    """See ``Profiles.read``."""
    with connect(server, patience=60) as connection:
        found = read_variables(connection, "VARIABLES", "%")
        settings = filter_settings(found)
        if not _uses_host_names(connection):
            settings.pop("skip_name_resolve", None)
        plugins = list_plugins(connection)
        if "mysql_native_password" in plugins and make_sort_key(server.version.number) < (9,):
            settings |= {"mysql_native_password": "ON"}
        else:
            settings.pop("mysql_native_password", None)
        outside = {name: str(path) for name in _DIRECTORIES if (path := _elsewhere(found.get(name), server.data_dir)) is not None}
        replica = is_replica(connection)
        group = "group_replication" in plugins and found.get("group_replication_start_on_boot") == "ON"
        empty = [f"{schema}.{table}" for schema, table in list_tables(connection, "MEMORY")]
        notices = [
            *_version(found["version"]),
            *_tablespaces(connection, server),
            *_engines(connection, server),
            *_outside(outside),
            *_replication(replica, group),
            *_events(connection, found.get("event_scheduler")),
            *_prepared(connection),
            *_accounts(connection, server),
            *_nets_of(connection, server),
        ]
        return Profile(
            settings=settings,
            plugins=plugins,
            facts={
                "gtid_mode": found.get("gtid_mode"),
                "log_bin": found.get("log_bin"),
                "system_time_zone": found.get("system_time_zone"),
                "replica": replica,
                "group_replication": group,
                "not_carried": _not_carried(connection, server),
            },
            outside=outside,
            tables=count_tables(connection),
            empty_tables=empty,
            absent=[*_absent(found, empty, server)],
            left_behind=sorted(
                {path.name for pattern in _LEFT for path in server.data_dir.glob(pattern) if path.is_file()} - {"auto.cnf"}
            ),
            notices=notices,
        )


# --- queries that other modules use, too


def list_plugins(connection: Connection[Cursor]) -> list[str]:
    """Names of active plugins from libraries, and of components; of the built-in plugins only the one that is off by default."""
    rows = query(
        connection,
        "SELECT plugin_name FROM information_schema.plugins WHERE plugin_status = 'ACTIVE'"
        " AND (plugin_library IS NOT NULL OR plugin_name = 'mysql_native_password')",
    )
    found = {str(name) for (name,) in rows}
    try:
        components = query(connection, "SELECT component_urn FROM mysql.component")
    except pymysql.MySQLError as error:
        if split_error(error)[0] not in (_NO_TABLE, *_NO_RIGHT):
            raise
        components = []
    return sorted(found | {str(urn).removeprefix("file://") for (urn,) in components})


def count_tables(connection: Connection[Cursor]) -> dict[str, int]:
    """Tables of users by engine."""
    rows = query(
        connection,
        "SELECT engine, COUNT(*) FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND engine IS NOT NULL"  # noqa: S608
        f" AND table_schema NOT IN {SYSTEM} AND table_schema <> 'strongroom' GROUP BY engine",
    )
    return {str(engine): int(count) for engine, count in rows}


def list_tables(connection: Connection[Cursor], engine: str) -> list[tuple[str, str]]:
    """Tables of users of this engine."""
    rows = query(
        connection,
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND engine = %s"  # noqa: S608
        f" AND table_schema NOT IN {SYSTEM} ORDER BY 1, 2",
        engine,
    )
    return [(str(schema), str(table)) for schema, table in rows]


def list_foreign_tables(connection: Connection[Cursor]) -> list[tuple[str, str, str]]:
    """Tables that are empty in a clone: schema, name, engine."""
    return query(
        connection,
        "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE engine NOT IN"  # noqa: S608
        " ('InnoDB', 'MEMORY', 'PERFORMANCE_SCHEMA') AND table_type = 'BASE TABLE'"
        f" AND table_schema NOT IN {SYSTEM} ORDER BY 1, 2 LIMIT 10",
    )


def list_outside_tablespaces(connection: Connection[Cursor], data_dir: Path) -> list[str]:
    """Files of tables and general tablespaces outside the data directory. Some files inside also have an absolute path."""
    rows = query(
        connection,
        "SELECT DISTINCT file_name FROM information_schema.files WHERE file_type = 'TABLESPACE'"
        " AND (file_name LIKE '/%' OR file_name LIKE '../%') AND tablespace_name NOT IN ('innodb_system', 'innodb_temporary')"
        " ORDER BY 1",
    )
    inside = data_dir.resolve()
    return [str(path) for (path,) in rows if not (data_dir / path).resolve().is_relative_to(inside)][:_NAMED]


# --- notices


def _warn(item: str, message: str, remedy: str = "") -> Notice:
    return Notice(item=item, effect="warn", message=message, remedy=remedy)


def _version(version: str) -> Iterator[Notice]:
    here = extract_series(extract_number(version))
    if is_innovation(here):
        yield _warn(
            "innovation release",
            f"MySQL {here} is an innovation release: this backup can only be restored by MySQL {here}",
            f"Keep MySQL {here} installed as long as the backup is needed.",
        )


def _tablespaces(connection: Connection[Cursor], server: Server) -> Iterator[Notice]:
    if XTRABACKUP in server.version.programs:
        return
    found = list_outside_tablespaces(connection, server.data_dir)
    if found:
        yield Notice(
            item="DATA DIRECTORY, CREATE TABLESPACE, innodb_directories",
            effect="refuse",
            message=f"tablespaces are outside the data directory: {', '.join(found)}",
            remedy="Move them into it (ALTER TABLE … TABLESPACE = innodb_file_per_table); a restore cannot restore them there.",
        )


def _engines(connection: Connection[Cursor], server: Server) -> Iterator[Notice]:
    if XTRABACKUP in server.version.programs:
        return
    others = list_foreign_tables(connection)
    if others:
        names = [(f"{quote_name(schema)}.{quote_name(table)}", engine) for schema, table, engine in others]
        yield Notice(
            item="engines other than InnoDB",
            effect="refuse",
            message=f"backups contain only tables of InnoDB; there are others: {', '.join(f'{n} ({e})' for n, e in names)}",
            remedy="; ".join(f"ALTER TABLE {name} ENGINE = InnoDB" for name, _ in names) + ".",
        )


def _outside(outside: dict[str, str]) -> Iterator[Notice]:
    """A restore in place moves these files together with the data; a new instance has everything in one directory."""
    if outside:
        places = ", ".join(f"{name} = {path}" for name, path in outside.items())
        yield _warn("directories outside the data directory", f"a new instance has everything in its data directory ({places})")


def _replication(replica: bool, group: bool) -> Iterator[Notice]:
    if replica:
        yield _warn("replication", "the server is a replica: in a copy with a new name replication does not start")
    if group:
        yield Notice(
            item="group_replication_start_on_boot",
            effect="refuse_in_place",
            message="the server is a member of a replication group and would rejoin it with older data",
            remedy="SET PERSIST group_replication_start_on_boot = OFF, then restore; or restore to a new instance.",
        )


def _events(connection: Connection[Cursor], scheduler: str | None) -> Iterator[Notice]:
    ((count,),) = query(connection, "SELECT COUNT(*) FROM information_schema.events WHERE status = 'ENABLED'")
    if count:
        yield _warn("events", f"the server has enabled events ({count}): they do not run in a copy with a new name")
    elif scheduler == "ON" and not _may_see_events(connection):
        yield _warn(
            "events",
            "whether the server has events is unknown, for the account has no right EVENT; none runs in a copy",
        )


def _may_see_events(connection: Connection[Cursor]) -> bool:
    grants = [str(grant).upper() for (grant,) in query(connection, "SHOW GRANTS")]
    return any(" ON *.* TO " in grant and re.search(r"\bEVENT\b|\bALL PRIVILEGES\b", grant) for grant in grants)


def _prepared(connection: Connection[Cursor]) -> Iterator[Notice]:
    try:
        count = len(query(connection, "XA RECOVER CONVERT XID"))
    except pymysql.MySQLError as error:
        if split_error(error)[0] not in _NO_RIGHT:
            raise
        # without XA_RECOVER_ADMIN: transactions that have lost their session
        ((count,),) = query(connection, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = 0")
    if count:
        yield _warn(
            "prepared transactions",
            f"prepared XA transactions are in the backup and hold their locks in restored data: {count}",
            "See XA RECOVER on the restored server, then XA COMMIT or XA ROLLBACK each.",
        )


def _accounts(connection: Connection[Cursor], server: Server) -> Iterator[Notice]:
    rows = query(connection, "SELECT user, host, plugin FROM mysql.user WHERE plugin <> '' ORDER BY 1, 2")
    for plugin in sorted({str(plugin) for _, _, plugin in rows} - _BUILT_IN):
        names = [f"{user}@{host}" for user, host, used in rows if used == plugin]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        yield _warn(
            "accounts by plugin",
            f"accounts log in by the plugin {plugin}: {', '.join(names[:_MOST])}{more}",
            f"A new instance needs the library of {plugin} in its installation.",
        )
    if server.is_adopted and any((user, host) == ("strongroom", "localhost") for user, host, _ in rows):
        yield _warn(
            "strongroom@localhost", "account strongroom@localhost gets another password, and all rights, in a new instance"
        )


def _uses_host_names(connection: Connection[Cursor]) -> bool:
    rows = query(connection, "SELECT DISTINCT host FROM mysql.user")
    return any(_HOST_NAME.fullmatch(str(host)) for (host,) in rows)


def _absent(found: dict[str, str], empty: list[str], server: Server) -> Iterator[str]:
    if empty:
        more = " …" if len(empty) > _MOST else ""
        yield f"The rows of MEMORY tables are not in the backup: {', '.join(empty[:_MOST])}{more}."
    if found.get("log_bin") == "ON" and XTRABACKUP not in server.version.programs:
        yield "Changes made with sql_log_bin = 0 are not in incremental backups."
    if "TABLE" in found.get("log_output", "").upper() and XTRABACKUP not in server.version.programs:
        yield "The rows of mysql.general_log and mysql.slow_log are not in the backup."


def _not_carried(connection: Connection[Cursor], server: Server) -> list[str]:
    """Settings of an owner that are not carried to a new instance."""
    if not server.is_adopted:
        return []
    rows = query(
        connection,
        "SELECT variable_name FROM performance_schema.variables_info WHERE variable_source NOT IN ('COMPILED', 'DYNAMIC')",
    )
    return sorted(str(name) for (name,) in rows if is_reported(str(name)))


# --- nets


def _elsewhere(value: str | None, data_dir: Path) -> Path | None:
    if not value:
        return None
    path = (data_dir / value).resolve()
    return None if path.is_relative_to(data_dir.resolve()) else path


def _nets_of(connection: Connection[Cursor], server: Server) -> Iterator[Notice]:
    """Notices about what no setting names: open files outside the data directory, links and unexpected entries in it."""
    pid = find_server_pid(connection)
    known = {str(row[0]) for row in query(connection, "SELECT file_name FROM information_schema.files")}
    for file in (nets.find_open_files([pid], server.data_dir) or []) if pid else []:
        temporary = file.path.name.startswith("#sql")  # of CREATE TEMPORARY TABLE … ENGINE = MyISAM, in tmpdir
        if file.writes and not temporary and file.path.suffix in (".ibd", ".MYD", ".MYI", ".CSV") and str(file.path) not in known:
            yield Notice(
                item="open files",
                effect="refuse" if XTRABACKUP not in server.version.programs else "warn",
                message=f"the server has a table open outside its data directory: {file.path}",
                remedy="Move it into the data directory.",
            )
    try:
        oddities = nets.walk(server.data_dir, skip=("#innodb_temp", "*.sock", "*.sock.lock")).oddities
    except OSError:
        return
    for kind in ("link", "mount point", "special file", "unreadable"):
        paths = [
            f"{odd.path} → {odd.target}" if odd.target else odd.path for odd in oddities if odd.kind == kind and odd.path != "."
        ]
        if paths:
            yield _warn(
                "links and mount points",
                f"entries of the data directory that are restored as plain files, or not at all ({kind}): "
                + ", ".join(paths[:_MOST]),
            )
