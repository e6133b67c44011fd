"""Servers that are nodes of Galera clusters: what they are told to be, what they are asked, and that they are really stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import structlog

from strongroom.agent.host.addresses import is_free, no_way
from strongroom.agent.models import Seed
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import Lifecycle
from strongroom.agent.swap.swap import beside
from strongroom.datastores import Galera, GaleraMember, GaleraPosition, GaleraView, Server
from strongroom.errors import Busy, Conflict, NotFound, ServerFailed, StrongroomError

log = structlog.get_logger()

GONE = 10.0
"""Seconds for the ports of a server that has ended to become free."""


class Nodes:
    """Safe to use from many threads. ``hold`` keeps jobs and everybody else off a server."""

    def __init__(self, home: Home, lifecycle: Lifecycle, hold: Callable[[ServerRecord], AbstractContextManager[None]]) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._hold = hold
        self._mutex = threading.Lock()

    def enroll(self, server_id: str, member: GaleraMember) -> None:
        """Make the server a node. Raises Conflict when its data is of a later epoch, Unsupported, ServerFailed, Busy.

        One whose data is of an earlier epoch is stopped, whatever that takes: its cluster was restored without it.
        """
        record = self._home.registry.get(server_id)
        self._home.get_galera(record)
        if record.is_adopted:
            raise Conflict(f"server {server_id} was adopted: its owner says what cluster it is of")
        if record.data_epoch is not None and member.epoch < record.data_epoch:
            raise Conflict(
                f"the data of server {server_id} is of epoch {record.data_epoch} of its cluster, not of {member.epoch}"
            )
        if record.data_epoch is not None and member.epoch != record.data_epoch:
            with self._hold(record):
                record.wanted, record.member = "stopped", member
                self._home.registry.save(record)
                self._lifecycle.stop_or_kill(record)
        record.member = member
        self._home.registry.save(record)

    def advance(self, server_id: str, member: GaleraMember) -> None:
        """Count the data of the stopped node as of the epoch of ``member``: its cluster goes on with this data. Idempotent.

        Raises Busy while it runs; Conflict without data, for data of a later epoch, and for adopted servers.
        """
        record = self._home.registry.get(server_id)
        self._home.get_galera(record)
        if record.is_adopted:
            raise Conflict(f"server {server_id} was adopted: its owner says what cluster it is of")
        with self._hold(record):
            self._require_stopped(record)
            if record.data_epoch is None or member.epoch < record.data_epoch:
                raise Conflict(f"the data of server {server_id} is of epoch {record.data_epoch}; it cannot be of {member.epoch}")
            record.member, record.data_epoch = member, member.epoch
            self._home.registry.save(record)

    def view(self, server_id: str) -> GaleraView:
        """The node as it is now. Raises NotFound when the server is of no cluster; an adopted one only while it answers."""
        record, galera, server = self._known(server_id)
        view = galera.view(server, running=self._lifecycle.is_running(record))
        waits = record.is_adopted and not view.answers  # for all its data, perhaps
        if record.member is None and not waits and not view.cluster and view.uuid is None:
            raise NotFound(f"server {server_id} is not a node of a cluster")
        return view.model_copy(update={"data_epoch": record.data_epoch})

    def position(self, server_id: str) -> GaleraPosition:
        """Where the data of the stopped node stands. Raises Busy while it runs, Conflict without data, ToolFailed."""
        record, galera, server = self._known(server_id)
        with self._hold(record):
            self._require_stopped(record)
            self._configure(record, server)
            return galera.position(server)

    def prove_stopped(self, server_id: str) -> None:
        """Its process is gone, with all that it has started, and nothing listens on its ports. Raises ServerFailed."""
        record, galera, server = self._known(server_id)
        with self._hold(record):
            self._lifecycle.recover_process(record)
            if self._lifecycle.is_running(record):
                raise ServerFailed(f"server {server.name or server_id} still runs", remedy="Stop it.")
            if self._lifecycle.get_runtime(record.definition).can_kill:
                self._lifecycle.kill(record)  # scripts of a transfer of state may outlive it, and would write into the new data
            self._require_silence(server, (server.port or 3306, *galera.ports()))

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
        """Addresses of its peers to which there is no way from here, and why; one where nobody listens just now is reached."""
        record, galera, server = self._known(server_id)
        if record.member is None or server.address is None:
            return {}
        found = {}
        for peer in record.member.peers:
            if why := no_way(server.address, peer, galera.ports()[0]):
                found[peer] = why
        return found

    def seed(self, server_id: str, seed: Seed) -> GaleraPosition:
        """Give what a job has prepared, beside the live data, a new identity. Raises NotFound, ServerFailed, ToolFailed."""
        record, galera, server = self._known(server_id)
        with self._hold(record):
            new = beside(record.data_dir, "new", seed.job)
            if not new.is_dir():
                raise NotFound(f"job {seed.job} has left no data for server {server_id}", remedy="Prepare it again.")
            self._configure(record, server)
            return galera.seed(server, new, seed.uuid)

    def serving(self, server_id: str) -> tuple[Galera, Server]:
        """For what needs SQL. Raises NotFound; Busy when it does not run."""
        record, galera, server = self._known(server_id)
        if not self._lifecycle.is_running(record):
            raise Busy(f"server {server.name or server_id} does not run", remedy="Start it.")
        return galera, server

    # --- desync for the time of a job

    @contextmanager
    def desynced(self, server_id: str, job: str) -> Iterator[None]:
        """Until the job ends, which is started inside, the cluster does not wait for this node.

        Nothing is done, nor undone, when its owner has said so already.
        """
        galera, server = self.serving(server_id)
        record = self._home.registry.get(server_id)
        with self._mutex:
            if record.desynced_for is not None or not galera.view(server, running=True).desynced:
                record.desynced_for = job  # written first: who finds it, undoes it
                self._home.registry.save(record)
                galera.set_desync(server, desync=True)
            yield

    def resync(self, record: ServerRecord, job_on: Callable[[str], str | None]) -> None:
        """Undo it, unless its job still runs. Tried again later when the server does not answer."""
        if record.desynced_for is None:
            return
        with self._mutex:
            if record.desynced_for == job_on(record.id):
                return
            if self._lifecycle.is_running(record):  # one that was started since knows nothing of it
                try:
                    self._home.get_galera(record).set_desync(self._home.describe_server(record), desync=False)
                except StrongroomError as error:
                    log.warning("node is still desynced", server=record.id, reason=error.message)
                    return
            record.desynced_for = None
            self._home.registry.save(record)

    def _known(self, server_id: str) -> tuple[ServerRecord, Galera, Server]:
        record = self._home.registry.get(server_id)
        return record, self._home.get_galera(record), self._home.describe_server(record)

    def _configure(self, record: ServerRecord, server: Server) -> None:
        self._home.get_datastore(record).configure(server)

    def _require_stopped(self, record: ServerRecord) -> None:
        self._lifecycle.recover_process(record)
        if self._lifecycle.is_running(record):
            raise Busy(f"server {record.label} runs", remedy="Stop it.")
