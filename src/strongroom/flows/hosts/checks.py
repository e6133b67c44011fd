"""What the service knows to be wrong with its hosts: other versions, servers that nobody knows, keys that are gone."""

from __future__ import annotations

from sqlalchemy import select

from strongroom import __version__
from strongroom.agent.checks import Check, CheckRequest
from strongroom.agent.models import ServerView
from strongroom.catalog import Host
from strongroom.flows.site import Site


def check_request(site: Site, project: str, host: str) -> CheckRequest:
    """What the host gets to look with: what jobs of the project would get."""
    by_token = site.settings.storage.by_token
    return CheckRequest(storage=None if by_token else site.stores.spec_of_project(project), embedded=site.agents.embedded(host))


def host_problem(site: Site, row: Host) -> str:
    """One sentence on what is wrong with the host; nothing when all is well."""
    cause = site.agents.presence.cause(row.name)
    if cause is not None:
        return cause.message
    version = (row.view or {}).get("version")
    if version and version != __version__:
        return f"its agent is of version {version}, the service of version {__version__}"
    if strangers := unknown_servers(site, row.name):
        return f"it runs servers that no instance stands for: {', '.join(view.name or view.id for view in strangers)}"
    return ""


def unknown_servers(site: Site, host: str) -> list[ServerView]:
    """Servers that the agent of the host has and no instance stands for."""
    return site.agents.unknown.get(host, [])


def check_hosts(site: Site) -> list[Check]:
    """What is wrong with hosts, as seen from the service."""
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
                    message=f"its agent is of version {version}, the service of version {__version__}",
                    remedy="Install the same version on both, and restart the agent.",
                )
            )
        for view in unknown_servers(site, row.name):
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
    if site.agents.lost_keys:
        found.append(Check(name="control plane", level="error", message=site.agents.lost_keys, remedy=LOST_KEYS_REMEDY))
    return found


LOST_KEYS_REMEDY = (
    "Restore the directory from a backup and restart the service; or let each host join anew: `strongroom host add NAME`, then "
    "start its agent with the new token."
)
