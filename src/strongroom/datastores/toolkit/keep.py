"""What restored data takes over from the data directory that it replaces: files of the owner, and the modes of all files."""

from __future__ import annotations

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.system.directories import walk_tree
from strongroom.system.files import write_new
from strongroom.system.users import Owner, set_owner

_MOST_BYTES = 4 << 20
"""Limit of one file in bytes; larger files are not configuration."""
_DEEPEST = 8
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def copy_entries(old: Path, new: Path, wanted: Callable[[str, bool], bool]) -> None:
    """Copy small files, directories with such files, and links from ``old`` to ``new``, with owner and mode. Raises OSError.

    ``wanted`` decides for each entry of ``old``, by its name and whether it is a directory. A file of that name in ``new`` is
    replaced. Links are not followed, because the server's user can write in both directories.
    """
    with _opened(old) as source, _opened(new) as target:
        for name in sorted(os.listdir(source)):  # noqa: PTH208 - a descriptor
            if wanted(name, stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)):
                _copy(name, source, target, 0)


def _copy(name: str, source: int, target: int, depth: int) -> None:
    facts = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(facts.st_mode) and depth < _DEEPEST:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=target)
        with _opened(name, source) as inner, _opened(name, target) as outer:
            for each in sorted(os.listdir(inner)):  # noqa: PTH208 - a descriptor
                _copy(each, inner, outer, depth + 1)
            set_owner(outer, Owner(facts.st_uid, facts.st_gid))
            os.fchmod(outer, stat.S_IMODE(facts.st_mode))
            os.fsync(outer)
    elif stat.S_ISLNK(facts.st_mode):
        _remove(name, target)
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif stat.S_ISREG(facts.st_mode) and facts.st_size <= _MOST_BYTES:
        with os.fdopen(os.open(name, _READ, dir_fd=source), "rb") as file:
            facts, content = os.fstat(file.fileno()), file.read(_MOST_BYTES + 1)
        _remove(name, target)
        write_new(name, content, Owner(facts.st_uid, facts.st_gid), stat.S_IMODE(facts.st_mode), at=target)


def _remove(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


@contextmanager
def _opened(path: Path | str, above: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _READ | os.O_DIRECTORY, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def keep_modes(old: Path, new: Path) -> None:
    """Give the files below ``new`` the modes that they have below ``old``.

    A file that ``old`` lacks gets the most common mode of its directory there, or else of all directories, without rights for
    others. Called as the owner of all these files. The caller sets the mode of the top directory.
    """
    modes: dict[str, int] = {}
    usual: dict[tuple[str | None, bool], Counter[int]] = defaultdict(Counter)
    for path, is_directory, mode in _modes(old):
        modes[path] = mode
        usual[path.rpartition("/")[0], is_directory][mode] += 1
        usual[None, is_directory][mode & 0o770] += 1
    common = {key: counter.most_common(1)[0][0] for key, counter in usual.items()}
    for path, is_directory, mode in list(_modes(new)):
        known = modes.get(path) or common.get((path.rpartition("/")[0], is_directory)) or common.get((None, is_directory), mode)
        if known != mode and known & 0o600 == 0o600:
            (new / path).chmod(known)


def _modes(top: Path) -> Iterator[tuple[str, bool, int]]:
    start = len(str(top)) + 1
    for entry in walk_tree(top):
        with suppress(OSError):
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode) or stat.S_ISREG(facts.st_mode):
                yield entry.path[start:], stat.S_ISDIR(facts.st_mode), stat.S_IMODE(facts.st_mode) & 0o777
