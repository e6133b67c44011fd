"""The option file that a backup brings for its prepare. It is hostile: it could name libraries to load and files to read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from strongroom.datastores.innodb import options
from strongroom.system.files import read_text

FILE = "backup-my.cnf"
ALLOWED: Mapping[str, str] = {
    "innodb_checksum_algorithm": "crc32|strict_crc32|full_crc32|strict_full_crc32|innodb|none",
    "innodb_log_file_size": r"\d{1,15}",
    "innodb_undo_tablespaces": r"\d{1,3}",
    "innodb_compression_level": "[0-9]",
    "innodb_encrypt_log": "0|1|ON|OFF",
}
"""Options whose values are numbers and words, with the pattern of their values. What the data demands is allowed as well."""


def read_backup_options(directory: Path) -> dict[str, str] | None:
    """All options in the file of an extracted backup, unchecked; none when it has no such file."""
    if read_text(directory / FILE) is None:
        return None
    return {name.replace("-", "_"): value for name, value in options.read_options(directory / FILE, ("mysqld",)).items()}


def keep_allowed(found: Mapping[str, str], demanded: Mapping[str, str]) -> dict[str, str | int | Path | None]:
    """Those options of a backup whose values match ``ALLOWED`` or ``demanded``."""
    allowed = {**demanded, **ALLOWED}
    return {name: found[name] for name, pattern in allowed.items() if name in found and re.fullmatch(pattern, found[name])}
