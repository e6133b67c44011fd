"""Fetching binary logs from a server, each as a file."""

from __future__ import annotations

import shutil
from pathlib import Path

from strongroom.datastores.innodb import options
from strongroom.datastores.innodb.binlog.header import MAGIC
from strongroom.datastores.innodb.connection import find_account
from strongroom.datastores.innodb.paths import find_socket
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import StrongroomError, ToolFailed, WalGone
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

FULL = "Take a full backup; later incrementals are based on it."
_PLAIN = "--read-from-remote-server"
_BY_GTID = "--read-from-remote-source=BINLOG-DUMP-GTIDS"
_LONGEST = 100_000
"""Bytes of a set of GTIDs that fit into one argument of a program. If it is longer, logs are fetched completely: a replay skips
executed transactions automatically."""
_SPARE = 1 << 30
"""Bytes of logs that are kept between checking and sending them, so that they need not be fetched twice."""


class Logs:
    """Fetches logs of a server into ``work_dir``. The server leaves out the transactions in ``known``."""

    def __init__(self, server: Server, work_dir: Path, known: str | None) -> None:
        self._server, self._work_dir = server, work_dir
        self._folder = work_dir / "binlog"
        self._options = work_dir / "binlog.cnf"
        self._source = [_PLAIN]
        if known is not None and len(known) <= _LONGEST:
            self._source = [_BY_GTID, *([f"--exclude-gtids={known}"] if known else [])]
        self._spared = 0
        self._tool: Tool | None = None
        self._aborted = False
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_file(self._options, client_options(server), find_owner(work_dir))

    def fetch(self, name: str) -> Path:
        """Fetch the complete log. Raises WalGone, ToolFailed."""
        path = self._folder / name
        if path.exists() or self._aborted:
            return path
        program = self._server.version.programs["binlog"]
        argv: list[str | Path] = [
            program,
            f"--defaults-file={self._options}",
            *self._source,
            "--raw",
            f"--result-file={self._folder}/",
            name,
        ]
        self._tool = Tool(argv, self._work_dir / "backup.log")
        try:
            self._tool.check()
            with path.open("rb") as file:
                if file.read(4) != MAGIC:
                    raise ToolFailed(f"mysqlbinlog reported success, but {name} is not a binary log")
        except ToolFailed as error:
            path.unlink(missing_ok=True)
            raise _find_cause(error) from error
        except OSError as error:
            raise ToolFailed(f"mysqlbinlog reported success, but has not written {name}: {error.strerror}") from error
        return path

    def spare(self, path: Path) -> None:
        """Keep a log that was checked and will be sent, unless too much is kept already."""
        self._spared += path.stat().st_size
        if self._spared > _SPARE:
            path.unlink()

    def remove(self) -> None:
        """Remove everything that was fetched."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def abort(self) -> None:
        """End the tool, and start no other."""
        self._aborted = True
        if self._tool is not None:
            self._tool.abort()


def client_options(server: Server) -> str:
    """An option file for the server's own tools."""
    user, password = find_account(server)
    socket = find_socket(server)
    place: dict[str, str | int | Path | None] = (
        {"socket": socket} if socket else {"host": server.address or "127.0.0.1", "port": server.port or 3306}
    )
    return options.format_options("client", {"user": user, "password": password, **place})


def _find_cause(error: ToolFailed) -> StrongroomError:
    if "purged" in error.message or "Could not find first log" in error.message or "impossible position" in error.message:
        return WalGone(f"the server has purged logs that the parent backup lacks: {error.message}", remedy=FULL)
    return error
