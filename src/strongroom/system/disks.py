"""Space on disks: what is used, what is free, what is mounted where."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from strongroom.errors import NoSpace
from strongroom.system.directories import walk_tree


def measure_files(top: Path) -> int:
    """The sum of the sizes of all files below a directory."""
    total = 0
    for entry in walk_tree(top):
        with suppress(OSError):
            if entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def measure_disk_usage(top: Path) -> int:
    """Bytes on disk of everything below a directory. What vanishes meanwhile is not counted."""
    total = 0
    for parent, _, names in os.walk(top):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 (a Path for each file is slow)
    return total


def measure_free_space(path: Path) -> int:
    """Free bytes of the file system of ``path``; 0 if it cannot be read."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def require_space(path: Path, needed: int) -> None:
    """Raise NoSpace if a restore of ``needed`` bytes does not fit on the file system of ``path``."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise NoSpace(
            f"the restore needs about {needed >> 20} MiB on the file system of {path}, but only {free >> 20} MiB are free",
            remedy="Free space there, discard the previous data of earlier restores, or restore on another host.",
        )


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted there, even the same file system once more."""
    return str(path.resolve()) in _list_mounts()


def list_mounts_below(path: Path) -> list[str]:
    """Mount points in a directory."""
    top = str(path.resolve())
    return sorted(mount for mount in _list_mounts() if mount.startswith(f"{top}/"))


def _list_mounts() -> set[str]:
    places = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), place) for place in places}
