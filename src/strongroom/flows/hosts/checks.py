"""What the service knows to be wrong with its hosts: other versions, servers that nobody knows, keys that are gone."""

from __future__ import annotations

from sqlalchemy import select

from strongroom import __version__
from strongroom.agent.checks import Check, CheckRequest
from strongroom.agent.models import ServerView
from strongroom.catalog import Host
from strongroom.flows.orders import storage_spec
from strongroom.flows.site import Control


def check_request(control: Control, project: str, host: str) -> CheckRequest:
    """What the host gets to look with: what jobs of the project would get."""
    by_token = control.settings.storage.by_token
    return CheckRequest(storage=None if by_token else storage_spec(control, project), embedded=control.embedded(host))


def host_problem(control: Control, row: Host) -> str:
    """One sentence on what is wrong with the host; nothing when all is well."""
    cause = control.presence.cause(row.name)
    if cause is not None:
        return cause.message
    version = (row.view or {}).get("version")
    if version and version != __version__:
        return f"its agent is of version {version}, the service of version {__version__}"
    if strangers := unknown_servers(control, row.name):
        return f"it runs servers that no instance stands for: {', '.join(view.name or view.id for view in strangers)}"
    return ""


def unknown_servers(control: Control, host: str) -> list[ServerView]:
    """Servers that the agent of the host has and no instance stands for."""
    return control.unknown.get(host, [])


def check_hosts(control: Control) -> list[Check]:
    """What is wrong with hosts, as seen from the service."""
    found = []
    with control.catalog.read() as session:
        rows = list(session.scalars(select(Host).order_by(Host.name)))
    for row in rows:
        cause = control.presence.cause(row.name)
        version = (row.view or {}).get("version")
        if cause is None and version and version != __version__:
            found.append(
                Check(
                    name=f"host {row.name}",
                    level="error",
                    message=f"its agent is of version {version}, the service of version {__version__}",
                    remedy="Install the same version on both, and restart the agent.",
                )
            )
        for view in unknown_servers(control, row.name):
            found.append(
                Check(
                    name=f"host {row.name}",
                    level="warning",
                    message=f"no instance stands for its server {view.name or view.id} ({view.id}, {view.datastore},"
                    f" {view.state}): it is not backed up",
                    remedy=f"`strongroom host reclaim {row.name} {view.id}` makes it an instance again, "
                    f"`strongroom host stop {row.name} {view.id}` stops it.",
                )
            )
    if control.lost_keys:
        found.append(Check(name="control plane", level="error", message=control.lost_keys, remedy=LOST_KEYS_REMEDY))
    return found


LOST_KEYS_REMEDY = (
    "Restore the directory from a backup and restart the service; or let each host join anew: `strongroom host add NAME`, then "
    "start its agent with the new token."
)
