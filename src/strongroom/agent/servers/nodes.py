"""Servers that are nodes of Galera clusters: their membership, their position, and proof that they are stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import structlog

from strongroom.agent.host.addresses import explain_unreachable, is_free
from strongroom.agent.models import Seed
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import Lifecycle
from strongroom.agent.swap.swap import beside
from strongroom.datastores import Clusters, GaleraMember, GaleraPosition, GaleraView, Server
from strongroom.errors import Busy, Conflict, NotFound, ServerFailed, StrongroomError

log = structlog.get_logger()

GONE = 10.0
"""Seconds for the ports of a server that has ended to become free."""


class Nodes:
    """Safe to use from many threads. ``hold`` keeps jobs and other operations off a server."""

    def __init__(self, home: Home, lifecycle: Lifecycle, hold: Callable[[ServerRecord], AbstractContextManager[None]]) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._hold = hold
        self._mutex = threading.Lock()

    def enroll(self, server_id: str, member: GaleraMember) -> None:
        """Make the server a node. Raises Conflict if its data belongs to a later epoch, Unsupported, ServerFailed, Busy.

        A server whose data belongs to an earlier epoch is stopped or killed: its cluster was restored without it.
        """
        record = self._home.registry.get(server_id)
        self._home.get_clusters(record)
        if record.is_adopted:
            raise Conflict(f"server {server_id} was adopted: only its owner changes its cluster")
        if record.data_epoch is not None and member.epoch < record.data_epoch:
            raise Conflict(
                f"the data of server {server_id} belongs to epoch {record.data_epoch} of its cluster, not to {member.epoch}"
            )
        if record.data_epoch is not None and member.epoch != record.data_epoch:
            with self._hold(record):
                record.wanted, record.member = "stopped", member
                self._home.registry.save(record)
                self._lifecycle.stop_or_kill(record)
        record.member = member
        self._home.registry.save(record)

    def advance(self, server_id: str, member: GaleraMember) -> None:
        """Assign the data of the stopped node to the epoch of ``member``: its cluster continues with this data. Idempotent.

        Raises Busy while it runs; Conflict without data, for data of a later epoch, and for adopted servers.
        """
        record = self._home.registry.get(server_id)
        self._home.get_clusters(record)
        if record.is_adopted:
            raise Conflict(f"server {server_id} was adopted: only its owner changes its cluster")
        with self._hold(record):
            self._require_stopped(record)
            if record.data_epoch is None or member.epoch < record.data_epoch:
                raise Conflict(f"the data of server {server_id} belongs to epoch {record.data_epoch}, not to {member.epoch}")
            record.member, record.data_epoch = member, member.epoch
            self._home.registry.save(record)

    def view(self, server_id: str) -> GaleraView:
        """The node as it is now. Raises NotFound if the server is in no cluster; for an adopted one only while it answers."""
        record, clusters, server = self._known(server_id)
        view = clusters.nodes.view(server, running=self._lifecycle.is_running(record))
        waits = record.is_adopted and not view.answers  # perhaps it receives all its data
        if record.member is None and not waits and not view.cluster and view.uuid is None:
            raise NotFound(f"server {server_id} is not a node of a cluster")
        return view.model_copy(update={"data_epoch": record.data_epoch})

    def position(self, server_id: str) -> GaleraPosition:
        """The position of a stopped node. Raises Busy while it runs, Conflict without data, ToolFailed."""
        record, clusters, server = self._known(server_id)
        with self._hold(record):
            self._require_stopped(record)
            self._configure(record, server)
            return clusters.nodes.find_position(server)

    def prove_stopped(self, server_id: str) -> None:
        """Prove that its process and everything that it started have ended, and that its ports are free. Raises ServerFailed."""
        record, clusters, server = self._known(server_id)
        with self._hold(record):
            self._lifecycle.recover_process(record)
            if self._lifecycle.is_running(record):
                raise ServerFailed(f"server {server.name or server_id} still runs", remedy="Stop it.")
            if self._lifecycle.get_runtime(record.definition).can_kill:
                self._lifecycle.kill(record)  # scripts of a state transfer may outlive it and would write into the new data
            self._require_silence(server, (server.port or 3306, *clusters.nodes.list_ports()))

    def _require_silence(self, server: Server, ports: tuple[int, ...]) -> None:
        deadline = time.monotonic() + GONE
        for port in ports:
            while server.address is not None and not is_free(server.address, port):
                if time.monotonic() > deadline:
                    raise ServerFailed(
                        f"server {server.name or server.id} is stopped, but something listens on {server.address}:{port}",
                        remedy="Find it with `ss -ltnp` and stop it.",
                    )
                time.sleep(0.05)

    def unreached(self, server_id: str) -> dict[str, str]:
        """Addresses of peers that this host does not reach, and why. A host where nothing listens is reached."""
        record, clusters, server = self._known(server_id)
        if record.member is None or server.address is None:
            return {}
        found = {}
        for peer in record.member.peers:
            if why := explain_unreachable(server.address, peer, clusters.nodes.list_ports()[0]):
                found[peer] = why
        return found

    def seed(self, server_id: str, seed: Seed) -> GaleraPosition:
        """Give the directory that a job prepared a new identity. Raises NotFound, ServerFailed, ToolFailed."""
        record, clusters, server = self._known(server_id)
        with self._hold(record):
            new = beside(record.data_dir, "new", seed.job)
            if not new.is_dir():
                raise NotFound(f"job {seed.job} left no data for server {server_id}", remedy="Prepare it again.")
            self._configure(record, server)
            return clusters.nodes.seed(server, new, seed.uuid)

    def serving(self, server_id: str) -> tuple[Clusters, Server]:
        """The clusters' driver and the server, which runs. Raises NotFound; Busy if it does not run."""
        record, clusters, server = self._known(server_id)
        if not self._lifecycle.is_running(record):
            raise Busy(f"server {server.name or server_id} does not run", remedy="Start it.")
        return clusters, server

    # --- desync for the time of a job

    @contextmanager
    def desynced(self, server_id: str, job: str) -> Iterator[None]:
        """Desync the node until the job that is started in the context ends. Does nothing if its owner has desynced it."""
        clusters, server = self.serving(server_id)
        record = self._home.registry.get(server_id)
        with self._mutex:
            if record.desynced_for is not None or not clusters.nodes.view(server, running=True).desynced:
                record.desynced_for = job  # written first, so that it is undone after a crash
                self._home.registry.save(record)
                clusters.running.set_desync(server, desync=True)
            yield

    def resync(self, record: ServerRecord, job_on: Callable[[str], str | None]) -> None:
        """End the desync, unless its job still runs. Tried again later if the server does not answer."""
        if record.desynced_for is None:
            return
        with self._mutex:
            if record.desynced_for == job_on(record.id):
                return
            if self._lifecycle.is_running(record):  # a server that was started since is synced
                try:
                    self._home.get_clusters(record).running.set_desync(self._home.describe_server(record), desync=False)
                except StrongroomError as error:
                    log.warning("node is still desynced", server=record.id, reason=error.message)
                    return
            record.desynced_for = None
            self._home.registry.save(record)

    def _known(self, server_id: str) -> tuple[ServerRecord, Clusters, Server]:
        record = self._home.registry.get(server_id)
        return record, self._home.get_clusters(record), self._home.describe_server(record)

    def _configure(self, record: ServerRecord, server: Server) -> None:
        self._home.get_datastore(record).servers.configure(server)

    def _require_stopped(self, record: ServerRecord) -> None:
        self._lifecycle.recover_process(record)
        if self._lifecycle.is_running(record):
            raise Busy(f"server {record.label} runs", remedy="Stop it.")
