"""Give a cluster data, new or of a backup: prepared on its nodes beside the old, swapped in on all of them, made one cluster.

Until the first node serves the new data, a failure puts everything back by itself; after that there is only the way ahead.
Each step reads the journal first, and does what is not done yet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from strongroom.agent.models import ServerDefinition, Start
from strongroom.catalog import Backup, Cluster, Instance, Job, Run, now
from strongroom.catalog.find import find_job
from strongroom.datastores import GaleraPosition
from strongroom.errors import Cancelled, Conflict, HostSilent, JobError, ServerFailed, StrongroomError, Unavailable, from_dict
from strongroom.flows.clusters.comparison import compare_nodes
from strongroom.flows.clusters.nodes import LOOK, Ring, decisive, load_ring, name, of, side_by_side
from strongroom.flows.clusters.run import Facts, Journal
from strongroom.flows.jobs import cancel_job, new_job
from strongroom.flows.site import Site

FENCE_PATIENCE = 10.0
"""Seconds that the end of a restore waits for nodes that were left out to be stopped."""


async def begin(site: Site, job_id: str) -> tuple[Ring, Journal]:
    """What every step begins with."""
    return await asyncio.to_thread(load_ring, site, job_id), await Journal.of(site, job_id)


def taking_part(ring: Ring, journal: Journal) -> list[Instance]:
    """The nodes of the run, in the order in which they come up: the first bootstraps."""
    nodes = [node for node in ring.nodes if node.id in journal.run.nodes]
    return sorted(nodes, key=lambda node: node.id != journal.facts.get("first"))


def prepared(ring: Ring, journal: Journal) -> list[Instance]:
    """Those of them that get the data themselves; the others have it sent."""
    nodes = taking_part(ring, journal)
    return nodes if journal.run.method == "seed" else nodes[:1]


def _said(journal: Journal) -> Callable[[], str]:
    """What people want to know meanwhile: since when nobody serves, and what is lost."""

    def say() -> str:
        facts = journal.facts
        parts = []
        if facts.get("stopped") and not facts.get("serving"):
            parts.append(f"out of service for {_seconds(facts['stopped']):.0f} s")
        if (taken := facts.get("taken")) and facts.get("stopped"):
            parts.append(f"lost: what was written after {taken[:19].replace('T', ' ')} UTC")
        return "; ".join(parts)

    return say


def _seconds(since: str, until: str | None = None) -> float:
    return ((datetime.fromisoformat(until) if until else now()) - datetime.fromisoformat(since)).total_seconds()


async def define(site: Site, job_id: str) -> None:
    """Tell the agents of new nodes of their servers: each gets a place and an address, then learns of the others."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    await ring.tell("define the nodes")

    async def put(node: Instance) -> None:
        definition = ServerDefinition(
            name=node.name,
            datastore=node.datastore,
            series=node.series,
            ram_mb=site.settings.flavors[node.flavor].ram,
        )
        await ring.see(await ring.agent(node).put_server(node.id, definition))

    await side_by_side(ring.nodes, put)
    ring = await asyncio.to_thread(load_ring, site, job_id)  # they have addresses now
    await ring.enroll(ring.nodes, ring.cluster.epoch)


async def prepare(ring: Ring, journal: Journal) -> Facts:
    """Each node makes the data ready in a directory beside its own, all at once, by a job of its own."""
    async with journal.attended():
        await _prepare(ring, journal)
    return {}


async def _prepare(ring: Ring, journal: Journal) -> None:
    site, job_id = ring.site, ring.job.id
    await ring.require_paths(taking_part(ring, journal))
    children = await asyncio.to_thread(_children, ring, journal)
    for child in children:
        await asyncio.to_thread(site.start, child)
    journal = await Journal.of(site, job_id)
    while True:
        rows, cancelled = await asyncio.to_thread(_look_at, site, job_id, [child.id for child in children])
        failed = [row for row in rows if row.status in ("failed", "cancelled")]
        if failed or cancelled:
            await asyncio.to_thread(_cancel, site, [row.id for row in rows])
        if all(row.finished is not None for row in rows):
            break
        said = "; ".join(f"{row.params['node']}: {row.phase or row.status}" for row in rows if row.finished is None)
        totals = [row.total for row in rows if row.total]
        await ring.tell(
            "prepare", said, done=sum(row.done for row in rows), total=sum(totals) if len(totals) == len(rows) else None
        )
        await asyncio.sleep(LOOK)
    if cancelled:
        raise Cancelled(f"job {job_id} was cancelled")
    if failed:
        row = next((row for row in failed if row.status == "failed"), failed[0])
        error = from_dict(row.fault or {})
        kind = Unavailable if isinstance(error, HostSilent) else type(error)  # its host was waited for already
        raise kind(f"{row.params['node']}: {error.message}", remedy=error.remedy)
    for row in rows:
        assert row.instance_id is not None
        await journal.note(row.instance_id, data=f"{row.id}-{row.attempts}")
        for warning in row.output.get("warnings", []):
            await ring.warn(warning)


def _children(ring: Ring, journal: Journal) -> list[Job]:
    """The jobs of the nodes, made once: their ids are in the journal."""
    with ring.site.catalog.write() as session:
        run = session.get(Run, journal.run.id)
        assert run is not None
        backup = session.get(Backup, run.backup_id) if run.backup_id else None
        known = [entry["job"] for entry in run.nodes.values() if entry.get("job")]
        if known:
            return list(session.scalars(select(Job).where(Job.id.in_(known)).order_by(Job.created, Job.id)))
        jobs = []
        nodes = dict(run.nodes)
        for node in prepared(ring, journal):
            job = new_job(
                session,
                ring.cluster.project,
                "prepare",
                instance=node,
                backup=backup,
                node=name(node),
                for_job=ring.job.id,
                in_place=ring.job.kind == "cluster_restore",
            )
            nodes[node.id] = {**nodes[node.id], "job": job.id}
            jobs.append(job)
        run.nodes = nodes
        return jobs


def _look_at(site: Site, job_id: str, children: list[str]) -> tuple[list[Job], bool]:
    with site.catalog.read() as session:
        return [find_job(session, None, child) for child in children], find_job(session, None, job_id).cancel


def _cancel(site: Site, children: list[str]) -> None:
    with site.catalog.write() as session:
        for child in children:
            job = find_job(session, None, child)
            if job.finished is None and not job.cancel:
                cancel_job(session, job)


async def seed(ring: Ring, journal: Journal) -> Facts:
    """Start each prepared directory privately, still beside the old, and give all the same new identity. Proves them, too."""
    await ring.tell("verify what was prepared", "each node starts it privately, and gives it the new identity")
    uuid = journal.facts["uuid"]
    async with journal.attended():
        states: dict[str, GaleraPosition] = await side_by_side(
            prepared(ring, journal), lambda node: ring.agent(node).seed(node.id, journal.node(node.id)["data"], uuid)
        )
    if len({str(state) for state in states.values()}) > 1:
        said = ", ".join(f"{name(ring.node(key))}: {state}" for key, state in states.items())
        raise JobError(f"what the nodes prepared is not the same: {said}", remedy="Restore again with --method sst.")
    return {"position": str(next(iter(states.values())))}


async def stop(ring: Ring, journal: Journal) -> Facts:
    """Stop every node, the one that will bootstrap last, and prove that nothing of them is left."""
    if "stopped" not in journal.facts:
        await _require_consent(ring, journal)
        await ring.require_paths(taking_part(ring, journal))
        views = await ring.views()
        before = {
            name(ring.node(key)): f"{view.uuid}:{view.seqno}"
            for key, view in views.items()
            if not isinstance(view, StrongroomError)
        }
        await journal.fact(stopped=now().isoformat(), before=before)
    await ring.stop(reversed(taking_part(ring, journal)), _said(journal))
    return {}


async def _require_consent(ring: Ring, journal: Journal) -> None:
    """Raise Conflict when the service was away for long: the outage that was fine when it was asked for may not be so now.

    A cluster that is down already is not kept down by that. A node that does not answer may serve.
    """
    async with journal.attended():
        away = journal.facts.get("away")
    if away and any(isinstance(view, StrongroomError) or view.synced for view in (await ring.views()).values()):
        await journal.fact(waits=True)
        raise Conflict(
            f"the service was away for {away / 60:.0f} minutes while the restore of cluster {ring.cluster.name} was prepared, "
            "so it has not stopped the cluster, which serves its present data",
            remedy=f"All is ready: begin the outage with `strongroom cluster restore {ring.cluster.name} --resume`, or give the "
            f"restore up with `strongroom cluster recover {ring.cluster.name}`.",
        )


async def swap(ring: Ring, journal: Journal) -> Facts:
    """Put the new data in the place of the old on every node, by renaming. From here the nodes are of a new epoch."""
    await ring.tell("swap", _said(journal)())
    nodes = taking_part(ring, journal)
    await ring.enroll(nodes, await asyncio.to_thread(_new_epoch, ring, journal))
    filled = {node.id for node in prepared(ring, journal)}
    data = {node.id: journal.node(node.id).get("data", journal.run.id) for node in nodes}
    # Before they are: to undo what was not done does no harm.
    await journal.note_all({node.id: {"data": data[node.id], "swapped": True} for node in nodes})

    async def put(node: Instance) -> None:
        await ring.see(await ring.agent(node).swap(node.id, data[node.id], start=False, empty=node.id not in filled))

    await side_by_side(nodes, put)
    return {}


def _new_epoch(ring: Ring, journal: Journal) -> int:
    """The epoch of the new data; the first run of a cluster is in its first."""
    with ring.site.catalog.write() as session:
        cluster = session.get(Cluster, ring.cluster.id)
        assert cluster is not None
        cluster.epoch = int(journal.facts["epoch"])
        return cluster.epoch


async def bootstrap(ring: Ring, journal: Journal) -> Facts:
    """The first node begins the new history. When it serves, there is no way back."""
    first, *_ = taking_part(ring, journal)
    start = Start(mode="bootstrap", position=journal.facts["position"])
    await ring.start(first, start, journal.facts["uuid"], _said(journal))
    await journal.note(first.id, joined=True)
    return {"serving": now().isoformat()}


async def join(ring: Ring, journal: Journal) -> Facts:
    """The other nodes join, one at a time. One that cannot with what it was given gets all data from the others instead.

    A node that does not come up keeps none of the others from it; nor does one that was left out and is stopped meanwhile.
    """
    failures: list[StrongroomError] = []
    async with _fencing(ring, journal):
        for node in taking_part(ring, journal):
            if not journal.node(node.id).get("joined"):
                try:
                    await _join(ring, journal, node)
                except StrongroomError as error:
                    failures.append(error)
                else:
                    await journal.note(node.id, joined=True)
    if failures:
        with _only_ahead(ring, journal):
            raise decisive(failures)
    return {}


@contextlib.asynccontextmanager
async def _fencing(ring: Ring, journal: Journal) -> AsyncIterator[None]:
    """Meanwhile nodes that were left out are stopped, and kept from what they have.

    One that hangs, or cannot be reached, is not waited for: it is fenced when it is seen again (``fence``).
    """
    left_out = [node for node in ring.nodes if node.id not in journal.run.nodes]
    tasks = [asyncio.create_task(ring.enroll([node], ring.cluster.epoch)) for node in left_out]
    try:
        yield
        if tasks:
            await asyncio.wait(tasks, timeout=FENCE_PATIENCE)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _only_ahead(ring: Ring, journal: Journal) -> Iterator[None]:
    """Beyond the point of no return an error says so, and how to go on."""
    try:
        yield
    except StrongroomError as error:
        joined = sum(bool(entry.get("joined")) for entry in journal.run.nodes.values())
        raise type(error)(
            f"{error.message.rstrip('.')}. The new data serves from {joined} of {len(journal.run.nodes)} nodes of cluster "
            f"{ring.cluster.name}; the old is not put back",
            remedy=f"{error.remedy} {_onward(ring)}".strip(),
        ) from error


def _onward(ring: Ring) -> str:
    if ring.job.kind == "cluster_create":
        return f"See to it, then `strongroom cluster recover {ring.cluster.name}`."
    return f"See to it, then go on: `strongroom cluster restore {ring.cluster.name} --resume`."


async def _join(ring: Ring, journal: Journal, node: Instance) -> None:
    uuid, said = journal.facts["uuid"], _said(journal)
    sent = journal.run.method == "sst" or journal.node(node.id).get("sent")
    if not sent:
        try:
            await ring.start(node, Start(), uuid, said)
            return
        except (ServerFailed, JobError) as error:
            await ring.warn(
                f"{name(node)} did not join with what it had prepared, so the others sent it all data: {error.message}"
            )
        await journal.note(node.id, sent=True)
    if not sent or journal.node(node.id).get("sent"):
        await ring.stop([node], said)
        await of(node, ring.agent(node).swap(node.id, f"{journal.run.id}-sst", start=False, empty=True))
    try:
        await ring.start(node, Start(), uuid, said)
    except (ServerFailed, JobError) as error:
        there = ", ".join(f"{name(each)} on {each.host}" for each in taking_part(ring, journal) if _has_joined(journal, each))
        raise type(error)(
            f"{error.message.rstrip('.')}. It was to be sent all data",
            remedy=f"{error.remedy} Look into that of the node that was to send it its data, too ({there}): "
            "wsrep_sst_auth must be an account there.",
        ) from error


def _has_joined(journal: Journal, node: Instance) -> bool:
    return bool(journal.node(node.id).get("joined"))


async def check(ring: Ring, journal: Journal) -> Facts:
    """Look at the data, not at the states: words written through each node are read on all others, and all tables are equal."""
    with _only_ahead(ring, journal):
        tables = await compare_nodes(ring, taking_part(ring, journal), journal.facts["uuid"], journal.run.id[:8])
    return {"tables": tables}


async def finish(site: Site, job_id: str) -> None:
    """The run is done: the next backup is a full, for the data of every node is new."""
    _, journal = await begin(site, job_id)
    facts = journal.facts

    def write() -> None:
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            cluster = session.get(Cluster, journal.run.cluster_id)
            assert cluster is not None
            cluster.state_uuid = facts["uuid"]
            output: dict[str, Any] = {
                "uuid": facts["uuid"],
                "position": facts["position"],
                "method": journal.run.method,
                "tables": facts.get("tables"),
                "nodes": len(journal.run.nodes),
            }
            if facts.get("stopped"):
                output["outage_seconds"] = round(_seconds(facts["stopped"], facts["serving"]), 3)
                output["total_seconds"] = round(_seconds(journal.run.created.astimezone(UTC).isoformat()), 3)
                output["lost_after"] = facts.get("taken")
            job.output = {**job.output, **output}

    await asyncio.to_thread(write)
    await journal.enter("done")
