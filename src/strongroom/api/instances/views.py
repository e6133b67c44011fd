"""Representations of instances: Trove's fields, then those of Strongroom."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import Field
from sqlalchemy.orm import Session

from strongroom.api.http.caller import Caller
from strongroom.api.http.fields import GB, Link, View, format_iso, format_naive
from strongroom.api.instances.fault import wrap_message
from strongroom.catalog import Instance
from strongroom.catalog.queries import being_backed_up, newest_jobs, silent_hosts

STATES = {
    "new": "SHUTDOWN",
    "starting": "REBOOT",
    "running": "ACTIVE",
    "blocked": "BLOCKED",
    "standby": "STANDBY",
    "swapping": "RESTORE",
    "stopped": "SHUTDOWN",
    "failed": "ERROR",
}
"""``status`` of an instance without a task or a running backup, by the server's last known state."""


class Address(View):
    """An address of the instance."""

    address: str
    type: str
    network: str


class FlavorLink(View):
    """The flavor of an instance."""

    id: str
    links: list[Link]


class DatastoreOf(View):
    """The datastore of an instance: ``version`` is the series, ``version_number`` the full version."""

    type: str
    version: str
    version_number: str


class VolumeOf(View):
    """Requested and used size in GB."""

    size: int
    used: float = 0
    used_percent: float = 0
    wal_size: float = Field(0, description="GB of WAL; PostgreSQL only, like the next.")
    wal_archive_size: float = Field(0, description="GB of archived WAL on the volume: always 0.")


class Access(View):
    """Who may reach the instance from outside, as requested; the service manages no firewall."""

    is_public: bool = False
    allowed_cidrs: list[str] = Field(default_factory=list)


class Fault(View):
    """The last error."""

    message: str
    created: str
    details: str | None = None


class OldData(View):
    """A previous data directory that a restore in place kept."""

    name: str
    bytes: int
    since: str


class InstanceView(View):
    """An instance."""

    id: str
    name: str
    status: str = Field(description="Trove's values, and RESTORE during a restore in place.")
    operating_status: str
    created: str
    updated: str
    service_status_updated: str
    region: str
    flavor: FlavorLink
    datastore: DatastoreOf
    volume: VolumeOf
    access: Access
    links: list[Link]
    addresses: list[Address] = Field(default_factory=list, description="Missing until the server listens there, like `ip`.")
    ip: list[str] = Field(default_factory=list)
    fault: Fault | None = Field(None, description="Present only after an error; cleared by the next success.")
    tenant_id: str = Field("", description="This and the next five fields: administrators only.")
    server_id: str | None = None
    volume_id: str | None = None
    encrypted_rpc_messaging: bool = True
    host: str = Field("", description="Extension: its host.")
    socket: str | None = Field(None, description="Extension: path on the host.")
    cluster_id: str | None = Field(None, description="Its cluster; missing if it is not a node.")
    runtime: str = Field(description="Extension: process or adopted.")
    port: int | None = Field(description="Extension.")
    data_bytes: int = Field(description="Extension: bytes in the data directory.")
    old_data: list[OldData] = Field(description="Extension: previous data directories that restores in place kept.")
    isolated: bool = Field(description="Extension: a restored copy that contacts nobody until it is activated.")
    protected: bool = Field(description="Extension: it cannot be deleted until the protection is removed.")
    detail: str = Field(description="Extension: why the server is not healthy.")
    job_id: str | None = Field(description="Extension: the newest job on the instance.")


class OneInstance(View):
    """Reply about one instance."""

    instance: InstanceView


class ManyInstances(View):
    """Reply with a page of instances."""

    instances: list[InstanceView]
    links: list[Link] = Field(default_factory=list)


def make_views(session: Session, rows: Sequence[Instance], caller: Caller, region: str) -> list[InstanceView]:
    """The views of a page of instances."""
    ids = [row.id for row in rows]
    busy = being_backed_up(session)
    jobs = newest_jobs(session, Instance, ids)
    silent = silent_hosts(session)
    return [
        make_view(row, caller, region, job_id=jobs.get(row.id), backing_up=row.id in busy, silent=row.host in silent)
        for row in rows
    ]


def make_view(
    row: Instance, caller: Caller, region: str, *, job_id: str | None, backing_up: bool = False, silent: bool = False
) -> InstanceView:
    """The view of one instance."""
    fields: dict[str, Any] = {
        "id": row.id,
        "name": row.name,
        "status": choose_status(row, backing_up),
        "operating_status": choose_operating_status(row, silent),
        "created": format_naive(row.created),
        "updated": format_naive(row.updated),
        "service_status_updated": format_naive(row.seen or row.updated),
        "region": region,
        "flavor": {"id": row.flavor, "links": caller.links("flavors", row.flavor)},
        "datastore": {"type": row.datastore, "version": row.series, "version_number": row.version_number},
        "volume": _make_volume(row),
        "access": {"is_public": False, "allowed_cidrs": [], **row.request.get("access", {})},
        "links": caller.links("instances", row.id),
        "runtime": row.runtime,
        "port": row.port,
        "data_bytes": row.data_bytes,
        "old_data": [{"name": o["name"], "bytes": o["bytes"], "since": _format_aware(o["since"])} for o in row.old_data],
        "isolated": row.isolated,
        "protected": row.protected,
        "detail": row.detail,
        "job_id": job_id,
    }
    if row.address and row.task != "BUILD":
        fields["addresses"] = [{"address": row.address, "type": "private", "network": _find_network(row)}]
        fields["ip"] = [row.address]
    if row.cluster_id:
        fields["cluster_id"] = row.cluster_id
    if row.fault:
        fields["fault"] = make_fault_view(row.fault)
    if caller.principal.is_admin:
        placed = row.state != "new"
        fields["tenant_id"] = row.project
        fields["server_id"] = _derive_id("host", row.host) if placed else None
        fields["volume_id"] = _derive_id("volume", row.id) if placed else None
        fields["encrypted_rpc_messaging"] = True
        fields["host"] = row.host
        fields["socket"] = row.socket
    return InstanceView.model_validate(fields)  # with all that is in it in one pass


@lru_cache(4096)
def _derive_id(kind: str, name: str) -> str:
    """A stable id for something that has none."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"strongroom:{kind}:{name}"))


def _find_network(row: Instance) -> str:
    """The requested network, or else an id for the address pool of the host."""
    for nic in row.request.get("nics", []):
        if asked := nic.get("network_id") or nic.get("net-id"):
            return str(asked)
    return _derive_id("network", row.host)


def choose_status(row: Instance, backing_up: bool) -> str:
    """Trove's status of an instance."""
    if row.task is not None:
        return row.task
    return "BACKUP" if backing_up else STATES.get(row.state, "UNKNOWN")


def choose_operating_status(row: Instance, silent: bool) -> str:
    """The health of the server; empty during a task."""
    if row.task is not None or row.state in ("new", "starting", "swapping"):
        return ""
    if silent or row.state == "failed":
        return "ERROR"
    if row.state == "stopped":
        return "SHUTDOWN"
    return "HEALTHY" if row.healthy else "ERROR"


def _make_volume(row: Instance) -> dict[str, float]:
    if not row.data_bytes:
        return {"size": row.volume_size}
    used = row.data_bytes / GB
    volume = {"size": row.volume_size, "used": round(used, 2), "used_percent": round(100 * used / row.volume_size, 2)}
    if row.wal_bytes is not None:
        volume |= {"wal_size": round(row.wal_bytes / GB, 2), "wal_archive_size": 0.0}
    return volume


def _format_aware(time: str) -> str:
    return format_iso(datetime.fromisoformat(time))


def make_fault_view(fault: dict[str, Any]) -> Fault:
    """A fault in Trove's format."""
    message = wrap_message(fault["message"])
    details = [fault["message"]] if message.endswith("...") else []
    details += [fault["details"]] if fault.get("details") else []
    return Fault(
        message=message, created=format_naive(datetime.fromisoformat(fault["created"])), details="\n".join(details) or None
    )
