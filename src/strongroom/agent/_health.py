"""What a server last said of itself. Asked now and then, so that looking at it costs nothing."""

from __future__ import annotations

import time
from typing import Literal

from strongroom.datastores import Facts
from strongroom.errors import ConfigurationError, IsStandby, NoConnections, StrongroomError

CALM = 5.0
"""Seconds between two questions to a server that serves."""


class Health:
    """One answer, or the lack of one."""

    def __init__(self, facts: Facts | None, detail: str, data_bytes: int, until: float) -> None:
        self.healthy = facts is not None
        self.detail = detail
        self.data_bytes = data_bytes
        self.version_number = facts.version_number if facts else ""
        self.wal_bytes = facts.wal_bytes if facts else None
        self.galera = facts.galera if facts else None
        self.hindered: Literal["blocked", "standby"] | None = None
        """What a server that runs, but does not serve us, is instead of starting."""
        self._until = until

    @classmethod
    def good(cls, facts: Facts) -> Health:
        """It serves."""
        settled = facts.galera is None or facts.galera.get("wsrep_local_state_comment") == "Synced"
        return cls(facts, facts.warning, facts.data_bytes, time.monotonic() + (CALM if settled else 1))

    @classmethod
    def bad(cls, detail: str, data_bytes: int) -> Health:
        """It does not, and why."""
        return cls(None, detail, data_bytes, time.monotonic() + 1)

    @classmethod
    def of_error(cls, error: StrongroomError, data_bytes: int) -> Health:
        """What the error of a question says."""
        health = cls.bad(error.message, data_bytes)
        if isinstance(error, NoConnections | ConfigurationError):
            health.hindered = "blocked"
        elif isinstance(error, IsStandby):
            health.hindered = "standby"
        return health

    @classmethod
    def unknown(cls) -> Health:
        """Nobody has asked yet."""
        return cls(None, "not asked yet", 0, 0.0)

    def due(self, running: bool) -> bool:
        """It is time to ask again: at once when it has vanished since."""
        return time.monotonic() >= self._until or (self.healthy and not running)

    def outdate(self) -> None:
        """Ask again at the next occasion."""
        self._until = 0.0
