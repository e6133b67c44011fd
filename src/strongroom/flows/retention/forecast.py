"""Simulates the backups that schedules will take, and until when existing ones are kept. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import islice

from strongroom.errors import InvalidRequest
from strongroom.protection.backups import History, KnownBackup
from strongroom.protection.logs import find_demanded_start
from strongroom.protection.policy import PolicySpec
from strongroom.protection.retention import Decision, decide
from strongroom.protection.runs import Plan

MOST_RUNS = 5000
"""A simulation adds at most this many backups."""
FORESEEN_RUNS = 500
"""Number of future runs that are simulated to find out when a backup expires."""
EXPECTED = "run of "
"""Ids of backups that do not exist yet begin with this."""


def expect_backups(history: History, spec: PolicySpec, plan: Plan, after: datetime) -> Iterator[KnownBackup]:
    """The backups that the schedules take after this time, each at its nominal time, if all runs succeed."""
    good = [backup for backup in history.backups if history.is_good(backup)]
    newest = max(good, key=lambda backup: backup.point, default=None)
    length = len(history.list_chain(newest)) if newest is not None else 0
    limit = spec.max_chain or FORESEEN_RUNS
    parent = newest.id if newest is not None else None
    at = after
    while (upcoming := plan.next_after(at)) is not None:
        at, kind = upcoming
        is_full = kind == "full" or parent is None or length >= limit
        key = f"{EXPECTED}{at:%Y-%m-%d %H:%M} UTC"
        yield KnownBackup(id=key, started=at, point=at, parent=None if is_full else parent)
        parent, length = key, 1 if is_full else length + 1


def expect_until(history: History, spec: PolicySpec, plan: Plan, after: datetime, until: datetime) -> History:
    """The simulated history at ``until``. Raises InvalidRequest if that is too far in the future."""
    added: list[KnownBackup] = []
    for backup in expect_backups(history, spec, plan, after):
        if backup.point > until:
            break
        if len(added) == MOST_RUNS:
            raise InvalidRequest(
                f"more than {MOST_RUNS} backups would be taken until {until:%Y-%m-%d %H:%M} UTC", remedy="Choose an earlier time."
            )
        added.append(backup)
    return History([*history.backups, *added])


def find_ends(history: History, spec: PolicySpec, plan: Plan, now: datetime, holds: Collection[str]) -> Mapping[str, datetime]:
    """When each existing backup expires if all runs succeed, except those that are kept beyond the simulated runs.

    A new backup can make an existing one expire but cannot make it be kept again, so the run at which it expires is found by
    bisection.
    """
    future = list(islice(expect_backups(history, spec, plan, now), FORESEEN_RUNS))
    known: dict[int, dict[str, Decision]] = {}

    def is_gone(backup_id: str, runs: int) -> bool:
        if runs not in known:
            at = future[runs - 1].point if runs else now
            added = History([*history.backups, *future[:runs]])
            start = find_demanded_start(added, spec, at)
            known[runs] = decide(added, spec.rules, zone=spec.time_zone, now=at, holds=holds, window_start=start)
        return not known[runs][backup_id].is_kept

    ends: dict[str, datetime] = {}
    for backup in history.backups:
        runs = _find_first(len(future), partial(is_gone, backup.id))
        if runs is not None:
            ends[backup.id] = future[runs - 1].point if runs else now
    return ends


def _find_first(most: int, holds_at: Callable[[int], bool]) -> int | None:
    """The smallest number up to ``most`` for which it holds; None if it does not hold for ``most``."""
    if not holds_at(most):
        return None
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        if holds_at(middle):
            high = middle
        else:
            low = middle
    return high
