"""A cluster as the steps see it: its nodes, what they say, and what is told of the work on them."""

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
"""Seconds between two looks at a node that is waited for."""
REPEAT = 10.0
"""Seconds for which a node is asked again when the request failed although its host answers."""
SOON = 0.05
"""Seconds until the second look at a node that is about to be Synced: nobody serves meanwhile, perhaps."""
TELL = 1.0
"""Seconds between two notes of where a job is."""
JOIN_PATIENCE = 120.0
"""Seconds that a node may take to become Synced, beside the time for its data."""
JOIN_RATE = 50 << 20
"""Bytes a second that a transfer of a node's data is given the time for."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A cluster, its living nodes in order of their names, and the job that works on it."""

    site: Site
    job: Job
    cluster: Cluster
    nodes: list[Instance]
    profile: Profile | None = None
    """Of the backup that the cluster was last restored from: nodes that are sent their data need the same settings."""

    def agent(self, node: Instance) -> AgentClient:
        """The agent of the node's host."""
        return self.site.agents.client(node.host)

    def node(self, instance_id: str) -> Instance:
        """One of the nodes."""
        return next(node for node in self.nodes if node.id == instance_id)

    def member(self, node: Instance, epoch: int) -> GaleraMember:
        """What the node is told to be."""
        return GaleraMember(
            cluster=self.cluster.wsrep_name,
            node=name(node),
            epoch=epoch,
            peers=[each.address for each in self.nodes if each.address],
            settings=self.profile.settings if self.profile else {},
            plugins=self.profile.plugins if self.profile else [],
        )

    async def enroll(self, nodes: Iterable[Instance], epoch: int) -> None:
        """Tell nodes which cluster they are of; those of others know what they are."""
        if not self.cluster.is_adopted:
            await side_by_side(nodes, lambda node: self.agent(node).put_galera(node.id, self.member(node, epoch)))

    async def views(self, nodes: Sequence[Instance] | None = None) -> dict[str, GaleraView | StrongroomError]:
        """Each node, or each of ``nodes``, as it is now, or why it cannot be asked.

        A request that fails although the host answers others is repeated: a node that cannot be asked may be given up.
        """
        deadline = asyncio.get_running_loop().time() + REPEAT

        async def look(node: Instance) -> GaleraView | StrongroomError:
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
        found = await asyncio.gather(*(look(node) for node in nodes))
        return dict(zip((node.id for node in nodes), found, strict=True))

    async def see(self, view: ServerView) -> None:
        """Keep what an agent told of a node."""

        def write() -> None:
            with self.site.catalog.write() as session:
                instance = session.get(Instance, view.id)
                if instance is not None:
                    outcomes.mirror(instance, view.model_dump(mode="json"))
                    instance.seen = now()

        await asyncio.to_thread(write)

    async def tell(self, phase: str, message: str = "", *, done: int = 0, total: int | None = None) -> None:
        """Show people where the job is."""

        def write() -> None:
            with self.site.catalog.write() as session:
                job = find_job(session, None, self.job.id)
                if (job.phase, job.message, job.done, job.total) != (phase, message or None, done, total):
                    job.phase, job.message, job.done, job.total = phase, message or None, done, total
                    job.events += 1

        await asyncio.to_thread(write)

    @contextlib.asynccontextmanager
    async def telling(self, phase: str, said: Callable[[], str]) -> AsyncIterator[None]:
        """Show people where the job is for as long as it is there: what is said changes with the time."""
        over = asyncio.Event()

        async def go_on() -> None:
            while not over.is_set():
                await self.tell(phase, said())
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), TELL)

        await self.tell(phase, said())
        going = asyncio.create_task(go_on())
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(going, return_exceptions=True)

    async def warn(self, warning: str) -> None:
        """Something that people should know when the job is over."""

        def write() -> None:
            with self.site.catalog.write() as session:
                job = find_job(session, None, self.job.id)
                warnings = job.output.get("warnings", [])
                if warning not in warnings:
                    job.output = {**job.output, "warnings": [*warnings, warning]}

        await asyncio.to_thread(write)

    async def stop(self, nodes: Iterable[Instance], said: Callable[[], str] = lambda: "", *, kill: bool = False) -> None:
        """Stop nodes, each as soon as the others have let the one before it go, and prove that nothing of them is left.

        What a server writes at its end is written side by side. Not more: when two of three leave at once the third may think
        itself cut off, and refuse all that it is told. Raises what a node that does not stop says; no other is stopped then.
        With ``kill`` its agent kills it instead, if it was not adopted.
        """
        nodes = list(nodes)
        if not nodes:
            return
        ending: list[asyncio.Task[None]] = []
        try:
            for node, after in zip_longest(nodes, nodes[1:]):
                async with self.telling(f"stop {name(node)}", said):
                    before = await self._size(after)
                    ending.append(asyncio.create_task(self._end(node, kill=kill)))
                    while not ending[-1].done():
                        await asyncio.wait(ending[-1:], timeout=SOON)
                        if before and 0 < await self._size(after) < before:
                            break
                for task in ending:
                    if task.done():
                        task.result()
        finally:
            async with self.telling(f"stop {name(nodes[-1])}", said):
                await asyncio.gather(*ending, return_exceptions=True)
        for task in ending:
            task.result()
        await side_by_side(nodes, lambda node: self.agent(node).prove_stopped(node.id))

    async def _end(self, node: Instance, *, kill: bool) -> None:
        await self.see(await of(node, self.agent(node).stop_server(node.id, kill=kill)))

    async def _size(self, node: Instance | None) -> int:
        """How many nodes it sees, itself included; 0 when there is none to ask, or it is of no use."""
        if node is not None:
            with suppress(StrongroomError):
                view = await self.agent(node).galera(node.id)
                return view.size if view.primary else 0
        return 0

    async def require_paths(self, nodes: Iterable[Instance]) -> None:
        """Raise Conflict when a node cannot reach another, which is not seen from here: they could not become one cluster."""
        nodes = list(nodes)
        found = await side_by_side(nodes, lambda node: self.agent(node).unreached(node.id))
        cut = [
            f"{name(one)} on {one.host} does not reach {name(other)} on {other.host} ({other.address}): {why}"
            for one in nodes
            for other in nodes
            if other.address and (why := found[one.id].get(other.address))
        ]
        if cut:
            raise Conflict(
                f"nodes of cluster {self.cluster.name} do not reach each other:\n" + "\n".join(cut),
                remedy="Mend the network between their hosts (ports 4567, 4568 and 4444), then try again.",
            )

    async def start(self, node: Instance, start: Start, uuid: str | None, said: Callable[[], str] = lambda: "") -> GaleraView:
        """Start a node unless it serves, and wait until it is Synced in the history ``uuid``. Raises ServerFailed, JobError."""
        verb = "bootstrap" if start.mode == "bootstrap" else "join"
        agent = self.agent(node)
        view = await of(node, agent.galera(node.id))
        if not (view.synced and uuid in (None, view.uuid)):
            if (
                verb == "bootstrap" and view.running
            ):  # its agent has started it again meanwhile, to join others that are not there
                await self.stop([node], said)
            growing = ""

            def say() -> str:
                return f"{said()} {growing}".strip()

            async with self.telling(f"{verb} {name(node)}", say):
                starting = asyncio.ensure_future(self._start(node, start))
                try:
                    while not starting.done():
                        await asyncio.wait({starting}, timeout=LOOK)
                        if not starting.done():
                            growing = await self._growing(node)
                    await self.see(starting.result())
                finally:
                    starting.cancel()
                return await self.synced(node, uuid)
        return await self.synced(node, uuid)

    async def _start(self, node: Instance, start: Start) -> ServerView:
        """A transfer of much data takes longer than an agent is waited for: ask again, while it goes on."""
        while True:
            try:
                return await of(node, self.agent(node).start_server(node.id, start))
            except Unavailable:
                if not await self._growing(node):
                    raise

    async def _growing(self, node: Instance) -> str:
        try:
            view = await self.agent(node).galera(node.id)
        except StrongroomError:
            return ""
        return f"another node sends it all its data, {view.data_bytes >> 20} MiB so far" if view.receiving else ""

    async def synced(self, node: Instance, uuid: str | None) -> GaleraView:
        """Wait until the node is Synced, in the history ``uuid`` if one is named. Raises JobError."""
        deadline = asyncio.get_running_loop().time() + JOIN_PATIENCE + max(n.data_bytes for n in self.nodes) / JOIN_RATE
        pause = SOON
        while True:
            view = await of(node, self.agent(node).galera(node.id))
            if view.synced and uuid in (None, view.uuid):
                return view
            if view.synced or asyncio.get_running_loop().time() > deadline:
                what = (
                    f"is in the history {view.uuid} instead of {uuid}" if view.synced else f"does not become Synced: {how(view)}"
                )
                raise JobError(
                    f"{name(node)} {what}", remedy="Look at the error logs of it and of the node that sent it its data."
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOOK)


def load_ring(site: Site, job_id: str) -> Ring:
    """The cluster of the job. Raises NotFound."""
    with site.catalog.read() as session:
        job = find_job(session, None, job_id)
        cluster = session.get(Cluster, job.cluster_id) if job.cluster_id else None
        if cluster is None:
            raise NotFound(f"cluster {job.cluster_id} of job {job_id} is gone")
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


def name(node: Instance) -> str:
    """What the node is called in its cluster."""
    return node.node or node.name


def how(view: GaleraView) -> str:
    """How a node does, in a few words."""
    if not view.running:
        return "stopped"
    if view.refuses:
        return "running, but it lets nobody ask"
    if not view.answers:
        return "starting"
    return ("" if view.primary else "non-Primary, ") + (view.state or "no state")


async def of(node: Instance, call: Awaitable[T]) -> T:
    """What the call gives; an error names the node."""
    try:
        return await call
    except StrongroomError as error:
        if not error.message.startswith(name(node)):
            raise type(error)(f"{name(node)}: {error.message}", remedy=error.remedy) from error
        raise


async def side_by_side(nodes: Iterable[Instance], call: Callable[[Instance], Awaitable[T]]) -> dict[str, T]:
    """Call for all nodes at once and wait for all; the first error is raised when all are over."""
    nodes = list(nodes)
    found = await asyncio.gather(*(of(node, call(node)) for node in nodes), return_exceptions=True)
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return dict(zip((node.id for node in nodes), found, strict=True))  # type: ignore[arg-type]


def decisive(failures: Sequence[StrongroomError]) -> StrongroomError:
    """The one of several failures that a step ends with: that of a host that is away has the whole step done again, for ever."""
    return next((error for error in failures if not isinstance(error, HostSilent)), failures[0])


def table(ring: Ring, said: Mapping[str, object]) -> str:
    """Nodes and what is said of them, a line each."""
    width = max(len(name(node)) for node in ring.nodes)
    return "\n".join(f"{name(node):{width}}  {said.get(node.id, '')}" for node in ring.nodes)


def next_epoch(session: Session, cluster: Cluster) -> int:
    """One that no data is of: a restore that was undone may have left a node behind that has its data."""
    runs = session.scalars(select(Run).where(Run.cluster_id == cluster.id))
    return max([cluster.epoch, *(int(run.facts["epoch"]) for run in runs)]) + 1
