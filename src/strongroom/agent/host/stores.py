"""The directory store if the agent runs as root: workers of several OS users share it through a group of its own."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from strongroom.errors import ConfigurationError
from strongroom.sections import Storage
from strongroom.settings import Settings

log = structlog.get_logger()

STORE_GID = 8779
"""Group of a store that root creates: a number without a name that only workers get."""


def store_gid(settings: Settings) -> int | None:
    """``store_group`` of the configured store."""
    return store_group(settings.storage.model_copy(update={"path": settings.store_path.absolute()}))


def store_group(storage: Storage) -> int | None:
    """The group that may write to the directory store, which is created if it is missing. None if the agent is not root.

    Raises ConfigurationError when the store cannot be made.
    """
    if storage.driver != "directory" or storage.path is None or os.geteuid() != 0:
        return None
    path = Path(storage.path)
    try:
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
        facts = path.stat()
        if facts.st_gid == 0 and facts.st_uid == 0 and not any(path.iterdir()):
            os.chown(path, 0, STORE_GID)
            path.chmod(0o2770)
            facts = path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"the store {path} cannot be created: {error.strerror}",
            remedy="Set [storage] path to a writable directory.",
        ) from error
    return facts.st_gid or None


MARGIN = 60.0
"""Seconds that a tool may need to continue once the store is available again."""


def stall_timeout(settings: Settings, storage: Storage | None) -> float:
    """Seconds without progress after which a tool has stalled. A tool that waits for the store has not stalled."""
    wanted = settings.agent.stall_timeout
    least = 0.0 if storage is None or not storage.patience else storage.patience + MARGIN
    if wanted < least:
        log.warning(
            "agent.stall_timeout is raised: calls to the store are retried for longer",
            stall_timeout=wanted,
            raised_to=least,
        )
    return max(wanted, least)
