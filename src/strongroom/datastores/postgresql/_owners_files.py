"""Files in the data directory of an adopted server that are its owner's and no data: they stay when the data is replaced."""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from strongroom.datastores._files import sync_directory
from strongroom.datastores._peer import acting_as
from strongroom.datastores.postgresql import _first_start
from strongroom.errors import ConfigurationError

_SERVERS = re.compile(
    r"base|global|pg_(?!hba\.conf$|ident\.conf$).*|PG_VERSION|postmaster\.(pid|opts)|backup_(label|manifest).*|tablespace_map.*"
    r"|(standby|recovery)\.signal|current_logfiles.*|logfile|log|lost\+found|strongroom.*|\.strongroom.*|core.*|.*\.tmp"
    rf"|{re.escape(_first_start.SETTINGS)}"
)
"""Names that the server gives, or that are not kept."""
_MOST_BYTES = 16 << 20
_MOST_FILES = 1000


def keep(old: Path, new: Path) -> None:
    """Copy the owner's files from the old data directory to the new one, and its mode. Raises ConfigurationError.

    Root does it as the owner of the directory, who could otherwise lead it to files elsewhere.
    """
    with acting_as(old.stat().st_uid if old.is_dir() else 0):
        _keep(old, new)


def _keep(old: Path, new: Path) -> None:
    try:
        for entry in sorted(os.scandir(old), key=lambda each: each.name):
            if not _SERVERS.fullmatch(entry.name):
                _copy(Path(entry.path), new / entry.name, [_MOST_FILES, _MOST_BYTES])
        new.chmod(stat.S_IMODE(old.stat().st_mode) & 0o750 or 0o700)
        sync_directory(new)
    except FileNotFoundError:
        return  # there is no old one
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} of the old data directory cannot be kept: {error.strerror}",
            remedy="Make it readable, or move it out of the data directory.",
        ) from error


def _copy(source: Path, target: Path, left: list[int]) -> None:
    """One entry with its mode. Links stay links. What is too large for configuration is not kept."""
    found = source.lstat()
    if stat.S_ISLNK(found.st_mode):
        _remove(target)
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(found.st_mode):
        if target.is_symlink() or not target.is_dir():
            _remove(target)
            target.mkdir(mode=0o700)
        for entry in sorted(os.scandir(source), key=lambda each: each.name):
            _copy(Path(entry.path), target / entry.name, left)
        _set_mode(target, found)
    elif stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        left[0], left[1] = left[0] - 1, left[1] - found.st_size
        if min(left) >= 0:
            _copy_file(source, target)


def _copy_file(source: Path, target: Path) -> None:
    if not os.access(source, os.R_OK, effective_ids=True) and target.exists():
        return  # of root, perhaps; the one of the backup stays
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_nlink != 1:  # a second name of a file that may be somebody else's
            return
        _remove(target)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            _set_mode(fd, found)
            os.fsync(fd)


def _set_mode(target: Path | int, found: os.stat_result) -> None:
    os.chmod(target, stat.S_IMODE(found.st_mode) & 0o777)  # noqa: PTH101 - a descriptor, too


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
