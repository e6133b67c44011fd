"""The log archive of MySQL: implements ``protocol.logs.Logs``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from strongroom.archive import Contents, Stretch, Target
from strongroom.artifact import Positions
from strongroom.datastores.innodb.archive import cut, start
from strongroom.datastores.innodb.archive.receiver import LogReceiver
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.replay import apply
from strongroom.datastores.mysql.binlog.dialect import MySQLDialect
from strongroom.datastores.mysql.binlog.identity import find_identity
from strongroom.datastores.mysql.replay.replica import MySQLReplica
from strongroom.datastores.mysql.replay.rewrite import MySQLRewriter
from strongroom.datastores.protocol.logs import Cut, LogRequest, Replay, Replayed, Start
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.lineage import ensure_lineage
from strongroom.errors import Unsupported


def open_archiver(server: Server, request: LogRequest) -> LogReceiver:
    """See ``Logs.open_archiver``."""
    return LogReceiver(
        server,
        request,
        MySQLDialect(),
        find_identity=lambda connection, _: find_identity(connection),
        find_lineage=lambda: ensure_lineage(server.data_dir),
    )


def release(server: Server) -> None:
    """See ``Logs.release``. The server keeps nothing for an archive."""


def create_point(server: Server, name: str) -> str:
    """See ``Logs.create_point``."""
    raise Unsupported(
        "MySQL has no restore points",
        remedy="Note the time, or the position of the log: `SELECT @@gtid_executed`; both can be restored.",
    )


def precedes(first: str, second: str) -> bool:
    """See ``Logs.precedes``."""
    return Position.parse(first).precedes(Position.parse(second))


def find_start(backup: Positions, log: Sequence[Contents]) -> Start | None:
    """See ``Logs.find_start``."""
    return start.find_start(backup, log)


def find_cut(target: Target, stretch: Stretch) -> Cut:
    """See ``Logs.find_cut``."""
    return cut.find_cut(target, stretch, MySQLDialect())


def replay(version: Version, data_dir: Path, work_dir: Path, replay: Replay, server: Server | None = None) -> Replayed:
    """See ``Logs.replay``. Of a copy without GTIDs, the exact position is known only after it was restored."""
    rewriter = MySQLRewriter()
    found = replay.restored
    if found.gtid is None and found.binlog_file and found.binlog_position is not None:
        exact = str(Position(found.binlog_file, found.binlog_position))
        replay = dataclasses.replace(replay, start=Start(replay.start.series, exact))
    return apply.replay(
        replay,
        data_dir,
        work_dir,
        rewriter,
        lambda folder: MySQLReplica(version, data_dir, work_dir, folder, replay.profile, rewriter),
    )
