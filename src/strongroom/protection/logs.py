"""Which part of a log archive is kept. Pure.

The log is kept from the oldest backup on that the recovery window needs: with ``--keep-within`` the newest good one at or
before the window's start, otherwise the oldest kept good one. So every moment of the window can be restored from a backup in
front of it, and every kept backup in the window can be brought to the end of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.policy import PolicySpec
from strongroom.protection.retention import FUTURE, Rules

MARGIN = timedelta(days=1)
"""So much log before the backup is kept, too: the times of backups and of log may come from clocks that were wrong."""


def find_window_start(history: History, rules: Rules, now: datetime) -> datetime | None:
    """The moment from which on every moment can be restored, if log and backups are complete; None without ``--keep-within``."""
    newest = max((backup.point for backup in _list_good(history, now)), default=None)
    return newest - rules.within if newest is not None and rules.within else None


def find_demanded_start(history: History, spec: PolicySpec, now: datetime) -> datetime | None:
    """The same for a policy; None if it archives no log: then no backup is kept for the window."""
    return find_window_start(history, spec.rules, now) if spec.log_archive else None


def find_log_start(history: History, kept: Collection[str], rules: Rules, now: datetime) -> datetime | None:
    """Log that was written before this moment may go; None: all of it is kept. ``kept``: ids of the backups that stay."""
    good = sorted((b for b in _list_good(history, now) if b.id in kept), key=lambda backup: (backup.point, backup.id))
    if not good:
        return None
    start = find_window_start(history, rules, now)
    starts = [_find_first(good, start)]
    if start is not None:  # what is damaged or missing may be good again, and needs its log; the window leaves it behind in time
        stored = (State.STORED, State.MISSING)
        present = [b for b in history.backups if b.id in kept and b.state in stored and b.point <= now + FUTURE]
        starts.append(_find_first(sorted(present, key=lambda backup: (backup.point, backup.id)), start))
    return min(starts) - MARGIN


def _find_first(backups: Sequence[KnownBackup], start: datetime | None) -> datetime:
    """When the first backup began that is needed to restore every moment from ``start`` on. ``backups``: by their points."""
    base = backups[0]
    if start is not None:
        base = next((backup for backup in reversed(backups) if backup.point <= start), base)
    return min(backup.started for backup in backups if backup.point >= base.point)


def count_removable(count: int, read_time: Callable[[int], datetime], start: datetime) -> int:
    """How many of ``count`` segments may go, from the first on: those written before ``start``.

    The last one always stays: the archive continues there. ``read_time`` returns when a segment was written; few are asked for.
    These times may go back where a clock was corrected: segments before the last one that goes are looked at again, in growing
    steps.
    """
    low = _search(max(count - 1, 0), read_time, start)
    back = 1
    while back < low:
        place = low - 1 - back
        if read_time(place) >= start:  # times went back: what seems old is not
            low, back = _search(place, read_time, start), 1
        else:
            back *= 2
    return low


def _search(high: int, read_time: Callable[[int], datetime], start: datetime) -> int:
    """The first of ``high`` segments that was not written before ``start``, if their times are in order."""
    low = 0
    while low < high:
        middle = (low + high) // 2
        if read_time(middle) < start:
            low = middle + 1
        else:
            high = middle
    return low


def _list_good(history: History, now: datetime) -> list[KnownBackup]:
    return [backup for backup in history.backups if history.is_good(backup) and backup.point <= now + FUTURE]
