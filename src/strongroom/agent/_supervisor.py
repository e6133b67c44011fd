"""The thread that looks after servers and jobs while nobody asks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

import structlog

from strongroom.agent.jobs import Jobs
from strongroom.agent.servers import Servers

log = structlog.get_logger()

PACE = 1.0
"""Seconds between two looks."""
FIRST_LOOK = 5.0
"""Seconds that the first look at all servers may take before the agent answers without its outcome."""
SWEEP = 3600.0
"""Seconds between two sweeps of old job directories."""


class Supervisor:
    """Looks once a second. A server that hangs does not keep the others from being seen."""

    def __init__(self, servers: Servers, jobs: Jobs) -> None:
        self._servers = servers
        self._jobs = jobs
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = threading.Event()
        self._looks: dict[str, Future[None]] = {}

    def start(self) -> None:
        """Begin to look. Returns after the first look, so that a server found alive is not called starting."""
        self._stop.clear()
        self._seen.clear()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()
        self._seen.wait(FIRST_LOOK)

    def stop(self) -> None:
        """Look no more. Servers and jobs go on."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        next_sweep = time.monotonic() + SWEEP
        with ThreadPoolExecutor(8, thread_name_prefix="look") as pool:
            while not self._stop.is_set():
                for server_id in self._servers.ids():
                    if server_id not in self._looks or self._looks[server_id].done():
                        self._looks[server_id] = pool.submit(self._look, server_id)
                try:
                    self._jobs.tick()
                    if time.monotonic() > next_sweep:
                        next_sweep = time.monotonic() + SWEEP
                        self._jobs.sweep()
                except Exception:
                    log.exception("supervisor stumbled over jobs")
                if not self._seen.is_set():
                    wait(self._looks.values(), timeout=FIRST_LOOK)
                    self._seen.set()
                self._stop.wait(PACE)

    def _look(self, server_id: str) -> None:
        try:
            self._servers.supervise(server_id)
        except Exception:
            log.exception("supervisor stumbled", server=server_id)
