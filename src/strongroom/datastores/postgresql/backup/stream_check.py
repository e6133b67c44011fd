"""Verifies a base backup from its stream alone: every file against ``backup_manifest``, and that the WAL is complete."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from strongroom.datastores.postgresql.files.manifest import CRC32C, MANIFEST, MAX_BYTES, REMEDY, Manifest, new_hash, require_wal
from strongroom.errors import ArtifactCorrupt, ArtifactError

_WAL = "pg_wal/"
_SEGMENT = re.compile(r"pg_wal/[0-9A-F]{24}")
_MOST_NAMED = 100


class StreamCheck:
    """See ``Check`` of the artifact. The manifest comes last, so sizes and hashes of all files are kept until then."""

    def __init__(self) -> None:
        self._manifest = bytearray()
        self._sizes: dict[str, int] = {}
        self._hashes: dict[str, str] = {}
        self._path = ""
        self._hash = new_hash()

    def saw(self, path: str, offset: int, data: memoryview) -> None:
        """Receive the next piece of a file."""
        if offset == 0:
            self._close()
            self._path, self._hash = path, new_hash()
        self._sizes[path] = offset + len(data)
        if path == MANIFEST:
            self._manifest += data[: MAX_BYTES - len(self._manifest)]
        elif not _SEGMENT.fullmatch(path):
            self._hash.update(data)

    def take(self) -> Callable[[], None] | None:
        """None: the bytes of a file have to be hashed in order, so nothing is deferred."""
        return None

    def problems(self) -> Sequence[ArtifactError]:
        """The files that differ from the manifest."""
        self._close()
        if not self._manifest:
            return [ArtifactCorrupt(f"the stream holds no {MANIFEST}", remedy="The backup is incomplete.")]
        try:
            manifest = Manifest.parse(bytes(self._manifest))
            require_wal(manifest.wal, {p.removeprefix(_WAL): n for p, n in self._sizes.items() if p.startswith(_WAL)})
        except ArtifactCorrupt as error:
            return [error]
        wrong = [ArtifactCorrupt(text, remedy=REMEDY) for text in self._compare(manifest)]
        return wrong[:_MOST_NAMED]

    def _close(self) -> None:
        if self._path:
            self._hashes[self._path] = self._hash.hexdigest()

    def _compare(self, manifest: Manifest) -> Iterator[str]:
        left = {path for path in self._sizes if not path.startswith(_WAL)} - {MANIFEST}
        for file in manifest.files:
            name = file.name
            left.discard(name)
            if name not in self._sizes:
                yield f"{name} is missing in the stream"
            elif self._sizes[name] != file.size:
                yield f"{name} has {self._sizes[name]} bytes instead of {file.size}"
            elif file.algorithm == CRC32C and self._hashes[name] != file.checksum.lower():
                yield f"{name} has a wrong {file.algorithm}"
        for name in sorted(left):
            yield f"{name} is not in {MANIFEST}"
