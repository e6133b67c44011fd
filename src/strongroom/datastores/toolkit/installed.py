"""Programs that are installed here: where they may be, and what they say of themselves."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from strongroom.system.children import SAFE_PATH, run_program


def roots(places: Sequence[Path], product: str) -> Iterator[Path]:
    """Prefixes below which a product may be installed; ``places``, which may be folders of programs as well, come first."""
    for place in places:
        yield place
        yield place.parent
    yield from (Path("/usr"), Path("/usr/local"), Path("/usr/local/mysql"), Path("/usr/local") / product)
    yield from (Path(root) for root in sorted(glob.glob(f"/opt/{product}*")))  # noqa: PTH207 - the pattern is absolute
    yield from (folder.parent for folder in search_path())


def search_path() -> Iterator[Path]:
    """Folders of ``PATH``."""
    for folder in os.environ.get("PATH", SAFE_PATH).split(":"):
        if folder.startswith("/"):
            yield Path(folder)


def program(root: Path, name: str) -> Path | None:
    """The program below a prefix, or in the folder itself."""
    for folder in ("", "sbin", "bin", "libexec", "scripts"):
        path = root / folder / name
        if os.access(path, os.X_OK) and path.is_file():  # in this order: some folders are closed to us
            return path
    return None


def said(path: Path, *options: str) -> str | None:
    """What a program says with these options, none when it cannot be run or fails. Remembered until the file changes.

    That it could not be run is not remembered: the host may be overloaded for a moment.
    """
    try:
        return _said(path, options, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=128)
def _said(path: Path, options: tuple[str, ...], mtime_ns: int) -> str | None:
    run = run_program([path, *options])
    if run is None:
        raise OSError(f"{path} cannot be run")
    return run.stdout + run.stderr if run.returncode == 0 else None
