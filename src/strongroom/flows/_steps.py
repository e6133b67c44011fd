"""What the steps of the workflows do: plain functions, idempotent, each raising what ends the job. Tested without DBOS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from strongroom.agent.models import ServerDefinition, ServerView
from strongroom.artifact import delete_artifact
from strongroom.catalog import Backup, Instance, Job, now
from strongroom.catalog.find import descendants_of, find_job
from strongroom.datastores import DatabaseSpec, UserSpec
from strongroom.errors import AlreadyExists, HasChildren, JobError, NotFound, StrongroomError
from strongroom.flows import _artifact_end, _assembly, _cluster_steps, _outcomes, _put_back, _verification
from strongroom.flows._control import Control
from strongroom.flows._follow import run_on_agent
from strongroom.flows._import import record_import
from strongroom.flows._rebuild import rebuild
from strongroom.flows._source import location_of

Step = Callable[[Control, str], Awaitable[None]]
Cleaner = Callable[[Control, str], Awaitable[bool | None]]
"""What runs after a failure; true when it found that the job has succeeded after all."""


def _load(control: Control, job_id: str) -> tuple[Job, Instance | None, Backup | None]:
    with control.catalog.read() as session:
        job = find_job(session, None, job_id)
        instance = session.get(Instance, job.instance_id) if job.instance_id else None
        backup = session.get(Backup, job.backup_id) if job.backup_id else None
        return job, instance, backup


async def _instance(control: Control, job_id: str) -> tuple[Job, Instance]:
    job, instance, _ = await asyncio.to_thread(_load, control, job_id)
    if instance is None:
        raise NotFound(f"instance {job.instance_id} of job {job_id} is gone")
    return job, instance


async def _see(control: Control, view: ServerView) -> None:
    def write() -> None:
        with control.catalog.write() as session:
            instance = session.get(Instance, view.id)
            if instance is not None:
                _outcomes.mirror(instance, view.model_dump(mode="json"))
                instance.seen = now()

    await asyncio.to_thread(write)


async def define(control: Control, job_id: str) -> None:
    """Tell the agent of the server; it gives it a place and an address."""
    job, instance = await _instance(control, job_id)
    if job.params.get("adopt"):
        definition = ServerDefinition.model_validate(job.params["adopt"])
    else:
        definition = _definition(control, instance, instance.flavor)
    await _see(control, await control.agent(instance.host).put_server(instance.id, definition))


def _definition(control: Control, instance: Instance, flavor: str) -> ServerDefinition:
    return ServerDefinition(
        name=instance.name,
        datastore=instance.datastore,
        series=instance.series,
        ram_mb=control.settings.flavors[flavor].ram,
    )


async def resize(control: Control, job_id: str) -> None:
    """Restart the server with the memory of the wanted flavor; if it does not come up with it, with what it had."""
    job, instance = await _instance(control, job_id)
    agent = control.agent(instance.host)

    async def restart_with(flavor: str) -> ServerView:
        await agent.put_server(instance.id, _definition(control, instance, flavor))
        return await agent.restart_server(instance.id)

    try:
        view = await restart_with(job.params["flavor"])
    except JobError:
        if instance.flavor in control.settings.flavors:  # it may have left the configuration
            await _see(control, await restart_with(instance.flavor))
        raise
    await _see(control, view)

    def keep() -> None:
        with control.catalog.write() as session:
            row = session.get(Instance, instance.id)
            assert row is not None
            row.flavor = job.params["flavor"]

    await asyncio.to_thread(keep)


async def work(control: Control, job_id: str) -> None:
    """Run the job's work on the agent and keep what it reports."""

    def keep(output: dict[str, Any]) -> None:
        with control.catalog.write() as session:
            find_job(session, None, job_id).output = output

    try:
        result = await run_on_agent(control, job_id)
    except StrongroomError as error:
        if error.output:
            await asyncio.to_thread(keep, dict(error.output))
        raise
    await asyncio.to_thread(keep, {**result.output, "max_rss": result.max_rss})


async def swap(control: Control, job_id: str) -> None:
    """Make the prepared directory the data directory, and start the server on it."""
    job, instance = await _instance(control, job_id)
    view = await control.agent(instance.host).swap(instance.id, f"{job_id}-{job.attempts}")
    await _see(control, view)

    def keep() -> None:
        with control.catalog.write() as session:
            row = find_job(session, None, job_id)
            row.output = {**row.output, "warnings": [*row.output.get("warnings", []), *view.restore_warnings]}

    if view.restore_warnings:
        await asyncio.to_thread(keep)


async def populate(control: Control, job_id: str) -> None:
    """Make the databases and users of the request. One that is there already (it came with the backup) is left alone."""
    _, instance = await _instance(control, job_id)
    wanted = await asyncio.to_thread(control.secrets.get, job_id)
    agent = control.agent(instance.host)
    for data in wanted.get("databases", []):
        try:
            await agent.create_databases(instance.id, [DatabaseSpec.model_validate(data)])
        except AlreadyExists:
            continue
    for data in wanted.get("users", []):
        try:
            await agent.create_users(instance.id, [UserSpec.model_validate(data)])
        except AlreadyExists:
            continue


async def start(control: Control, job_id: str) -> None:
    """Start the server and wait until it serves."""
    _, instance = await _instance(control, job_id)
    await _see(control, await control.agent(instance.host).start_server(instance.id))


async def stop(control: Control, job_id: str) -> None:
    """Stop the server and wait until it is gone."""
    _, instance = await _instance(control, job_id)
    await _see(control, await control.agent(instance.host).stop_server(instance.id))


async def restart(control: Control, job_id: str) -> None:
    """Stop, start, wait."""
    _, instance = await _instance(control, job_id)
    await _see(control, await control.agent(instance.host).restart_server(instance.id))


async def activate(control: Control, job_id: str) -> None:
    """Let an isolated copy run its events, replication and workers, and restart it."""
    _, instance = await _instance(control, job_id)
    await _see(control, await control.agent(instance.host).activate(instance.id))


async def discard_old(control: Control, job_id: str) -> None:
    """Remove the data that restores have put aside."""
    _, instance = await _instance(control, job_id)
    await _see(control, await control.agent(instance.host).discard_old(instance.id))


async def delete_server(control: Control, job_id: str) -> None:
    """Remove the server and its data; one that the agent does not know is gone already."""
    _, instance = await _instance(control, job_id)
    try:
        await control.agent(instance.host).delete_server(instance.id)
    except NotFound:
        return


async def delete_stored(control: Control, job_id: str) -> None:
    """Remove every object of the backup and of those that are deleted with it, children first.

    A backup that is only a record of what others wrote keeps its objects. Refused while a backup depends on one of them.
    """

    def remove() -> None:
        _, _, backup = _load(control, job_id)
        assert backup is not None
        with control.catalog.read() as session:
            chain = [*descendants_of(session, backup.id), backup]
        for link in chain:
            if link.status != "DELETING":
                raise HasChildren(
                    f"backup {backup.name} ({backup.id}) is still the parent of {link.name} ({link.id})",
                    remedy="Delete that one first.",
                )
        theirs = control.for_job(job_id)
        for link in chain:
            if link.source is None:
                delete_artifact(theirs.store_of(link.project), location_of(link))
            if link.id != backup.id:  # the job's own backup is settled with the job
                with control.catalog.write() as session:
                    row = session.get(Backup, link.id)
                    assert row is not None
                    _outcomes.settle_deletion(row, None)

    await asyncio.to_thread(remove)


async def drop_prepared(control: Control, job_id: str) -> None:
    """After a restore in place, or of a node, that failed or was cancelled: what it prepared and nobody swapped in goes."""
    job, instance = await _instance(control, job_id)
    try:
        await control.agent(instance.host).cancel_job(f"{job_id}-{job.attempts}")
    except NotFound:
        return  # it came to no attempt


async def let_go(control: Control, job_id: str) -> None:
    """After an adoption that failed: the agent forgets the server, which stays as it is."""
    await delete_server(control, job_id)


PLANS: dict[str, tuple[Step, ...]] = {
    "create": (define, work, swap, populate),
    "adopt": (define, start),
    "restore": (work, swap),
    "backup": (work, _artifact_end.record),
    "verify": (work, _verification.record),
    "import": (work, record_import),
    "start": (start,),
    "stop": (stop,),
    "restart": (restart,),
    "resize": (resize,),
    "discard_old": (discard_old,),
    "activate": (activate,),
    "delete_instance": (delete_server,),
    "delete_backup": (delete_stored,),
    "rebuild": (rebuild,),
    "cluster_create": (
        *(_assembly.define, _assembly.prepare, _assembly.seed, _assembly.swap),
        *(_assembly.bootstrap, _assembly.join, _assembly.check, _assembly.finish),
    ),
    "cluster_restore": (
        *(_assembly.prepare, _assembly.seed, _assembly.stop, _assembly.swap),
        *(_assembly.bootstrap, _assembly.join, _assembly.check, _assembly.finish),
    ),
    "prepare": (work,),
    "cluster_adopt": (_cluster_steps.adopt,),
    "cluster_recover": (_cluster_steps.recover,),
    "cluster_restart": (_cluster_steps.restart,),
    "cluster_activate": (_cluster_steps.activate,),
    "cluster_discard_old": (_cluster_steps.discard_old,),
    "cluster_delete": (_cluster_steps.delete,),
}
"""The steps of every kind of job, in order. Changing one needs a new workflow version (``_engine.WORKFLOWS``)."""

CLEANERS: dict[str, Cleaner] = {
    "adopt": let_go,
    "backup": _artifact_end.clean,
    "verify": _verification.clean,
    "restore": drop_prepared,
    "prepare": drop_prepared,
    "cluster_restore": _put_back.undo,
}
"""What runs after a failure."""
