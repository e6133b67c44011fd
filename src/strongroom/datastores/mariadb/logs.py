"""The log archive of MariaDB: implements ``protocol.logs.Logs``."""

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
from strongroom.datastores.mariadb.binlog.dialect import MariaDBDialect
from strongroom.datastores.mariadb.binlog.identity import find_identity
from strongroom.datastores.mariadb.galera.lineage import ensure_lineage
from strongroom.datastores.mariadb.replay.replica import MariaDBReplica
from strongroom.datastores.mariadb.replay.rewrite import MariaDBRewriter
from strongroom.datastores.protocol.logs import Cut, LogRequest, Replay, Replayed, Start
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import ArtifactCorrupt, Unsupported


def open_archiver(server: Server, request: LogRequest) -> LogReceiver:
    """See ``Logs.open_archiver``."""
    return LogReceiver(
        server,
        request,
        MariaDBDialect(),
        find_identity=lambda _, lineage: find_identity(lineage),
        find_lineage=lambda: ensure_lineage(server.data_dir),
    )


def release(server: Server) -> None:
    """See ``Logs.release``. The server keeps nothing for an archive."""


def create_point(server: Server, name: str) -> str:
    """See ``Logs.create_point``."""
    raise Unsupported(
        "MariaDB has no restore points",
        remedy="Note the time, or the position of the log: `SELECT @@gtid_current_pos`; both can be restored.",
    )


def precedes(first: str, second: str) -> bool:
    """See ``Logs.precedes``."""
    return Position.parse(first).precedes(Position.parse(second))


def find_start(backup: Positions, log: Sequence[Contents]) -> Start | None:
    """See ``Logs.find_start``. How much later the data is, if at all, is known when it is prepared."""
    return start.find_start(backup.model_copy(update={"binlog_upper": None}), log)


def find_cut(target: Target, stretch: Stretch) -> Cut:
    """See ``Logs.find_cut``."""
    return cut.find_cut(target, stretch, MariaDBDialect())


def replay(version: Version, data_dir: Path, work_dir: Path, replay: Replay, server: Server | None = None) -> Replayed:
    """See ``Logs.replay``. ``server`` has the keys of encrypted data. The data may be a little later than its backup says."""
    found = replay.restored
    if found.binlog_file and found.binlog_position is not None:
        exact = Position(found.binlog_file, found.binlog_position)
        if not exact.precedes(Position.parse(replay.start.position)):
            if replay.stretch.pieces[-1].series == replay.start.series and not exact.precedes(Position.parse(replay.end)):
                raise ArtifactCorrupt(
                    f"the data of the backup is at {exact}, after the target at {replay.end}",
                    remedy="Restore from an older backup.",
                )
            replay = dataclasses.replace(replay, start=Start(replay.start.series, str(exact)))
    return apply.replay(
        replay,
        data_dir,
        work_dir,
        MariaDBRewriter(),
        lambda folder: MariaDBReplica(version, data_dir, work_dir, folder, replay.profile, server),
    )
