"""Resize an instance: room for its data, memory of its server."""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from strongroom.agent.models import ServerView
from strongroom.catalog import Instance, Job, now, quotas
from strongroom.catalog.find import find_instance
from strongroom.errors import Busy, InvalidRequest, JobError, Unsupported
from strongroom.flows.jobs import new_job, refuse_if_busy, refuse_if_node
from strongroom.flows.kinds.lifecycle import restarting
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance
from strongroom.flows.steps import definition_of, load_instance, record_view


def request_resize_volume(site: Site, project: str, instance: str, size: int) -> Instance:
    """Let the data of the instance grow to ``size`` GB; nothing has to be done for it.

    Raises NotFound, InvalidRequest unless it grows, Busy, QuotaExceeded, Unsupported.
    """
    with site.catalog.write() as session:
        row = _free(session, project, instance, "resize its volume")
        if size <= row.volume_size:
            raise InvalidRequest(
                f"the new size of the volume of instance {row.name} ({row.id}) must be larger than the current "
                f"{row.volume_size} GB, not {size} GB",
                remedy="A volume only grows. To have a smaller one, restore a backup to a new instance.",
            )
        quotas.require(session, row.project, site.settings, {"volumes": size - row.volume_size})
        row.volume_size = size
        row.updated = now()
    return row


def request_resize_flavor(site: Site, project: str, instance: str, flavor: str) -> Job:
    """Give the server the memory of another flavor, which restarts it; if it does not come up, it gets the old one back.

    Raises NotFound, InvalidRequest, Busy, QuotaExceeded, Unsupported.
    """
    flavors = site.settings.flavors
    flavor = site.settings.find_flavor(flavor)
    with site.catalog.write() as session:
        row = _free(session, project, instance, "resize it")
        if row.flavor == flavor:
            raise InvalidRequest(f"instance {row.name} ({row.id}) has flavor {flavor} already", remedy="Name another flavor.")
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


def _free(session: Session, project: str, instance: str, wish: str) -> Instance:
    row = find_instance(session, project, instance)
    refuse_if_node(row, "resize")
    if row.is_adopted:
        raise Unsupported(
            f"instance {row.name} ({row.id}) was adopted: its memory and its disk are its owner's business",
            remedy="Change them where they were set up.",
        )
    refuse_if_busy(session, row, wish)
    if row.task is not None:
        raise Busy(f"instance {row.name} ({row.id}) is in {row.task}; cannot {wish} now", remedy="Wait until it is ACTIVE.")
    return row


async def resize(site: Site, job_id: str) -> None:
    """Restart the server with the memory of the wanted flavor; if it does not come up with it, with what it had."""
    job, instance = await load_instance(site, job_id)
    agent = site.agents.client(instance.host)

    async def restart_with(flavor: str) -> ServerView:
        await agent.put_server(instance.id, definition_of(site, instance, flavor))
        return await agent.restart_server(instance.id)

    try:
        view = await restart_with(job.params["flavor"])
    except JobError:
        if instance.flavor in site.settings.flavors:  # it may have left the configuration
            await record_view(site, await restart_with(instance.flavor))
        raise
    await record_view(site, view)

    def keep() -> None:
        with site.catalog.write() as session:
            row = session.get(Instance, instance.id)
            assert row is not None
            row.flavor = job.params["flavor"]

    await asyncio.to_thread(keep)


RESIZE = restarting("resize", resize)
