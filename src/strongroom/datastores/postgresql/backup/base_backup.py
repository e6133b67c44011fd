"""Backs up a server with tablespaces over the replication protocol, because pg_basebackup can write only one archive to a pipe.

The server sends one archive per tablespace and one for the data directory. They are merged into a single archive, which contains
the files of a tablespace below ``pg_tblspc/<oid>``.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg.pq import ExecStatus

from strongroom.artifact import Member, Positions
from strongroom.datastores.postgresql.backup.session import BaseBackup
from strongroom.datastores.postgresql.files.manifest import CRC32C, MANIFEST
from strongroom.datastores.postgresql.files.tablespaces import FOLDER, Tablespace
from strongroom.datastores.postgresql.server.account import acting_as_owner, find_account
from strongroom.datastores.postgresql.server.config import get_host, get_port
from strongroom.datastores.postgresql.server.connection import describe_server
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.feed import Fed, write_all
from strongroom.datastores.toolkit.stall import get_stall_timeout
from strongroom.datastores.toolkit.tar import BLOCK, make_header
from strongroom.errors import ToolFailed

_OPTIONS = f"LABEL 'strongroom', CHECKPOINT 'fast', WAL, MANIFEST 'yes', MANIFEST_CHECKSUMS '{CRC32C}', VERIFY_CHECKSUMS false"
_PIECE = 1 << 20
_NEW_ARCHIVE, _MANIFEST, _DATA = b"n", b"m", b"d"
_Result = psycopg.pq.abc.PGresult


class Session(BaseBackup, Fed):
    """A running base backup."""

    def __init__(
        self,
        server: Server,
        request: BackupRequest,
        *,
        version: str,
        pages: bool,
        parent: Path | None,
        spaces: Sequence[Tablespace],
    ) -> None:
        """``pages``: the server has page checksums. ``parent``: the parent's list of files, for an incremental."""
        Fed.__init__(self)
        BaseBackup.__init__(self, server, request, version=version, spaces=spaces)
        self._paths = {space.oid: space.path for space in spaces}
        self._made: set[str] = set()
        self._connection = _connect(server)
        self._wire = self._connection.pgconn
        self._wire.nonblocking = 0  # a call returns when its data is sent
        try:
            if parent is not None:
                self._upload(parent.read_bytes())
            command = f"BASE_BACKUP ({_OPTIONS}{', INCREMENTAL' if parent else ''})"
            self._wire.send_query(command.encode())
            start, _ = self._next(ExecStatus.TUPLES_OK), self._next(ExecStatus.TUPLES_OK)
            self._next(ExecStatus.COPY_OUT)
            self._positions = Positions(wal_start=_value(start, 0), timeline=int(_value(start, 1)))
            if pages:
                self._inspect(self._positions.wal_start)
        except BaseException:
            self._connection.close()
            raise
        self._start()

    # --- the protocol

    def _next(self, wanted: ExecStatus) -> _Result:
        """The next result. Raises ToolFailed with the server's message if its status is not ``wanted``."""
        while self._wire.is_busy():
            self._wait()
        result = self._wire.get_result()
        if result is None or result.status != wanted:
            said = result.error_message.decode(errors="replace").strip() if result is not None else "nothing"
            raise ToolFailed(f"{describe_server(self._server)} broke off the base backup: {said}")
        return result

    def _wait(self) -> None:
        """Wait for the next bytes. Raises ToolFailed if none arrive within the stall timeout."""
        ready = select.poll()
        ready.register(self._wire.socket, select.POLLIN)
        if not ready.poll(get_stall_timeout() * 1000):
            raise ToolFailed(
                f"{describe_server(self._server)} made no progress in the base backup for {get_stall_timeout():.0f} s",
                remedy="See the error log of the server. A longer `stall_timeout` in [agent] gives it more time.",
            )
        self._wire.consume_input()

    def _upload(self, manifest: bytes) -> None:
        self._wire.send_query(b"UPLOAD_MANIFEST")
        self._next(ExecStatus.COPY_IN)
        for place in range(0, len(manifest), _PIECE):
            self._wire.put_copy_data(manifest[place : place + _PIECE])
        self._wire.put_copy_end()
        self._next(ExecStatus.COMMAND_OK)
        while self._wire.get_result() is not None:
            pass

    def _messages(self) -> Iterator[tuple[bytes, memoryview]]:
        """Kind and content of each message of the stream."""
        while True:
            size, data = self._wire.get_copy_data(1)
            if size < 0:
                return
            if not size:
                self._wait()
                continue
            view = memoryview(data)
            yield bytes(view[:1]), view[1:]

    def _produce(self, out: int) -> None:
        archive: _Archive | None = None
        manifest: list[bytes] | None = None
        for kind, data in self._messages():
            if kind == _NEW_ARCHIVE:
                if archive is not None:
                    archive.require_end()
                archive = _Archive(self._folder(bytes(data).partition(b"\0")[0].decode(errors="replace")), self._made)
                for head in archive.begin():
                    write_all(out, head)
            elif kind == _MANIFEST:
                manifest = []
            elif kind == _DATA and manifest is not None:
                manifest.append(bytes(data))
            elif kind == _DATA and archive is not None:
                for piece in archive.feed(data):
                    write_all(out, piece)
        if archive is None or manifest is None:
            raise ToolFailed(f"{describe_server(self._server)} did not send a complete base backup")
        archive.require_end()
        end = self._next(ExecStatus.TUPLES_OK)
        self._positions = self._positions.model_copy(update={"wal_stop": _value(end, 0)})
        self._next(ExecStatus.COMMAND_OK)
        content = b"".join(manifest)
        for piece in (make_header(MANIFEST, len(content)), content, bytes(-len(content) % BLOCK), bytes(2 * BLOCK)):
            write_all(out, piece)

    def _folder(self, name: str) -> str:
        """The directory in the stream for the files of an archive. Raises ToolFailed."""
        if name == "base.tar":
            return ""
        oid = name.removesuffix(".tar")
        if oid not in self._paths:
            raise ToolFailed(f"{describe_server(self._server)} sent tablespace {name!r}, which it did not have before")
        return self._paths[oid]

    # --- the end

    def _complete(self) -> Positions:
        """Raises ToolFailed unless the server reported success; ServerFailed if the server died."""
        try:
            self._join()
        except (ToolFailed, psycopg.Error) as error:
            raise self._find_cause(error) from error
        return self._positions

    def abort(self) -> None:
        """End the backup, close the pipe and release the WAL."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._wire.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)  # the thread may be waiting for the server
        super().abort()
        if self._feeder is None or self._feeder.ends(0):
            self._connection.close()
        self.held.close()


class _Archive:
    """Merges one archive of the server into the stream: each header gets its path in the stream, and links are omitted.

    ``made`` are the directories that are already in the stream.
    """

    def __init__(self, folder: str, made: set[str]) -> None:
        self._folder, self._made = folder, made
        self._head = b""
        self._left = 0
        """Remaining bytes of the member, including the padding of its last block."""
        self._ended = False

    def begin(self) -> Iterator[bytes]:
        """Headers of its parent directories, which the archive itself does not contain."""
        if self._folder:
            for path in (FOLDER, self._folder):
                if path not in self._made:
                    self._made.add(path)
                    yield make_header(path, 0, directory=True)

    def feed(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Convert the next bytes for the stream. Raises ToolFailed, ArtifactCorrupt."""
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield piece
                continue
            need = BLOCK - len(self._head)
            self._head, data = self._head + bytes(data[:need]), data[need:]
            if len(self._head) == BLOCK:
                head, self._head = self._head, b""
                yield from self._member(head)

    def _member(self, head: bytes) -> Iterator[bytes]:
        if not any(head):
            self._ended = True
            return
        if self._ended:
            raise ToolFailed("an archive of the base backup has data after its end")
        member = Member.parse(head)
        path = f"{self._folder}/{member.path}".strip("/")
        if member.kind == "link" or (member.kind == "directory" and path in self._made):
            return
        self._left = member.size + -member.size % BLOCK
        if member.kind == "directory":
            self._made.add(path)
        if not self._folder:
            yield head
        else:
            modified = int(head[136:147].rstrip(b"\0 ") or b"0", 8)
            yield make_header(
                path, member.size, directory=member.kind == "directory", mode=member.mode & 0o777, modified=modified
            )

    def require_end(self) -> None:
        """Raises ToolFailed if the archive is truncated."""
        if not self._ended or self._left or self._head:
            raise ToolFailed("an archive of the base backup is truncated")


def _value(result: _Result, column: int) -> str:
    value = result.get_value(0, column) if result.ntuples else None
    if value is None:
        raise ToolFailed("the server did not say where the base backup begins and ends")
    return value.decode()


def _connect(server: Server) -> psycopg.Connection[tuple[object, ...]]:
    us = find_account(server)
    with acting_as_owner(server):
        return psycopg.connect(
            host=get_host(server),
            port=get_port(server),
            user=us.user,
            password=us.password,
            replication="true",
            connect_timeout=10,
            application_name="strongroom",
            autocommit=True,
        )
