"""Keys of encrypted tablespaces and of an encrypted redo log, during a copy.

The first page of an encrypted tablespace, and the header of an encrypted redo log, contain its key, encrypted by the master key
in the server's keyring. While the server copies files, it sends that page as stored on its disk. But it sends each such page
again among the changed pages, and the header with the redo log, and these contain the key **unencrypted**: a recipient would
encrypt it by its own master key. Such a key must never get into a stream. It is replaced by the server's own encrypted form, read
from its disk, or from the redo log if the server has not written the page since it created the tablespace.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

from strongroom.datastores.mysql.backup.clone import ENCRYPTED, FILES, PAGES, REDO, Block, File
from strongroom.datastores.toolkit.feed import write_all
from strongroom.errors import ServerFailed

REDO_FOLDER = "#innodb_redo"
_INFO = struct.Struct(">3sI36s64sI")
"""Magic, number of the master key, UUID of the server that made it, key and initial vector, CRC-32C of both unencrypted."""
_MAGIC = b"lCC"
_FIRST_PAGE = 64 << 10
"""Size of the largest page in bytes."""
_PATIENCE = 30
"""Seconds until the key is in its file: an idle server writes it soon."""
_LOOK = 0.1
_REDO_FILES = (f"{REDO_FOLDER}/#ib_redo*", "ib_logfile*")
_BLOCK, _BLOCK_HEAD, _BLOCK_TAIL = 512, 12, 4
"""Sizes of a redo log block, its head and its tail in bytes. Head and tail interrupt data that extends over several blocks."""
_UNKNOWN = "Report the version of the server; use XtraBackup meanwhile."


class Held:
    """A block that was read from the connection already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, length: int) -> bytes:
        """All bytes."""
        assert length == len(self._data)
        return self._data

    def pour(self, length: int, out: int) -> None:
        """Write all bytes into a pipe."""
        write_all(out, self.take(length))


@dataclass(frozen=True, slots=True)
class _Late:
    """A first page whose key is in the redo log only."""

    path: str
    block: Block
    data: bytes
    at: int


class Keys:
    """The keys of one copy. ``masters`` are the names of the master keys in the keyring that open them."""

    def __init__(self, data_dir: Path) -> None:
        self.masters: set[str] = set()
        self._data_dir = data_dir
        self._due: set[str] = set()
        """Files whose encrypted key has not been found yet."""
        self._late: dict[int, _Late] = {}
        """Encrypted keys by the checksum of the key."""
        self._found: dict[int, bytes] = {}
        self._rest = b""

    def concern(self, file: File, block: Block) -> bool:
        """Whether a key may be in the block, so that it has to go through ``hide``."""
        if block.state == FILES:
            return block.offset == 0 and bool(file.flags & ENCRYPTED)
        return block.offset == 0 or (block.state == REDO and bool(self._late))

    def hide(self, path: str, file: File, block: Block, data: bytes) -> bytes | None:
        """The block without an unencrypted key; none if ``late`` returns it.

        Raises ServerFailed if the server sends keys in an unknown form.
        """
        if block.offset:
            self._search(data)
            return data
        if block.state == FILES:
            self._due.add(path)
        else:
            self._due.discard(path)
        clear = [at for at in _infos(data) if _is_clear(data[at : at + _INFO.size])]
        due = bool(file.flags & ENCRYPTED) and block.state != FILES
        if len(clear) > 1 or (clear and block.state == FILES) or (due and not clear):
            raise ServerFailed(f"the server sends the key of {path} in an unknown form", remedy=_UNKNOWN)
        if not clear:
            return data
        checksum = _checksum(data, clear[0])
        before = self._late.pop(checksum, None)
        if before is not None and before.path != path:
            raise ServerFailed(f"the keys of {before.path} and {path} have the same checksum", remedy="TRUNCATE the newer table.")
        info = self._on_disk(path, block.state, clear[0], checksum)
        if info is None:
            self._late[checksum] = _Late(path, block, data, clear[0])
            return None
        return _with(data, clear[0], info, block.state)

    def late(self) -> Iterator[tuple[str, Block, bytes]]:
        """Pages that were delayed until the redo log arrived. Raises ServerFailed."""
        if self._due:
            raise ServerFailed(f"the server has not sent the key of {min(self._due)}", remedy=_UNKNOWN)
        for checksum, page in self._late.items():
            info = self._found.get(checksum) or self._on_disk(page.path, REDO, page.at, checksum)
            assert info is not None
            yield page.path, page.block, _with(page.data, page.at, info, PAGES)

    def _on_disk(self, path: str, state: int, at: int, checksum: int) -> bytes | None:
        """The same key in the encrypted form that the server stores; none if no page has ever had it.

        It is in one sector of the disk, so it is never read half-written.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            for file in self._files(path):
                found = _read(file, at)
                if found is not None and self._opens(found, checksum):
                    return found
                if state == PAGES and found is not None and not any(found):
                    return None
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"the key of {path} is not on the server's disk as it is in the copy",
                    remedy="Back up again in a few minutes, when the server has written its new pages.",
                )
            time.sleep(_LOOK)

    def _files(self, path: str) -> list[Path]:
        """The files of the redo log that may have the key; it moves with each checkpoint."""
        if not path.startswith(REDO_FOLDER):
            return [self._data_dir / path]
        return [file for pattern in _REDO_FILES for file in self._data_dir.glob(pattern)]

    def _opens(self, info: bytes, checksum: int) -> bool:
        """Whether it is a key with this checksum, encrypted by a master key of the keyring."""
        magic, number, uuid, _, found = _INFO.unpack(info)
        if magic != _MAGIC or not number or found != checksum or _is_clear(info):
            return False
        self.masters.add(f"INNODBKey-{uuid.decode(errors='replace')}-{number}")
        return True

    def _search(self, redo: bytes) -> None:
        """Search complete blocks of the redo log, which continue the last ones, for the keys of delayed pages."""
        blocks = range(0, len(redo), _BLOCK)
        data = self._rest + b"".join([redo[at + _BLOCK_HEAD : at + _BLOCK - _BLOCK_TAIL] for at in blocks])
        for at in _infos(data, len(data)):
            info = data[at : at + _INFO.size]
            checksum = _checksum(info, 0)
            if checksum in self._late and self._opens(info, checksum):
                self._found[checksum] = info
        self._rest = data[-_INFO.size :]


def _infos(data: bytes, end: int = _FIRST_PAGE) -> Iterator[int]:
    at = data.find(_MAGIC, 0, end)
    while at >= 0:
        if at + _INFO.size <= len(data):
            yield at
        at = data.find(_MAGIC, at + 1, end)


def _checksum(data: bytes, at: int) -> int:
    *_, checksum = _INFO.unpack_from(data, at)
    return int(checksum)


def _with(data: bytes, at: int, info: bytes, state: int) -> bytes:
    hidden = bytearray(data)
    hidden[at : at + _INFO.size] = info
    if state == PAGES:
        _sum(hidden)
    return bytes(hidden)


def _is_clear(info: bytes) -> bool:
    *_, key, checksum = _INFO.unpack(info)
    return bool(crc32c(key) == checksum)


def _read(file: Path, at: int) -> bytes | None:
    """The file; none if it does not exist, because a checkpoint removes files of the redo log."""
    try:
        with file.open("rb", buffering=0) as opened:
            opened.seek(at)
            return opened.read(_INFO.size).ljust(_INFO.size, b"\0")
    except FileNotFoundError:
        return None


def _sum(page: bytearray) -> None:
    """Update the checksum of a page. The checksum of a page of a compressed table covers other parts of it."""
    (flags,) = struct.unpack_from(">I", page, 54)
    if flags >> 1 & 15:
        struct.pack_into(">I", page, 0, crc32c(page[4:16]) ^ crc32c(page[24:26]) ^ crc32c(page[34:]))
        return
    checksum = crc32c(page[4:26]) ^ crc32c(page[38:-8])
    struct.pack_into(">I", page, 0, checksum)
    struct.pack_into(">I", page, len(page) - 8, checksum)
