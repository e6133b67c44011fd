"""Resize an instance: the limit of its data, the memory of its server."""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from strongroom.agent.models import ServerView
from strongroom.catalog import Instance, Job, now, quotas
from strongroom.catalog.find import find_instance
from strongroom.errors import Busy, InvalidRequest, JobError, Unsupported
from strongroom.flows.hosts.fresh import refresh_instance
from strongroom.flows.jobs import new_job, refuse_if_busy, refuse_if_node
from strongroom.flows.kinds.lifecycle import make_kind
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance
from strongroom.flows.steps import definition_of, load_instance, record_view


def request_resize_volume(site: Site, project: str, instance: str, size: int) -> Instance:
    """Allow the data of the instance to grow to ``size`` GB. This needs no job.

    Raises NotFound, InvalidRequest unless the size increases, Busy, QuotaExceeded, Unsupported.
    """
    with site.catalog.write() as session:
        row = _find_idle(session, project, instance, "resize its volume")
        if size <= row.volume_size:
            raise InvalidRequest(
                f"the new size of the volume of instance {row.name} ({row.id}) must be larger than the current "
                f"{row.volume_size} GB, not {size} GB",
                remedy="A volume cannot shrink: restore a backup to a new instance with a smaller volume.",
            )
        quotas.require(session, row.project, site.settings, {"volumes": size - row.volume_size})
        row.volume_size = size
        row.updated = now()
    return row


def request_resize_flavor(site: Site, project: str, instance: str, flavor: str) -> Job:
    """Restart the server with the memory of another flavor; if it fails to start, its previous flavor is restored.

    Raises NotFound, InvalidRequest, Busy, QuotaExceeded, Unsupported.
    """
    flavors = site.settings.flavors
    flavor = site.settings.find_flavor(flavor)
    refresh_instance(site, project, instance)
    with site.catalog.write() as session:
        row = _find_idle(session, project, instance, "resize it")
        if row.flavor == flavor:
            raise InvalidRequest(f"instance {row.name} ({row.id}) already has flavor {flavor}", remedy="Specify another flavor.")
        if row.state != "running":
            raise Busy(
                f"instance {row.name} ({row.id}) is {row.state}; only a running server can be resized",
                remedy=f"Start it with `strongroom instance start {row.name}`.",
            )
        ram = flavors[row.flavor].ram if row.flavor in flavors else 0
        quotas.require(session, row.project, site.settings, {"ram": flavors[flavor].ram - ram})
        move_instance(row, "RESIZE")
        job = new_job(session, row.project, "resize", instance=row, flavor=flavor)
    site.start(job)
    return job


def _find_idle(session: Session, project: str, instance: str, operation: str) -> Instance:
    """The instance, which has no job. Raises NotFound, Unsupported, Busy."""
    row = find_instance(session, project, instance)
    refuse_if_node(row, "resize")
    if row.is_adopted:
        raise Unsupported(
            f"instance {row.name} ({row.id}) was adopted: Strongroom does not manage its memory and disk",
            remedy="Change them in the configuration of the server and on its host.",
        )
    refuse_if_busy(session, row, operation)
    if row.task is not None:
        raise Busy(f"instance {row.name} ({row.id}) is in {row.task}; cannot {operation} now", remedy="Wait until it is ACTIVE.")
    return row


async def resize(site: Site, job_id: str) -> None:
    """Restart the server with the memory of the new flavor; if it fails to start, with that of the previous flavor."""
    job, instance = await load_instance(site, job_id)
    agent = site.agents.client(instance.host)

    async def restart_with(flavor: str) -> ServerView:
        await agent.put_server(instance.id, definition_of(site, instance, flavor))
        return await agent.restart_server(instance.id)

    try:
        view = await restart_with(job.params["flavor"])
    except JobError:
        if instance.flavor in site.settings.flavors:  # the configuration may no longer have it
            await record_view(site, await restart_with(instance.flavor))
        raise
    await record_view(site, view)

    def keep() -> None:
        with site.catalog.write() as session:
            row = session.get(Instance, instance.id)
            assert row is not None
            row.flavor = job.params["flavor"]

    await asyncio.to_thread(keep)


RESIZE = make_kind("resize", resize)
