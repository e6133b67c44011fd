"""Fences nodes that missed a restore of their cluster: they must never join or serve with their previous data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.catalog import Cluster, Instance
from strongroom.datastores import GaleraMember
from strongroom.errors import StrongroomError
from strongroom.flows.site import Site

log = structlog.get_logger()


async def fence(site: Site, agent: AgentClient, servers: Sequence[ServerView]) -> None:
    """Stop nodes whose epoch is not that of their cluster, so that their agent does not start them with their data again.

    A node that missed a restore gets the current epoch. A node that has the data of an undone restore is ahead; `cluster
    recover` undoes the restore on it, too.
    """
    if any(view.member for view in servers):
        try:
            outdated = await asyncio.to_thread(_find_outdated, site, servers)
        except DBAPIError as error:
            log.warning("the database does not answer", reason=str(error.orig))
            return
        await asyncio.gather(*(_stop(agent, view, member) for view, member in outdated))


async def _stop(agent: AgentClient, view: ServerView, member: GaleraMember) -> None:
    try:
        if view.member and view.member.epoch < member.epoch:
            log.warning("fencing a node that missed a restore of its cluster", server=view.id, cluster=member.cluster)
            await agent.put_galera(view.id, member)
        elif view.wanted == "running":
            log.warning("fencing a node with the data of an undone restore", server=view.id, cluster=member.cluster)
            await agent.stop_server(view.id)
    except StrongroomError as error:
        log.error("cannot fence a node", server=view.id, reason=error.message)


def _find_outdated(site: Site, servers: Sequence[ServerView]) -> list[tuple[ServerView, GaleraMember]]:
    found = []
    with site.catalog.read() as session:
        for view in servers:
            instance = session.get(Instance, view.id) if view.member else None
            cluster = session.get(Cluster, instance.cluster_id) if instance and instance.cluster_id else None
            if view.member and cluster and cluster.task is None and view.member.epoch != cluster.epoch:
                found.append((view, view.member.model_copy(update={"epoch": cluster.epoch})))
    return found
