"""Proves that the redo log at the end of a backup is the log of the server.

InnoDB writes the last block of its log again and again while the block fills up. mariadb-backup may read it before its end is
marked. If what is left of older log behind the end can be parsed, the tool copies it as new log (MDEV-39468). The backup
succeeds, but its prepare fails, or applies changes that were never made. Seen with 10.11.18, with rows of equal length.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import connect, describe_server, query, read_variables
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import LogPastEnd

LOG_FILE = "ib_logfile0"
_HEADER = 12288
"""Bytes before the log in the file, since 10.8. The log is a ring in the rest of the file."""
_MAGIC = (b"Phys", b"\xd0hys")
"""The first bytes of the file since 10.8, unencrypted and encrypted."""
_COMPARED = 8192
"""Bytes at the end of the log that are compared: at least the last block, which has up to 4096 bytes."""
_LOOKS = 5
_PAUSE = 0.2
"""Seconds between two reads. The server bypasses the page cache, so a read may return older data."""


def require_own_log(server: Server, end: bytes | bytearray, checkpoint: int, last_lsn: int) -> None:
    """Raises LogPastEnd unless the server has the log that the backup ends with. ``end`` is the end of the copied log file,
    which has the log since ``checkpoint``, or since before it.

    Log that the server has overwritten since is not compared, nor the log of servers before 10.8, whose blocks have checksums.
    Raises ServerFailed when the server does not answer.
    """
    length = min(len(end), _COMPARED, last_lsn - checkpoint)
    wanted = bytes(end[len(end) - length :])
    with connect(server, timeout=10, patience=60) as connection:
        lsn = _position(connection, "current")
        if lsn < last_lsn:
            raise _past_end(server, f"the log of the backup ends at LSN {last_lsn}, and the server is at {lsn}")
        if _position(connection, "flushed") < last_lsn:
            query(connection, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
        ((data_dir, log_dir),) = query(connection, "SELECT @@datadir, @@innodb_log_group_home_dir")
        path = Path(data_dir) / (log_dir or ".") / LOG_FILE
        for look in range(_LOOKS):
            time.sleep(_PAUSE if look else 0)
            if _position(connection, "flushed") < last_lsn:
                return  # not written yet: there is nothing to compare with
            found = _read(path, last_lsn - length, length, _position(connection, "current"))
            if found is None or _is_same(wanted, found):
                return
    raise _past_end(server, f"the log of the backup up to LSN {last_lsn} is not the log of the server")


def _position(connection: Connection[Cursor], which: str) -> int:
    name = f"innodb_lsn_{which}"
    return int(read_variables(connection, "STATUS", name)[name])


def _past_end(server: Server, what: str) -> LogPastEnd:
    return LogPastEnd(
        f"mariadb-backup copied more redo log than {describe_server(server)} had written (MDEV-39468): {what}",
        remedy="Take the backup again: the error depends on timing. Later releases of mariadb-backup do not have it.",
    )


def _read(path: Path, begins: int, length: int, lsn: int) -> bytes | None:
    """Log of the server from ``begins``; none if it was overwritten, or if the file has another format."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        header = os.pread(fd, 512, 0)
        capacity = os.fstat(fd).st_size - _HEADER
        first = int.from_bytes(header[8:16], "big")
        if header[:4] not in _MAGIC or begins < first or lsn - begins > capacity // 2:
            return None
        at = (begins - first) % capacity
        found = os.pread(fd, min(length, capacity - at), _HEADER + at)
        return found + os.pread(fd, length - len(found), _HEADER) if len(found) < length else found
    finally:
        os.close(fd)


def _is_same(copied: bytes, written: bytes) -> bool:
    """The tool sets the mark at the end of each mini-transaction to 1; in the server it changes with each round of the file."""
    return len(copied) == len(written) and all(c == w or (c, w) == (1, 0) for c, w in zip(copied, written, strict=True))
