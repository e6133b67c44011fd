"""Whether the store shows the container of an artifact at all: if not, nothing is known of what is in it."""

from __future__ import annotations

from pathlib import Path

from strongroom.artifact.foreign.backups import ForeignChain
from strongroom.artifact.records.location import Location
from strongroom.errors import StorageError, StorageNameInvalid
from strongroom.storage import Store


def require_container(store: Store, target: Location | ForeignChain) -> None:
    """Raise StorageError if the store shows no object in the container, or the host no file in the directory, of ``target``.

    The file system may not be mounted, a policy may hide the objects, or it is another store: an object that is missing there
    was not necessarily deleted.
    """
    if isinstance(target, Location):
        containers = {target.container}
    else:
        containers = {b.pieces[0].key.partition("/")[0] for b in target.backups if b.directory is None}
        for directory in {b.directory for b in target.backups if b.directory is not None}:
            if not _has_entries(directory):
                raise _nothing_shown(f"directory {directory}")
    for container in sorted(containers):
        if not _has_objects(store, container):
            raise _nothing_shown(f"container {container} ({store.url(container)})")


def _has_objects(store: Store, container: str) -> bool:
    if next(iter(store.folders(container)), None) is not None:
        return True  # first, because a directory may contain backups of OS users whose files cannot be listed
    try:
        return next(iter(store.list(container)), None) is not None
    except StorageNameInvalid:  # there is an object, written by others
        return True


def _has_entries(directory: Path) -> bool:
    """Of the directory; if it does not exist, of its parent: then it was deleted."""
    try:
        return any((directory if directory.is_dir() else directory.parent).iterdir())
    except OSError:
        return False


def _nothing_shown(where: str) -> StorageError:
    return StorageError(
        f"the store shows nothing in {where}, so nothing is known of its backups",
        remedy="Check that its file system is mounted, that it is the right bucket or project, and that this user may list it.",
    )
