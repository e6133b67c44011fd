"""Programs that are installed here: where they may be, and what they say of themselves."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from strongroom.system.children import SAFE_PATH, run_program


def roots(places: Sequence[Path], product: str) -> list[Path]:
    """Prefixes below which a product may be installed; ``places``, which may be folders of programs as well, come first."""
    found = [path for place in places for path in (place, place.parent)]
    found += (Path("/usr"), Path("/usr/local"), Path("/usr/local/mysql"), Path("/usr/local") / product)
    found += (Path(root) for root in sorted(glob.glob(f"/opt/{product}*")))  # noqa: PTH207 - the pattern is absolute
    found += (folder.parent for folder in search_path())
    return list(dict.fromkeys(found))


def search_path() -> Iterator[Path]:
    """Folders of ``PATH``."""
    for folder in os.environ.get("PATH", SAFE_PATH).split(":"):
        if folder.startswith("/"):
            yield Path(folder)


def program(root: Path, name: str) -> Path | None:
    """The program below a prefix, or in the folder itself."""
    for folder in ("", "sbin/", "bin/", "libexec/", "scripts/"):
        path = f"{root}/{folder}{name}"  # text: a Path for each would take longer than to look for all files
        if os.access(path, os.X_OK) and Path(path).is_file():  # in this order: some folders are closed to us
            return Path(path)
    return None


def said(path: Path, *options: str) -> str | None:
    """What a program says with these options, none when it cannot be run or fails. Remembered until the file changes."""
    try:
        return _said(path, options, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=128)
def _said(path: Path, options: tuple[str, ...], mtime_ns: int) -> str | None:
    run = run_program([path, *options])
    return run.stdout + run.stderr if run is not None and run.returncode == 0 else None
