"""A Galera cluster in memory behind the agent's API, that can be cut off at any call: before it, or after it was done.

Real clusters prove the same in tests/end_to_end and tests/fault; here every moment is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.agent.models import ServerDefinition, ServerView, Start
from strongroom.datastores import GaleraMember, GaleraPosition, GaleraView, TableSums
from strongroom.errors import Conflict, HostSilent, NotFound, ServerFailed

VERSION = "10.11.19"
NO_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass
class Data:
    """A data directory."""

    rows: str
    uuid: str = NO_UUID
    seqno: int = -1
    epoch: int = 1


@dataclass
class Node:
    """A server: its data, what lies beside it, and what it is told."""

    id: str
    data: Data | None = None
    new: dict[str, Data] = field(default_factory=dict)
    old: dict[str, Data | None] = field(default_factory=dict)
    member: GaleraMember | None = None
    running: bool = False
    words: set[str] = field(default_factory=set)
    hangs: bool = False
    frozen: bool = False
    refuses: str = ""
    rejects_join: bool = False
    view: list[str] | None = None

    @property
    def serves(self) -> bool:
        return self.running and self.data is not None and self.data.uuid != NO_UUID


class Killed(BaseException):
    """The control plane is gone."""


class Ring:
    """All nodes of all clusters; also the client of every agent."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.calls: list[str] = []
        self.unreachable: set[str] = set()
        self.no_way: dict[str, dict[str, str]] = {}
        self.sums: Callable[[Node], dict[str, str]] = lambda node: {}
        """Checksums of more tables of a node."""
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None

    def _call(self, what: str, server: str) -> Node:
        self.calls.append(f"{what} {server}")
        self.before(len(self.calls))
        if server in self.unreachable:
            raise HostSilent("the agent does not answer")
        if server not in self.nodes:
            raise NotFound(f"server {server} is not on this host")
        return self.nodes[server]

    def _done(self, node: Node) -> ServerView:
        self.after(len(self.calls))
        return self.server_view(node)

    def server_view(self, node: Node) -> ServerView:
        """As the agent tells it."""
        galera = None
        if node.serves:
            assert node.data is not None
            galera = {
                "wsrep_cluster_state_uuid": node.data.uuid,
                "wsrep_last_committed": str(node.data.seqno),
                "wsrep_cluster_status": "Primary",
                "wsrep_local_state_comment": "Synced",
                "wsrep_ready": "ON",
            }
        return ServerView(
            id=node.id,
            name=node.id,
            datastore="mariadb",
            series="10.11",
            version_number=VERSION,
            runtime="process",
            wanted="running",
            state="running" if node.serves else "stopped",
            healthy=node.serves,
            address=f"127.9.9.{int(node.id[-2:], 16) + 1}",
            port=3306,
            data_dir=Path("/d"),
            lineage=node.data.rows if node.data else None,
            galera=galera,
        )

    def group(self, node: Node) -> list[Node]:
        """The nodes that it serves with."""
        return [n for n in self.nodes.values() if n.serves and n.member == (node.member and n.member) and _same(n, node)]

    # --- the client

    async def put_server(self, server: str, definition: ServerDefinition) -> ServerView:
        self.nodes.setdefault(server, Node(server))
        return self._done(self._call("define", server))

    async def put_galera(self, server: str, member: GaleraMember) -> ServerView:
        node = self._call("enroll", server)
        if node.data is not None and member.epoch < node.data.epoch:
            raise Conflict(f"its data is of epoch {node.data.epoch}")
        node.member = member
        if node.data is not None and node.data.epoch != member.epoch:
            node.running = False
        return self._done(node)

    async def advance_epoch(self, server: str, member: GaleraMember) -> ServerView:
        node = self._call("advance", server)
        assert not node.running and node.data is not None and node.data.epoch <= member.epoch
        node.member, node.data.epoch = member, member.epoch
        return self._done(node)

    async def galera(self, server: str) -> GaleraView:
        node = self._call("look", server)
        data, answers = node.data, node.serves and not node.frozen and not node.refuses
        self.after(len(self.calls))
        return GaleraView(
            member=node.member,
            running=node.running,
            answers=node.running and not node.frozen and not node.refuses,
            refuses=node.refuses,
            state="Synced" if answers else "",
            primary=answers,
            ready=answers,
            connected=answers,
            cluster=node.member.group if node.member else "",
            uuid=data.uuid if data else None,
            seqno=data.seqno if data else None,
            size=len(self.group(node)),
            view=node.view,
            view_id="v" if node.view else None,
            data_epoch=data.epoch if data else None,
        )

    async def start_server(self, server: str, start: Start | None = None) -> ServerView:
        node, start = self._call("start", server), start or Start()
        assert node.member is not None
        if node.serves:
            return self._done(node)
        others = [n for n in self.nodes.values() if n.serves and _same(n, node)]
        if node.data is not None and node.data.epoch != node.member.epoch and node.data.rows:
            raise Conflict("its data is of another epoch")
        if start.mode == "bootstrap":
            assert node.data is not None
            if others:
                raise AssertionError("bootstrapped beside a cluster that serves")
            if start.position != f"{node.data.uuid}:{node.data.seqno}":
                raise Conflict(f"its data is not at {start.position}")
        elif not others and not (node.view and not start.wait):
            raise ServerFailed("nobody to join")
        elif others and (node.data is None or node.data.uuid != others[0].data.uuid):  # type: ignore[union-attr]
            if node.data is not None and node.data.rows:
                raise AssertionError("data would be overwritten by a transfer")
            sent = others[0].data
            assert sent is not None
            node.data = Data(sent.rows, sent.uuid, sent.seqno, node.member.epoch)
        elif others and node.data.seqno > max(n.data.seqno for n in others if n.data):  # type: ignore[union-attr]
            raise ServerFailed("Reversing history: it is ahead of the others")
        elif node.rejects_join:
            node.rejects_join = False
            raise ServerFailed("it was aborted")
        node.running = True
        node.view = None
        return self._done(node)

    async def stop_server(self, server: str, *, kill: bool = False) -> ServerView:
        node = self._call("stop", server)
        if (node.hangs or node.frozen) and not kill:
            raise ServerFailed("it does not stop within 300 s")
        node.hangs = node.frozen = False
        node.running = False
        return self._done(node)

    async def activate(self, server: str) -> ServerView:
        return self._done(self._call("activate", server))

    async def restart_server(self, server: str) -> ServerView:
        return self._done(self._call("restart", server))

    async def prove_stopped(self, server: str) -> None:
        node = self._call("prove", server)
        if node.running:
            raise ServerFailed("its process lives")
        self.after(len(self.calls))

    async def unreached(self, server: str) -> dict[str, str]:
        self._call("unreached", server)
        self.after(len(self.calls))
        return self.no_way.get(server, {})

    async def galera_position(self, server: str) -> GaleraPosition:
        node = self._call("position", server)
        assert not node.running
        self.after(len(self.calls))
        data = node.data or Data("")
        return GaleraPosition(uuid=data.uuid, seqno=data.seqno)

    async def seed(self, server: str, job: str, uuid: str) -> GaleraPosition:
        node = self._call("seed", server)
        if job not in node.new:
            raise NotFound(f"job {job} has left no data")
        node.new[job].uuid, node.new[job].seqno = uuid, 1
        self.after(len(self.calls))
        return GaleraPosition(uuid=uuid, seqno=1)

    async def swap(self, server: str, job: str, *, start: bool = True, empty: bool = False) -> ServerView:
        node = self._call("swap", server)
        assert not start and node.member is not None
        if job not in node.old:
            if not empty and job not in node.new:
                raise NotFound(f"job {job} has left no data")
            assert not node.running, "swapped under a running server"
            node.old[job] = node.data
            node.data = node.new.pop(job, Data(""))
            node.data.epoch = node.member.epoch
        return self._done(node)

    async def undo_swap(self, server: str, job: str) -> ServerView:
        node = self._call("undo", server)
        if job not in node.old:
            raise NotFound(f"there was no swap {job}")
        node.running = False
        node.data = node.old.pop(job)
        return self._done(node)

    async def cancel_job(self, job: str) -> None:
        self.calls.append(f"drop {job}")
        self.before(len(self.calls))
        for node in self.nodes.values():
            node.new.pop(job, None)
        self.after(len(self.calls))

    async def discard_old(self, server: str) -> ServerView:
        node = self._call("discard", server)
        node.old.clear()
        return self._done(node)

    async def delete_server(self, server: str) -> None:
        self._call("delete", server)
        del self.nodes[server]
        self.after(len(self.calls))

    async def write_canary(self, server: str, word: str) -> None:
        for each in self.group(self._call("write", server)):
            each.words.add(word)
        self.after(len(self.calls))

    async def canaries(self, server: str) -> list[str]:
        return sorted(self._call("read", server).words)

    async def drop_canaries(self, server: str) -> None:
        for each in self.group(self._call("forget", server)):
            each.words.clear()
        self.after(len(self.calls))

    async def checksums(self, server: str, *, tables: Sequence[str] | None = None, at: int | None = None) -> TableSums:
        node = self._call("sum", server)
        sums = self.sums(node) | {"db1.t": node.data.rows if node.data else ""}
        return TableSums(seqno=at, sums={table: sums[table] for table in (sums if tables is None else tables)})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the ring has no {name}")


def _same(one: Node, two: Node) -> bool:
    return one.member is not None and two.member is not None and one.member.group == two.member.group
