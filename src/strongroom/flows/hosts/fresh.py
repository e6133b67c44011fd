"""Queries the state of servers again before a request is refused because of the last known state."""

from __future__ import annotations

from collections.abc import Callable

from strongroom.catalog import Instance
from strongroom.catalog.find import find_cluster, find_instance, nodes_of
from strongroom.flows.site import Site


def is_running(row: Instance) -> bool:
    """Whether its server was running when it was last seen."""
    return row.state == "running"


def refresh_instance(site: Site, project: str | None, instance: str, *, unless: Callable[[Instance], bool] = is_running) -> None:
    """Query the state of the server, unless the state in the catalog suffices. Not on the event loop.

    Raises NotFound, Conflict.
    """
    with site.catalog.read() as session:
        row = find_instance(session, project, instance)
    if row.task is None and not unless(row):
        _query(site, row)


def refresh_nodes(site: Site, project: str, cluster: str, *, unless: Callable[[Instance], bool]) -> None:
    """Query the state of the nodes for which the state in the catalog does not suffice. Raises NotFound, Conflict."""
    with site.catalog.read() as session:
        nodes = nodes_of(session, find_cluster(session, project, cluster).id)
    for node in nodes:
        if not unless(node):
            _query(site, node)


def _query(site: Site, row: Instance) -> None:
    """Query the server, unless its host is unreachable: the query would only wait."""
    if site.agents.presence.cause(row.host) is None:
        site.agents.ask_server(row.host, row.id)
