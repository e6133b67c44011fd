"""Checks of the service for its hosts: versions, unknown servers, lost keys."""

from __future__ import annotations

from sqlalchemy import select

from strongroom import __version__
from strongroom.agent.checks import Check, CheckRequest
from strongroom.agent.models import ServerView
from strongroom.catalog import Host
from strongroom.flows.site import Site


def check_request(site: Site, project: str, host: str) -> CheckRequest:
    """The request for the checks of a host, with the store that jobs of the project would use."""
    by_token = site.settings.storage.by_token
    return CheckRequest(storage=None if by_token else site.stores.spec_of_project(project), embedded=site.agents.embedded(host))


def host_problem(site: Site, row: Host) -> str:
    """One sentence about a problem of the host; empty if there is none."""
    cause = site.agents.presence.cause(row.name)
    if cause is not None:
        return cause.message
    version = (row.view or {}).get("version")
    if version and version != __version__:
        return f"its agent has version {version}, the service has version {__version__}"
    if unknown := unknown_servers(site, row.name):
        return f"it runs servers that belong to no instance: {', '.join(view.name or view.id for view in unknown)}"
    return ""


def unknown_servers(site: Site, host: str) -> list[ServerView]:
    """Servers of the host's agent that belong to no instance."""
    return site.agents.unknown.get(host, [])


def check_hosts(site: Site) -> list[Check]:
    """Problems of hosts that the service knows."""
    found = []
    with site.catalog.read() as session:
        rows = list(session.scalars(select(Host).order_by(Host.name)))
    for row in rows:
        cause = site.agents.presence.cause(row.name)
        version = (row.view or {}).get("version")
        if cause is None and version and version != __version__:
            found.append(
                Check(
                    name=f"host {row.name}",
                    level="error",
                    message=f"its agent has version {version}, the service has version {__version__}",
                    remedy="Install the same version on both, and restart the agent.",
                )
            )
        for view in unknown_servers(site, row.name):
            found.append(
                Check(
                    name=f"host {row.name}",
                    level="warning",
                    message=f"its server {view.name or view.id} ({view.id}, {view.datastore}, {view.state}) belongs to no "
                    "instance, so it is not backed up",
                    remedy=f"Make it an instance again (`strongroom host reclaim {row.name} {view.id}`), or stop it "
                    f"(`strongroom host stop {row.name} {view.id}`).",
                )
            )
    if site.agents.lost_keys:
        found.append(Check(name="control plane", level="error", message=site.agents.lost_keys, remedy=LOST_KEYS_REMEDY))
    return found


LOST_KEYS_REMEDY = (
    "Restore the directory from a backup and restart the service; or let each host join again: `strongroom host add NAME`, "
    "then start its agent with the new token."
)
