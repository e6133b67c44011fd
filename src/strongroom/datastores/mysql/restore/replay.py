"""Replays the binary logs of incrementals on a private server: one session, every exit status checked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from strongroom.artifact import Positions
from strongroom.datastores.mysql.backup.fingerprint import MAX_BYTES, Fingerprint
from strongroom.datastores.mysql.backup.incremental import FINGERPRINT, FOLDER, LOG
from strongroom.datastores.mysql.restore.private import PrivateServer
from strongroom.datastores.protocol.restores import ChainLink
from strongroom.datastores.toolkit.tar import TarReader
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ArtifactCorrupt, StrongroomError, ToolFailed, ToolStopped

_REMEDY = "Restore the backup before it, and take a full."


class Logs:
    """Files of binary logs, in their order."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._folder = work_dir / "logs"
        self._files: list[Path] = []
        self.fingerprint: Fingerprint | None = None
        """The fingerprint of the last incremental, if it has one."""

    def add(self, number: int, link: ChainLink) -> None:
        """Unpack the logs of an incremental. Raises ArtifactCorrupt."""
        folder = self._folder / str(number)
        folder.mkdir(mode=0o700, parents=True)
        self.fingerprint = None
        tar = TarReader(link.chunks())
        for member in tar.members():
            if member.path == FINGERPRINT and member.kind == "file" and member.size <= MAX_BYTES:
                self.fingerprint = Fingerprint.parse(b"".join(tar.data()))
                continue
            name = member.path.removeprefix(f"{FOLDER}/")
            if member.kind != "file" or not LOG.fullmatch(name):
                raise ArtifactCorrupt(f"incremental {number} has {member.path!r}, which is not a binary log", remedy=_REMEDY)
            path = folder / name
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            except FileExistsError:
                raise ArtifactCorrupt(f"incremental {number} has {member.path!r} twice", remedy=_REMEDY) from None
            with os.fdopen(fd, "wb", buffering=0) as file:
                for piece in tar.data():
                    while piece:
                        piece = piece[file.write(piece) :]
            self._files.append(path)

    def replay(self, server: PrivateServer, begins: Positions) -> None:
        """Replay the logs completely. The server skips transactions that it has executed already, by their GTIDs.

        Without GTIDs ``begins`` says where it has to begin. Raises ToolFailed.
        """
        files, options = self._files, []
        if begins.gtid is None:
            files = self._after(begins)
            options = [f"--start-position={begins.binlog_position}"]
        if not files:
            return
        read, write = os.pipe()
        tools: list[Tool] = []
        try:
            try:
                programs, log = server.version.programs, self._work_dir / "replay.log"
                tools.append(
                    Tool(
                        [programs["binlog"], "--no-defaults", *options, *files],
                        self._work_dir / "binlog.log",
                        stdout=write,
                        servants=[server.pid],
                    )
                )
                client: list[str | Path] = [programs["client"], f"--defaults-file={server.client_options()}", *_CLIENT]
                tools.append(Tool(client, log, stdin=read, servants=[server.pid]))
            finally:
                os.close(read)
                os.close(write)
            tools[1].check()
            tools[0].check()
        except ToolFailed as error:
            raise _find_cause(tools, error) from error
        finally:
            for tool in tools:
                tool.abort(0)

    def _after(self, begins: Positions) -> list[Path]:
        names = [path.name for path in self._files]
        if begins.binlog_file not in names:
            raise ArtifactCorrupt(f"binary log {begins.binlog_file}, in which the full ends, is not in the chain", remedy=_REMEDY)
        return self._files[names.index(str(begins.binlog_file)) :]

    def remove(self) -> None:
        """Remove the logs."""
        shutil.rmtree(self._folder, ignore_errors=True)


_CLIENT = ("--binary-mode", "--batch", "--max-allowed-packet=1G", "--default-character-set=utf8mb4")


def _find_cause(tools: list[Tool], error: ToolFailed) -> StrongroomError:
    """The cause of an interrupted client is the error of the reader. A stopped program stays ToolStopped."""
    text, stopped = error.message, isinstance(error, ToolStopped)
    if len(tools) == 2 and not tools[0].running:
        try:
            tools[0].check()
        except ToolFailed as other:
            if "SIGPIPE" not in other.message:
                text = f"{other.message}; {text}" if other.message not in text else text
                stopped = stopped or isinstance(other, ToolStopped)
    kind = ToolStopped if stopped else ToolFailed
    return kind(f"the binary log cannot be replayed to its end: {text}", remedy=error.remedy if stopped else _REMEDY)
