"""Installed programs: where they may be, and their output."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from strongroom.system.children import SAFE_PATH, run_program


def list_roots(places: Sequence[Path], product: str) -> list[Path]:
    """Prefixes below which a product may be installed. ``places``, which may also be directories of programs, come first."""
    found = [path for place in places for path in (place, place.parent)]
    found += (Path("/usr"), Path("/usr/local"), Path("/usr/local/mysql"), Path("/usr/local") / product)
    found += (Path(root) for root in sorted(glob.glob(f"/opt/{product}*")))  # noqa: PTH207 - the pattern is absolute
    found += (folder.parent for folder in search_path())
    return list(dict.fromkeys(found))


def search_path() -> Iterator[Path]:
    """Directories of ``PATH``."""
    for folder in os.environ.get("PATH", SAFE_PATH).split(":"):
        if folder.startswith("/"):
            yield Path(folder)


def find_program(root: Path, name: str) -> Path | None:
    """The program below a prefix, or in the directory itself."""
    for folder in ("", "sbin/", "bin/", "libexec/", "scripts/"):
        path = f"{root}/{folder}{name}"  # text: making a Path for each takes longer than looking for all files
        if os.access(path, os.X_OK) and Path(path).is_file():  # in this order: some directories are not readable
            return Path(path)
    return None


def ask_program(path: Path, *options: str) -> str | None:
    """The output of a program with these options; none if it cannot be run or fails. Cached until the file changes.

    A failure to run it is not cached: the host may be overloaded for a moment.
    """
    try:
        return _run_with(path, options, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=128)
def _run_with(path: Path, options: tuple[str, ...], mtime_ns: int) -> str | None:
    run = run_program([path, *options])
    if run is None:
        raise OSError(f"{path} cannot be run")
    return run.stdout + run.stderr if run.returncode == 0 else None
