"""Writes ``backup_manifest``: the list of the files of a base backup, as the server writes it.

The format is described in "Backup Manifest Format" of the manual; version 2 (PostgreSQL 17) adds the database system.
"""

from __future__ import annotations

import hashlib
import json
import time

from strongroom.artifact import Positions
from strongroom.datastores.postgresql.files.manifest import CRC32C, Hash


class Listing:
    """``system``: the identifier of the database system, for PostgreSQL 17 and later."""

    def __init__(self, system: int | None) -> None:
        self._system = system
        self._files: list[str] = []

    def add(self, path: str, size: int, modified: int, digest: Hash) -> None:
        """Add a file that was read; ``modified`` is its last change (Unix time)."""
        try:
            path.encode()
            name = {"Path": path}
        except UnicodeEncodeError:
            name = {"Encoded-Path": path.encode(errors="surrogateescape").hex()}
        about = {
            "Size": size,
            "Last-Modified": time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(modified)),
            "Checksum-Algorithm": CRC32C,
            "Checksum": digest.hexdigest(),
        }
        self._files.append(json.dumps(name | about, ensure_ascii=False))

    def text(self, positions: Positions) -> bytes:
        """The complete manifest. Its checksum covers all lines except the last."""
        wal = {"Timeline": positions.timeline, "Start-LSN": positions.wal_start, "End-LSN": positions.wal_stop}
        lines = [f'{{ "PostgreSQL-Backup-Manifest-Version": {1 if self._system is None else 2},']
        if self._system is not None:
            lines.append(f'"System-Identifier": {self._system},')
        lines += ['"Files": [', ",\n".join(self._files), "],", '"WAL-Ranges": [', json.dumps(wal), "],", ""]
        body = "\n".join(lines).encode()
        return body + f'"Manifest-Checksum": "{hashlib.sha256(body).hexdigest()}"}}\n'.encode()
