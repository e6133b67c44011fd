"""``backup_manifest``: every file of a base backup with its size and checksum, and the WAL that it needs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol, Self

from crc32c import crc32c
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.tree import list_files
from strongroom.errors import ArtifactCorrupt

MANIFEST = "backup_manifest"
LABEL = "backup_label"
KEEP = frozenset({LABEL, MANIFEST})
"""Files of its own stream that a backup reads."""
CRC32C = "CRC32C"
"""Checksum algorithm for files in backups of Strongroom. The server does nothing else while it computes checksums, and SHA-256
would take three times as long as reading and sending a file. Each segment of a stored backup has its own SHA-256."""
MAX_BYTES = 256 << 20
_PIECE = 4 << 20
REMEDY = "The unpacked files differ from what the server sent; restore another backup."


class Hash(Protocol):
    """The part of hashlib's interface that is used here."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add the next bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes."""


class _Crc32c:
    """CRC-32C as the server writes it: the four bytes in little-endian order."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = crc32c(data, self._value)

    def hexdigest(self) -> str:
        return self._value.to_bytes(4, "little").hex()


def new_hash(algorithm: str = CRC32C) -> Hash:
    """A hash of the algorithm with this name in the manifest."""
    return _Crc32c() if algorithm == CRC32C else hashlib.new(algorithm)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Listed(_Part):
    """A file of which only the size is known: a backup may be taken without checksums."""

    path: str | None = Field(None, alias="Path")
    encoded_path: str | None = Field(None, alias="Encoded-Path", pattern=r"^([0-9a-fA-F]{2})*$")
    size: int = Field(alias="Size", ge=0)

    @property
    def name(self) -> str:
        """Its path. The manifest contains paths that are not UTF-8 in hexadecimal."""
        return self.path if self.path is not None else os.fsdecode(bytes.fromhex(self.encoded_path or ""))


class File(Listed):
    """A file with the size and checksum that the server sent."""

    algorithm: Literal["CRC32C", "SHA224", "SHA256", "SHA384", "SHA512"] = Field(alias="Checksum-Algorithm")
    checksum: str = Field(alias="Checksum")

    def hash(self) -> Hash:
        """A new hash, for comparison with ``checksum``."""
        return new_hash(self.algorithm)


class WalRange(_Part):
    """WAL of one timeline that is required to reach consistency."""

    timeline: int = Field(alias="Timeline", ge=1)
    start: str = Field(alias="Start-LSN", pattern=f"^{lsn.PATTERN}$")
    end: str = Field(alias="End-LSN", pattern=f"^{lsn.PATTERN}$")


class _Whole(_Part):
    """``parse`` checks its own checksum."""

    system: int | None = Field(None, alias="System-Identifier", description="17 and later.")
    wal: list[WalRange] = Field(alias="WAL-Ranges", min_length=1)
    checksum: str = Field(alias="Manifest-Checksum")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a manifest. Raises ArtifactCorrupt if it is invalid or incomplete."""
        try:
            manifest = cls.model_validate_json(data)
        except (ValidationError, RecursionError) as error:
            raise ArtifactCorrupt(f"{MANIFEST} of the stream cannot be read", remedy=REMEDY) from error
        body = data[: data.rfind(b'"Manifest-Checksum"')]
        if hashlib.sha256(body).hexdigest() != manifest.checksum:
            raise ArtifactCorrupt(f"{MANIFEST} of the stream has a wrong checksum", remedy=REMEDY)
        return manifest


class Manifest(_Whole):
    """The manifest of a backup of Strongroom."""

    files: list[File] = Field(alias="Files")


class ForeignManifest(_Whole):
    """A manifest without checksums of files: its stream is protected by those of gzip and of the store."""

    files: list[Listed] = Field(alias="Files")


def parse_manifest(data: bytes) -> Manifest | ForeignManifest:
    """Parse the list of files of a backup of Strongroom or of another program. Raises ArtifactCorrupt."""
    return Manifest.parse(data) if b'"Checksum-Algorithm": "' in data else ForeignManifest.parse(data)


def check_files(manifest: Manifest | ForeignManifest, top: Path) -> None:
    """Check that every file is present and unchanged and that no others exist, except WAL. Raises ArtifactCorrupt."""
    known = {file.name for file in manifest.files}
    found = {path for path in list_files(top) if not path.startswith("pg_wal/") and path != MANIFEST}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="check") as pool:
        wrong = [problem for problem in pool.map(lambda file: _problem(file, top), manifest.files) if problem]
    wrong += [f"{path} is not in {MANIFEST}" for path in sorted(found - known - _UNLISTED)]
    if wrong:
        raise ArtifactCorrupt(f"{len(wrong)} files are not as they were backed up: {'; '.join(wrong[:10])}", remedy=REMEDY)


_UNLISTED = frozenset({"strongroom_incomplete"})


def _problem(file: Listed, top: Path) -> str | None:
    digest = file.hash() if isinstance(file, File) else None
    size = 0
    try:
        fd = os.open(top / file.name, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    with os.fdopen(fd, "rb", buffering=0) as content:
        if digest is None:
            size = os.fstat(content.fileno()).st_size
        while digest is not None and (piece := content.read(_PIECE)):
            digest.update(piece)
            size += len(piece)
    if size != file.size:
        return f"{file.name} has {size} bytes instead of {file.size}"
    if isinstance(file, File) and digest is not None and digest.hexdigest() != file.checksum.lower():
        return f"{file.name} has a wrong {file.algorithm}"
    return None


def check_wal(ranges: Sequence[WalRange], directory: Path) -> None:
    """Check that every required WAL file is present and complete. Raises ArtifactCorrupt, naming missing ones."""
    require_wal(ranges, {path.name: path.stat().st_size for path in directory.iterdir() if path.is_file()})


def require_wal(ranges: Sequence[WalRange], files: Mapping[str, int]) -> None:
    """Like ``check_wal``, for files with known sizes."""
    sizes = {name: size for name, size in files.items() if len(name) == 24}
    size = max(sizes.values(), default=0)
    if size < 1 << 20 or size & (size - 1) or size > 1 << 30:
        raise ArtifactCorrupt("the stream holds no WAL", remedy=REMEDY)
    for part in ranges:
        for name in lsn.list_segments(part.timeline, lsn.parse_lsn(part.start), lsn.parse_lsn(part.end), size):
            if sizes.get(name) != size:
                raise ArtifactCorrupt(f"WAL file {name} is {'cut short' if name in sizes else 'missing'}", remedy=REMEDY)
