"""What a server last reported about itself."""

from __future__ import annotations

import time
from typing import Literal

from strongroom.datastores import Facts, Sizes
from strongroom.errors import ConfigurationError, IsStandby, NoConnections, StrongroomError

CALM = 5.0
"""Seconds between two questions to a healthy server."""
SHARE = 1.2
"""Additional seconds for each server of the host, so that many cost no more than a few."""


class Health:
    """An answer, or its absence."""

    def __init__(self, facts: Facts | None, detail: str, sizes: Sizes, until: float) -> None:
        self.healthy = facts is not None
        self.detail = detail
        self.sizes = sizes
        self.version_number = facts.version_number if facts else ""
        self.galera = facts.galera if facts else None
        self.hindered: Literal["blocked", "standby"] | None = None
        """The state of a server that runs but does not serve the agent, instead of starting."""
        self._until = until

    @classmethod
    def good(cls, facts: Facts, sizes: Sizes, *, others: int = 0) -> Health:
        """It serves. ``others`` is the number of servers that are asked as well."""
        settled = facts.galera is None or facts.galera.get("wsrep_local_state_comment") == "Synced"
        return cls(facts, facts.warning, sizes, time.monotonic() + (max(CALM, SHARE * others) if settled else 1))

    @classmethod
    def bad(cls, detail: str, sizes: Sizes) -> Health:
        """It does not serve, and why."""
        return cls(None, detail, sizes, time.monotonic() + 1)

    @classmethod
    def of_error(cls, error: StrongroomError, sizes: Sizes, *, is_awaited: bool = True) -> Health:
        """What the error of a question means. A server that ``is_awaited`` is asked again soon."""
        health = cls.bad(error.message, sizes)
        if isinstance(error, NoConnections | ConfigurationError):
            health.hindered = "blocked"
        elif isinstance(error, IsStandby):
            health.hindered = "standby"
        if not is_awaited or health.hindered:
            health._until = time.monotonic() + CALM
        return health

    @classmethod
    def unknown(cls) -> Health:
        """The server was not asked yet."""
        return cls(None, "not asked yet", Sizes(data_bytes=0), 0.0)

    @property
    def shown(self) -> tuple[object, ...]:
        """What callers see of it, except sizes and counters."""
        galera = self.galera or {}
        state = tuple(galera.get(name) for name in ("wsrep_local_state_comment", "wsrep_cluster_status", "wsrep_cluster_size"))
        return self.healthy, self.detail, self.hindered, self.version_number, state

    def remaining(self) -> float:
        """Seconds until it is time to ask again."""
        return max(0.0, self._until - time.monotonic())

    def due(self, running: bool) -> bool:
        """Whether it is time to ask again: immediately if a healthy server has ended."""
        return time.monotonic() >= self._until or (self.healthy and not running)

    def outdate(self) -> None:
        """Ask again at the next opportunity."""
        self._until = 0.0
