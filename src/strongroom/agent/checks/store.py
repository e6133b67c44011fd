"""Checks of the store and of the keys for encryption."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from strongroom.agent.checks.check import GB, LITTLE_SPACE, Check, Level
from strongroom.agent.host.stores import store_group
from strongroom.artifact import check_recipients, load_identities, recipients_of
from strongroom.errors import ConfigurationError, StorageDenied
from strongroom.settings import Settings
from strongroom.storage import open_store
from strongroom.system.disks import measure_free_space
from strongroom.worker.spec import StorageSpec


def check_store(settings: Settings, storage: StorageSpec) -> Iterator[Check]:
    place = storage.bucket or storage.auth_url or ""
    where = str(storage.path) if storage.driver == "directory" else f"{storage.driver} {place}".strip()
    if storage.driver == "directory" and storage.path is not None and not storage.path.exists():
        yield from _missing_store(settings, storage.path)
        return
    # A top level folder of its own, so that no container is made by looking.
    key = f"{storage.container}/strongroom-check-{secrets.token_hex(8)}/probe"
    # a person waits for the answer
    impatient = storage.model_copy(update={"retries": min(storage.retries, 1), "timeout": min(storage.timeout, 10.0)})
    store = open_store(impatient, gid=store_group(storage))
    data = secrets.token_bytes(64)
    container = storage.path / storage.container if storage.driver == "directory" and storage.path else None
    is_new = container is not None and not container.exists()
    began = time.monotonic()
    try:
        deleted = False
        store.put(key, data, create=True)
        try:
            if store.get(key, length=len(data) + 1) != data or store.head(key).size != len(data):
                raise ConfigurationError(f"the store ({where}) returned other bytes than were written to it")
        finally:
            with contextlib.suppress(StorageDenied):
                store.delete([key])
                deleted = True
            if container is not None and is_new:
                with contextlib.suppress(OSError):
                    container.rmdir()
    finally:
        store.close()
    took = time.monotonic() - began
    done = "wrote, read and deleted" if deleted else "wrote and read"
    yield Check(name="store", level="ok", message=f"{where}: {done} an object in {took * 1000:.0f} ms")
    if not deleted:
        yield Check(
            name="store deletion",
            level="warning",
            message=f"{where} does not let this service delete objects: backups can be taken, but never deleted",
            remedy="This is right for a locked store; for any other, give the service the right to delete.",
        )
    if (stall := settings.agent.stall_timeout) < storage.patience:
        yield Check(
            name="store",
            level="warning",
            message=f"agent.stall_timeout ({stall:.0f} s) is shorter than calls to the store are tried again "
            f"({storage.patience:.0f} s); jobs use the longer one",
            remedy="Raise agent.stall_timeout, or lower storage.retries or storage.timeout.",
        )
    if storage.driver == "directory" and storage.path is not None:
        free = measure_free_space(storage.path)
        if free < LITTLE_SPACE:
            yield Check(
                name="store space", level="warning", message=f"{where} has only {free / GB:.1f} GB free", remedy="Free space."
            )
        yield from _shared_disk(settings, storage.path, where)


def _missing_store(settings: Settings, path: Path) -> Iterator[Check]:
    """Before the first start of the service its store may be missing; later that is an error."""
    state = settings.service.data_dir
    if state.is_dir() and any(state.iterdir()):
        raise ConfigurationError(f"the store {path} does not exist", remedy="Mount it, or check [storage] path.")
    existing = next(p for p in path.absolute().parents if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the store {path} does not exist and cannot be created in {existing}",
            remedy="Create it for the user that runs strongroom, or name another in [storage] path.",
        )
    free = measure_free_space(existing)
    level: Level = "ok" if free >= LITTLE_SPACE else "warning"
    message, remedy = f"{path} is created at the first start, {free / GB:.1f} GB free", "" if level == "ok" else "Free space."
    yield Check(name="store", level=level, message=message, remedy=remedy)
    yield from _shared_disk(settings, existing, str(path))


def _shared_disk(settings: Settings, store: Path, where: str) -> Iterator[Check]:
    data_dir = settings.service.data_dir
    if data_dir.exists() and store.stat().st_dev == data_dir.stat().st_dev:
        yield Check(
            name="store place",
            level="warning",
            message=f"the store {where} is on the same file system as the databases: one broken disk destroys both",
            remedy="Put [storage] path on another disk, or use an object store.",
        )


def check_encryption(settings: Settings) -> Iterator[Check]:
    recipients, files = list(dict.fromkeys(settings.encryption.recipients)), settings.encryption.identity_files
    check_recipients(recipients)
    if not recipients:
        yield Check(name="encryption", level="ok", message="off: artifacts are stored unencrypted")
    else:
        yield Check(name="encryption", level="ok", message=f"on, for {_count(len(recipients), 'recipient')}")
    if files:
        known = recipients_of(load_identities(files))
        yield Check(name="identities", level="ok", message=f"{len(known)} found")
        if recipients and not set(recipients) & set(known):
            yield Check(
                name="identities",
                level="error",
                message="no identity matches one of the recipients: new backups could not be restored here",
                remedy="Name the file with the identity of one of the recipients in [encryption] identity_files.",
            )
        for path in files:
            if path.stat().st_mode & 0o077:
                yield Check(
                    name="identities", level="warning", message=f"{path} can be read by others", remedy=f"`chmod 600 {path}`."
                )
    elif recipients:
        yield Check(
            name="identities",
            level="warning",
            message="no identity files: backups can be taken here, but neither restored nor verified",
            remedy="Where restores run, name the files in [encryption] identity_files.",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
