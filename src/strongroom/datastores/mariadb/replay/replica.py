"""The private server of MariaDB that applies the log."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Profile
from strongroom.datastores.innodb.connection import connect, query, split_error
from strongroom.datastores.innodb.replay.memory import choose_pool_mb
from strongroom.datastores.innodb.replay.replica import SERVER_ID, Replica, Words
from strongroom.datastores.mariadb.binlog.gtids import GtidList
from strongroom.datastores.mariadb.replay.rewrite import DOMAIN
from strongroom.datastores.mariadb.replay.state import write_state
from strongroom.datastores.mariadb.restore import private
from strongroom.datastores.mariadb.restore.prepare import read_keys
from strongroom.datastores.mariadb.server import plugins
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ServerFailed, StrongroomError

_ACCOUNT = "strongroom_restore"
_END = 2.0
"""Seconds until a server that has lost the connection has ended."""
_PATIENCE = 86400.0
_YEAR = 31536000
_RESET = "RESET SLAVE ALL"


class MariaDBReplica(Replica):
    """See ``Replica``. Its settings are those of ``profile``; ``server`` has the keys of encrypted data."""

    words = Words(
        change="CHANGE MASTER TO MASTER_HOST = '127.9.9.9', MASTER_USER = 'nobody', MASTER_USE_GTID = no, RELAY_LOG_FILE = ",
        start="START SLAVE SQL_THREAD",
        stop="STOP SLAVE SQL_THREAD",
        reset=_RESET,
        status="SHOW SLAVE STATUS",
        running="Slave_SQL_Running",
        state="Slave_SQL_Running_State",
    )

    def __init__(
        self, version: Version, data_dir: Path, work_dir: Path, folder: Path, profile: Profile, server: Server | None
    ) -> None:
        super().__init__(folder)
        self._version, self._data_dir, self._work_dir, self._profile, self._owner = version, data_dir, work_dir, profile, server
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._server: Server | None = None
        self._tool: Tool | None = None
        self._sessions = ExitStack()
        self._session: Connection[Cursor] | None = None
        self._positions = GtidList()
        self._known = GtidList()

    def start(self) -> None:
        """See ``Replica``."""
        self._place = tempfile.TemporaryDirectory(prefix="strongroom-")
        keys: dict[str, str] = {}
        if self._profile.facts.get("encryption"):
            keys = read_keys(self._owner)
        options: private.Options = {
            "innodb_buffer_pool_size": f"{choose_pool_mb()}M",
            "innodb_buffer_pool_dump_at_shutdown": 0,
            "innodb_flush_log_at_trx_commit": 2,  # so that a kill loses nothing; everything is synced at the end
            "loose_innodb_log_file_buffering": "ON",
            "innodb_doublewrite": 0,
            "event_scheduler": "OFF",
            "server_id": SERVER_ID,
            "replicate_same_server_id": 1,
            "log_slave_updates": 0,
            "relay_log": self._folder / "relay",
            "relay_log_index": self._folder / "relay.index",
            "relay_log_info_file": self._folder / "relay.info",
            "master_info_file": self._folder / "master.info",
            "relay_log_purge": 0,
            "relay_log_recovery": 0,
            "max_relay_log_size": "1G",
            "sync_relay_log": 0,
            "sync_relay_log_info": 0,
            "sync_master_info": 0,
            "slave_parallel_threads": 0,
            "slave_sql_verify_checksum": 1,
            "innodb_strict_mode": 0,  # a session of the source may have switched it off, which its log does not say
            "gtid_strict_mode": 0,
            "max_allowed_packet": "1G",
            "slave_max_allowed_packet": "1G",
            "loose-max_allowed_packet": "1G",
            **keys,
        }
        self._server = private.configure(
            self._version,
            self._data_dir,
            Path(self._place.name),
            self._work_dir,
            self._profile,
            options,
            purpose="replay",
            account=_ACCOUNT,
            libraries=[plugins.KNOWN["file_key_management"].library] if keys else [],
        )
        self._tool = private.start(self._server, self._work_dir / "replay.log")
        try:
            private.wait(self._server, self._tool)
        except ServerFailed as error:
            raise self._explain(error) from error

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """See ``Replica``."""
        return self._ask(statement, *values)[1]

    def describe(self, statement: str) -> dict[str, Any]:
        """See ``Replica``."""
        names, rows = self._ask(statement)
        return dict(zip(names, rows[0], strict=True)) if rows else {}

    def _ask(self, statement: str, *values: object) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            with self._connect().cursor() as cursor:
                cursor.execute(statement, values or None)
                return [str(each[0]) for each in cursor.description or ()], list(cursor.fetchall())
        except ServerFailed as error:
            raise self._explain(error) from error
        except pymysql.MySQLError as error:
            if not self.is_running:
                raise self._explain(ServerFailed(str(error))) from error
            raise ServerFailed(
                f"the private server that applies the log refuses {statement!r}: {split_error(error)[1]}",
                remedy=f"See its log, {self._tool.log if self._tool else ''}.",
            ) from error

    def _connect(self) -> Connection[Cursor]:
        """One session for all statements: the log may replace the accounts, and then no other one can log in."""
        if self._session is None:
            assert self._server is not None
            self._session = self._sessions.enter_context(connect(self._server, patience=_PATIENCE))
            query(self._session, f"SET SESSION wait_timeout = {_YEAR}")
        return self._session

    def _explain(self, error: ServerFailed) -> StrongroomError:
        assert self._tool is not None
        return error if self._tool.running and not self._tool.ends(_END) else private.explain_end(self._tool)

    @property
    def pid(self) -> int:
        """See ``Replica``."""
        assert self._tool is not None
        return self._tool.pid

    @property
    def is_running(self) -> bool:
        """See ``Replica``."""
        return self._tool is not None and not self._tool.ends(_END)

    def prepare(self, *, again: bool) -> None:
        """See ``Replica``."""
        if again:
            return
        ((text,),) = self.query("SELECT @@GLOBAL.gtid_slave_pos")
        self._positions = GtidList.parse(str(text))
        self.query("SET GLOBAL gtid_slave_pos = ''")

    def count_applied(self) -> int:
        """See ``Replica``."""
        ((text,),) = self.query("SELECT @@GLOBAL.gtid_slave_pos")
        return next((gtid.sequence for gtid in GtidList.parse(str(text)) if gtid.domain == DOMAIN), 0)

    def has_exact_position(self) -> bool:
        """See ``Replica``."""
        rows = self.query(
            "SELECT engine FROM information_schema.tables WHERE table_schema = 'mysql' AND table_name LIKE 'gtid\\_slave\\_pos%%'"
        )
        return bool(rows) and all(str(engine) == "InnoDB" for (engine,) in rows)

    def keep_state(self, gtids: str, known: Sequence[str]) -> str:
        """Set gtid_slave_pos. The GTIDs after it, which the source used, are not used again: see ``state``."""
        state = self._positions.position | GtidList.parse(gtids).position
        text = str(GtidList(gtid for gtid in state.position if gtid.domain != DOMAIN))
        self.query("SET GLOBAL gtid_slave_pos = %s", text)
        self._known = GtidList(gtid for each in (*known, gtids) for gtid in GtidList.parse(each))
        return text

    def end(self) -> None:
        """See ``Replica``."""
        assert self._tool is not None
        self.query(f"DROP USER IF EXISTS `{_ACCOUNT}`@`localhost`")
        self._tool.terminate()
        self._tool.check()
        (self._data_dir / "multi-master.info").unlink(missing_ok=True)
        write_state(self._owner, self._data_dir, self._known)

    def abort(self) -> None:
        """See ``Replica``."""
        self._sessions.close()
        if self._tool is not None:
            self._tool.abort(grace=0)
        if self._place is not None:
            self._place.cleanup()
