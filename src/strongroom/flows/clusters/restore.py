"""Performs the phases of a run, which gives a cluster new data or that of a backup.

The nodes prepare the data beside their current data, swap it in and form the cluster. Until the first node serves the new data, a
failure undoes everything automatically; after that, the run can only be resumed. Each step reads the journal first and does what
is not done yet.
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
from strongroom.flows.clusters.nodes import LOOK, Ring, call_node, call_nodes, choose_error, load_ring, node_name
from strongroom.flows.clusters.run import Facts, Journal
from strongroom.flows.jobs import cancel_job, new_job
from strongroom.flows.site import Site

FENCE_PATIENCE = 10.0
"""Maximum number of seconds for which the end of a restore waits until nodes that were left out are stopped."""


async def begin(site: Site, job_id: str) -> tuple[Ring, Journal]:
    """The cluster and the journal of the job, with which every step begins."""
    return await asyncio.to_thread(load_ring, site, job_id), await Journal.load(site, job_id)


def list_participants(ring: Ring, journal: Journal) -> list[Instance]:
    """The nodes of the run in the order of their start: the first one bootstraps."""
    nodes = [node for node in ring.nodes if node.id in journal.run.nodes]
    return sorted(nodes, key=lambda node: node.id != journal.facts.get("first"))


def list_prepared(ring: Ring, journal: Journal) -> list[Instance]:
    """The nodes of the run that restore the data; the others get it by a state transfer."""
    nodes = list_participants(ring, journal)
    return nodes if journal.run.method == "seed" else nodes[:1]


def _make_status(journal: Journal) -> Callable[[], str]:
    """Makes the text of the progress: the length of the outage, and the lost transactions."""

    def describe() -> str:
        facts = journal.facts
        parts = []
        if facts.get("stopped") and not facts.get("serving"):
            parts.append(f"out of service for {_seconds(facts['stopped']):.0f} s")
        if (taken := facts.get("taken")) and facts.get("stopped"):
            parts.append(f"transactions after {taken[:19].replace('T', ' ')} UTC are lost")
        return "; ".join(parts)

    return describe


def _seconds(since: str, until: str | None = None) -> float:
    return ((datetime.fromisoformat(until) if until else now()) - datetime.fromisoformat(since)).total_seconds()


async def define(site: Site, job_id: str) -> None:
    """Define new nodes on their agents: each gets a directory and an address, and then the addresses of the others."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    await ring.report("define the nodes")

    async def put(node: Instance) -> None:
        definition = ServerDefinition(
            name=node.name,
            datastore=node.datastore,
            series=node.series,
            ram_mb=site.settings.flavors[node.flavor].ram,
        )
        await ring.record_view(await ring.agent(node).put_server(node.id, definition))

    await call_nodes(ring.nodes, put)
    ring = await asyncio.to_thread(load_ring, site, job_id)  # with their addresses
    await ring.enroll(ring.nodes, ring.cluster.epoch)


async def prepare(ring: Ring, journal: Journal) -> Facts:
    """Prepare the data on all nodes at the same time, in a directory beside their current data; each node has its own job."""
    async with journal.record_presence():
        await _prepare(ring, journal)
    return {}


async def _prepare(ring: Ring, journal: Journal) -> None:
    site, job_id = ring.site, ring.job.id
    await ring.require_paths(list_participants(ring, journal))
    children = await asyncio.to_thread(_make_children, ring, journal)
    for child in children:
        await asyncio.to_thread(site.start, child)
    journal = await Journal.load(site, job_id)
    while True:
        rows, cancelled = await asyncio.to_thread(_read_jobs, site, job_id, [child.id for child in children])
        failed = [row for row in rows if row.status in ("failed", "cancelled")]
        if failed or cancelled:
            await asyncio.to_thread(_cancel, site, [row.id for row in rows])
        if all(row.finished is not None for row in rows):
            break
        text = "; ".join(f"{row.params['node']}: {row.phase or row.status}" for row in rows if row.finished is None)
        totals = [row.total for row in rows if row.total]
        await ring.report(
            "prepare", text, done=sum(row.done for row in rows), total=sum(totals) if len(totals) == len(rows) else None
        )
        await asyncio.sleep(LOOK)
    if cancelled:
        raise Cancelled(f"job {job_id} was cancelled")
    if failed:
        row = next((row for row in failed if row.status == "failed"), failed[0])
        error = from_dict(row.fault or {})
        kind = Unavailable if isinstance(error, HostSilent) else type(error)  # that job has already waited for its host
        raise kind(f"{row.params['node']}: {error.message}", remedy=error.remedy)
    for row in rows:
        assert row.instance_id is not None
        await journal.note(row.instance_id, data=f"{row.id}-{row.attempts}")
        for warning in row.output.get("warnings", []):
            await ring.add_warning(warning)


def _make_children(ring: Ring, journal: Journal) -> list[Job]:
    """The jobs of the nodes. They are created once: their ids are in the journal."""
    with ring.site.catalog.write() as session:
        run = session.get(Run, journal.run.id)
        assert run is not None
        backup = session.get(Backup, run.backup_id) if run.backup_id else None
        known = [entry["job"] for entry in run.nodes.values() if entry.get("job")]
        if known:
            return list(session.scalars(select(Job).where(Job.id.in_(known)).order_by(Job.created, Job.id)))
        jobs = []
        nodes = dict(run.nodes)
        for node in list_prepared(ring, journal):
            job = new_job(
                session,
                ring.cluster.project,
                "prepare",
                instance=node,
                backup=backup,
                node=node_name(node),
                for_job=ring.job.id,
                in_place=ring.job.kind == "cluster_restore",
            )
            nodes[node.id] = {**nodes[node.id], "job": job.id}
            jobs.append(job)
        run.nodes = nodes
        return jobs


def _read_jobs(site: Site, job_id: str, children: list[str]) -> tuple[list[Job], bool]:
    with site.catalog.read() as session:
        return [find_job(session, None, child) for child in children], find_job(session, None, job_id).cancel


def _cancel(site: Site, children: list[str]) -> None:
    with site.catalog.write() as session:
        for child in children:
            job = find_job(session, None, child)
            if job.finished is None and not job.cancel:
                cancel_job(session, job)


async def seed(ring: Ring, journal: Journal) -> Facts:
    """Start each prepared directory privately, beside the current data, give all the same new history, and test them."""
    await ring.report("verify the prepared data", "each node starts it privately and gives it the new history")
    uuid = journal.facts["uuid"]
    async with journal.record_presence():
        states: dict[str, GaleraPosition] = await call_nodes(
            list_prepared(ring, journal), lambda node: ring.agent(node).seed(node.id, journal.node(node.id)["data"], uuid)
        )
    if len({str(state) for state in states.values()}) > 1:
        positions = ", ".join(f"{node_name(ring.node(key))}: {state}" for key, state in states.items())
        raise JobError(f"the nodes prepared different data: {positions}", remedy="Restore again with --method sst.")
    return {"position": str(next(iter(states.values())))}


async def stop(ring: Ring, journal: Journal) -> Facts:
    """Stop all nodes, last the one that will bootstrap, and prove that no process of them is left."""
    if "stopped" not in journal.facts:
        await _require_consent(ring, journal)
        await ring.require_paths(list_participants(ring, journal))
        views = await ring.views()
        before = {
            node_name(ring.node(key)): f"{view.uuid}:{view.seqno}"
            for key, view in views.items()
            if not isinstance(view, StrongroomError)
        }
        await journal.add_facts(stopped=now().isoformat(), before=before)
    await ring.stop(reversed(list_participants(ring, journal)), _make_status(journal))
    return {}


async def _require_consent(ring: Ring, journal: Journal) -> None:
    """Raise Conflict if the service was down for long: the outage may not be acceptable any more.

    A cluster that is already down is restored nevertheless. A node that does not answer may serve.
    """
    async with journal.record_presence():
        away = journal.facts.get("away")
    if away and any(isinstance(view, StrongroomError) or view.synced for view in (await ring.views()).values()):
        await journal.add_facts(waits=True)
        raise Conflict(
            f"the service was down for {away / 60:.0f} minutes while the restore of cluster {ring.cluster.name} was prepared, "
            "so it did not stop the cluster, which still serves its current data",
            remedy=f"Start the outage with `strongroom cluster restore {ring.cluster.name} --resume`, or abandon the restore "
            f"with `strongroom cluster recover {ring.cluster.name}`.",
        )


async def swap(ring: Ring, journal: Journal) -> Facts:
    """Replace the data of every node with the new data by renaming, and give the nodes a new epoch."""
    await ring.report("swap", _make_status(journal)())
    nodes = list_participants(ring, journal)
    await ring.enroll(nodes, await asyncio.to_thread(_new_epoch, ring, journal))
    filled = {node.id for node in list_prepared(ring, journal)}
    data = {node.id: journal.node(node.id).get("data", journal.run.id) for node in nodes}
    # Note it before it is done: to undo a swap that was not done is harmless.
    await journal.note_all({node.id: {"data": data[node.id], "swapped": True} for node in nodes})

    async def put(node: Instance) -> None:
        await ring.record_view(await ring.agent(node).swap(node.id, data[node.id], start=False, empty=node.id not in filled))

    await call_nodes(nodes, put)
    return {}


def _new_epoch(ring: Ring, journal: Journal) -> int:
    """Record and return the epoch of the new data."""
    with ring.site.catalog.write() as session:
        cluster = session.get(Cluster, ring.cluster.id)
        assert cluster is not None
        cluster.epoch = int(journal.facts["epoch"])
        return cluster.epoch


async def bootstrap(ring: Ring, journal: Journal) -> Facts:
    """Bootstrap the first node with the new history. When it serves, the run can no longer be undone."""
    first, *_ = list_participants(ring, journal)
    start = Start(mode="bootstrap", position=journal.facts["position"])
    await ring.start(first, start, journal.facts["uuid"], _make_status(journal))
    await journal.note(first.id, joined=True)
    return {"serving": now().isoformat()}


async def join(ring: Ring, journal: Journal) -> Facts:
    """Let the other nodes join, one at a time. One that cannot join with its prepared data gets a full state transfer.

    All nodes are tried, even if one fails. Nodes that were left out are stopped meanwhile.
    """
    failures: list[StrongroomError] = []
    async with _fence_left_out(ring, journal):
        for node in list_participants(ring, journal):
            if not journal.node(node.id).get("joined"):
                try:
                    await _join(ring, journal, node)
                except StrongroomError as error:
                    failures.append(error)
                else:
                    await journal.note(node.id, joined=True)
    if failures:
        with _explain_resume(ring, journal):
            raise choose_error(failures)
    return {}


@contextlib.asynccontextmanager
async def _fence_left_out(ring: Ring, journal: Journal) -> AsyncIterator[None]:
    """Stop and fence the nodes that were left out, in the background.

    Nodes that hang or are unreachable are fenced when they are seen again (``fence``).
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
def _explain_resume(ring: Ring, journal: Journal) -> Iterator[None]:
    """Add to errors that the run has passed the point of no return, and how to resume it."""
    try:
        yield
    except StrongroomError as error:
        joined = sum(bool(entry.get("joined")) for entry in journal.run.nodes.values())
        raise type(error)(
            f"{error.message.rstrip('.')}. {joined} of {len(journal.run.nodes)} nodes of cluster {ring.cluster.name} serve the "
            "new data; the previous data is not put back",
            remedy=f"{error.remedy} {_resume_remedy(ring)}".strip(),
        ) from error


def _resume_remedy(ring: Ring) -> str:
    if ring.job.kind == "cluster_create":
        return f"Fix the cause, then recover the cluster: `strongroom cluster recover {ring.cluster.name}`."
    return f"Fix the cause, then resume the restore: `strongroom cluster restore {ring.cluster.name} --resume`."


async def _join(ring: Ring, journal: Journal, node: Instance) -> None:
    uuid, status = journal.facts["uuid"], _make_status(journal)
    sent = journal.run.method == "sst" or journal.node(node.id).get("sent")
    if not sent:
        try:
            await ring.start(node, Start(), uuid, status)
            return
        except (ServerFailed, JobError) as error:
            await ring.add_warning(
                f"{node_name(node)} could not join with its prepared data and got a full state transfer instead: {error.message}"
            )
        await journal.note(node.id, sent=True)
    if not sent or journal.node(node.id).get("sent"):
        await ring.stop([node], status)
        await call_node(node, ring.agent(node).swap(node.id, f"{journal.run.id}-sst", start=False, empty=True))
    try:
        await ring.start(node, Start(), uuid, status)
    except (ServerFailed, JobError) as error:
        donors = ", ".join(
            f"{node_name(each)} on {each.host}" for each in list_participants(ring, journal) if _has_joined(journal, each)
        )
        raise type(error)(
            f"{error.message.rstrip('.')}. It failed while receiving a full state transfer",
            remedy=f"{error.remedy} Check the donor's log, too ({donors}): wsrep_sst_auth must be a user there.",
        ) from error


def _has_joined(journal: Journal, node: Instance) -> bool:
    return bool(journal.node(node.id).get("joined"))


async def check(ring: Ring, journal: Journal) -> Facts:
    """Compare the data of the nodes: words written on each node can be read on all others, and all tables are equal."""
    with _explain_resume(ring, journal):
        tables = await compare_nodes(ring, list_participants(ring, journal), journal.facts["uuid"], journal.run.id[:8])
    return {"tables": tables}


async def finish(site: Site, job_id: str) -> None:
    """Record the result and the end of the run."""
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
