"""Chooses the host of a new instance."""

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
from strongroom.datastores import GALERA_PROGRAMS, GALERA_REMEDY, list_missing
from strongroom.errors import NoRoom, NotFound, TooLarge, Unavailable, UnknownValue
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.site import Site

P = ParamSpec("P")
T = TypeVar("T")
MB = 1024**2
GB = 1024**3


@dataclass(frozen=True, slots=True)
class Need:
    """What an instance needs from its host. ``versions``: series, full versions or ids, which must all match."""

    datastore: str
    versions: Sequence[str]
    ram: int = 0
    """MB of memory; 0 for an adopted server."""
    disk: int = 0
    """Bytes of disk."""
    hosts: Sequence[str] = ()
    """If any are named, only these hosts are considered."""
    beside: Sequence[str] = ()
    """Hosts of the other nodes of its cluster, which have the same needs. Other hosts are preferred."""
    node: bool = False
    """The instance will be a node of a cluster."""


def with_fresh_facts(function: Callable[Concatenate[Site, P], T]) -> Callable[Concatenate[Site, P], T]:
    """Query all hosts and call the function again if no host had enough capacity according to its last facts.

    For functions that are called without an open transaction and outside the event loop.
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
    """The host, and the version as its agent describes it: the newest matching version on the least used host.

    Raises NotFound for an unknown datastore or host, InvalidRequest for an unknown version, Conflict with what each host lacks.
    """
    hosts = list(session.scalars(select(Host).order_by(Host.name)))
    if unknown := set(need.hosts) - {host.name for host in hosts}:
        raise NotFound(f"host {min(unknown)} cannot be found", remedy="See `strongroom host list`.")
    _refuse_unknown(hosts, need)
    silent, promised = silent_hosts(session), _promised(session, site)
    candidates: list[tuple[tuple[list[int], int, float, int], str, dict[str, Any]]] = []
    refusals: list[str] = []
    remedy = "Request less, free some capacity, or add a host (`strongroom host add`)."
    for host in hosts:
        if need.hosts and host.name not in need.hosts:
            continue
        beside = need.beside.count(host.name)
        ram = promised.get(host.name, 0) + beside * need.ram
        version = max(_versions(host, need), key=lambda v: in_order(v["series"]), default=None)
        lack = _describe_lack(host, need, version, ram, host.name in silent, site.settings.hosts.overcommit)
        if not lack and version is not None and need.node and (missing := list_missing(version.get("programs", GALERA_PROGRAMS))):
            lack, remedy = f"lacks {' and '.join(missing)}", GALERA_REMEDY
        if lack or version is None:
            refusals.append(f"{host.name} {lack}")
            continue
        memory = host.view.get("memory_bytes", 0)
        used = ram * MB / memory if memory else 0.0
        rank = (in_order(version["series"]), -beside, -used, host.view.get("free_bytes", 0))
        candidates.append((rank, host.name, version))
    if not candidates:
        raise NoRoom(f"no host can run the instance: {'; '.join(refusals)}", remedy=remedy)
    _, name, version = max(candidates, key=lambda candidate: candidate[0])
    return name, version


def reader_of(session: Session, site: Site, backup: Backup) -> str:
    """The host to read the backup on: that of its instance, else one with its datastore, else any. Raises Unavailable."""
    silent = silent_hosts(session)
    up = [name for name in site.agents.names if site.agents.embedded(name) or name not in silent]
    if not up:
        raise Unavailable("no host is available: none has joined, or all are unreachable", remedy="See `strongroom host list`.")
    instance = session.get(Instance, backup.instance_id) if backup.instance_id else None
    if instance is not None and instance.host in up:
        return instance.host
    hosts = (session.get(Host, name) for name in up)
    need = Need(backup.datastore, [backup.series])
    return next((host.name for host in hosts if host is not None and _versions(host, need)), up[0])


def _versions(host: Host, need: Need) -> list[dict[str, Any]]:
    """The matching versions that are installed on the host."""
    return [
        found
        for found in host.view.get("versions", [])
        if need.datastore in (found["datastore"], version_id(found["datastore"]))
        and {found["series"], found["number"], version_id(found["datastore"], found["series"])}.issuperset(need.versions)
    ]


def _describe_lack(host: Host, need: Need, version: object, promised: int, silent: bool, overcommit: float) -> str:
    """Why the host cannot run the instance; empty if it can. An unknown size of its memory is no reason."""
    memory, free = host.view.get("memory_bytes", 0), host.view.get("free_bytes", 0)
    left = max(0, int(memory * overcommit / MB) - promised)
    if not host.view:
        return "has not joined"
    if version is None:
        return f"does not have {' '.join([need.datastore, *need.versions])}"
    if silent and host.url is not None:
        return "is unreachable"
    if need.ram and memory and need.ram > left:
        return f"has {left} MB of memory left for instances, not {need.ram} MB"
    if need.disk > free:
        return f"has {free / GB:.1f} GB of disk free, not {need.disk / GB:.1f} GB"
    return ""


def _promised(session: Session, site: Site) -> dict[str, int]:
    """MB of memory that the instances of each host may use, by their flavors."""
    flavors = site.settings.flavors
    found: dict[str, int] = {}
    managed = select(Instance.host, Instance.flavor).where(Instance.deleted.is_(None), not_(Instance.is_adopted))
    for host, flavor in session.execute(managed):
        found[host] = found.get(host, 0) + (flavors[flavor].ram if flavor in flavors else 0)
    return found


def _refuse_unknown(hosts: Sequence[Host], need: Need) -> None:
    """Raise NotFound or UnknownValue if no host has the version."""
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


INITIAL_DISK = 512 * 1024**2
"""Bytes of disk that an empty instance needs at first; its volume is a limit, not a reservation."""


DEFAULT_VOLUME = 10
"""Size in GB of a new instance whose request names none."""


def volume_for(source: Backup, requested: int | None) -> int:
    """Size in GB of an instance with the data of the backup. Raises TooLarge if ``requested`` is too small."""
    needed = max(1, math.ceil((source.data_size or 0) / GB))
    if requested is None:
        return max(DEFAULT_VOLUME, needed)
    if requested < needed:
        raise TooLarge(
            f"backup {source.name} ({source.id}) has {needed} GB of data, which does not fit into a volume of {requested} GB",
            remedy=f"Specify --size {needed} or more.",
        )
    return requested
