"""Database servers of this host: defined, started, watched, swapped, administered, removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path

import structlog

from strongroom.agent.host.addresses import Addresses
from strongroom.agent.models import ServerDefinition, ServerView, Start
from strongroom.agent.registry import Registry, ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import JOIN, Lifecycle
from strongroom.agent.servers.copies import Copies
from strongroom.agent.servers.holds import PATIENCE, Holds
from strongroom.agent.servers.nodes import Nodes
from strongroom.agent.servers.views import Views, list_previous_data
from strongroom.agent.servers.watch import Watch
from strongroom.agent.swap.layout import Layouts, NewData
from strongroom.agent.swap.swap import Swapper
from strongroom.datastores import Administration, Server
from strongroom.errors import Busy, Conflict, StrongroomError
from strongroom.settings import Settings
from strongroom.system.directories import make_directory, remove_tree, sync_directory

log = structlog.get_logger()

DELETED = ".deleted-"


class Servers:
    """Safe to use from many threads. ``job_on`` returns the job that runs on a server."""

    def __init__(self, settings: Settings, data_dir: Path, *, job_on: Callable[[str], str | None]) -> None:
        registry = Registry(data_dir / "agent" / "servers")
        self._home = Home(settings, registry, data_dir / "instances", Addresses(settings.agent.pool))
        self._holds = Holds(data_dir / "agent" / "locks", job_on)
        self._lifecycle = Lifecycle(self._home)
        self._layouts = Layouts(self._home, self._lifecycle)
        self._swapper = Swapper(self._home, self._lifecycle, self._layouts.of_swap)
        self._job_on = job_on
        self._swapping: set[str] = set()
        self.watch = Watch(self._home, self._lifecycle, self._layouts.learn)
        self.nodes = Nodes(self._home, self._lifecycle, self._holds.hold)
        self.copies = Copies(self._home, self._lifecycle, self._holds.hold, self._layouts.require_swappable)
        self._views = Views(self._home, self._lifecycle, job_on)

    def load(self) -> None:
        """Find the servers that are on disk, those that run, and what a crash has left half deleted."""
        make_directory(self._home.instances, mode=0o711)
        self._holds.load()
        self._home.registry.load()
        for leftover in self._home.instances.glob(f"{DELETED}*"):
            threading.Thread(target=_remove_deleted, args=(leftover,), daemon=True).start()
        for record in self._home.registry.all():
            try:
                self._lifecycle.recover_process(record)
            except StrongroomError as error:
                log.error("cannot look for the process of a server", server=record.id, reason=error.message)

    def close(self) -> None:
        """Release the addresses. Servers keep running."""
        self._home.addresses.close()

    def resume_swaps(self) -> None:
        """Continue, in the background, swaps that a crash interrupted. Their servers are locked before this returns."""
        for record in self._home.registry.all():
            journal = self._swapper.journal(record)
            if journal is not None and journal.unfinished:
                locked = threading.Event()
                threading.Thread(target=self._resume, args=(record, locked), name=f"swap-{record.id}", daemon=True).start()
                locked.wait(PATIENCE + 1)

    def _resume(self, record: ServerRecord, locked: threading.Event) -> None:
        try:
            with self._holds.hold(record):
                journal = self._swapper.journal(record)
                assert journal is not None
                self._swapping.add(record.id)
                locked.set()
                log.info("continuing a swap", server=record.id, job=journal.job, phase=journal.phase)
                self._swapper.finish(record, journal)
        except StrongroomError as error:
            log.error("swap failed", server=record.id, reason=error.message)
        finally:
            self._swapping.discard(record.id)
            self.watch.expire(record.id)
            locked.set()

    # --- definition

    def define(self, server_id: str, definition: ServerDefinition) -> ServerView:
        """Make the server known: the agent gives it directories and an address, or asks an adopted one what it is.

        Idempotent. Name, memory, and the definition of an adopted server may change. Raises Conflict, ConfigurationError,
        ServerFailed, VersionMismatch, InvalidRequest.
        """
        self._home.registry.place(server_id)
        with self._holds.mutex(server_id):
            known = self._home.registry.get(server_id) if server_id in self._home.registry else None
            asked = (definition.runtime, definition.datastore)
            if known is not None and asked != (known.definition.runtime, known.definition.datastore):
                raise Conflict(
                    f"server {known.label} is {known.definition.datastore} with runtime {known.definition.runtime}; "
                    "that cannot be changed",
                    remedy="Make another instance.",
                )
            record = self._lifecycle.get_runtime(definition).define(server_id, definition, known)
            if record.is_adopted:
                self._layouts.learn(record)
        return self.view(server_id)

    # --- what jobs need

    def server(self, server_id: str) -> Server:
        """The server as a worker sees it. Raises NotFound, ConfigurationError."""
        return self._home.describe_server(self._home.registry.get(server_id))

    def lock(self, server_id: str) -> Path:
        """The lock that whoever works on the server holds."""
        return self._holds.lock_path(server_id)

    def new_data(self, server: Server, job: str, choices: Mapping[str, Path]) -> NewData:
        """The empty directories that a restore fills, including those that a person chose for parts of the backup.

        Raises ConfigurationError if they cannot be used or cannot replace the present ones; InvalidRequest.
        """
        return self._layouts.new_data(self._home.registry.get(server.id), job, choices)

    def after_job(self, server_id: str) -> None:
        """Ask the server again soon: a job has ended."""
        self.watch.expire(server_id)

    # --- life

    def start(self, server_id: str, start: Start = JOIN) -> ServerView:
        """Start it unless it runs, and wait until it serves. Raises Conflict without data, ServerFailed, ConfigurationError."""
        record = self._home.registry.get(server_id)
        with self._holds.mutex(server_id):
            record.require_epoch()
            self._want(record, "running")
            if not (record.is_adopted and self.watch.refresh(record).healthy):
                launched = self._lifecycle.launch(record, start)
                if start.wait:
                    self._lifecycle.wait_ready(record, launched)
            if start.wait:
                self.watch.refresh(record)
        return self.view(server_id)

    def stop(self, server_id: str, *, kill: bool = False) -> ServerView:
        """Stop it and wait until it has ended. With ``kill``, a server that does not stop is killed, unless it was adopted.

        Raises Busy while a job runs on it, ServerFailed.
        """
        record = self._home.registry.get(server_id)
        with self._holds.hold(record, self._patience(record)):
            self._want(record, "stopped")
            (self._lifecycle.stop_or_kill if kill else self._lifecycle.stop)(record)
            self.watch.refresh(record)
        return self.view(server_id)

    def restart(self, server_id: str) -> ServerView:
        """Stop it, start it, and wait until it serves. Raises Busy while a job runs on it, ServerFailed."""
        record = self._home.registry.get(server_id)
        with self._holds.hold(record, self._patience(record)):
            self._want(record, "running")
            self._lifecycle.stop(record)
            self._lifecycle.wait_ready(record, self._lifecycle.launch(record))
            self.watch.refresh(record)
        return self.view(server_id)

    def swap(self, server_id: str, job: str, *, start: bool = True, empty: bool = False) -> ServerView:
        """Swap in the data that ``job`` prepared. Idempotent. Raises Busy, NotFound, ServerFailed, ConfigurationError."""
        record = self._home.registry.get(server_id)
        journal = self._swapper.journal(record)
        limits = self._home.settings.agent
        mine = journal is not None and journal.unfinished and journal.job == job
        with self._holds.hold(record, 2 * (limits.start_timeout + limits.stop_timeout) if mine else None):
            self._swapping.add(server_id)
            try:
                self._swapper.swap(record, job, start=start, empty=empty)
            finally:
                self._swapping.discard(server_id)
                self.watch.refresh(record)
        journal = self._swapper.journal(record)
        return self.view(server_id).model_copy(update={"restore_warnings": journal.warnings if journal else []})

    def undo_swap(self, server_id: str, job: str) -> ServerView:
        """Put the data of before swap ``job`` back; the server stays stopped. Raises Busy, NotFound, ServerFailed."""
        record = self._home.registry.get(server_id)
        with self._holds.hold(record):
            self._swapping.add(server_id)
            try:
                self._swapper.undo(record, job)
            finally:
                self._swapping.discard(server_id)
                self.watch.refresh(record)
        return self.view(server_id)

    def discard_old(self, server_id: str) -> ServerView:
        """Remove the previous data that swaps kept. Raises Busy."""
        record = self._home.registry.get(server_id)
        with self._holds.hold(record):
            for path in list_previous_data(record):
                remove_tree(path)
        return self.view(server_id)

    def delete(self, server_id: str) -> None:
        """Stop a server of the agent and remove everything of it, or forget an adopted one. An unknown one is no error."""
        if server_id not in self._home.registry:
            return
        record = self._home.registry.get(server_id)
        with self._holds.hold(record):
            self._want(record, "stopped")
            if not record.is_adopted:
                self._lifecycle.stop_or_kill(record)
                self._layouts.remove_remains(record)
            base_dir = self._home.base_dir(server_id)
            deleted = self._home.instances / f"{DELETED}{server_id}-{time.time_ns()}"
            if not record.is_adopted and record.socket and not record.socket.is_relative_to(base_dir):
                remove_tree(record.socket.parent)
            if base_dir.exists():
                base_dir.rename(deleted)
                sync_directory(self._home.instances)
            self._home.registry.forget(server_id)
            self.watch.forget(server_id)
        self.lock(server_id).unlink(missing_ok=True)
        _remove_deleted(deleted)

    def _want(self, record: ServerRecord, wanted: str) -> None:
        record.wanted = "running" if wanted == "running" else "stopped"
        record.failed, record.restarts = None, []
        self._home.registry.save(record)
        self.watch.on_due()

    # --- supervision

    def ids(self) -> list[str]:
        """Ids of all servers."""
        return [record.id for record in self._home.registry.all()]

    def datastores(self) -> list[str]:
        """Datastores of all servers."""
        return [record.definition.datastore for record in self._home.registry.all()]

    def pids(self, watched: Container[int] = ()) -> set[int]:
        """Processes of servers whose end should be noticed at once. Those that are ``watched`` run: they are not looked for."""
        found = set()
        for record in self._home.registry.all():
            is_watched = record.process is not None and not record.is_adopted and record.process.pid in watched
            pid = record.process.pid if is_watched and record.process else self._lifecycle.find_pid(record)
            if pid is not None:
                found.add(pid)
        return found

    def supervise(self, server_id: str) -> None:
        """Start a server that died, and ask a running one for its health. Skips a server that another operation works on."""
        if server_id not in self._home.registry:
            return
        record = self._home.registry.get(server_id)
        mutex = self._holds.mutex(server_id)
        if not mutex.acquire(blocking=False):
            return
        try:
            self.watch.restart(record)
            self.nodes.resync(record, self._job_on)
        finally:
            mutex.release()
        self.watch.refresh_if_due(record)

    # --- views

    def view(self, server_id: str) -> ServerView:
        """What is known of the server; cheap. Raises NotFound."""
        record = self._home.registry.get(server_id)
        return self._views.view(record, self.watch.health(server_id), swapping=server_id in self._swapping)

    def describe_server(self, server_id: str) -> ServerView:
        """Like ``view``, but a server that was not healthy when it was last asked is asked again now. Raises NotFound."""
        record = self._home.registry.get(server_id)
        if server_id not in self._swapping and not self.watch.health(server_id).healthy:
            self.watch.refresh(record)
        return self.view(server_id)

    def views(self) -> list[ServerView]:
        """All servers."""
        return [self.view(server_id) for server_id in self.ids()]

    def serving(self, server_id: str) -> tuple[Administration, Server]:
        """SQL administration and the server. Raises NotFound, Unsupported; Busy if it does not run."""
        record = self._home.registry.get(server_id)
        administration = self._home.get_datastore(record).require_administration()
        if not self._lifecycle.is_running(record):
            raise Busy(f"server {record.label} does not run", remedy="Start it.")
        return administration, self._home.describe_server(record)

    def _patience(self, record: ServerRecord) -> float:
        """Seconds to wait for the server. A request that is repeated because its answer was lost waits for the first one."""
        limits = self._home.settings.agent
        return PATIENCE if self._job_on(record.id) else max(PATIENCE, limits.stop_timeout + limits.start_timeout)


def _remove_deleted(path: Path) -> None:
    try:
        remove_tree(path)
    except OSError as error:
        log.warning("cannot remove a deleted server", path=str(path), reason=str(error))
