"""A private server for the time of a restore: without network, replication, events and binary log."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pymysql

from strongroom.datastores.innodb.connection import GONE, split_error
from strongroom.datastores.innodb.options import format_options
from strongroom.datastores.innodb.replay.memory import choose_pool_mb
from strongroom.datastores.innodb.versions import make_sort_key
from strongroom.datastores.mysql.profile.settings import make_options
from strongroom.datastores.mysql.server import keyring
from strongroom.datastores.mysql.server.config import redo_options
from strongroom.datastores.mysql.server.password import hash_password
from strongroom.datastores.mysql.server.plugins import CLONE_LIBRARY, authentication_libraries
from strongroom.datastores.mysql.server.versions import find_base_dir
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.socket import MAX_BYTES
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ServerFailed
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

_ACCOUNT = "strongroom_restore"
_START = 3600
"""Seconds for its recovery."""
_END = 2.0
"""Seconds until a server that has lost the connection has ended."""
_LOOK = 0.02
_YEAR = 31536000
_SMALL_REDO_MB = 64 * 4
"""Memory below which the redo log is small, because creating and writing it takes time."""
_PERMISSIVE = {
    "loose_innodb_strict_mode": "OFF",
    "loose_restrict_fk_on_non_standard_key": "OFF",
    "loose_sql_generate_invisible_primary_key": "OFF",
}
"""Sessions of the source may have used these values, which are not in the binary log. Statements that succeeded under stricter
rules have the same effect under these, and generated keys are in the logged statements."""


class PrivateServer:
    """Runs on ``target`` inside the context. Raises ServerFailed, ToolFailed, with the end of its log.

    It also creates the TLS keys that the server will use. Its end takes at least a second, for which one of its threads sleeps.
    """

    def __init__(
        self,
        version: Version,
        target: Path,
        work_dir: Path,
        *,
        settings: Mapping[str, str],
        plugins: Sequence[str] = (),
        gtid: bool,
        options: Mapping[str, str | int | Path | None] | None = None,
    ) -> None:
        self._password = secrets.token_hex(24)
        folder = work_dir
        self._short: Path | None = None
        if len(os.fsencode(work_dir / "private.sock")) > MAX_BYTES:
            folder = self._short = Path(tempfile.gettempdir()) / f"strongroom-{secrets.token_hex(8)}"
        self.socket = folder / "private.sock"
        self.version = version
        self.log = work_dir / "private.log"
        self._work_dir = work_dir
        self._keyring = keyring.Borrowed(version, work_dir / "plugins")
        owner = find_owner(work_dir)
        init = work_dir / "private.sql"
        write_file(init, _account_sql(self._password, version), owner)
        libraries = authentication_libraries(version, plugins)
        if not gtid:
            libraries.insert(0, CLONE_LIBRARY)  # it reports the position of the copy
        found: dict[str, str | int | Path | None] = {
            **make_options(settings),
            **_PERMISSIVE,
            "persisted_globals_load": "OFF",
            "basedir": find_base_dir(version),
            "datadir": target,
            "socket": self.socket,
            "pid-file": work_dir / "private.pid",
            "tmpdir": work_dir,
            "secure_file_priv": "NULL",
            "init-file": init,
            "skip-networking": None,
            "mysqlx": "OFF",
            "skip-replica-start" if make_sort_key(version.number) >= (8, 0, 26) else "skip-slave-start": None,
            "event_scheduler": "OFF",
            "loose_group_replication_start_on_boot": "OFF",
            "skip-log-bin": None,
            "gtid_mode": "ON" if gtid else "OFF",
            "enforce_gtid_consistency": "ON" if gtid else "OFF",
            "innodb_flush_log_at_trx_commit": 0,  # after an error everything is repeated; everything is synced at the end
            "innodb_flush_method": "nosync",
            "innodb_doublewrite": "OFF",
            **({"performance_schema": "OFF"} if gtid else {}),
            **({"plugin-load": ";".join(libraries)} if libraries else {}),
            "innodb_use_native_aio": "OFF",  # its threads notice the shutdown only twice a second
            "innodb_buffer_pool_size": f"{choose_pool_mb()}M",
            "innodb_buffer_pool_load_at_startup": "OFF",
            "innodb_buffer_pool_dump_at_shutdown": "OFF",
            "max_allowed_packet": "1G",
            **self._keyring.options,
            **redo_options(version, _SMALL_REDO_MB),
            **(options or {}),
        }
        config = work_dir / "private.cnf"
        write_file(config, format_options("mysqld", found), owner)
        self._argv: list[str | Path] = [version.programs["server"], f"--defaults-file={config}"]
        self._tool: Tool | None = None
        self._session: pymysql.Connection[Any] | None = None
        """One for all statements: a log may replace the accounts, and then no other one can log in."""

    def __enter__(self) -> PrivateServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.end()
        finally:
            self.abort()

    def start(self) -> None:
        """Start it, until it serves."""
        try:
            if self._short is not None:
                self._short.mkdir(mode=0o700)
            self._tool = Tool(self._argv, self.log, local_time=True)
            self._wait()
        except BaseException:
            self.abort()
            raise

    def end(self) -> None:
        """Shut it down cleanly. Nothing of it is left in the data. ``abort`` has to follow."""
        self._stop()
        self._keyring.require_same()

    @property
    def is_running(self) -> bool:
        """False if it has ended, or ends now."""
        return self._tool is not None and not self._tool.ends(_END)

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._tool is not None
        return self._tool.pid

    def query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """Rows of a statement. Raises ServerFailed."""
        return self._query(statement, *values)[1]

    def describe(self, statement: str) -> dict[str, Any]:
        """The first row of a statement by column; empty if there is none. Raises ServerFailed."""
        names, rows = self._query(statement)
        return dict(zip(names, rows[0], strict=True)) if rows else {}

    def _query(self, statement: str, *values: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            if self._session is None:
                self._session = self._connect()
            with self._session.cursor() as cursor:
                cursor.execute(statement, values or None)
                return [str(each[0]) for each in cursor.description or ()], list(cursor.fetchall())
        except pymysql.MySQLError as error:
            if self._tool is not None and (not self._tool.running or (split_error(error)[0] in GONE and self._tool.ends(_END))):
                self._tool.check()
            raise ServerFailed(f"the server on the restored data refuses {statement!r}: {error}") from error

    def client_options(self) -> Path:
        """An option file for the server's own client."""
        path = self._work_dir / "private-client.cnf"
        text = format_options("client", {"user": _ACCOUNT, "password": self._password, "socket": self.socket})
        write_file(path, text, find_owner(self._work_dir))
        return path

    def _connect(self) -> pymysql.Connection[Any]:
        return pymysql.connect(
            unix_socket=str(self.socket),
            user=_ACCOUNT,
            password=self._password,
            autocommit=True,
            charset="utf8mb4",
            init_command=f"SET SESSION wait_timeout = {_YEAR}",
        )

    def _wait(self) -> None:
        assert self._tool is not None
        deadline = time.monotonic() + _START
        while True:
            try:
                self._connect().close()
                return
            except pymysql.MySQLError as error:
                if not self._tool.running:
                    self._tool.check()
                    raise ServerFailed("the server on the restored data ended during its start") from error
                if time.monotonic() > deadline:
                    raise ServerFailed(f"the server on the restored data does not serve after {_START} s: {error}") from error
                time.sleep(_LOOK)

    def _stop(self) -> None:
        """Shut it down cleanly. Drop its account first, and with it the right to SHUTDOWN, which mandatory roles would need."""
        assert self._tool is not None
        self._query(f"DROP USER IF EXISTS `{_ACCOUNT}`@`localhost`")  # there is no binary log with it
        self._tool.terminate()
        self._tool.check()

    def abort(self) -> None:
        """Kill it. May be called at any time, and twice."""
        if self._session is not None:
            self._session._force_close()  # type: ignore[attr-defined]
            self._session = None
        if self._tool is not None:
            self._tool.abort(0)
        self._keyring.remove()
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)


def _account_sql(password: str, version: Version) -> str:
    plugin, stored = hash_password(password, make_sort_key(version.number))
    account = f"`{_ACCOUNT}`@`localhost`"
    return (
        f"DROP USER IF EXISTS {account};\n"
        f"CREATE USER {account} IDENTIFIED WITH {plugin} AS '{stored}';\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n"
    )
