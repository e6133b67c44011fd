"""Begins the runs of policies when they are due. Sleeps until then; a change of policies or databases wakes it."""

from __future__ import annotations

from strongroom.flows.chores.chore import DAY, Chore
from strongroom.flows.policies.tick import begin_due_runs
from strongroom.flows.site import SCHEDULES as NAME

RETRY = 30.0
"""Seconds: an error of the database must not stop backups until the next day."""

SCHEDULES = Chore(name=NAME, interval=DAY, run=begin_due_runs, retry=RETRY)
