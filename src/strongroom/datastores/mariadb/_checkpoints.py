"""The small files that mariadb-backup leaves: where a backup begins and ends. Their prefix changed in the 11 series."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from strongroom.artifact import Positions
from strongroom.datastores._files import read_file
from strongroom.datastores._process import tail

PREFIXES = ("xtrabackup_", "mariadb_backup_")
PREPARED = "log-applied"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Content of ``xtrabackup_checkpoints``. ``to_lsn`` is where the next incremental begins."""

    backup_type: str
    from_lsn: int
    to_lsn: int
    last_lsn: int


def read_side_file(directory: Path, name: str) -> str | None:
    """Text of ``xtrabackup_<name>`` or ``mariadb_backup_<name>``, none when there is none."""
    for prefix in PREFIXES:
        text = read_file(directory / f"{prefix}{name}")
        if text is not None:
            return text
    return None


def read_checkpoints(directory: Path) -> Checkpoints | None:
    """None when there is no such file; ``backup_type`` is ``damaged`` when it is not whole."""
    text = read_side_file(directory, "checkpoints")
    if text is None:
        return None
    values = dict(re.findall(r"^(\w+) = (\S+)$", text, re.MULTILINE))
    try:
        return Checkpoints(values["backup_type"], int(values["from_lsn"]), int(values["to_lsn"]), int(values["last_lsn"]))
    except (KeyError, ValueError):
        return Checkpoints("damaged", -1, -1, -1)


def positions(directory: Path, checkpoints: Checkpoints, log: Path) -> Positions:
    """What a finished backup says of its place in history, in the files of ``--extra-lsndir`` and in its log."""
    info = read_side_file(directory, "info") or ""
    line = re.search(r"^binlog_pos = (.*)$", info, re.MULTILINE)
    fields = dict(re.findall(r"(filename|position|GTID of the last change) '([^']*)'", line[1] if line else ""))
    position = fields.get("position", "")
    galera = re.search(r"Galera info succeeded with ([0-9a-f-]{36}:-?\d+)", "\n".join(tail(log, 40)))
    return Positions(
        from_lsn=checkpoints.from_lsn,
        to_lsn=checkpoints.to_lsn,
        last_lsn=checkpoints.last_lsn,
        binlog_file=fields.get("filename") or None,
        binlog_position=int(position) if position.isdigit() else None,
        gtid=fields.get("GTID of the last change") or None,
        galera=galera[1] if galera else None,
    )
