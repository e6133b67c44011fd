"""The private server of MySQL that applies the log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strongroom.artifact import Profile
from strongroom.datastores.innodb.replay.replica import SERVER_ID, Replica, Words
from strongroom.datastores.innodb.versions import make_sort_key
from strongroom.datastores.mysql.binlog.gtids import GtidSet
from strongroom.datastores.mysql.replay.rewrite import PRIVATE, MySQLRewriter
from strongroom.datastores.mysql.restore.private import PrivateServer
from strongroom.datastores.protocol.servers import Version

_NEW_WORDS = (8, 0, 23)
_NEW_RESET = (8, 2)
_RESTS = ("Waiting for an event from Coordinator", "Replica has read all", "Slave has read all")


def _choose_words(version: Version) -> Words:
    new = make_sort_key(version.number) >= _NEW_WORDS
    kind, source = ("REPLICA", "SOURCE") if new else ("SLAVE", "MASTER")
    change = "CHANGE REPLICATION SOURCE TO" if new else "CHANGE MASTER TO"
    return Words(
        change=f"{change} {source}_HOST = '127.9.9.9', {source}_USER = 'nobody', {source}_AUTO_POSITION = 0, RELAY_LOG_FILE = ",
        start=f"START {kind} SQL_THREAD",
        stop=f"STOP {kind} SQL_THREAD",
        reset=f"RESET {kind} ALL",
        status=f"SHOW {kind} STATUS",
        running=f"{kind.title()}_SQL_Running",
        state=f"{kind.title()}_SQL_Running_State",
    )


class MySQLReplica(Replica):
    """See ``Replica``."""

    def __init__(
        self, version: Version, data_dir: Path, work_dir: Path, folder: Path, profile: Profile, rewriter: MySQLRewriter
    ) -> None:
        super().__init__(folder)
        self.words = _choose_words(version)
        number = make_sort_key(version.number)
        self._reset = "RESET BINARY LOGS AND GTIDS" if number >= _NEW_RESET else "RESET MASTER"
        self._rewriter = rewriter
        old = "replica" if number >= _NEW_WORDS else "slave"
        options: dict[str, str | int | Path | None] = {
            "server_id": SERVER_ID,
            "replicate_same_server_id": "ON",
            "relay_log": folder / "relay",
            "relay_log_index": folder / "relay.index",
            "relay_log_purge": "OFF",
            "relay_log_recovery": "OFF",
            "max_relay_log_size": "1G",
            "sync_relay_log": 0,
            f"{old}_parallel_workers": 0,  # new versions take 1
            f"{old}_max_allowed_packet": "1G",
            f"{old}_sql_verify_checksum": "ON",
            f"{old}_pending_jobs_size_max": "1G",
            "innodb_flush_log_at_trx_commit": 2,  # so that a kill loses nothing
        }
        self._private = PrivateServer(
            version, data_dir, work_dir, settings=profile.settings, plugins=profile.plugins, gtid=True, options=options
        )
        self._executed = GtidSet()

    def start(self) -> None:
        """See ``Replica``."""
        self._private.start()

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """See ``Replica``."""
        return self._private.query(statement, *map(str, values))

    def describe(self, statement: str) -> dict[str, Any]:
        """See ``Replica``."""
        return self._private.describe(statement)

    @property
    def pid(self) -> int:
        """See ``Replica``."""
        return self._private.pid

    @property
    def is_running(self) -> bool:
        """See ``Replica``."""
        return self._private.is_running

    def prepare(self, *, again: bool) -> None:
        """See ``Replica``. A source without GTIDs, or before its first one, leaves none in the data."""
        if again:
            self.query(self.words.reset)
            return
        ((text,),) = self.query("SELECT @@GLOBAL.gtid_executed")
        self._executed = GtidSet.parse(str(text))
        self._rewriter.know(self._executed)
        self.query(self._reset)

    def count_applied(self) -> int:
        """See ``Replica``."""
        ((text,),) = self.query("SELECT @@GLOBAL.gtid_executed")
        parts = GtidSet.parse(str(text)).intervals.get((str(PRIVATE), ""), ())
        return parts[0][1] - 1 if parts and parts[0][0] == 1 else 0

    def is_idle(self, status: dict[str, Any]) -> bool:
        """See ``Replica``. New versions have at least one worker, which applies what the applier has read."""
        workers = [row for row in self.query("SHOW PROCESSLIST") if row[1] == "system user" and row[6]]
        return super().is_idle(status) and all(str(row[6]).startswith(_RESTS) for row in workers)

    def has_exact_position(self) -> bool:
        """See ``Replica``. GTIDs are committed with the changes."""
        return True

    def keep_state(self, gtids: str, known: Sequence[str]) -> str:
        """Set gtid_purged, and with it gtid_executed, to the GTIDs of the source that the data has.

        The server will have another UUID, so that it repeats none.
        """
        text = str(self._executed | GtidSet.parse(gtids))
        self.query(self._reset)
        if text:
            self.query("SET GLOBAL gtid_purged = %s", text)
        return text

    def end(self) -> None:
        """See ``Replica``."""
        self._private.end()

    def abort(self) -> None:
        """See ``Replica``."""
        self._private.abort()
