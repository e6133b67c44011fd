"""The thread that supervises servers, jobs and duties."""

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
"""Seconds between two rounds while a job runs or a server is not healthy."""
CALM = 10.0
"""Seconds between two rounds at most. The end of a server is noticed immediately."""
FIRST_CHECK = 5.0
"""Seconds for the first round. After that the agent answers without its outcome."""
SWEEP = 3600.0
"""Seconds between two sweeps of old job directories."""


class Supervisor:
    """Acts when something is due. A server that hangs does not delay the others."""

    def __init__(self, servers: Servers, jobs: Jobs, duties: Duties) -> None:
        self._duties = duties
        self._servers = servers
        self._jobs = jobs
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._checked = threading.Event()
        self._checks: dict[str, Future[None]] = {}
        self._wake: int | None = None
        self._mutex = threading.Lock()
        self._watched: dict[int, int] = {}  # process id → descriptor that signals its end
        self._check_all = True
        self._next_watch = 0.0

    def start(self) -> None:
        """Begin. Returns after the first round, so that a server found alive is not shown as starting."""
        self._stop.clear()
        self._checked.clear()
        self._check_all, self._next_watch = True, 0.0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()
        self._checked.wait(FIRST_CHECK)

    def wake(self) -> None:
        """Something has changed: start a round now. From any thread."""
        with self._mutex:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Stop supervising. Servers, jobs and duties keep running."""
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
        with ThreadPoolExecutor(8, thread_name_prefix="check") as pool:
            while not self._stop.is_set():
                self._begin_checks(pool)
                try:
                    self._jobs.tick()
                    self._duties.tick()
                    if time.monotonic() > next_sweep:
                        next_sweep = time.monotonic() + SWEEP
                        self._jobs.sweep()
                except Exception:
                    log.exception("supervision of jobs and duties failed")
                if not self._checked.is_set():
                    wait(self._checks.values(), timeout=FIRST_CHECK)
                    self._checked.set()
                try:
                    self._await_event(self._pause())
                except Exception:
                    log.exception("supervisor cannot wait for events")
                    self._check_all, self._next_watch = True, 0.0
                    self._stop.wait(PACE)
        for descriptor in self._watched.values():
            os.close(descriptor)
        self._watched.clear()

    def _begin_checks(self, pool: ThreadPoolExecutor) -> None:
        for server_id in self._servers.ids():
            is_free = server_id not in self._checks or self._checks[server_id].done()
            if is_free and (self._check_all or self._servers.watch.is_due(server_id)):
                self._checks[server_id] = pool.submit(self._check, server_id)
        self._check_all = False

    def _pause(self) -> float:
        """Seconds until something is due."""
        if self._jobs.running or self._duties.is_busy or any(not check.done() for check in self._checks.values()):
            return PACE
        return min(CALM, max(PACE, self._servers.watch.next_check()))

    def _await_event(self, seconds: float) -> None:
        """Wait until a process ends or ``wake`` is called, at most so many seconds."""
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
        self._check_all = bool(told)

    def _watch(self) -> None:
        """Keep a descriptor for each process that runs, and for no other."""
        running = self._servers.pids(self._watched) | self._duties.pids()
        for pid in self._watched.keys() - running:
            os.close(self._watched.pop(pid))
        for pid in running - self._watched.keys():
            try:
                self._watched[pid] = os.pidfd_open(pid)
            except OSError:
                continue  # it has just ended, or this kernel lacks pidfds: it is noticed in the next round

    def _check(self, server_id: str) -> None:
        try:
            self._servers.supervise(server_id)
        except Exception:
            log.exception("supervision of a server failed", server=server_id)
