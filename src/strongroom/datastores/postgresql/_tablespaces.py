"""Tablespaces: data outside of the data directory. A server with some is refused before its backup starts; none is left out."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores._process import Tool
from strongroom.datastores._servers import Server
from strongroom.datastores.postgresql import _lsn
from strongroom.datastores.postgresql._connection import Connection, query, where
from strongroom.errors import LineageChanged, Unsupported


def refuse(connection: Connection, server: Server) -> None:
    """Raises Unsupported, naming them."""
    rows = query(connection, "SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE oid >= 16384 ORDER BY 1")
    if rows:
        named = ", ".join(f"{name} in {location}" for name, location in rows)
        raise Unsupported(
            f"{where(server)} has tablespaces ({named}); backups of them are not supported",
            remedy="Move what they hold to pg_default (ALTER DATABASE or TABLE … SET TABLESPACE), and drop them.",
        )


def refuse_in_wal(server: Server, timeline: int, start: int, stop: int, work_dir: Path) -> None:
    """Raises LineageChanged when one was made or dropped since: the replay would work in its old place, whosever that is by now.

    Looks with ``pg_waldump``, where it is installed. Raises ToolFailed.
    """
    program = server.version.programs["server"].with_name("pg_waldump")
    if not program.is_file():
        return
    found = work_dir / "tablespaces"
    options = ["--rmgr=Tablespace", "--limit=1", f"--path={server.data_dir / 'pg_wal'}", f"--timeline={timeline}"]
    with found.open("wb") as file:
        argv: list[str | Path] = [program, *options, f"--start={_lsn.text(start)}", f"--end={_lsn.text(stop)}"]
        tool = Tool(argv, work_dir / "tablespaces.log", stdout=file.fileno())
        try:
            tool.check()
        finally:
            tool.abort()
    if found.stat().st_size:
        raise LineageChanged(
            f"a tablespace was made or dropped on {where(server)} since the parent backup",
            remedy="Take a full backup; incrementals can go on from that.",
        )
