"""Periodic chores of the service. A new one is a module with a ``Chore``, added to this list."""

from __future__ import annotations

from strongroom.flows.chores import log_archives, purge, retention, schedules, sweep, trim
from strongroom.flows.chores.chore import Chore
from strongroom.flows.chores.runner import ChoreRunner

CHORES: tuple[Chore, ...] = (
    sweep.SWEEP,
    purge.PURGE,
    schedules.SCHEDULES,
    log_archives.LOG_ARCHIVES,
    trim.TRIM,
    retention.RETENTION,
    retention.STORES,
)

__all__ = ["CHORES", "Chore", "ChoreRunner"]
