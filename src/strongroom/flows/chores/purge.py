"""Deletes the engine's history of jobs that ended long ago, and old runs of policies. The catalog keeps the jobs."""

from __future__ import annotations

import structlog

from strongroom.catalog import now
from strongroom.flows.chores.chore import DAY, Chore
from strongroom.flows.engine import purge_history
from strongroom.flows.policies.history import forget_runs
from strongroom.flows.site import Site

log = structlog.get_logger()


def _purge(site: Site) -> None:
    if count := purge_history():
        log.info("purged the history of the engine", workflows=count)
    if runs := forget_runs(site, now()):
        log.info("deleted old runs of policies", runs=runs)


PURGE = Chore(name="purge", interval=DAY, run=_purge)
