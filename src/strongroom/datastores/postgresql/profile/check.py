"""Compares a restored server with its profile, and disables what an isolated copy must not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg
from psycopg.sql import SQL, Identifier

from strongroom.artifact import Notice, Profile
from strongroom.datastores.postgresql.profile import carry, read
from strongroom.datastores.postgresql.profile.notices import name_some
from strongroom.datastores.postgresql.restore import first_start
from strongroom.datastores.postgresql.server.connection import connect, describe_server, escape_name, query
from strongroom.datastores.protocol.profiles import RestoredProfile
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import StrongroomError


def check(server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
    """See ``Profiles``."""
    try:
        notices = list(_isolate(server)) if isolated else []
    except (psycopg.Error, StrongroomError) as error:
        return [
            Notice(
                item="subscriptions",
                effect="refuse",
                message=f"the subscriptions of {describe_server(server)} could not be disabled: {error}",
                remedy="See its error log, then restore again.",
            )
        ]
    try:
        found = read.read_profile(server)
    except StrongroomError as error:
        with connect(server, timeout=5, patience=10) as connection:  # raises if the server died, which fails the restore
            query(connection, "SELECT 1")
        message = f"{describe_server(server)} could not be compared with what it was when the backup was taken: {error.message}"
        return [*notices, Notice(item="databases", effect="warn", message=message)]
    notices += _find_missing(server, profile, found, isolated=isolated)
    with suppress(psycopg.Error, StrongroomError):  # a database that allows no connections, as at the source
        notices += _find_unreadable(server, profile)
    return notices


def _isolate(server: Server) -> Iterator[Notice]:
    """Disable subscriptions and detach them from their slots at the source: dropping an attached one would drop its slot."""
    with connect(server) as connection:
        rows = query(
            connection,
            "SELECT d.datname, s.subname, s.subslotname, s.subenabled FROM pg_subscription s"
            " JOIN pg_database d ON d.oid = s.subdbid WHERE s.subenabled OR s.subslotname IS NOT NULL ORDER BY 1, 2",
        )
    enabled = []
    for database, name, slot, was_enabled in rows:
        with connect(server, database) as connection:
            query(connection, SQL("ALTER SUBSCRIPTION {} DISABLE").format(Identifier(name)))
            query(connection, SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(Identifier(name)))
        if was_enabled:
            enabled.append(f"{escape_name(database)}.{escape_name(name)} (slot {escape_name(slot or name)})")
    if server.is_adopted:
        first_start.release_subscriptions(server.data_dir)
    if enabled:
        yield Notice(
            item="subscriptions",
            effect="warn",
            message=f"disabled in this copy: subscriptions {name_some(enabled)}; their slots belong to the source",
            remedy="To enable one: `strongroom instance activate`, make a slot at the publisher (or take that of the source "
            "when the source is gone), then ALTER SUBSCRIPTION … SET (slot_name = '…') and ALTER SUBSCRIPTION … ENABLE.",
        )


def _find_missing(server: Server, profile: Profile, found: Profile, *, isolated: bool) -> Iterator[Notice]:
    if not server.is_adopted:
        for name, most in carry.AT_LEAST.items():
            wanted, has = carry.read_number(profile, name, most), carry.read_number(found, name, most)
            if wanted is not None and has is not None and has < wanted:
                yield Notice(
                    item="max_connections, max_wal_senders, max_worker_processes",
                    effect="warn",
                    message=f"{name} is {has}, and was {wanted} at the source",
                )
        expected = carry.list_preloaded(RestoredProfile(profile=profile, isolated=isolated), server.version)
        if missing := [name for name in expected if name not in found.plugins]:
            yield Notice(
                item="shared_preload_libraries", effect="warn", message=f"libraries are not loaded: {name_some(missing)}"
            )
    if profile.tables is not None and found.tables is not None:
        fewer = [
            f"{found.tables.get(method, 0)} instead of {count} of {method}"
            for method, count in sorted(profile.tables.items())
            if found.tables.get(method, 0) < count
        ]
        if fewer:
            yield Notice(
                item="databases",
                effect="warn",
                message=f"there are fewer tables than when the backup was taken: {name_some(fewer)}",
                remedy="Look for the missing tables, unless they were dropped while the backup ran.",
            )


def _find_unreadable(server: Server, profile: Profile) -> Iterator[Notice]:
    """Tables with foreign access methods that cannot be read: one row of each is tried."""
    if not profile.facts.get("access_methods"):
        return
    broken = []
    with connect(server) as connection:
        databases = [
            name for (name,) in query(connection, "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2")
        ]
    for database in databases:
        with connect(server, database) as connection:
            rows = query(
                connection,
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'm') AND c.relam >= 16384",
            )
            for schema, table in rows:
                try:
                    query(connection, SQL("SELECT 1 FROM {} LIMIT 1").format(Identifier(schema, table)))
                except psycopg.Error as error:
                    broken.append(f"{escape_name(database)}: {escape_name(schema)}.{escape_name(table)} ({str(error).strip()})")
    if broken:
        yield Notice(
            item="extensions, access methods, libraries",
            effect="warn",
            message=f"tables cannot be read: {name_some(broken)}",
            remedy="Install the extensions that they need.",
        )
