"""The thread that looks after servers and jobs while nobody asks."""

from __future__ import annotations

import os
import select
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

import structlog

from strongroom.agent.duties import Duties
from strongroom.agent.jobs import Jobs
from strongroom.agent.servers import Servers

log = structlog.get_logger()

PACE = 1.0
"""Seconds between two looks while a job runs, or a server is not as it should be."""
CALM = 10.0
"""At most so many seconds when all is well. A server that ends is noticed at once."""
FIRST_LOOK = 5.0
"""Seconds that the first look at all servers may take before the agent answers without its outcome."""
SWEEP = 3600.0
"""Seconds between two sweeps of old job directories."""


class Supervisor:
    """Looks when something is due. A server that hangs does not keep the others from being seen."""

    def __init__(self, servers: Servers, jobs: Jobs, duties: Duties) -> None:
        self._duties = duties
        self._servers = servers
        self._jobs = jobs
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = threading.Event()
        self._looks: dict[str, Future[None]] = {}
        self._wake: int | None = None
        self._mutex = threading.Lock()
        self._watched: dict[int, int] = {}  # process id → descriptor that tells of its end
        self._look_at_all = True
        self._next_watch = 0.0

    def start(self) -> None:
        """Begin to look. Returns after the first look, so that a server found alive is not called starting."""
        self._stop.clear()
        self._seen.clear()
        self._look_at_all, self._next_watch = True, 0.0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()
        self._seen.wait(FIRST_LOOK)

    def wake(self) -> None:
        """Something was begun or changed: look now. From any thread."""
        with self._mutex:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Look no more. Servers and jobs go on."""
        self._stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._mutex:
            if self._wake is not None:
                os.close(self._wake)
                self._wake = None

    def _run(self) -> None:
        next_sweep = time.monotonic() + SWEEP
        with ThreadPoolExecutor(8, thread_name_prefix="look") as pool:
            while not self._stop.is_set():
                self._begin_looks(pool)
                try:
                    self._jobs.tick()
                    self._duties.tick()
                    if time.monotonic() > next_sweep:
                        next_sweep = time.monotonic() + SWEEP
                        self._jobs.sweep()
                except Exception:
                    log.exception("supervisor stumbled over jobs")
                if not self._seen.is_set():
                    wait(self._looks.values(), timeout=FIRST_LOOK)
                    self._seen.set()
                try:
                    self._await_event(self._pause())
                except Exception:
                    log.exception("supervisor cannot wait for events")
                    self._look_at_all, self._next_watch = True, 0.0
                    self._stop.wait(PACE)
        for descriptor in self._watched.values():
            os.close(descriptor)
        self._watched.clear()

    def _begin_looks(self, pool: ThreadPoolExecutor) -> None:
        for server_id in self._servers.ids():
            is_free = server_id not in self._looks or self._looks[server_id].done()
            if is_free and (self._look_at_all or self._servers.watch.is_due(server_id)):
                self._looks[server_id] = pool.submit(self._look, server_id)
        self._look_at_all = False

    def _pause(self) -> float:
        """Seconds until something is due by itself."""
        if self._jobs.running or self._duties.is_busy or any(not look.done() for look in self._looks.values()):
            return PACE
        return min(CALM, max(PACE, self._servers.watch.next_look()))

    def _await_event(self, seconds: float) -> None:
        """Wait, but no longer than until a server ends or somebody wakes us."""
        assert self._wake is not None
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if time.monotonic() >= self._next_watch:
            self._next_watch = time.monotonic() + CALM
            self._watch()
        for descriptor in self._watched.values():
            poll.register(descriptor, select.POLLIN)
        told = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        if told:
            self._next_watch = 0.0
        for pid in [pid for pid, descriptor in self._watched.items() if descriptor in told]:
            os.close(self._watched.pop(pid))  # it has ended; another process may get its id
        if self._wake in told:
            os.eventfd_read(self._wake)
            told.remove(self._wake)
        self._look_at_all = bool(told)

    def _watch(self) -> None:
        """Have a descriptor for each process of a server, and for no other."""
        running = self._servers.pids() | self._duties.pids()
        for pid in self._watched.keys() - running:
            os.close(self._watched.pop(pid))
        for pid in running - self._watched.keys():
            try:
                self._watched[pid] = os.pidfd_open(pid)
            except OSError:
                continue  # it has just ended, or this kernel has no such thing: it is noticed at the next look

    def _look(self, server_id: str) -> None:
        try:
            self._servers.supervise(server_id)
        except Exception:
            log.exception("supervisor stumbled", server=server_id)
