"""Nodes that missed a restore of their cluster, and come back: they must never join or serve with what they have."""

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
    """Stop nodes of another epoch than their cluster's, whose agent does not start them again with the data that they have.

    One that missed a restore is told of the present epoch. One that has the data of a restore that was undone without it
    is ahead; `cluster recover` undoes it there, too.
    """
    if any(view.member for view in servers):
        try:
            strays = await asyncio.to_thread(_strays, site, servers)
        except DBAPIError as error:
            log.warning("the database does not answer", reason=str(error.orig))
            return
        await asyncio.gather(*(_stop(agent, view, member) for view, member in strays))


async def _stop(agent: AgentClient, view: ServerView, member: GaleraMember) -> None:
    try:
        if view.member and view.member.epoch < member.epoch:
            log.warning("a node missed a restore of its cluster and is fenced", server=view.id, cluster=member.cluster)
            await agent.put_galera(view.id, member)
        elif view.wanted == "running":
            log.warning("a node is of a restore that was undone and is fenced", server=view.id, cluster=member.cluster)
            await agent.stop_server(view.id)
    except StrongroomError as error:
        log.error("cannot fence a node", server=view.id, reason=error.message)


def _strays(site: Site, servers: Sequence[ServerView]) -> list[tuple[ServerView, GaleraMember]]:
    found = []
    with site.catalog.read() as session:
        for view in servers:
            instance = session.get(Instance, view.id) if view.member else None
            cluster = session.get(Cluster, instance.cluster_id) if instance and instance.cluster_id else None
            if view.member and cluster and cluster.task is None and view.member.epoch != cluster.epoch:
                found.append((view, view.member.model_copy(update={"epoch": cluster.epoch})))
    return found
