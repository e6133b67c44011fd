"""Reads every table of prepared data in a private server, as a restore would serve it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Profile
from strongroom.datastores.innodb.connection import GONE, connect, query, quote_name, split_error
from strongroom.datastores.mariadb.profile.tables import Tables, list_tables, read_tables
from strongroom.datastores.mariadb.restore.private import private_server
from strongroom.datastores.mariadb.server import plugins
from strongroom.datastores.protocol.profiles import Rehearsal
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.names import name_some
from strongroom.errors import ArtifactCorrupt, ConfigurationError

_PATIENCE = 86400.0
"""Seconds that the check of one table may take."""
_REMEDY = "Restore another backup, and check the server of this backup for damage: CHECK TABLE."
_CHECKED = ("InnoDB", "MyISAM", "Aria", "CSV", "ARCHIVE", "MRG_MyISAM")


def rehearse(version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
    """See ``Profiles.rehearse``."""
    profile = profile or Profile()
    with private_server(version, data_dir, work_dir, profile) as server, connect(server, patience=_PATIENCE) as connection:
        _end_prepared(connection)
        warnings = list(_compare_engines(connection, profile, version))
        number, bad = 0, []
        for schema, name, engine in list_tables(connection):
            if engine and engine.upper() not in plugins.REACHING_OUT:
                number += 1
                if reason := _read(connection, schema, name, engine):
                    bad.append(f"{schema}.{name} ({reason})")
        if bad:
            raise ArtifactCorrupt(f"{len(bad)} tables of the restored data cannot be read: {name_some(bad)}", remedy=_REMEDY)
    return Rehearsal(number, warnings)


def _end_prepared(connection: Connection[Cursor]) -> None:
    """Roll prepared transactions back, so that no check waits for their locks. The data cannot be used afterwards anyway."""
    for _, _, _, xid in query(connection, "XA RECOVER FORMAT='SQL'"):
        query(connection, f"XA ROLLBACK {xid}")  # the server has quoted it


def _compare_engines(connection: Connection[Cursor], profile: Profile, version: Version) -> Iterator[str]:
    tables = read_tables(connection)
    lacking = [name for name in profile.plugins if _is_engine(name) and not plugins.is_installed(version, name)]
    if tables.broken and lacking:
        raise ConfigurationError(
            f"plugins that tables need are not installed on this host: {', '.join(lacking)}: {name_some(tables.broken)}",
            remedy="Install them, or verify on another host. These tables were not checked.",
        )
    if len(tables.broken) > _count_unloaded(profile, tables):
        raise ArtifactCorrupt(f"tables of the restored data cannot be opened: {name_some(tables.broken)}", remedy=_REMEDY)
    if tables.broken:
        yield f"Tables of engines that reach other servers were not opened: {name_some(tables.broken)}."
    if profile.tables is None:
        yield "The number of tables changed during the backup, so it was not compared."
        return
    differing = {
        engine: (profile.tables[engine], tables.engines[engine])
        for engine in profile.tables
        if profile.tables[engine] > tables.engines[engine] and engine.upper() not in plugins.REACHING_OUT
    }
    if differing:
        text = ", ".join(
            f"{there} of engine {engine} instead of {wanted}" for engine, (wanted, there) in sorted(differing.items())
        )
        raise ArtifactCorrupt(f"the restored data does not have the tables that its server had: {text}", remedy=_REMEDY)


def _count_unloaded(profile: Profile, tables: Tables) -> int:
    """The most tables whose engine is missing because it reaches other servers: a private server does not load such plugins."""
    if profile.tables is None:
        return len(tables.broken) if any(notice.item == "engines that reach other servers" for notice in profile.notices) else 0
    return sum(
        max(0, count - tables.engines[engine])
        for engine, count in profile.tables.items()
        if engine.upper() in plugins.REACHING_OUT
    )


def _is_engine(name: str) -> bool:
    return name in plugins.KNOWN and plugins.KNOWN[name].kind == "engine"


def _read(connection: Connection[Cursor], schema: str, name: str, engine: str) -> str | None:
    """Why the table cannot be read completely; none if it can."""
    table = f"{quote_name(schema)}.{quote_name(name)}"
    try:
        if engine in _CHECKED:
            rows = query(connection, f"CHECK TABLE {table}")
            errors = [str(text) for _, _, kind, text in rows if str(kind).lower() == "error"]
            if not errors and str(rows[-1][3]) == "OK":
                return None
            if errors and not all("upgrade" in text.lower() for text in errors):
                return errors[0]
        query(connection, f"SELECT COUNT(*) FROM (SELECT * FROM {table}) AS everything")  # noqa: S608 - quoted
    except pymysql.MySQLError as error:
        code, text = split_error(error)
        if code in GONE:
            raise  # the error is the server's, not the table's
        return text
    return None
