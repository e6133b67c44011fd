"""Checks whether a backup fits a target, and whether the restored server has what its profile says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.connection import CLIENT_ERRORS, connect, query, quote_name, report_unread, split_error
from strongroom.datastores.mariadb.profile import layout
from strongroom.datastores.mariadb.profile.running import read_plugins, read_settings
from strongroom.datastores.mariadb.profile.tables import read_tables
from strongroom.datastores.mariadb.restore.prepare import read_owner_options
from strongroom.datastores.mariadb.server.plugins import KNOWN, REACHING_OUT, Kind, is_installed
from strongroom.datastores.mariadb.server.settings import SETTINGS, select_carried
from strongroom.datastores.protocol.profiles import RestoreTarget
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.names import name_some
from strongroom.errors import StrongroomError

_DEFAULTS = {
    "innodb_page_size": "16384",
    "innodb_data_file_path": "ibdata1:12M:autoextend",
    "lower_case_table_names": "0",
    "aria_block_size": "8192",
}
_NO_PLUGIN = {1286, 1524}
_DENIED = {1142, 1143, 1044, 1370}
_NO_TABLE = 1146
_IN_USE = {1205, 1213, 1317, 1412, 1684, 1969}
"""A lock, a changed table, a killed statement: clients use the server already."""
_LOCK_WAIT = 5
"""Seconds to wait for a table that a client has locked."""
_STOPS: Mapping[Kind, str] = {"provider": "page compression", "keys": "encryption"}


def compare(profile: Profile, target: RestoreTarget) -> list[Notice]:
    """See ``Profiles.compare``."""
    if target.in_place and target.server is not None and target.server.is_adopted:
        return list(_compare_adopted(profile, target.server))
    return list(_compare_plugins(profile, target))


def _compare_plugins(profile: Profile, target: RestoreTarget) -> Iterator[Notice]:
    """Plugins that a server which is not adopted would load, and that are not installed."""
    for name in profile.plugins:
        known = KNOWN.get(name)
        if known is None or not known.carried or is_installed(target.version, name):
            continue
        remedy = f"Install the package that holds {known.library}.so for MariaDB {target.version.series}."
        if known.kind == "provider":
            if profile.facts.get("page compression"):
                yield Notice(
                    item="page compression",
                    effect="refuse",
                    message=f"page-compressed tables need plugin {name}, which is not installed on this host",
                    remedy=remedy,
                )
        elif known.kind == "engine":
            if profile.tables is None or profile.tables.get(name):
                yield Notice(
                    item="engines from plugins",
                    effect="warn",
                    message=f"plugin {name} is not installed on this host: tables of this engine cannot be opened",
                    remedy=remedy,
                )
        else:
            yield Notice(
                item="password checks" if known.kind == "password check" else "accounts by plugin",
                effect="warn",
                message=f"plugin {name} is not installed on this host: what depends on it will not work",
                remedy=remedy,
            )


def _compare_adopted(profile: Profile, server: Server) -> Iterator[Notice]:
    """Compare with the configuration of an adopted server, which does not change."""
    settings, places, plugins = _configuration(server)
    for name, wanted in profile.settings.items():
        setting = SETTINGS.get(name)
        if setting is None or not setting.demanded:
            continue
        has = settings.get(name, _DEFAULTS[name])
        if _size(has) != _size(wanted):
            yield Notice(
                item="innodb_page_size, innodb_data_file_path" if name.startswith("innodb_") else name,
                effect="refuse_in_place",
                message=f"the backup needs {name} = {wanted}, but the server has {has}",
                remedy=f"Set {name} = {wanted} in the option file of the server, or restore to a new instance.",
            )
    outside = layout.find_outside(server.data_dir, places)
    for name, path in outside.items():
        if name in layout.LOGS.values():
            yield Notice(
                item="log_bin, relay_log outside",
                effect="warn",
                message=f"{name} of the server is in {path}: they become previous data, and a new series begins",
                remedy="Rebuild replicas and archives of the log.",
            )
    if plugins is not None:
        for name in profile.plugins:
            if name in plugins:
                continue
            kind = KNOWN[name].kind if name in KNOWN else "other"
            needed = (kind == "keys" and bool(profile.facts.get("encryption"))) or (
                kind == "provider" and bool(profile.facts.get("page compression"))
            )
            yield Notice(
                item=_STOPS.get(kind, "engines from plugins"),
                effect="refuse_in_place" if needed else "warn",
                message=f"plugin {name}, which the backup's server had, is not active in this server",
                remedy="Load it in the option file of the server (plugin_load_add).",
            )


def _size(value: str) -> str:
    """The number for a value with a suffix, as in option files; other values in lower case."""
    match = re.fullmatch(r"(\d+)([kmg])", value.lower())
    return str(int(match[1]) << {"k": 10, "m": 20, "g": 30}[match[2]]) if match else value.lower()


def _configuration(server: Server) -> tuple[dict[str, str], dict[str, str], set[str] | None]:
    """Settings, places and plugins of a server; those of its option file if it does not answer."""
    try:
        with connect(server, timeout=5, patience=30) as connection:
            settings, _ = read_settings(connection)
            return settings, layout.read_places(connection), set(read_plugins(connection))
    except (StrongroomError, pymysql.MySQLError):
        options = read_owner_options(server)
        settings = {name: value for name, value in options.items() if name in SETTINGS}
        places = {name: value for name, value in options.items() if name in layout.DIRECTORIES}
        for name, key in layout.LOGS.items():
            if options.get(key):
                places[name] = options[key]
        return settings, places, None


def check_restored(server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
    """See ``Profiles.check``."""
    notices: list[Notice] = []
    with connect(server) as connection:
        try:
            notices += _check_settings(connection, server, profile, isolated=isolated)
            notices += _check_tables(connection, profile)
            notices += _check_plugins(connection, server, profile)
            notices += _describe_isolation(connection, profile) if isolated else []
        except pymysql.MySQLError as error:
            notices.append(report_unread(error))
    return notices


def _check_settings(connection: Connection[Cursor], server: Server, profile: Profile, *, isolated: bool) -> Iterator[Notice]:
    actual, _ = read_settings(connection)
    options = select_carried(profile, isolated=isolated, galera=server.galera is not None)
    wanted = {
        name: profile.settings[name]
        for name, setting in SETTINGS.items()
        if (setting.option or name) in options or f"loose-{setting.option or name}" in options
    }
    differing = {name for name, value in wanted.items() if _plain(actual.get(name, value)) != _plain(value)}
    for name in sorted(differing):
        if SETTINGS[name].demanded:
            yield Notice(
                item="innodb_page_size, innodb_data_file_path" if name.startswith("innodb_") else name,
                effect="refuse",
                message=f"the restored server has {name} = {actual[name]}, but its data needs {wanted[name]}",
            )
    others = sorted(name for name in differing if not SETTINGS[name].demanded)
    if others:
        yield Notice(
            item="settings that change answers",
            effect="warn",
            message="settings differ from those of the backup's server: "
            + ", ".join(f"{name} is {actual[name]}, was {wanted[name]}" for name in others),
        )
    zone = profile.facts.get("time zone of the host")
    ((now, system),) = query(connection, "SELECT @@global.time_zone, @@system_time_zone")
    if zone and now == "SYSTEM" and system != zone:
        yield Notice(
            item="time zone of the host",
            effect="warn",
            message=f"the time zone of the host is {system}; that of the backup's server was {zone}",
            remedy="Set default_time_zone if programs rely on the time zone of the host.",
        )


def _plain(value: str) -> str:
    return {"on": "1", "off": "0", "true": "1", "false": "0"}.get(value.lower(), value.lower())


def _check_tables(connection: Connection[Cursor], profile: Profile) -> Iterator[Notice]:
    tables = read_tables(connection)
    missing = {
        engine: count - tables.engines[engine]
        for engine, count in (profile.tables or {}).items()
        if tables.engines[engine] < count and engine.upper() not in REACHING_OUT
    }
    loadable = {name for name in missing if name in KNOWN}
    for engine in sorted(missing.keys() - loadable):
        yield Notice(
            item="tables",
            # they may have been dropped during the backup, or just now
            effect="warn" if tables.engines[engine] or missing[engine] == 1 else "refuse",
            message=f"{missing[engine]} tables of engine {engine} are missing in the restored server",
            remedy="Find out why, unless they were dropped during the backup or after the start.",
        )
    query(connection, f"SET SESSION lock_wait_timeout = {_LOCK_WAIT}")
    unreadable: dict[str, str] = {}
    for name in tables.broken:
        unreadable[name] = "its engine is not loaded"
    for schema, name in tables.special:
        if reason := _try_read(connection, schema, name):
            unreadable[f"{schema}.{name}"] = reason
    fatal = {name: reason for name, reason in unreadable.items() if name not in tables.broken}
    if fatal:
        yield Notice(
            item="tables",
            effect="refuse",
            message=f"restored tables cannot be read: {name_some(f'{name} ({reason})' for name, reason in fatal.items())}",
        )
    if tables.broken:
        yield Notice(
            item="engines from plugins",
            effect="warn",
            message=f"tables cannot be opened, because the plugin of their engine is not loaded: {name_some(tables.broken)}",
            remedy="Install the plugin on this host, and restart the server.",
        )


def _try_read(connection: Connection[Cursor], schema: str, name: str) -> str | None:
    """Why the table cannot be read; none if it can, if the account may not read it, or if clients have locked or dropped it."""
    try:
        query(connection, f"SELECT 1 FROM {quote_name(schema)}.{quote_name(name)} LIMIT 1")  # noqa: S608 - both are quoted
    except pymysql.MySQLError as error:
        code, text = split_error(error)
        if code == 0 or code in CLIENT_ERRORS:  # the connection broke: that says nothing about the table
            raise
        if code in _DENIED | _IN_USE or (code == _NO_TABLE and not _is_listed(connection, schema, name)):
            return None
        return text
    return None


def _is_listed(connection: Connection[Cursor], schema: str, name: str) -> bool:
    sql = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
    return bool(query(connection, sql, schema, name))


def _check_plugins(connection: Connection[Cursor], server: Server, profile: Profile) -> Iterator[Notice]:
    active = read_plugins(connection)
    for name in profile.plugins:
        known = KNOWN.get(name)
        if name in active or known is None or (not server.is_adopted and not known.carried):
            continue
        needed = known.kind == "provider" and bool(profile.facts.get("page compression"))
        yield Notice(
            item=_STOPS.get(known.kind, "engines from plugins"),
            effect="refuse" if needed else "warn",
            message=f"plugin {name} is not active in the restored server",
        )


def _describe_isolation(connection: Connection[Cursor], profile: Profile) -> Iterator[Notice]:
    """Notices about what is disabled in a copy, by its configuration."""
    if profile.settings.get("event_scheduler") == "ON":
        rows = query(connection, "SELECT event_schema, event_name FROM information_schema.events WHERE status = 'ENABLED'")
        if rows:
            yield Notice(
                item="events",
                effect="warn",
                message=f"the event scheduler is off in this copy: {name_some(f'{schema}.{name}' for schema, name in rows)}",
                remedy="Activate the copy to let events run.",
            )
    if profile.facts.get("replica of"):
        yield Notice(
            item="replication",
            effect="warn",
            message="the backup's server was a replica, and this copy is not",
            remedy="CHANGE MASTER … MASTER_USE_GTID=slave_pos makes it a replica, from the position of the backup.",
        )
