"""Where a server of PostgreSQL keeps files outside its data directory: what links in the data directory lead to."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.datastores._placement import EntryPlacement, Place
from strongroom.datastores._servers import Server

WAL = "pg_wal"
_OF_WAL = [
    r"[0-9A-F]{24}(?:\.partial)?",
    r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup",
    r"[0-9A-F]{8}\.history",
    r"archive_status",
    r"summaries",
    r"xlogtemp\.\d+",
    r"RECOVERY(?:XLOG|HISTORY)",
]


class ServerPlacement(EntryPlacement):
    """See ``datastores.Placement``. The data directory itself tells: no server has to run."""

    def places(self, server: Server) -> list[Place]:
        """The directory of the WAL, when it is elsewhere."""
        link = server.data_dir / WAL
        if not link.is_symlink():
            return []
        return [Place(item=WAL, directory=Path(os.path.realpath(link)), entries=_OF_WAL, source=WAL, link=True)]
