"""Nodes that missed a restore of their cluster, and come back: they must never join or serve with what they have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.catalog import Cluster, Instance
from strongroom.datastores import GaleraMember
from strongroom.errors import StrongroomError
from strongroom.flows._control import Control

log = structlog.get_logger()


async def fence(control: Control, agent: AgentClient, servers: Sequence[ServerView]) -> None:
    """Tell nodes of an older epoch of the present one: their agent stops them, and does not start them with their old data."""
    if not any(view.member for view in servers):
        return
    for server_id, member in (await asyncio.to_thread(_behind, control, servers)).items():
        log.warning("a node missed a restore of its cluster and is fenced", server=server_id, cluster=member.cluster)
        try:
            await agent.put_galera(server_id, member)
        except StrongroomError as error:
            log.error("cannot fence a node", server=server_id, reason=error.message)


def _behind(control: Control, servers: Sequence[ServerView]) -> dict[str, GaleraMember]:
    found = {}
    with control.catalog.read() as session:
        for view in servers:
            instance = session.get(Instance, view.id) if view.member else None
            cluster = session.get(Cluster, instance.cluster_id) if instance and instance.cluster_id else None
            if view.member and cluster and cluster.task is None and view.member.epoch < cluster.epoch:
                found[view.id] = view.member.model_copy(update={"epoch": cluster.epoch})
    return found
