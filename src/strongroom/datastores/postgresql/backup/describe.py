"""Derives what a backup without a trusted manifest contains from its stream: a base backup or WAL files."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from strongroom.artifact import Positions
from strongroom.datastores.postgresql.files import lsn, wal
from strongroom.datastores.postgresql.files.manifest import MANIFEST, ForeignManifest, Manifest, parse_manifest
from strongroom.datastores.protocol.backups import StreamFacts
from strongroom.errors import ArtifactCorrupt, Unsupported, VersionMismatch

_VERSION, _LABEL, _CONTROL, FOLDER = "PG_VERSION", "backup_label", "global/pg_control", "pg_wal/"
SIDE_FILES = frozenset({_VERSION, _LABEL, _CONTROL, MANIFEST})
_HEADER = 512
_REMEDY = "The backup of PostgreSQL is incomplete."


def describe(files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
    """See the Protocol."""
    names = {name.removeprefix(FOLDER): size - _HEADER for name, size in sizes.items()}
    if all(wal.NAME.fullmatch(name) or wal.HISTORY.fullmatch(name) for name in names):
        return _wal_alone({name: size for name, size in names.items() if wal.NAME.fullmatch(name)}, said)
    facts = _base(files, said)
    _require_tablespaces(parse_manifest(files[MANIFEST]), sizes)
    return facts


def _require_tablespaces(manifest: Manifest | ForeignManifest, sizes: Mapping[str, int]) -> None:
    """``pg_basebackup`` writes one archive per tablespace; only the archive of the data directory lists them."""
    lacking = [file.name for file in manifest.files if file.name.startswith("pg_tblspc/") and file.name not in sizes]
    if lacking or sizes.get("tablespace_map", 0) > _HEADER:
        raise Unsupported(
            "the backup has tablespaces, and the stream is only the archive of the data directory",
            remedy="Restore it with PostgreSQL's own programs, adopt that server, and back it up.",
        )


def _base(files: Mapping[str, bytes], said: Positions) -> StreamFacts:
    missing = [name for name in (_VERSION, _LABEL, _CONTROL) if name not in files]
    if missing:
        raise ArtifactCorrupt(f"the stream has no file {missing[0]}", remedy=_REMEDY)
    version = files[_VERSION].decode("ascii", "replace").strip()
    if not re.fullmatch(r"\d{2,3}", version):
        raise VersionMismatch(f"the backup is of PostgreSQL {version!r}", remedy="Restore it with the programs that wrote it.")
    label = files[_LABEL].decode("utf-8", "replace")
    start = re.search(rf"^START WAL LOCATION: ({lsn.PATTERN}) ", label, re.MULTILINE)
    timeline = re.search(r"^START TIMELINE: (\d{1,9})$", label, re.MULTILINE)
    if start is None or timeline is None or len(files[_CONTROL]) < 8:
        raise ArtifactCorrupt("the stream does not say where its backup begins", remedy=_REMEDY)
    if MANIFEST not in files:
        raise ArtifactCorrupt(f"the stream has no file {MANIFEST}, or one of more than 64 MiB", remedy=_REMEDY)
    found = Positions(
        wal_start=start[1],
        wal_stop=parse_manifest(files[MANIFEST]).wal[-1].end,
        timeline=int(timeline[1]),
        system_identifier=str(struct.unpack_from("<Q", files[_CONTROL])[0]),
    )
    for name in ("wal_start", "wal_stop", "timeline"):
        if getattr(said, name) not in (None, getattr(found, name)):
            raise ArtifactCorrupt(
                f"its metadata say that {name} is {getattr(said, name)}, and the stream says {getattr(found, name)}",
                remedy="The metadata are those of another backup.",
            )
    return StreamFacts("full", found, version)


def _wal_alone(sizes: Mapping[str, int], said: Positions) -> StreamFacts:
    size = max(sizes.values(), default=0)
    if not wal.is_size(size) or set(sizes.values()) != {size}:
        raise ArtifactCorrupt("the stream holds files that are no WAL", remedy=_REMEDY)
    if said.wal_stop is None or said.timeline is None:
        raise ArtifactCorrupt(
            "the stream is WAL, and nothing tells where its backup ends",
            remedy="Put its metadata beside it (stop-segment, stop-wal-file, parent-location); see docs/import.md.",
        )
    stop = lsn.parse_lsn(said.wal_stop)
    begin = lsn.parse_lsn(said.wal_from) if said.wal_from else stop - 1
    wanted = wal.History(said.timeline).files(-(-begin // size) * size, stop, size) if said.wal_from else []
    wanted += wal.History(said.timeline).files(stop - 1, stop, size)
    if missing := [name for name in wanted if name not in sizes]:
        raise ArtifactCorrupt(
            f"the WAL from {said.wal_from}, where its parent ends, to {said.wal_stop} is not all in it: {missing[0]} is missing",
            remedy=f"Its WAL begins with {min(sizes)}: rows would be lost. Restore its parent, or another backup.",
        )
    return StreamFacts("incremental", said, None)
