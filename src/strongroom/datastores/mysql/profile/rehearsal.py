"""Reads every table of prepared data on a private server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.innodb.connection import quote_name
from strongroom.datastores.mysql.profile.read import SYSTEM
from strongroom.datastores.mysql.restore.private import PrivateServer
from strongroom.datastores.protocol.profiles import Rehearsal
from strongroom.datastores.protocol.servers import Version
from strongroom.errors import ArtifactCorrupt, ServerFailed, ToolFailed, ToolStopped

_REMEDY = "Take a full backup; look at the server's error log and its disks."
_NAMED = 10


def rehearse(version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
    """See ``Profiles.rehearse``."""
    known = profile or Profile()
    with PrivateServer(version, data_dir, work_dir, settings=known.settings, plugins=known.plugins, gtid=True) as server:
        _end_prepared(server)
        rows = server.query(
            "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema NOT IN ('information_schema', 'performance_schema') ORDER BY 1, 2"
        )
        engines: dict[str, int] = {}
        wrong: list[str] = []
        for schema, table, engine in rows:
            name = f"{quote_name(schema)}.{quote_name(table)}"
            if text := _read(server, name):
                wrong.append(f"{name}: {text}")
            if f"'{schema}'" not in SYSTEM and schema != "strongroom":
                engines[str(engine)] = engines.get(str(engine), 0) + 1
    if wrong:
        more = f" (and {len(wrong) - _NAMED} more)" if len(wrong) > _NAMED else ""
        raise ArtifactCorrupt(f"restored tables cannot be read: {'; '.join(wrong[:_NAMED])}{more}", remedy=_REMEDY)
    return Rehearsal(tables=len(rows), warnings=_compare(known.tables, engines))


def _end_prepared(server: PrivateServer) -> None:
    """Roll prepared transactions back, so that no check waits for their locks. The data cannot be used afterwards anyway."""
    for number, length, _, data in server.query("XA RECOVER CONVERT XID"):
        xid = str(data).removeprefix("0x")
        server.query(f"XA ROLLBACK X'{xid[: 2 * length]}', X'{xid[2 * length :]}', {number}")


def _read(server: PrivateServer, name: str) -> str:
    """Why a table cannot be read completely; empty if it can."""
    try:
        _, _, kind, text = server.query(f"CHECK TABLE {name} EXTENDED")[-1]
        if kind == "note":  # its engine does not support the check
            server.query(f"SELECT COUNT(*) FROM {name}")  # noqa: S608 - names are quoted
            return ""
    except ToolStopped:
        raise
    except (ServerFailed, ToolFailed) as error:
        raise ArtifactCorrupt(f"restored table {name} cannot be read: {error.message}", remedy=_REMEDY) from error
    return "" if kind == "status" and text in ("OK", "Table is already up to date") else str(text)


def _compare(wanted: Mapping[str, int] | None, found: Mapping[str, int]) -> list[str]:
    """Compare the number of tables by engine. Raises ArtifactCorrupt if some are missing."""
    if wanted is None:
        return []
    missing = {engine: count - found.get(engine, 0) for engine, count in wanted.items() if found.get(engine, 0) < count}
    if missing:
        named = ", ".join(f"{count} of {engine}" for engine, count in missing.items())
        raise ArtifactCorrupt(f"tables are missing in the restored data: {named}", remedy=_REMEDY)
    return [
        f"The restored data has {found[engine]} tables of {engine}, the server had {wanted.get(engine, 0)}."
        for engine in found
        if found[engine] > wanted.get(engine, 0)
    ]
