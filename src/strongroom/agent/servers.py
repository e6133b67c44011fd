"""Database servers of this host: defined, started, watched, swapped, administered, removed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from strongroom.agent._copies import Copies
from strongroom.agent._definitions import Definitions
from strongroom.agent._health import Health
from strongroom.agent._layout import Layouts, NewData
from strongroom.agent._lifecycle import JOIN, Lifecycle, require_epoch
from strongroom.agent._nodes import Nodes
from strongroom.agent._registry import Registry, ServerRecord
from strongroom.agent._swap import Swapper
from strongroom.agent._views import WINDOW, Views, aside
from strongroom.agent.models import ServerDefinition, ServerView, Start
from strongroom.datastores import Datastore, Server
from strongroom.errors import Busy, ServerFailed, StrongroomError
from strongroom.settings import Settings
from strongroom.system.directories import make_directory, remove_tree, sync_directory
from strongroom.system.disks import measure_disk_usage
from strongroom.system.locks import take_lock

log = structlog.get_logger()

PATIENCE = 10.0
"""Seconds to wait for the lock of a server: a worker that wrote its result may need a moment to exit."""
DELETED = ".deleted-"
SELDOM = 3600.0


class Servers:
    """Safe to use from many threads. ``job_on`` tells which job runs on a server."""

    def __init__(self, settings: Settings, data_dir: Path, *, job_on: Callable[[str], str | None]) -> None:
        self._settings = settings
        self._instances = data_dir / "instances"
        self._locks = data_dir / "agent" / "locks"
        self._registry = Registry(data_dir / "agent" / "servers")
        self._lifecycle = Lifecycle(settings, self._registry, self._instances)
        self._layouts = Layouts(self._registry, self._lifecycle)
        self._definitions = Definitions(settings, self._registry, self._lifecycle, self._layouts)
        self._swapper = Swapper(self._registry, self._lifecycle, self._layouts.of_swap)
        self._job_on = job_on
        self._mutexes: dict[str, threading.RLock] = {}
        self._health: dict[str, Health] = {}
        self._swapping: set[str] = set()
        self.nodes = Nodes(self._registry, self._lifecycle, self._hold)
        self.copies = Copies(settings, self._registry, self._lifecycle, self._hold, self._layouts.require_swappable)
        self._views = Views(self._lifecycle, self._instances, job_on)
        self.on_change: Callable[[], None] = lambda: None
        """Told when a server is seen in another state."""
        self.on_due: Callable[[], None] = lambda: None
        """Told when a server is to be looked at before its time."""

    def load(self) -> None:
        """Find the servers that are on disk, those that run, and what a crash has left half deleted."""
        make_directory(self._instances, mode=0o711)
        make_directory(self._locks)
        self._registry.load()
        for leftover in self._instances.glob(f"{DELETED}*"):
            threading.Thread(target=_discard, args=(leftover,), daemon=True).start()
        for record in self._registry.all():
            try:
                self._lifecycle.find(record)
            except StrongroomError as error:
                log.error("server cannot be looked for", server=record.id, reason=error.message)

    def close(self) -> None:
        """Let go of the addresses. Servers go on."""
        self._lifecycle.addresses.close()

    def resume_swaps(self) -> None:
        """Go on, in the background, with swaps that a crash cut off. Their servers are locked before this returns."""
        for record in self._registry.all():
            journal = self._swapper.journal(record)
            if journal is not None and journal.unfinished:
                locked = threading.Event()
                threading.Thread(target=self._resume, args=(record, locked), name=f"swap-{record.id}", daemon=True).start()
                locked.wait(PATIENCE + 1)

    def _resume(self, record: ServerRecord, locked: threading.Event) -> None:
        try:
            with self._hold(record):
                journal = self._swapper.journal(record)
                assert journal is not None
                self._swapping.add(record.id)
                locked.set()
                log.info("going on with a swap", server=record.id, job=journal.job, phase=journal.phase)
                self._swapper.finish(record, journal)
        except StrongroomError as error:
            log.error("swap failed", server=record.id, reason=error.message)
        finally:
            self._swapping.discard(record.id)
            self._touch(record.id)
            locked.set()

    # --- definition

    def define(self, server_id: str, definition: ServerDefinition) -> ServerView:
        """Make the server known: a process server gets a place and an address, an adopted one is asked who it is.

        Idempotent. Name, memory, and what an adopted server was told may change; the rest may not. Raises Conflict,
        ConfigurationError, ServerFailed, VersionMismatch, InvalidRequest.
        """
        self._registry.place(server_id)
        with self._mutex(server_id):
            self._definitions.define(server_id, definition)
        return self.view(server_id)

    # --- what jobs need

    def server(self, server_id: str) -> Server:
        """The server as a worker sees it. Raises NotFound, ConfigurationError."""
        return self._lifecycle.server(self._registry.get(server_id))

    def lock(self, server_id: str) -> Path:
        """Whoever works on the server holds this lock."""
        return self._locks / f"{server_id}.lock"

    def new_data(self, server: Server, job: str, choices: Mapping[str, Path]) -> NewData:
        """The empty directories that a restore fills, also those that a person chose for parts of the backup.

        Raises ConfigurationError when they could not take the place of the old, or cannot be used; InvalidRequest.
        """
        return self._layouts.new_data(self._registry.get(server.id), job, choices)

    def after_job(self, server_id: str) -> None:
        """Look at the server again soon: a job has ended."""
        self._touch(server_id)

    # --- life

    def start(self, server_id: str, start: Start = JOIN) -> ServerView:
        """Start it unless it runs, and wait until it serves. Raises Conflict without data, ServerFailed, ConfigurationError."""
        record = self._registry.get(server_id)
        with self._mutex(server_id):
            require_epoch(record)
            self._want(record, "running")
            if not (record.definition.runtime == "adopted" and self._refresh(record).healthy):
                launched = self._lifecycle.launch(record, start)
                if start.wait:
                    self._lifecycle.wait_ready(record, launched)
            if start.wait:
                self._refresh(record)
        return self.view(server_id)

    def stop(self, server_id: str, *, kill: bool = False) -> ServerView:
        """Stop it and wait until it is gone; with ``kill`` one of ours that does not stop in time is killed.

        Raises Busy while a job runs on it, ServerFailed.
        """
        record = self._registry.get(server_id)
        with self._hold(record, self._patience(record)):
            self._want(record, "stopped")
            try:
                self._lifecycle.stop(record)
            except ServerFailed as error:
                if not kill or record.definition.runtime != "process":
                    raise
                log.warning("killing a server that does not stop", server=server_id, reason=error.message)
                self._lifecycle.kill(record)
            self._refresh(record)
        return self.view(server_id)

    def restart(self, server_id: str) -> ServerView:
        """Stop it, start it, wait until it serves. Raises Busy while a job runs on it, ServerFailed."""
        record = self._registry.get(server_id)
        with self._hold(record, self._patience(record)):
            self._want(record, "running")
            self._lifecycle.stop(record)
            self._lifecycle.wait_ready(record, self._lifecycle.launch(record))
            self._refresh(record)
        return self.view(server_id)

    def swap(self, server_id: str, job: str, *, start: bool = True, empty: bool = False) -> ServerView:
        """Make what ``job`` prepared the data. Idempotent. Raises Busy, NotFound, ServerFailed, ConfigurationError."""
        record = self._registry.get(server_id)
        journal = self._swapper.journal(record)
        limits = self._settings.agent
        mine = journal is not None and journal.unfinished and journal.job == job
        with self._hold(record, 2 * (limits.start_timeout + limits.stop_timeout) if mine else PATIENCE):
            self._swapping.add(server_id)
            try:
                self._swapper.swap(record, job, start=start, empty=empty)
            finally:
                self._swapping.discard(server_id)
                self._refresh(record)
        journal = self._swapper.journal(record)
        return self.view(server_id).model_copy(update={"restore_warnings": journal.warnings if journal else []})

    def undo_swap(self, server_id: str, job: str) -> ServerView:
        """Put back what was there before swap ``job``; the server is stopped. Raises Busy, NotFound, ServerFailed."""
        record = self._registry.get(server_id)
        with self._hold(record):
            self._swapping.add(server_id)
            try:
                self._swapper.undo(record, job)
            finally:
                self._swapping.discard(server_id)
                self._refresh(record)
        return self.view(server_id)

    def discard_old(self, server_id: str) -> ServerView:
        """Remove the data directories that swaps have put aside. Raises Busy."""
        record = self._registry.get(server_id)
        with self._hold(record):
            for path in aside(record):
                remove_tree(path)
        return self.view(server_id)

    def delete(self, server_id: str) -> None:
        """Stop a process server and remove all of it; forget an adopted one. One that is not known is gone already."""
        if server_id not in self._registry:
            return
        record = self._registry.get(server_id)
        with self._hold(record):
            self._want(record, "stopped")
            if record.definition.runtime == "process":
                try:
                    self._lifecycle.stop(record)
                except ServerFailed as error:
                    log.warning("killing a server that is deleted", server=server_id, reason=error.message)
                    self._lifecycle.kill(record)
                self._layouts.remove_remains(record)
            base_dir = self._lifecycle.base_dir(server_id)
            doomed = self._instances / f"{DELETED}{server_id}-{time.time_ns()}"
            if record.definition.runtime == "process" and record.socket and not record.socket.is_relative_to(base_dir):
                remove_tree(record.socket.parent)
            if base_dir.exists():
                base_dir.rename(doomed)
                sync_directory(self._instances)
            self._registry.forget(server_id)
            self._health.pop(server_id, None)
        self.lock(server_id).unlink(missing_ok=True)
        _discard(doomed)

    def _want(self, record: ServerRecord, wanted: str) -> None:
        record.wanted = "running" if wanted == "running" else "stopped"
        record.failed, record.restarts = None, []
        self._registry.save(record)
        self.on_due()

    # --- supervision

    def ids(self) -> list[str]:
        """Ids of all servers."""
        return [record.id for record in self._registry.all()]

    def datastores(self) -> list[str]:
        """What they are of."""
        return [record.definition.datastore for record in self._registry.all()]

    def pids(self) -> set[int]:
        """Processes of servers whose end should be noticed at once."""
        return {pid for record in self._registry.all() if (pid := self._lifecycle.pid(record)) is not None}

    def is_due(self, server_id: str) -> bool:
        """Whether the server is to be asked now."""
        return self._health_of(server_id).remaining() <= 0

    def next_look(self) -> float:
        """Seconds until the next server is to be asked."""
        return min((self._health_of(server_id).remaining() for server_id in self.ids()), default=SELDOM)

    def supervise(self, server_id: str) -> None:
        """Start a server that died, and ask a running one how it is. Leaves alone what somebody works on."""
        if server_id not in self._registry:
            return
        record = self._registry.get(server_id)
        mutex = self._mutex(server_id)
        if not mutex.acquire(blocking=False):
            return
        try:
            running = self._lifecycle.is_running(record)
            dead = record.definition.runtime == "process" and record.wanted == "running" and not running
            if dead and record.failed is None and record.data_dir.is_dir():
                self._revive(record)
            self.nodes.resync(record, self._job_on)
        finally:
            mutex.release()
        if self._health_of(server_id).due(running):
            self._refresh(record)

    def _revive(self, record: ServerRecord) -> None:
        now = datetime.now(UTC)
        count = record.restarts_since(now - WINDOW)
        if count >= self._settings.agent.restart_limit:
            why = self._refresh(record).detail
            record.failed = f"it died {count + 1} times within ten minutes and is left alone: {why}"
            self._registry.save(record)
            log.error("server is left alone", server=record.id, reason=record.failed)
            return
        if record.restarts and now - record.restarts[-1] < timedelta(seconds=min(2**count, 30)):
            return
        log.warning("server died, starting it again", server=record.id, count=count + 1)
        record.restarts = [*(r for r in record.restarts if r > now - WINDOW), now]
        self._registry.save(record)
        self._health[record.id] = Health.bad("it died and was started again", self._health_of(record.id).data_bytes)
        self.on_change()
        try:
            self._lifecycle.launch(record)
        except StrongroomError as error:
            log.error("server cannot be started", server=record.id, reason=error.message)
        self.on_due()

    def _refresh(self, record: ServerRecord) -> Health:
        """Ask the server now."""
        before = self._health_of(record.id)
        try:
            facts = self._lifecycle.datastore(record).ready(self._lifecycle.server(record))
            health = Health.good(facts, others=len(self._registry.all()))
            if not before.healthy:  # it may have been started with another configuration
                self._layouts.learn(record)
        except StrongroomError as error:
            known = self._health.get(record.id)
            size = known.data_bytes if known is not None and known.data_bytes else measure_disk_usage(record.data_dir)
            health = Health.of_error(error, size, is_awaited=record.wanted == "running" and record.failed is None)
        self._health[record.id] = health
        if health.shown != before.shown:
            self.on_change()
            self.on_due()  # a process that has come since is watched from now on, not from the next time on that is due
        return health

    def _health_of(self, server_id: str) -> Health:
        return self._health.get(server_id) or Health.unknown()

    def _touch(self, server_id: str) -> None:
        health = self._health.get(server_id)
        if health is not None:
            health.outdate()
        self.on_due()

    # --- views

    def view(self, server_id: str) -> ServerView:
        """What we know of the server; cheap. Raises NotFound."""
        record = self._registry.get(server_id)
        return self._views.view(record, self._health_of(server_id), swapping=server_id in self._swapping)

    def views(self) -> list[ServerView]:
        """All servers."""
        return [self.view(server_id) for server_id in self.ids()]

    def serving(self, server_id: str) -> tuple[Datastore, Server]:
        """Driver and server for SQL administration. Raises NotFound; Busy when it does not run."""
        record = self._registry.get(server_id)
        if not self._lifecycle.is_running(record):
            raise Busy(f"server {record.definition.name or server_id} does not run", remedy="Start it.")
        return self._lifecycle.datastore(record), self._lifecycle.server(record)

    # --- one thing at a time

    def _mutex(self, server_id: str) -> threading.RLock:
        return self._mutexes.setdefault(server_id, threading.RLock())

    def _patience(self, record: ServerRecord) -> float:
        """Seconds to wait for the server. A request that is repeated, since its answer was lost, waits for its first self."""
        limits = self._settings.agent
        return PATIENCE if self._job_on(record.id) else max(PATIENCE, limits.stop_timeout + limits.start_timeout)

    @contextmanager
    def _hold(self, record: ServerRecord, patience: float | None = None) -> Iterator[None]:
        """Keep jobs and everybody else off the server. Raises Busy after ``patience`` seconds (default: PATIENCE)."""
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        while (descriptor := take_lock(self.lock(record.id))) is None:
            if time.monotonic() > deadline:
                job = self._job_on(record.id)
                raise Busy(
                    f"server {record.definition.name or record.id} is busy with {f'job {job}' if job else 'another operation'}",
                    remedy="Wait for it, or cancel it.",
                )
            time.sleep(0.05)
        try:
            with self._mutex(record.id):
                yield
        finally:
            os.close(descriptor)


def _discard(path: Path) -> None:
    try:
        remove_tree(path)
    except OSError as error:
        log.warning("cannot remove a deleted server", path=str(path), reason=str(error))
