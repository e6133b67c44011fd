"""Watches servers: asks each for its health now and then, and starts one that died."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import Lifecycle
from strongroom.agent.servers.health import Health
from strongroom.agent.servers.views import WINDOW
from strongroom.datastores import Sizes
from strongroom.errors import StrongroomError
from strongroom.system.disks import measure_disk_usage

log = structlog.get_logger()

SELDOM = 3600.0
SIZES = 5.0
"""Seconds for each server of the host between two measurements of the size of a healthy server."""


class Watch:
    """The health of all servers. ``learn`` is called with a server that has become healthy."""

    def __init__(self, home: Home, lifecycle: Lifecycle, learn: Callable[[ServerRecord], None]) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._learn = learn
        self._health: dict[str, Health] = {}
        self._next_sizes: dict[str, float] = {}
        self.on_change: Callable[[], None] = lambda: None
        """Called when the state of a server has changed."""
        self.on_due: Callable[[], None] = lambda: None
        """Called when a server should be watched before its time."""

    def health(self, server_id: str) -> Health:
        """Its health when it was last asked."""
        return self._health.get(server_id) or Health.unknown()

    def refresh(self, record: ServerRecord) -> Health:
        """Ask the server now."""
        before = self.health(record.id)
        try:
            servers = self._home.get_datastore(record).servers
            facts = servers.read_facts(self._home.describe_server(record))
            others = len(self._home.registry.all())
            if not before.healthy or time.monotonic() >= self._next_sizes.get(record.id, 0.0):
                self._next_sizes[record.id] = time.monotonic() + SIZES * others
                sizes = servers.measure(facts.data_dir or record.data_dir)
            else:
                sizes = before.sizes
            health = Health.good(facts, sizes, others=others)
            if not before.healthy:  # it may have been started with another configuration
                self._learn(record)
        except StrongroomError as error:
            sizes = before.sizes if before.sizes.data_bytes else Sizes(data_bytes=measure_disk_usage(record.data_dir))
            health = Health.of_error(error, sizes, is_awaited=record.wanted == "running" and record.failed is None)
        self._health[record.id] = health
        if health.shown != before.shown:
            self.on_change()
            self.on_due()  # watch a process that has been started since from now on, not only from the next round on
        return health

    def expire(self, server_id: str) -> None:
        """Ask the server again soon."""
        health = self._health.get(server_id)
        if health is not None:
            health.outdate()
        self._next_sizes.pop(server_id, None)
        self.on_due()

    def forget(self, server_id: str) -> None:
        """Drop what is known of a server."""
        self._health.pop(server_id, None)
        self._next_sizes.pop(server_id, None)

    def is_due(self, server_id: str) -> bool:
        """Whether the server is to be asked now."""
        return self.health(server_id).remaining() <= 0

    def next_check(self) -> float:
        """Seconds until the next server is to be asked."""
        return min((self.health(record.id).remaining() for record in self._home.registry.all()), default=SELDOM)

    def restart(self, record: ServerRecord) -> None:
        """Start the server again if it died and should run, unless it died too often. The caller holds its mutex."""
        dead = not record.is_adopted and record.wanted == "running" and not self._lifecycle.is_running(record)
        if not dead or record.failed is not None or not record.data_dir.is_dir():
            return
        limit = self._home.settings.agent.restart_limit
        now = datetime.now(UTC)
        count = record.restarts_since(now - WINDOW)
        if count >= limit:
            why = self.refresh(record).detail
            record.failed = f"it died {count + 1} times within ten minutes and is not restarted any more: {why}"
            self._home.registry.save(record)
            log.error("server is not restarted any more", server=record.id, reason=record.failed)
            return
        if record.restarts and now - record.restarts[-1] < timedelta(seconds=min(2**count, 30)):
            return
        log.warning("server died, starting it again", server=record.id, count=count + 1)
        record.restarts = [*(r for r in record.restarts if r > now - WINDOW), now]
        self._home.registry.save(record)
        self._health[record.id] = Health.bad("it died and was started again", self.health(record.id).sizes)
        self.on_change()
        try:
            self._lifecycle.launch(record)
        except StrongroomError as error:
            log.error("server cannot be started", server=record.id, reason=error.message)
        self.on_due()

    def refresh_if_due(self, record: ServerRecord) -> None:
        """Ask the server if it is time, or if a healthy one has ended."""
        if self.health(record.id).due(self._lifecycle.is_running(record)):
            self.refresh(record)
