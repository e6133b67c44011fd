"""Checks whether a server on restored data has what its profile says, and whether a copy is isolated."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.connection import connect, query, quote_name, read_variables, report_unread, split_error
from strongroom.datastores.mysql.backup.incremental import is_replica
from strongroom.datastores.mysql.profile.read import SYSTEM, count_tables, list_plugins
from strongroom.datastores.mysql.profile.settings import DEMANDED, filter_settings
from strongroom.datastores.protocol.servers import Server

_NO_TABLE = 1146
_IN_USE = {1205, 1213, 1317, 1412, 1684, 3024}
"""A lock, a changed table, a killed statement: clients use the server already."""
_OF_CLIENT = range(2000, 3000)
_LOCK_WAIT = 5
"""Seconds to wait for a table that a client has locked."""
_NAMED = 10
_OF_COPIES = {"event_scheduler"}


def check_restored(server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
    """See ``Profiles.check``."""
    with connect(server, patience=300) as connection:
        found = read_variables(connection, "VARIABLES", "%")
        notices = [*_settings(server, profile, found, isolated=isolated)]
        try:
            notices += _tables(connection, profile, isolated=isolated)
            notices += _plugins(connection, profile)
        except pymysql.MySQLError as error:
            notices.append(report_unread(error))
        if isolated:
            notices += _at_rest(connection, found, profile)
        return notices


def _settings(server: Server, profile: Profile, found: dict[str, str], *, isolated: bool) -> Iterator[Notice]:
    wanted = filter_settings(profile.settings)
    other = sorted(
        name for name, value in wanted.items() if name in found and found[name] != value and not (isolated and name in _OF_COPIES)
    )
    demanded = [name for name in other if name in DEMANDED]
    if demanded:
        yield Notice(
            item=demanded[0],
            effect="refuse",
            message=f"the restored data demands {demanded[0]} = {wanted[demanded[0]]}, and the server has {found[demanded[0]]}",
            remedy="Set it in the option file of the server, then restore again.",
        )
    if told := [name for name in other if name not in DEMANDED]:
        yield Notice(
            item="settings",
            effect="warn",
            message="settings differ from those of the backup's server: "
            + ", ".join(f"{name} is {found[name]!r}, was {wanted[name]!r}" for name in told),
        )
    zone = profile.facts.get("system_time_zone")
    if wanted.get("time_zone") == "SYSTEM" and zone and zone != found.get("system_time_zone"):
        yield Notice(
            item="time_zone",
            effect="warn",
            message=f"the time zone of the backup's server was {zone}, and here it is {found.get('system_time_zone')}",
            remedy="SET PERSIST time_zone = '…' if programs rely on the time zone of the server.",
        )


def _plugins(connection: Connection[Cursor], profile: Profile) -> Iterator[Notice]:
    missing = sorted(set(profile.plugins) - set(list_plugins(connection)) - {"mysql_native_password"})
    active = {
        str(name)
        for (name,) in query(connection, "SELECT plugin_name FROM information_schema.plugins WHERE plugin_status = 'ACTIVE'")
    }
    if missing:
        yield Notice(
            item="plugins and components",
            effect="warn",
            message=f"plugins of the server that was backed up are missing here: {', '.join(missing)}",
            remedy="Install their packages, then INSTALL PLUGIN or INSTALL COMPONENT.",
        )
    shut = [
        f"{user}@{host} ({plugin})"
        for user, host, plugin in query(connection, "SELECT user, host, plugin FROM mysql.user WHERE plugin <> ''")
        if plugin not in active
    ]
    if shut:
        yield Notice(
            item="accounts by plugin",
            effect="warn",
            message=f"accounts cannot log in, for their plugin is missing here: {', '.join(shut[:_NAMED])}",
            remedy="Install it, or give them another password: ALTER USER … IDENTIFIED WITH caching_sha2_password BY '…'.",
        )


def _tables(connection: Connection[Cursor], profile: Profile, *, isolated: bool) -> Iterator[Notice]:
    """Open each table. Clients of a server that was restored in place may create and drop tables meanwhile."""
    rows = query(
        connection,
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"  # noqa: S608 - a constant
        f" AND table_schema NOT IN {SYSTEM} ORDER BY 1, 2",
    )
    query(connection, f"SET SESSION lock_wait_timeout = {_LOCK_WAIT}")
    wrong = []
    for schema, table in rows:
        name = f"{quote_name(schema)}.{quote_name(table)}"
        try:
            query(connection, f"SELECT 1 FROM {name} LIMIT 1")  # noqa: S608 - names are quoted
        except pymysql.MySQLError as error:
            code, text = split_error(error)
            if code == 0 or code in _OF_CLIENT:  # the connection broke: that says nothing about the table
                raise
            if code not in _IN_USE and (code != _NO_TABLE or isolated):
                wrong.append(f"{name}: {text}")
    if wrong:
        yield Notice(
            item="tables",
            effect="refuse",
            message=f"restored tables cannot be read: {'; '.join(wrong[:_NAMED])}",
            remedy="Restore another backup, and verify this one.",
        )
    found = count_tables(connection)
    missing = {e: n for e, n in (profile.tables or {}).items() if found.get(e, 0) < n}
    if missing:
        yield Notice(
            item="tables",
            # the only table of an engine may have been dropped by a client just now
            effect="refuse" if any(not found.get(engine) and count > 1 for engine, count in missing.items()) else "warn",
            message="tables are missing: "
            + ", ".join(f"{found.get(engine, 0)} of {count} tables of {engine}" for engine, count in missing.items()),
            remedy="Restore another backup, and verify this one.",
        )


def _at_rest(connection: Connection[Cursor], found: dict[str, str], profile: Profile) -> Iterator[Notice]:
    if found.get("event_scheduler") == "ON":
        yield Notice(item="events", effect="refuse", message="events run in a copy with a new name", remedy="Restore again.")
    ((events,),) = query(connection, "SELECT COUNT(*) FROM information_schema.events WHERE status = 'ENABLED'")
    if events:
        yield Notice(
            item="events",
            effect="warn",
            message=f"events do not run in this copy ({events} are enabled)",
            remedy="To run them: SET PERSIST event_scheduler = ON;",
        )
    if is_replica(connection):
        ((running,),) = query(
            connection,
            "SELECT (SELECT COUNT(*) FROM performance_schema.replication_connection_status WHERE service_state <> 'OFF')"
            " + (SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE service_state <> 'OFF')",
        )
        if running:
            yield Notice(
                item="replication", effect="refuse", message="a copy with a new name replicates", remedy="Restore again."
            )
        yield Notice(
            item="replication",
            effect="warn",
            message="replication does not run in this copy; it is set up as on the server that was backed up",
            remedy="To run it: START REPLICA; and SET PERSIST_ONLY skip_replica_start = OFF; To forget it: RESET REPLICA ALL;",
        )
    if "group_replication" in profile.plugins:
        yield Notice(
            item="group_replication_start_on_boot",
            effect="warn",
            message="this copy does not join a replication group",
            remedy="To have it join one: SET PERSIST group_replication_start_on_boot = ON; START GROUP_REPLICATION;",
        )
