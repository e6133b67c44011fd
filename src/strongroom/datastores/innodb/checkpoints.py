"""The small files of mariadb-backup and XtraBackup with the positions of a backup. MariaDB 11 changed their prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strongroom.artifact import Positions
from strongroom.datastores.innodb.versions import extract_number
from strongroom.datastores.protocol.backups import BackupKind, StreamFacts
from strongroom.datastores.toolkit.tools import read_tail
from strongroom.errors import ArtifactCorrupt, VersionMismatch
from strongroom.system.files import read_text

PREFIXES = ("xtrabackup_", "mariadb_backup_")
PREPARED = "log-applied"
TOOL_FILES = frozenset(
    prefix + name
    for prefix in PREFIXES
    for name in ("binlog_info", "binlog_pos_innodb", "checkpoints", "galera_info", "info", "logfile", "slave_info", "tablespaces")
)
"""Names of the files that the tool writes at the top of a directory. The name of a database may be or begin with such a name."""
_KINDS: dict[str, BackupKind] = {"full-backuped": "full", "incremental": "incremental"}
SIDE_FILES = frozenset(prefix + name for prefix in PREFIXES for name in ("checkpoints", "info"))


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Content of ``xtrabackup_checkpoints``. The next incremental begins at ``to_lsn``."""

    backup_type: str
    from_lsn: int
    to_lsn: int
    last_lsn: int


def read_side_file(directory: Path, name: str) -> str | None:
    """Text of ``xtrabackup_<name>`` or ``mariadb_backup_<name>``; none if neither exists."""
    for prefix in PREFIXES:
        text = read_text(directory / f"{prefix}{name}")
        if text is not None:
            return text
    return None


def read_checkpoints(directory: Path) -> Checkpoints | None:
    """The checkpoints; none if there is no such file. ``backup_type`` is ``damaged`` if it is incomplete."""
    text = read_side_file(directory, "checkpoints")
    return None if text is None else _parse(text)


def _parse(text: str) -> Checkpoints:
    values = dict(re.findall(r"^(\w+) = (\S+)$", text, re.MULTILINE))
    try:
        return Checkpoints(values["backup_type"], int(values["from_lsn"]), int(values["to_lsn"]), int(values["last_lsn"]))
    except (KeyError, ValueError):
        return Checkpoints("damaged", -1, -1, -1)


def read_positions(directory: Path, checkpoints: Checkpoints, log: Path) -> Positions:
    """The positions of a finished backup, from the files in ``--extra-lsndir`` and from its log."""
    info = read_side_file(directory, "info") or ""
    galera = re.search(r"Galera info succeeded with ([0-9a-f-]{36}:-?\d+)", "\n".join(read_tail(log, 40)))
    return _place(checkpoints, info, galera[1] if galera else None)


def _place(checkpoints: Checkpoints, info: str, galera: str | None) -> Positions:
    line = re.search(r"^binlog_pos = (.*)$", info, re.MULTILINE)
    fields = dict(re.findall(r"(filename|position|GTID of the last change) '([^']*)'", line[1] if line else ""))
    position = fields.get("position", "")
    return Positions(
        from_lsn=checkpoints.from_lsn,
        to_lsn=checkpoints.to_lsn,
        last_lsn=checkpoints.last_lsn,
        binlog_file=fields.get("filename") or None,
        binlog_position=int(position) if position.isdigit() else None,
        gtid=fields.get("GTID of the last change") or None,
        galera=galera,
    )


def describe(files: Mapping[str, bytes], product: str = "MariaDB") -> StreamFacts:
    """See ``Backups.describe``. Streams of MariaDB and MySQL contain the same files."""
    texts = {name: data.decode("utf-8", "replace") for name, data in files.items()}

    def text(name: str) -> str:
        found = next((texts[prefix + name] for prefix in PREFIXES if prefix + name in texts), None)
        if found is None:
            raise ArtifactCorrupt(f"the stream has no file {PREFIXES[0]}{name}", remedy=f"The backup of {product} is incomplete.")
        return found

    checkpoints, info = _parse(text("checkpoints")), text("info")
    said = dict(re.findall(r"^(\w+) = (.*)$", info, re.MULTILINE))
    version = said.get("server_version", "")
    if ("MariaDB" in version) != (product == "MariaDB") or not version:
        raise VersionMismatch(
            f"the backup is not of {product}: it was written by {said.get('tool_name')!r} of server {version!r}",
            remedy="Restore it with the tool that wrote it.",
        )
    if said.get("compressed", "N") != "N":
        raise ArtifactCorrupt("the files in the stream are compressed (qpress)", remedy="Restore it by hand.")
    if checkpoints.backup_type not in _KINDS or min(checkpoints.from_lsn, checkpoints.to_lsn, checkpoints.last_lsn) < 0:
        raise ArtifactCorrupt(f"the checkpoints in the stream are of a backup of type {checkpoints.backup_type}")
    return StreamFacts(_KINDS[checkpoints.backup_type], _place(checkpoints, info, None), extract_number(version))
