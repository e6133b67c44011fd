"""Checks of a host: installed databases, tools, directories, addresses, clock, limits."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from strongroom import datastores
from strongroom.agent.checks.check import GB, LITTLE_SPACE, Check
from strongroom.agent.host.addresses import Addresses
from strongroom.agent.host.limits import AIO_REMEDY, free_aio_events
from strongroom.agent.host.users import choose_server_user
from strongroom.agent.host.versions import list_versions
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings
from strongroom.system.disks import measure_free_space

UNUSED = ("storage", "encryption", "artifact")
"""Sections that only the service itself uses: workers get what the control plane sends."""
FEW_FILES = 65536
FEW_SERVERS = 3
TOLERANCE = 120.0
"""Seconds that a file may be from the future."""


def is_set(settings: Settings, section: str) -> bool:
    """Whether the configuration sets an option of the section."""
    return bool(getattr(settings, section).model_dump(exclude_defaults=True))


def check_unused(settings: Settings) -> Iterator[Check]:
    for section in UNUSED:
        if is_set(settings, section):
            yield Check(
                name="configuration",
                level="warning",
                message=f"[{section}] in the configuration of this host has no effect: jobs use that of the control plane",
                remedy=f"Remove [{section}] here, and set it in the configuration of `strongroom serve`.",
            )


def check_datastores(settings: Settings) -> Iterator[Check]:
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
        if datastores.get(version.datastore).clusters and (missing := datastores.list_missing(version.programs)):
            what = f"no nodes of Galera clusters here: {' and '.join(missing)} are missing"
            yield Check(name=name, level="ok", message=what, remedy=datastores.GALERA_REMEDY)
    for name in sorted({version.datastore for version in versions}):
        account = choose_server_user(settings, datastores.get(name))
        yield Check(name=f"{name} user", level="ok", message=f"servers and tools run as {account.name} (uid {account.uid})")


def check_tools(_settings: Settings) -> Iterator[Check]:
    where = shutil.which("setpriv")
    if where is None:
        raise ConfigurationError(
            "setpriv is not installed: without it tools could outlive a killed worker", remedy="Install util-linux."
        )
    yield Check(name="tools", level="ok", message=f"setpriv: {where}")


def check_data_dir(settings: Settings) -> Iterator[Check]:
    path = settings.service.data_dir
    name = "data directory"
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if existing != path and not os.access(existing, os.W_OK):
        raise ConfigurationError(
            f"{path} does not exist and cannot be created in {existing}",
            remedy="Create it for the user that runs strongroom, or use --data-dir.",
        )
    if existing == path and not (path.is_dir() and os.access(path, os.R_OK | os.W_OK | os.X_OK)):
        raise ConfigurationError(
            f"{path} is not a directory that this process may write to", remedy="Give it to the user that runs strongroom."
        )
    if os.geteuid() == 0:
        for parent in path.absolute().parents:
            if parent.exists() and not parent.stat().st_mode & 0o001:
                raise ConfigurationError(
                    f"database servers run as another user and cannot reach {path}: {parent} is closed to others",
                    remedy=f"Use a data directory outside of {parent}, or `chmod o+x {parent}`.",
                )
    free = measure_free_space(existing)
    if free < LITTLE_SPACE:
        yield Check(name=name, level="warning", message=f"{path} has only {free / GB:.1f} GB free", remedy="Free space.")
    else:
        yield Check(name=name, level="ok", message=f"{path}, {free / GB:.1f} GB free")


def check_pool(settings: Settings) -> Iterator[Check]:
    for port in sorted({datastores.get(name).default_port for name in datastores.list_names()}):
        addresses = Addresses(settings.agent.pool)
        address = addresses.allocate(port, ())
        addresses.close()
        yield Check(name="addresses", level="ok", message=f"pool {settings.agent.pool}: {address}:{port} is free")


def check_clock(settings: Settings) -> Iterator[Check]:
    now, newest = time.time(), 0.0
    path = settings.service.data_dir
    for entry in (p for top in (path, path / "agent" / "jobs") if top.is_dir() for p in top.iterdir()):
        newest = max(newest, entry.lstat().st_mtime)
    if newest > now + TOLERANCE:
        yield Check(
            name="clock",
            level="warning",
            message=f"the clock was moved back: some files are {(newest - now) / 60:.0f} minutes in the future",
            remedy="Use NTP: the times of backups and their order depend on the clock.",
        )
    elif now < _built():
        yield Check(
            name="clock", level="error", message="the clock is before the installation of this program", remedy="Set the clock."
        )
    else:
        yield Check(name="clock", level="ok", message=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))


def _built() -> float:
    return Path(__file__).stat().st_mtime - TOLERANCE


def check_limits(settings: Settings) -> Iterator[Check]:
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
                message=f"fs.aio-max-nr is nearly exhausted: {left} more servers of {name} can be started ({free} events)",
                remedy=AIO_REMEDY,
            )
