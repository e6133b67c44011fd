"""A cluster in the steps of a job: calls its nodes, and reports the progress of the job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView, Start
from strongroom.artifact import Profile
from strongroom.catalog import Backup, Cluster, Instance, Job, Run, now
from strongroom.catalog.find import find_job, nodes_of
from strongroom.datastores import GaleraMember, GaleraView
from strongroom.errors import Conflict, HostSilent, JobError, NotFound, StrongroomError, Unavailable
from strongroom.flows import outcomes
from strongroom.flows.site import Site

T = TypeVar("T")
LOOK = 0.5
"""Seconds between two queries of a node while waiting for it."""
REPEAT = 10.0
"""Seconds for which a failed query of a node is repeated while its host answers."""
SOON = 0.05
"""Seconds until the second query of a node that is about to be Synced: perhaps no node serves meanwhile."""
TELL = 1.0
"""Seconds between two updates of the progress of a job."""
JOIN_PATIENCE = 120.0
"""Seconds in which a node must become Synced, in addition to the time for the transfer of its data."""
JOIN_RATE = 50 << 20
"""Assumed bytes per second of the transfer of a node's data."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A cluster, its existing nodes ordered by name, and the job that changes it."""

    site: Site
    job: Job
    cluster: Cluster
    nodes: list[Instance]
    profile: Profile | None = None
    """The profile of the backup that was last restored: nodes that receive its data need the same settings."""

    def agent(self, node: Instance) -> AgentClient:
        """The agent of the node's host."""
        return self.site.agents.client(node.host)

    def node(self, instance_id: str) -> Instance:
        """The node with this id."""
        return next(node for node in self.nodes if node.id == instance_id)

    def member(self, node: Instance, epoch: int) -> GaleraMember:
        """The node's membership of the cluster, for its agent."""
        return GaleraMember(
            cluster=self.cluster.wsrep_name,
            node=node_name(node),
            epoch=epoch,
            peers=[each.address for each in self.nodes if each.address],
            settings=self.profile.settings if self.profile else {},
            plugins=self.profile.plugins if self.profile else [],
        )

    async def enroll(self, nodes: Iterable[Instance], epoch: int) -> None:
        """Send nodes their membership of the cluster. Adopted nodes have their own configuration."""
        if not self.cluster.is_adopted:
            await call_nodes(nodes, lambda node: self.agent(node).put_galera(node.id, self.member(node, epoch)))

    async def views(self, nodes: Sequence[Instance] | None = None) -> dict[str, GaleraView | StrongroomError]:
        """The current view of each node, or of each of ``nodes``, or the error of its query.

        A query that fails although the host answers other requests is repeated, because a recovery may leave the node out.
        """
        deadline = asyncio.get_running_loop().time() + REPEAT

        async def query(node: Instance) -> GaleraView | StrongroomError:
            while True:
                try:
                    return await self.agent(node).galera(node.id)
                except HostSilent as error:
                    is_heard = self.site.agents.presence.answers(node.host)
                    if not is_heard or asyncio.get_running_loop().time() > deadline:
                        return error
                except StrongroomError as error:
                    return error
                await asyncio.sleep(LOOK)

        nodes = self.nodes if nodes is None else nodes
        found = await asyncio.gather(*(query(node) for node in nodes))
        return dict(zip((node.id for node in nodes), found, strict=True))

    async def record_view(self, view: ServerView) -> None:
        """Copy an agent's view of a node into the catalog."""

        def write() -> None:
            with self.site.catalog.write() as session:
                instance = session.get(Instance, view.id)
                if instance is not None:
                    outcomes.mirror(instance, view.model_dump(mode="json"))
                    instance.seen = now()

        await asyncio.to_thread(write)

    async def report(self, phase: str, message: str = "", *, done: int = 0, total: int | None = None) -> None:
        """Show the progress of the job."""

        def write() -> None:
            with self.site.catalog.write() as session:
                job = find_job(session, None, self.job.id)
                if (job.phase, job.message, job.done, job.total) != (phase, message or None, done, total):
                    job.phase, job.message, job.done, job.total = phase, message or None, done, total
                    job.events += 1

        await asyncio.to_thread(write)

    @contextlib.asynccontextmanager
    async def reporting(self, phase: str, status: Callable[[], str]) -> AsyncIterator[None]:
        """Update the progress of the job repeatedly, with the changing result of ``said``."""
        ended = asyncio.Event()

        async def repeat() -> None:
            while not ended.is_set():
                await self.report(phase, status())
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), TELL)

        await self.report(phase, status())
        repeating = asyncio.create_task(repeat())
        try:
            yield
        finally:
            ended.set()
            await asyncio.gather(repeating, return_exceptions=True)

    async def add_warning(self, warning: str) -> None:
        """Add a warning to the output of the job."""

        def write() -> None:
            with self.site.catalog.write() as session:
                job = find_job(session, None, self.job.id)
                warnings = job.output.get("warnings", [])
                if warning not in warnings:
                    job.output = {**job.output, "warnings": [*warnings, warning]}

        await asyncio.to_thread(write)

    async def stop(self, nodes: Iterable[Instance], status: Callable[[], str] = lambda: "", *, kill: bool = False) -> None:
        """Stop nodes one after the other, and prove that no process of them is left.

        The next node begins to stop when the remaining nodes no longer see the previous one, so that their final writes overlap.
        They do not stop at the same time: if two of three left at once, the third might consider itself partitioned and refuse
        all statements. Raises the error of the first node that fails to stop; then no further nodes are stopped. With ``kill``,
        agents kill nodes instead, unless they were adopted.
        """
        nodes = list(nodes)
        if not nodes:
            return
        ending: list[asyncio.Task[None]] = []
        try:
            for node, following in zip_longest(nodes, nodes[1:]):
                async with self.reporting(f"stop {node_name(node)}", status):
                    before = await self._read_size(following)
                    ending.append(asyncio.create_task(self._stop_node(node, kill=kill)))
                    while not ending[-1].done():
                        await asyncio.wait(ending[-1:], timeout=SOON)
                        if before and 0 < await self._read_size(following) < before:
                            break
                for task in ending:
                    if task.done():
                        task.result()
        finally:
            async with self.reporting(f"stop {node_name(nodes[-1])}", status):
                await asyncio.gather(*ending, return_exceptions=True)
        for task in ending:
            task.result()
        await call_nodes(nodes, lambda node: self.agent(node).prove_stopped(node.id))

    async def _stop_node(self, node: Instance, *, kill: bool) -> None:
        await self.record_view(await call_node(node, self.agent(node).stop_server(node.id, kill=kill)))

    async def _read_size(self, node: Instance | None) -> int:
        """The number of nodes that the node sees, including itself; 0 if it is unreachable or non-Primary, or for None."""
        if node is not None:
            with suppress(StrongroomError):
                view = await self.agent(node).galera(node.id)
                return view.size if view.primary else 0
        return 0

    async def require_paths(self, nodes: Iterable[Instance]) -> None:
        """Raise Conflict if a node cannot reach another one, which only the nodes can test: they could not form a cluster."""
        nodes = list(nodes)
        found = await call_nodes(nodes, lambda node: self.agent(node).unreached(node.id))
        unreachable = [
            f"{node_name(one)} on {one.host} cannot reach {node_name(other)} on {other.host} ({other.address}): {why}"
            for one in nodes
            for other in nodes
            if other.address and (why := found[one.id].get(other.address))
        ]
        if unreachable:
            raise Conflict(
                f"nodes of cluster {self.cluster.name} cannot reach each other:\n" + "\n".join(unreachable),
                remedy="Fix the network between their hosts (ports 4567, 4568 and 4444), then try again.",
            )

    async def start(self, node: Instance, start: Start, uuid: str | None, status: Callable[[], str] = lambda: "") -> GaleraView:
        """Start a node unless it is Synced, and wait until it is, in the history ``uuid``. Raises ServerFailed, JobError."""
        verb = "bootstrap" if start.mode == "bootstrap" else "join"
        agent = self.agent(node)
        view = await call_node(node, agent.galera(node.id))
        if not (view.synced and uuid in (None, view.uuid)):
            if verb == "bootstrap" and view.running:  # its agent restarted it meanwhile, to join nodes that do not run
                await self.stop([node], status)
            transfer = ""

            def describe() -> str:
                return f"{status()} {transfer}".strip()

            async with self.reporting(f"{verb} {node_name(node)}", describe):
                starting = asyncio.ensure_future(self._start_node(node, start))
                try:
                    while not starting.done():
                        await asyncio.wait({starting}, timeout=LOOK)
                        if not starting.done():
                            transfer = await self._describe_transfer(node)
                    await self.record_view(starting.result())
                finally:
                    starting.cancel()
                return await self.wait_synced(node, uuid)
        return await self.wait_synced(node, uuid)

    async def _start_node(self, node: Instance, start: Start) -> ServerView:
        """Start the node. A large transfer takes longer than the timeout of a call, so the call is repeated meanwhile."""
        while True:
            try:
                return await call_node(node, self.agent(node).start_server(node.id, start))
            except Unavailable:
                if not await self._describe_transfer(node):
                    raise

    async def _describe_transfer(self, node: Instance) -> str:
        """The progress of a full state transfer to the node; empty if there is none."""
        try:
            view = await self.agent(node).galera(node.id)
        except StrongroomError:
            return ""
        return f"receiving a full state transfer, {view.data_bytes >> 20} MiB so far" if view.receiving else ""

    async def wait_synced(self, node: Instance, uuid: str | None) -> GaleraView:
        """Wait until the node is Synced, in the history ``uuid`` if that is given. Raises JobError."""
        deadline = asyncio.get_running_loop().time() + JOIN_PATIENCE + max(n.data_bytes for n in self.nodes) / JOIN_RATE
        pause = SOON
        while True:
            view = await call_node(node, self.agent(node).galera(node.id))
            if view.synced and uuid in (None, view.uuid):
                return view
            if view.synced or asyncio.get_running_loop().time() > deadline:
                what = f"did not become Synced: {describe_state(view)}"
                if view.synced:
                    what = f"is in the history {view.uuid} instead of {uuid}"
                raise JobError(f"{node_name(node)} {what}", remedy="Check its error log and that of its donor.")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOOK)


def load_ring(site: Site, job_id: str) -> Ring:
    """The cluster of the job. Raises NotFound."""
    with site.catalog.read() as session:
        job = find_job(session, None, job_id)
        cluster = session.get(Cluster, job.cluster_id) if job.cluster_id else None
        if cluster is None:
            raise NotFound(f"cluster {job.cluster_id} of job {job_id} does not exist")
        return Ring(site, job, cluster, nodes_of(session, cluster.id), _profile(session, cluster))


def _profile(session: Session, cluster: Cluster) -> Profile | None:
    runs = select(Run).where(Run.cluster_id == cluster.id, Run.phase != "undone").order_by(Run.created.desc()).limit(1)
    run = session.scalars(runs).first()
    backup = session.get(Backup, run.backup_id) if run is not None and run.backup_id else None
    return Profile.model_validate(backup.profile) if backup is not None and backup.profile else None


def nodes_named(session: Session, cluster: Cluster, names: list[str]) -> list[Instance]:
    """Nodes by name, instance name or id. Raises NotFound."""
    found = []
    for wanted in names:
        node = next((n for n in nodes_of(session, cluster.id) if wanted in (n.node, n.name, n.id)), None)
        if node is None:
            raise NotFound(
                f"cluster {cluster.name} has no node {wanted}", remedy=f"See `strongroom cluster show {cluster.name}`."
            )
        found.append(node)
    return found


def node_name(node: Instance) -> str:
    """The name of the node in its cluster."""
    return node.node or node.name


def describe_state(view: GaleraView) -> str:
    """The state of a node in a few words."""
    if not view.running:
        return "stopped"
    if view.refuses:
        return "running, but it refuses the login"
    if not view.answers:
        return "starting"
    return ("" if view.primary else "non-Primary, ") + (view.state or "no state")


async def call_node(node: Instance, call: Awaitable[T]) -> T:
    """The result of the call; its error names the node."""
    try:
        return await call
    except StrongroomError as error:
        if not error.message.startswith(node_name(node)):
            raise type(error)(f"{node_name(node)}: {error.message}", remedy=error.remedy) from error
        raise


async def call_nodes(nodes: Iterable[Instance], call: Callable[[Instance], Awaitable[T]]) -> dict[str, T]:
    """Call for all nodes at the same time and wait for all calls; then raise the first error."""
    nodes = list(nodes)
    found = await asyncio.gather(*(call_node(node, call(node)) for node in nodes), return_exceptions=True)
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return dict(zip((node.id for node in nodes), found, strict=True))  # type: ignore[arg-type]


def choose_error(failures: Sequence[StrongroomError]) -> StrongroomError:
    """The failure with which a step ends. That of an unreachable host is the last choice: it would repeat the whole step."""
    return next((error for error in failures if not isinstance(error, HostSilent)), failures[0])


def format_table(ring: Ring, texts: Mapping[str, object]) -> str:
    """One line for each node, with its text."""
    width = max(len(node_name(node)) for node in ring.nodes)
    return "\n".join(f"{node_name(node):{width}}  {texts.get(node.id, '')}" for node in ring.nodes)


def next_epoch(session: Session, cluster: Cluster) -> int:
    """An epoch that no data has: an undone restore may have left its data on a node."""
    runs = session.scalars(select(Run).where(Run.cluster_id == cluster.id))
    return max([cluster.epoch, *(int(run.facts["epoch"]) for run in runs)]) + 1
