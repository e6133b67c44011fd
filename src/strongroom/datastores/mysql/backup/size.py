"""The size of the part of a data directory that is backed up."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from strongroom.system.directories import walk_tree

_LOGS = re.compile(r"ibtmp\d+|#ib_\d+_\d+\.\w+|.+\.pem|.+\.\d{6,}")
_FOLDERS = ("#innodb_redo", "#innodb_temp", "#ib_archive")


def measure_data(data_dir: Path) -> int:
    """Bytes of the files, without logs and temporary files."""
    total = 0
    for entry in walk_tree(data_dir):
        if not _LOGS.fullmatch(entry.name) and Path(entry.path).parent.name not in _FOLDERS:
            with suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return total
