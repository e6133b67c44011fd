"""The file from which MariaDB numbers its transactions, for a server that continues an older one."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.mariadb.binlog.gtids import Gtid, GtidList
from strongroom.datastores.mariadb.restore.prepare import read_owner_options
from strongroom.datastores.protocol.servers import Server
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

MARGIN = 1_000_000
"""Numbers that are left out, because the source may have written more than the archive knows."""
_OWN = "binlog"


def write_state(server: Server | None, data_dir: Path, known: GtidList) -> None:
    """Let the server begin after every GTID that is known, so that no GTID names two transactions.

    Nothing is written if the binary log of an adopted server is elsewhere: there the server finds its own state.
    """
    name = _find_log(server) if server is not None else None
    if name is None or not known:
        return
    highest: dict[int, Gtid] = {}
    for gtid in known:
        if gtid.domain not in highest or gtid.sequence > highest[gtid.domain].sequence:
            highest[gtid.domain] = gtid
    later = [Gtid(each.domain, each.server, each.sequence + MARGIN) for each in highest.values()]
    text = "".join(f"{gtid}\n" for gtid in known | GtidList(later))
    write_file(data_dir / f"{name}.state", text, find_owner(data_dir))


def _find_log(server: Server) -> str | None:
    """Name of its binary log, if that is in its data directory."""
    if not server.is_adopted:
        return _OWN
    path = Path(read_owner_options(server).get("log_bin", ""))
    return path.stem if path.name and server.data_dir / path == server.data_dir / path.name else None
