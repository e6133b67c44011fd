"""Keeps the log archives running that policies demand. Sleeps while there are none; changes of policies or databases wake it."""

from __future__ import annotations

from concurrent.futures import CancelledError

from strongroom.flows.archives.follow import follow_archives
from strongroom.flows.chores.chore import DAY, Chore
from strongroom.flows.site import LOG_ARCHIVES as NAME
from strongroom.flows.site import Site


def _follow(site: Site) -> float | None:
    try:
        return follow_archives(site)
    except CancelledError:  # the service stops
        return None


RETRY = 10.0
"""Seconds: an error of the database must not stop incidents until the next day."""

LOG_ARCHIVES = Chore(name=NAME, interval=DAY, run=_follow, retry=RETRY)
