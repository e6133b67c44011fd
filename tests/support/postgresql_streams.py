"""Streams of pg_basebackup, made up: for chains that no server would write in the time that a test has."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from strongroom.artifact import Pages, Positions, Ranges
from strongroom.artifact.streams.tar import Tar, content
from strongroom.datastores import BackupKind

BLOCK = 8192
SYSTEM = 7_700_000_000_000_000_001
Blocks = Mapping[int, bytes]


def increment(blocks: Blocks, length: int) -> bytes:
    """A file of some blocks; older backups may complete it up to ``length``."""
    numbers = sorted(blocks)
    head = struct.pack(f"<III{len(numbers)}I", 0xD3AE1F0D, len(numbers), length, *numbers)
    padding = bytes(-len(head) % BLOCK) if numbers else b""
    return head + padding + b"".join(blocks[number] for number in numbers)


def listed(
    files: Mapping[str, bytes], start: str, stop: str, *, system: int = SYSTEM, more: Mapping[str, tuple[int, str]] | None = None
) -> bytes:
    """The list of files of a backup; of ``more`` only size and SHA-256 are known."""
    sums = {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()} | dict(more or {})
    rows = ",\n".join(
        json.dumps(
            {
                "Path": path,
                "Size": size,
                "Last-Modified": "2026-01-01 00:00:00 GMT",
                "Checksum-Algorithm": "SHA256",
                "Checksum": sha256,
            }
        )
        for path, (size, sha256) in sums.items()
    )
    body = (
        f'{{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": {system},\n"Files": [\n{rows}\n],\n'
        f'"WAL-Ranges": [\n{{ "Timeline": 1, "Start-LSN": "{start}", "End-LSN": "{stop}" }}\n],\n'
    ).encode()
    return body + f'"Manifest-Checksum": "{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of files, with their directories before them."""
    buffer = io.BytesIO()
    made = set()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in files.items():
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                name = "/".join(parts[:depth])
                if name not in made:
                    made.add(name)
                    info = tarfile.TarInfo(name)
                    info.type, info.mode = tarfile.DIRTYPE, 0o700
                    tar.addfile(info)
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class MemoryLink:
    """A backup whose stream is in memory."""

    stream: bytes
    positions: Positions
    kind: BackupKind = "full"
    pages: Pages | None = None
    server_version: str = "18.6"
    data_size: int = 0
    read: list[str] = field(default_factory=list)
    """Files that were asked for."""

    raw_size: int = 0

    def chunks(self) -> Generator[bytes, None, None]:
        for start in range(0, len(self.stream), 50_001):  # members begin and end anywhere in a piece
            yield self.stream[start : start + 50_001]

    def files(self) -> dict[str, Ranges]:
        tar = Tar()
        tar.feed(self.stream)
        return dict(tar.ranges())

    def extract(self, paths: Iterable[str]) -> Iterator[bytes]:
        names = list(paths)
        self.read += names
        files = self.files()
        for offset, length in sorted(part for path in names for part in files[path]):
            for start in range(offset, offset + length, 50_001):
                yield self.stream[start : min(start + 50_001, offset + length)]

    def content(self, path: str) -> bytes:
        return content(b"".join(self.extract([path])))


def link(number: int, files: Mapping[str, bytes], *, truncated: Mapping[str, int] | None = None, **more: object) -> MemoryLink:
    """Backup ``number`` of a chain; its beginning in the WAL is its number."""
    start, stop = f"0/{number + 1}000028", f"0/{number + 1}000100"
    since = f"0/{number}000028" if number else None
    label = f"START WAL LOCATION: {start} (file 000000010000000000000001)\nLABEL: strongroom\nSTART TIMELINE: 1\n"
    if since:
        label += f"INCREMENTAL FROM LSN: {since}\nINCREMENTAL FROM TLI: 1\n"
    whole = {"backup_label": label.encode(), **files, "global/pg_control": b"control %d" % number}
    manifest = listed(whole, start, stop)
    wal = {"pg_wal/000000010000000000000001": b"wal"}
    positions = Positions(
        wal_start=start,
        wal_stop=stop,
        timeline=1,
        system_identifier=str(SYSTEM),
        blocks_from=since,
        truncated=dict(truncated) if truncated else None,
        backup_manifest_sha256=hashlib.sha256(manifest).hexdigest(),
    )
    stream = archive({**whole, **wal, "backup_manifest": manifest})
    return MemoryLink(stream, positions, "incremental" if since else "full", **more)  # type: ignore[arg-type]
