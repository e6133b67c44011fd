"""On which host a new instance goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import not_, select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Host, Instance
from strongroom.catalog.queries import in_order, silent_hosts
from strongroom.datastores import GALERA_PROGRAMS, GALERA_REMEDY, lacking
from strongroom.errors import NoRoom, NotFound, TooLarge, Unavailable, UnknownValue
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.site import Site

P = ParamSpec("P")
T = TypeVar("T")
MB = 1024**2
GB = 1024**3


@dataclass(frozen=True, slots=True)
class Need:
    """What an instance needs of its host. ``versions``: series, numbers or ids that must all be those of the version."""

    datastore: str
    versions: Sequence[str]
    ram: int = 0
    """MB; 0: it brings its own."""
    room: int = 0
    """Bytes of disk."""
    hosts: Sequence[str] = ()
    """Only these, if any are named."""
    beside: Sequence[str] = ()
    """Hosts of the other nodes of its cluster, each of which needs as much: it goes elsewhere if it can."""
    node: bool = False
    """It is to be a node of a cluster."""


def with_fresh_facts(function: Callable[Concatenate[Site, P], T]) -> Callable[Concatenate[Site, P], T]:
    """Try again with what hosts say now, when none has the room by what they said last: somebody may have made some since.

    For functions that hold no transaction when they are called, and run outside of the event loop.
    """

    @wraps(function)
    def attempt(site: Site, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(site, *args, **kwargs)
        except NoRoom:
            site.agents.ask()
            return function(site, *args, **kwargs)

    return attempt


def place(session: Session, site: Site, need: Need) -> tuple[str, dict[str, Any]]:
    """The host, and the version as its agent describes it: the newest that fits, on the host that is used least.

    Raises NotFound for an unknown datastore or host, InvalidRequest for an unknown version, Conflict with what each host lacks.
    """
    hosts = list(session.scalars(select(Host).order_by(Host.name)))
    if unknown := set(need.hosts) - {host.name for host in hosts}:
        raise NotFound(f"host {min(unknown)} cannot be found", remedy="See `strongroom host list`.")
    _refuse_unknown(hosts, need)
    silent, promised = silent_hosts(session), _promised(session, site)
    fitting: list[tuple[tuple[list[int], int, float, int], str, dict[str, Any]]] = []
    refusals: list[str] = []
    remedy = "Ask for less, make room, or add a host (`strongroom host add`)."
    for host in hosts:
        if need.hosts and host.name not in need.hosts:
            continue
        beside = need.beside.count(host.name)
        ram = promised.get(host.name, 0) + beside * need.ram
        version = max(_versions(host, need), key=lambda v: in_order(v["series"]), default=None)
        lacks = _lacks(host, need, version, ram, host.name in silent, site.settings.hosts.overcommit)
        if not lacks and version is not None and need.node and (missing := lacking(version.get("programs", GALERA_PROGRAMS))):
            lacks, remedy = f"has not got {' and '.join(missing)}", GALERA_REMEDY
        if lacks or version is None:
            refusals.append(f"{host.name} {lacks}")
            continue
        memory = host.view.get("memory_bytes", 0)
        used = ram * MB / memory if memory else 0.0
        worth = (in_order(version["series"]), -beside, -used, host.view.get("free_bytes", 0))
        fitting.append((worth, host.name, version))
    if not fitting:
        raise NoRoom(f"no host can take the instance: {'; '.join(refusals)}", remedy=remedy)
    _, name, version = max(fitting, key=lambda f: f[0])
    return name, version


def reader_of(session: Session, site: Site, backup: Backup) -> str:
    """Where to read the backup: the host of its instance, else one that has its database, else any. Raises Unavailable."""
    silent = silent_hosts(session)
    up = [name for name in site.agents.names if site.agents.embedded(name) or name not in silent]
    if not up:
        raise Unavailable("there is no host to do it: none has joined, or all are silent", remedy="See `strongroom host list`.")
    instance = session.get(Instance, backup.instance_id) if backup.instance_id else None
    if instance is not None and instance.host in up:
        return instance.host
    hosts = (session.get(Host, name) for name in up)
    need = Need(backup.datastore, [backup.series])
    return next((host.name for host in hosts if host is not None and _versions(host, need)), up[0])


def _versions(host: Host, need: Need) -> list[dict[str, Any]]:
    """Those installed there that will do."""
    return [
        found
        for found in host.view.get("versions", [])
        if need.datastore in (found["datastore"], version_id(found["datastore"]))
        and {found["series"], found["number"], version_id(found["datastore"], found["series"])}.issuperset(need.versions)
    ]


def _lacks(host: Host, need: Need, version: object, promised: int, silent: bool, overcommit: float) -> str:
    """Why the host cannot take it; empty when it can. What its agent does not tell is not held against it."""
    memory, free = host.view.get("memory_bytes", 0), host.view.get("free_bytes", 0)
    left = max(0, int(memory * overcommit / MB) - promised)
    if not host.view:
        return "has not joined"
    if version is None:
        return f"does not have {' '.join([need.datastore, *need.versions])}"
    if silent and host.url is not None:
        return "is silent"
    if need.ram and memory and need.ram > left:
        return f"has {left} MB of memory left for instances, not {need.ram} MB"
    if need.room > free:
        return f"has {free / GB:.1f} GB of disk free, not {need.room / GB:.1f} GB"
    return ""


def _promised(session: Session, site: Site) -> dict[str, int]:
    """MB of memory that the instances of each host may take, by their flavors."""
    flavors = site.settings.flavors
    found: dict[str, int] = {}
    ours = select(Instance.host, Instance.flavor).where(Instance.deleted.is_(None), not_(Instance.is_adopted))
    for host, flavor in session.execute(ours):
        found[host] = found.get(host, 0) + (flavors[flavor].ram if flavor in flavors else 0)
    return found


def _refuse_unknown(hosts: Sequence[Host], need: Need) -> None:
    """Raise unless the version is somewhere."""
    versions = [found for host in hosts for found in host.view.get("versions", [])]
    known = {f"{found['datastore']} {found['series']}" for found in versions}
    datastores = {found["datastore"] for found in versions}
    remedy = (
        f"Installed: {', '.join(sorted(known))}." if known else "No database is installed on any host: see `strongroom check`."
    )
    if need.datastore not in datastores | {version_id(name) for name in datastores}:
        raise NotFound(f"datastore {need.datastore} cannot be found", remedy=remedy)
    if not any(_versions(host, need) for host in hosts):
        raise UnknownValue(f"version {' '.join(need.versions)} of datastore {need.datastore} cannot be found", remedy=remedy)


ROOM = 512 * 1024**2
"""Bytes of disk that an empty instance needs to begin with; its volume is a limit, not a reservation."""


DEFAULT_VOLUME = 10
"""GB of a new instance that names no size."""


def volume_for(source: Backup, asked: int | None) -> int:
    """GB that an instance made of the backup is to have. Raises TooLarge when that is more than was asked for."""
    needed = max(1, math.ceil((source.data_size or 0) / GB))
    if asked is None:
        return max(DEFAULT_VOLUME, needed)
    if asked < needed:
        raise TooLarge(
            f"backup {source.name} ({source.id}) holds {needed} GB of data; it does not fit a volume of {asked} GB",
            remedy=f"Ask for --size {needed} or more.",
        )
    return asked
