"""Asks agents for the current state of servers before a request is refused because of the last known one."""

from __future__ import annotations

from collections.abc import Callable

from strongroom.catalog import Instance
from strongroom.catalog.find import find_cluster, find_instance, nodes_of
from strongroom.flows.site import Site


def is_running(row: Instance) -> bool:
    """Whether its server ran when it was last seen."""
    return row.state == "running"


def refresh_instance(site: Site, project: str | None, instance: str, *, unless: Callable[[Instance], bool] = is_running) -> None:
    """Ask the agent for the state of the server, unless what the catalog knows suffices. Not for the event loop.

    Raises NotFound, Conflict.
    """
    with site.catalog.read() as session:
        row = find_instance(session, project, instance)
    if row.task is None and not unless(row):
        _ask(site, row)


def refresh_nodes(site: Site, project: str, cluster: str, *, unless: Callable[[Instance], bool]) -> None:
    """Ask for the state of the nodes of which the catalog does not know enough. Raises NotFound, Conflict."""
    with site.catalog.read() as session:
        nodes = nodes_of(session, find_cluster(session, project, cluster).id)
    for node in nodes:
        if not unless(node):
            _ask(site, node)


def _ask(site: Site, row: Instance) -> None:
    """Not of a host that does not answer anyway: the request would only wait."""
    if site.agents.presence.cause(row.host) is None:
        site.agents.ask_server(row.host, row.id)
