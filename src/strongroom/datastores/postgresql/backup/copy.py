"""Takes a full backup without a tool: files are read directly into segments, between pg_backup_start and pg_backup_stop.

The result is the same as that of pg_basebackup: files, ``backup_label``, the WAL, ``backup_manifest``. But the data does not pass
through the server, the tool and a pipe, which took a third of the time of a backup.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, LiteralString, Self

import psycopg

from strongroom.artifact import Positions
from strongroom.datastores.postgresql.backup import blocks
from strongroom.datastores.postgresql.backup.listing import Listing
from strongroom.datastores.postgresql.backup.session import BaseBackup
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.manifest import LABEL, MANIFEST, new_hash
from strongroom.datastores.postgresql.files.tablespaces import Tablespace
from strongroom.datastores.postgresql.files.tree import CONTROL, walk
from strongroom.datastores.postgresql.server.connection import Connection, describe_server, query
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.tar import BLOCK, make_header
from strongroom.errors import ServerFailed, ToolFailed

OLDEST = 15
_PIECE = 512 << 10
"""Bytes per read: small enough to be in the CPU's cache still when the checksum is computed."""
_LOOK = 1.0
"""Seconds between checks that the server is still in backup mode."""
_TRIES = 100


class _Reading:
    """A file that is being read into the stream. It has the size at opening: if it is truncated meanwhile, zeros fill it up."""

    def __init__(self, path: str, fd: int, size: int) -> None:
        self.path, self.size = path, size
        self.sum = new_hash()
        self._fd, self._left = fd, size

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes; 0 at the end of the file, which is then closed. Raises OSError."""
        most = min(len(view), self._left, _PIECE)
        if not most:
            self.close()
            return 0
        piece = view[:most]
        got = os.readv(self._fd, [piece])
        if not got:  # truncated meanwhile; the replay of the WAL truncates it, too
            piece[:] = bytes(most)
            got = most
        self.sum.update(piece[:got])
        self._left -= got
        return got

    def close(self) -> None:
        """Close the file, at its end or before."""
        fd, self._fd = self._fd, -1  # reset first: a cancellation may follow immediately after the close
        if fd >= 0:
            os.close(fd)


class Copy(BaseBackup):
    """A running backup, which is also its stream: call ``readinto`` until the end, then ``finish``."""

    def __init__(
        self,
        server: Server,
        request: BackupRequest,
        connection: Connection,
        start: str,
        *,
        version: str,
        pages: bool,
        system: int,
        spaces: Sequence[Tablespace],
    ) -> None:
        """``connection``: the session in which the backup was started, at ``start``. ``pages``: the server has page checksums.

        ``spaces``: the tablespaces before the backup.
        """
        super().__init__(server, request, version=version, spaces=spaces)
        if pages:
            self._inspect(start)
        self._connection, self._start, self._system = connection, start, system
        self._segment = 0
        self._positions: Positions | None = None
        self._listing = Listing(system if int(server.version.series) >= blocks.OLDEST else None)
        self._looked = time.monotonic()
        self._pieces = self._stream()
        self._bytes = memoryview(b"")
        self._file: _Reading | None = None

    # --- the stream

    @property
    def stdout(self) -> Self:
        """The session itself."""
        return self

    def readinto(self, view: memoryview) -> int:
        """See Source. Raises ServerFailed if the server died or a file cannot be read."""
        while True:
            if self._bytes:
                got = min(len(view), len(self._bytes))
                view[:got] = self._bytes[:got]
                self._bytes = self._bytes[got:]
                return got
            if self._file is not None:
                try:
                    if got := self._file.readinto(view):
                        return got
                except OSError as error:
                    raise _explain_unreadable(self._file.path, error) from error
                self._file = None
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            if isinstance(piece, _Reading):
                self._file = piece
            else:
                self._bytes = memoryview(piece)

    def _stream(self) -> Generator[bytes | _Reading, None, None]:
        """The members of the tar: header, content and padding of each."""
        for path, is_directory in walk(self._server.data_dir):
            if is_directory:
                yield make_header(path, 0, directory=True)
            else:
                yield from self._member(path)
            self._look()
        yield from self._small(CONTROL, self._control())
        label, positions = self._stop()
        yield from self._small(LABEL, label)
        yield from self._wal(positions)
        yield from self._small(MANIFEST, self._listing.text(positions), listed=False)
        yield bytes(2 * BLOCK)
        self._positions = positions

    def _member(self, path: str, size: int | None = None) -> Iterator[bytes | _Reading]:
        """A file as it is now; nothing if it was removed. With ``size`` (WAL), it must exist and have this size."""
        try:
            fd = os.open(self._server.data_dir / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if size is not None:
                raise _explain_unreadable(path, error) from error
            return
        except OSError as error:
            raise _explain_unreadable(path, error) from error
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or size not in (None, about.st_size):
            os.close(fd)
            if size is not None:
                raise ServerFailed(f"{path} of the server is not a complete WAL file", remedy="Back up again.")
            return
        modified = int(about.st_mtime)
        yield make_header(path, about.st_size, mode=about.st_mode & 0o777, modified=modified)
        file = _Reading(path, fd, about.st_size)
        yield file
        if size is None:
            self._listing.add(path, about.st_size, modified, file.sum)
        yield bytes(-about.st_size % BLOCK)

    def _small(self, path: str, content: bytes, *, listed: bool = True) -> Iterator[bytes]:
        modified = int(time.time())
        yield make_header(path, len(content), modified=modified)
        yield content
        if listed:
            digest = new_hash()
            digest.update(content)
            self._listing.add(path, len(content), modified, digest)
        yield bytes(-len(content) % BLOCK)

    def _control(self) -> bytes:
        """Read ``pg_control``, the last of the data. The server may be writing it, so two reads have to agree."""
        path = self._server.data_dir / CONTROL
        content = path.read_bytes()
        for _ in range(_TRIES):
            before, content = content, path.read_bytes()
            if before == content:
                return content
        raise ServerFailed(f"{CONTROL} of the server does not come to rest", remedy="Back up again.")

    def _wal(self, positions: Positions) -> Iterator[bytes | _Reading]:
        """The WAL that a server needs to start on these files. The ``.done`` files keep that server from archiving it again."""
        assert positions.wal_start and positions.wal_stop and positions.timeline
        size = self._segment
        start, stop = lsn.parse_lsn(positions.wal_start), lsn.parse_lsn(positions.wal_stop)
        names = dict.fromkeys(lsn.list_segments(positions.timeline, start, stop, size), size)
        directory = self._server.data_dir / "pg_wal"
        names |= {path.name: path.stat().st_size for path in sorted(directory.glob("????????.history"))}
        for name, expected in names.items():
            yield from self._member(f"pg_wal/{name}", expected)
        for name in names:
            yield from self._small(f"pg_wal/archive_status/{name}.done", b"")

    # --- the server

    def _stop(self) -> tuple[bytes, Positions]:
        """End the backup. The tablespace map is omitted: with it, a server on these files would use the source's directories."""
        ((stop, label, self._segment),) = self._ask(
            "SELECT lsn::text, labelfile, pg_size_bytes(current_setting('wal_segment_size'))::int FROM pg_backup_stop(false)"
        )
        timeline = _find_line(label, "START TIMELINE")
        positions = Positions(wal_start=self._start, wal_stop=stop, timeline=int(timeline), system_identifier=str(self._system))
        return label.encode(), positions

    def _look(self) -> None:
        """Abort the backup soon after its server died, not after all remaining files were read."""
        if time.monotonic() - self._looked > _LOOK:
            self._ask("SELECT 1")
            self._looked = time.monotonic()

    def _ask(self, sql: LiteralString) -> list[tuple[Any, ...]]:
        try:
            return query(self._connection, sql)
        except psycopg.Error as error:
            raise self._find_cause(error) from error

    # --- the end

    def _complete(self) -> Positions:
        """Raises ToolFailed unless the stream was read to its end."""
        if self._positions is None:
            raise ToolFailed("the backup ended before its end")
        return self._positions

    def abort(self) -> None:
        """Close the file, end the backup, and release the WAL."""
        self._pieces.close()
        if self._file is not None:
            self._file.close()
            self._file = None
        self.held.close()


def is_possible(connection: Connection, server: Server) -> bool:
    """Whether the user may start backups by SQL and the server is no standby. Otherwise pg_basebackup is used."""
    if int(server.version.series) < OLDEST:
        return False
    ((allowed,),) = query(
        connection,
        "SELECT NOT pg_is_in_recovery() AND has_function_privilege('pg_backup_start(text, boolean)', 'execute')"
        " AND has_function_privilege('pg_backup_stop(boolean)', 'execute')",
    )
    return bool(allowed)


def begin(
    server: Server,
    request: BackupRequest,
    connection: Connection,
    *,
    version: str,
    pages: bool,
    spaces: Sequence[Tablespace],
) -> Copy:
    """Start the backup with an immediate checkpoint. Raises ServerFailed."""
    query(connection, "SET statement_timeout = 0")  # a checkpoint may take long
    try:
        ((start, system),) = query(
            connection, "SELECT pg_backup_start('strongroom', true)::text, (SELECT system_identifier FROM pg_control_system())"
        )
    except psycopg.Error as error:
        raise ServerFailed(f"{describe_server(server)} does not begin a backup: {str(error).strip()}") from error
    return Copy(server, request, connection, start, version=version, pages=pages, system=system, spaces=spaces)


def _find_line(label: str, name: str) -> str:
    found = next((line for line in label.splitlines() if line.startswith(f"{name}: ")), "")
    return found.removeprefix(f"{name}: ")


def _explain_unreadable(path: str, error: OSError) -> ServerFailed:
    return ServerFailed(f"{path} of the server cannot be read: {error.strerror}", remedy="Look at the disk of the server.")
