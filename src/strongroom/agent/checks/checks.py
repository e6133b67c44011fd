"""Look at a host before it is needed: configuration, tools, store, permissions; and say what to do."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from strongroom import datastores
from strongroom.agent.host.addresses import Addresses
from strongroom.agent.host.limits import AIO_REMEDY, free_aio_events
from strongroom.agent.host.stores import store_group
from strongroom.agent.host.users import choose_server_user
from strongroom.agent.host.versions import list_versions
from strongroom.agent.registry import Registry
from strongroom.agent.runtimes import Home
from strongroom.artifact import Effect, check_recipients, load_identities, recipients_of
from strongroom.datastores import Server
from strongroom.errors import ConfigurationError, StorageDenied, StrongroomError
from strongroom.settings import Settings
from strongroom.storage import open_store
from strongroom.system.disks import measure_free_space
from strongroom.worker.spec import StorageSpec

Level = Literal["ok", "warning", "error"]
GB = 1024**3
FEW_FILES = 65536
FEW_SERVERS = 3
TOLERANCE = 120.0
"""Seconds that a file may be from the future."""


NOTICES: dict[Effect, tuple[Level, str]] = {
    "refuse": ("error", "it cannot be backed up: "),
    "refuse_in_place": ("warning", "it cannot be restored in place: "),
    "refuse_new": ("warning", "it cannot be restored to a new instance: "),
    "warn": ("warning", ""),
}
"""How a notice of a profile is shown."""


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    level: Level
    message: str
    remedy: str = ""


class CheckRequest(BaseModel):
    """Body of ``POST /checks``: what the control plane gives workers to work with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    storage: StorageSpec | None = Field(None, description="None: used with the tokens of those who ask, so not tried.")
    embedded: bool = Field(False, description="The agent is part of the service, and has its configuration.")


def check_service(settings: Settings) -> list[Check]:
    """Look at what only the service itself has: keys for encryption. Never raises."""
    return _run([("encryption", _encryption)], settings)


def check_host(settings: Settings, request: CheckRequest) -> list[Check]:
    """Look at a host as the jobs of the control plane would find it; never raises.

    Writes, reads and deletes one small object in the store, and changes nothing else.
    """

    def store(_settings: Settings) -> Iterator[Check]:
        if request.storage is None:
            yield Check(name="store", level="ok", message="used with the tokens of those who ask, so not tried here")
        else:
            yield from _store(settings, request.storage)

    unused = [] if request.embedded else [("configuration", _unused)]
    return _run([*_OF_HOST, *unused, ("store", store)], settings)


def run_checks(settings: Settings) -> list[Check]:
    """Look at everything on one machine without a service; never raises."""
    storage = settings.storage.model_copy(update={"path": settings.store_path.absolute()})
    spec = None if storage.by_token else StorageSpec(**{name: getattr(storage, name) for name in type(storage).model_fields})
    return [*check_host(settings, CheckRequest(storage=spec, embedded=True)), *check_service(settings)]


_Look = tuple[str, Callable[[Settings], Iterator[Check]]]


def _run(looks: Sequence[_Look], settings: Settings) -> list[Check]:
    found: list[Check] = []
    for name, look in looks:
        try:
            found.extend(look(settings))
        except StrongroomError as error:
            found.append(Check(name=name, level="error", message=error.message, remedy=error.remedy))
        except OSError as error:
            found.append(Check(name=name, level="error", message=f"cannot be looked at: {error}"))
    return found


UNUSED = ("storage", "encryption", "artifact")
"""Sections that only the service itself has a use for: workers get what the control plane sends."""


def is_set(settings: Settings, section: str) -> bool:
    """Whether the configuration says anything in the section."""
    return bool(getattr(settings, section).model_dump(exclude_defaults=True))


def _unused(settings: Settings) -> Iterator[Check]:
    for section in UNUSED:
        if is_set(settings, section):
            yield Check(
                name="configuration",
                level="warning",
                message=f"[{section}] in the configuration of this host has no effect: jobs use that of the control plane",
                remedy=f"Remove [{section}] here, and set it in the configuration of `strongroom serve`.",
            )


def _datastores(settings: Settings) -> Iterator[Check]:
    versions = list_versions(settings)
    if not versions:
        yield Check(
            name="datastores",
            level="error",
            message="no database is installed on this host, or its backup tool is missing",
            remedy="Debian: apt-get install mariadb-server mariadb-backup, or postgresql. Else name the place in [datastores].",
        )
    for version in versions:
        programs = ", ".join(str(path) for path in version.programs.values())
        name = f"{version.datastore} {version.series}"
        yield Check(name=name, level="ok", message=f"version {version.number}: {programs}")
        if datastores.get(version.datastore).galera and (missing := datastores.lacking(version.programs)):
            what = f"no nodes of Galera clusters here: {' and '.join(missing)} are missing"
            yield Check(name=name, level="ok", message=what, remedy=datastores.GALERA_REMEDY)
    for name in sorted({version.datastore for version in versions}):
        account = choose_server_user(settings, datastores.get(name))
        yield Check(name=f"{name} user", level="ok", message=f"servers and tools run as {account.name} (uid {account.uid})")


def _tools(_settings: Settings) -> Iterator[Check]:
    where = shutil.which("setpriv")
    if where is None:
        raise ConfigurationError(
            "setpriv is not installed: without it tools could outlive a killed worker", remedy="Install util-linux."
        )
    yield Check(name="tools", level="ok", message=f"setpriv: {where}")


def _data_dir(settings: Settings) -> Iterator[Check]:
    path = settings.service.data_dir
    name = "data directory"
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if existing != path and not os.access(existing, os.W_OK):
        raise ConfigurationError(
            f"{path} does not exist and cannot be made in {existing}",
            remedy="Make it for the user that runs strongroom, or use --data-dir.",
        )
    if existing == path and not (path.is_dir() and os.access(path, os.R_OK | os.W_OK | os.X_OK)):
        raise ConfigurationError(
            f"{path} is not a directory that we may write", remedy="Give it to the user that runs strongroom."
        )
    if os.geteuid() == 0:
        for parent in path.absolute().parents:
            if parent.exists() and not parent.stat().st_mode & 0o001:
                raise ConfigurationError(
                    f"database servers run as another user and cannot reach {path}: {parent} is closed to others",
                    remedy=f"Use a data directory outside of {parent}, or `chmod o+x {parent}`.",
                )
    free = measure_free_space(existing)
    if free < GB:
        yield Check(name=name, level="warning", message=f"{path} has only {free / GB:.1f} GB free", remedy="Restores need room.")
    else:
        yield Check(name=name, level="ok", message=f"{path}, {free / GB:.1f} GB free")


def _store(settings: Settings, storage: StorageSpec) -> Iterator[Check]:
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
                raise ConfigurationError(f"the store ({where}) gives back other bytes than it was given")
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
            message=f"{where} does not let this service delete objects: backups can be taken, and stay whatever is asked for",
            remedy="That is as it should be in a store that is locked; elsewhere give the service the right to delete.",
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
        if free < GB:
            yield Check(
                name="store space", level="warning", message=f"{where} has only {free / GB:.1f} GB free", remedy="Make room."
            )
        yield from _shared_disk(settings, storage.path, where)


def _missing_store(settings: Settings, path: Path) -> Iterator[Check]:
    """Before the service has run for the first time the directory need not be there; after that its loss is an error."""
    state = settings.service.data_dir
    if state.is_dir() and any(state.iterdir()):
        raise ConfigurationError(f"the store {path} does not exist", remedy="Mount it, or check [storage] path.")
    existing = next(p for p in path.absolute().parents if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the store {path} does not exist and cannot be made in {existing}",
            remedy="Make it for the user that runs strongroom, or name another in [storage] path.",
        )
    free = measure_free_space(existing)
    level: Level = "ok" if free >= GB else "warning"
    message, remedy = f"{path} is made at the first start, {free / GB:.1f} GB free", "" if level == "ok" else "Make room."
    yield Check(name="store", level=level, message=message, remedy=remedy)
    yield from _shared_disk(settings, existing, str(path))


def _shared_disk(settings: Settings, store: Path, where: str) -> Iterator[Check]:
    data_dir = settings.service.data_dir
    if data_dir.exists() and store.stat().st_dev == data_dir.stat().st_dev:
        yield Check(
            name="store place",
            level="warning",
            message=f"the store {where} is on the same file system as the databases: one broken disk takes both",
            remedy="Put [storage] path on another disk, or use an object store.",
        )


def _encryption(settings: Settings) -> Iterator[Check]:
    recipients, files = list(dict.fromkeys(settings.encryption.recipients)), settings.encryption.identity_files
    check_recipients(recipients)
    if not recipients:
        yield Check(name="encryption", level="ok", message="off: artifacts are stored in the clear")
    else:
        yield Check(name="encryption", level="ok", message=f"on, for {_count(len(recipients), 'recipient')}")
    if files:
        known = recipients_of(load_identities(files))
        yield Check(name="identities", level="ok", message=f"{len(known)} found")
        if recipients and not set(recipients) & set(known):
            yield Check(
                name="identities",
                level="error",
                message="no identity opens what is encrypted for the recipients: new backups could not be restored here",
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
            message="no identity files: backups can be taken here, and neither restored nor verified",
            remedy="Where restores run, name the files in [encryption] identity_files.",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _pool(settings: Settings) -> Iterator[Check]:
    for port in sorted({datastores.get(name).default_port for name in datastores.names()}):
        addresses = Addresses(settings.agent.pool)
        address = addresses.allocate(port, ())
        addresses.close()
        yield Check(name="addresses", level="ok", message=f"pool {settings.agent.pool}: {address}:{port} is free")


def _adopted(settings: Settings) -> Iterator[Check]:
    """What servers that somebody else has set up lack for backups."""
    records = settings.service.data_dir / "agent" / "servers"
    if not records.is_dir():
        return
    home = Home(settings, Registry(records), settings.service.data_dir / "instances", Addresses(settings.agent.pool))
    home.registry.load()
    for record in home.registry.all():
        if record.is_adopted:
            yield from check_server(home.describe_server(record))


def check_server(server: Server) -> Iterator[Check]:
    """What stops or limits backups and restores of a server: what it lacks, and what its profile says. Never raises."""
    name, seen = f"server {server.name or server.id}", set()
    datastore = datastores.get(server.datastore)
    try:
        for finding in datastore.examine(server) if server.is_adopted else ():
            seen.add(finding.message)
            yield Check(name=name, **finding.model_dump())
        profile = datastore.profiles.read(server)
    except StrongroomError as error:
        if error.message not in seen:
            yield Check(name=name, level="error", message=error.message, remedy=error.remedy)
        return
    for notice in profile.notices:
        level, prefix = NOTICES[notice.effect]
        if notice.message not in seen:
            seen.add(notice.message)
            yield Check(name=name, level=level, message=f"{prefix}{notice.message}", remedy=notice.remedy)
    for sentence in profile.absent:
        yield Check(name=name, level="warning", message=f"not in its backups: {sentence}")


def _clock(settings: Settings) -> Iterator[Check]:
    now, newest = time.time(), 0.0
    path = settings.service.data_dir
    for entry in (p for top in (path, path / "agent" / "jobs") if top.is_dir() for p in top.iterdir()):
        newest = max(newest, entry.lstat().st_mtime)
    if newest > now + TOLERANCE:
        yield Check(
            name="clock",
            level="warning",
            message=f"the clock was moved back: there are files from {(newest - now) / 60:.0f} minutes in the future",
            remedy="Let NTP keep the clock. Times of backups and their order depend on it.",
        )
    elif now < _built():
        yield Check(
            name="clock", level="error", message="the clock is before the installation of this program", remedy="Set the clock."
        )
    else:
        yield Check(name="clock", level="ok", message=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))


def _built() -> float:
    return Path(__file__).stat().st_mtime - TOLERANCE


def _limits(settings: Settings) -> Iterator[Check]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield Check(
            name="limits",
            level="warning",
            message=f"a process may open {hard} files; a backup opens every table",
            remedy=f"Raise it: LimitNOFILE={FEW_FILES * 16} in the systemd unit, or `ulimit -n`.",
        )
    else:
        yield Check(name="limits", level="ok", message="enough open files")
    free = free_aio_events()
    for name in sorted({version.datastore for version in list_versions(settings)}):
        needed = datastores.get(name).capabilities.aio_events
        if needed and free is not None and free < FEW_SERVERS * needed:
            left = free // needed or "no"
            yield Check(
                name="limits",
                level="warning" if free >= needed else "error",
                message=f"fs.aio-max-nr is nearly used up: {left} more servers of {name} can be started ({free} events)",
                remedy=AIO_REMEDY,
            )


_OF_HOST: tuple[_Look, ...] = (
    ("datastores", _datastores),
    ("tools", _tools),
    ("data directory", _data_dir),
    ("addresses", _pool),
    ("adopted servers", _adopted),
    ("clock", _clock),
    ("limits", _limits),
)
