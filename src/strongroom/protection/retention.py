"""Which backups are kept, and why. Pure: the same facts give the same decision, and time alone lets nothing go.

A backup without a reason expires. Ages count from the newest good backup and not from now, so that nothing is removed while no
new backups are made. docs/policies.md explains each rule with an example.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from strongroom.errors import InvalidRequest
from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.clock import find_zone
from strongroom.protection.durations import format_duration

FUTURE = timedelta(minutes=10)
"""A backup that is further ahead than this is of a wrong clock: it stands for nothing and is not removed."""
LEFTOVERS_STAY = timedelta(days=7)
"""What a failed backup left is removed after this time."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a policy keeps. Rules are independent: a backup is kept if any rule keeps it."""

    last: int = 0
    """The newest good backups, this many."""
    within: timedelta = timedelta(0)
    """Those less than this much older than the newest good one."""
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    """One backup for each of the newest periods that have one. ISO weeks; from weekly up the newest full, if there is one."""

    def require_any(self) -> None:
        """Raise InvalidRequest if no rule keeps anything, or a number is negative."""
        numbers = [getattr(self, field.name) for field in fields(self)]
        if any(number < (timedelta(0) if isinstance(number, timedelta) else 0) for number in numbers):
            raise InvalidRequest("a retention rule is negative", remedy="Write 0 or a larger number.")
        if not any(numbers):
            raise InvalidRequest(
                "the policy keeps nothing", remedy="Set at least one of --keep-last, --keep-within, --keep-daily, …"
            )


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one backup."""

    backup: KnownBackup
    reasons: tuple[str, ...]
    """Why it is kept, the strongest first; none: it expires."""

    @property
    def is_kept(self) -> bool:
        """Whether any reason keeps it."""
        return bool(self.reasons)


_PERIODS: dict[str, Callable[[datetime], tuple[object, ...]]] = {
    "hourly": lambda time: (time.date(), time.hour, time.utcoffset()),
    "daily": lambda time: (time.date(),),
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
    "yearly": lambda time: (time.year,),
}
_PREFER_FULL = frozenset({"weekly", "monthly", "yearly"})


def decide(
    history: History,
    rules: Rules,
    *,
    zone: str,
    now: datetime,
    holds: Collection[str] = (),
    leases: Collection[str] = (),
    window_start: datetime | None = None,
) -> dict[str, Decision]:
    """Decide for every backup of the history, by id.

    ``holds``: backups that a person keeps. ``leases``: those that a running job reads. ``window_start``: the beginning of the
    recovery window, if there is a log archive: the newest good backup before it is kept. Raises InvalidRequest (unknown zone).
    """
    reasons: dict[str, list[str]] = {backup.id: [] for backup in history.backups}
    good = [b for b in reversed(history.backups) if history.is_good(b) and b.point <= now + FUTURE]
    for backup in history.backups:
        reasons[backup.id] += _list_exemptions(history, backup, now, backup.id in holds, backup.id in leases)
    if good:
        reasons[good[0].id].append("newest good")
        if proven := next((backup for backup in good if history.is_verified(backup)), None):
            reasons[proven.id].append("newest verified")
        if window_start is not None:
            before = next((backup for backup in good if backup.point <= window_start), good[-1])
            reasons[before.id].append("start of window")
        _apply_rules(good, rules, zone, reasons)
    needed: set[str] = set()
    for backup in reversed(history.backups):
        if reasons[backup.id]:
            ancestor = history.parent_of(backup)
            while ancestor is not None and ancestor is not backup and ancestor.id not in needed:
                reasons[ancestor.id].append(f"needed by {backup.id}")
                needed.add(ancestor.id)
                ancestor = history.parent_of(ancestor)
    return {backup.id: Decision(backup, tuple(reasons[backup.id])) for backup in history.backups}


def _list_exemptions(history: History, backup: KnownBackup, now: datetime, held: bool, leased: bool) -> list[str]:
    """Reasons that do not depend on the policy."""
    reasons = []
    if held:
        reasons.append("hold")
    if leased:
        reasons.append("in use")
    if backup.imported:
        reasons.append("imported: never removed automatically")
    if backup.state is State.RUNNING:
        reasons.append("running")
    elif backup.state is State.FAILED:
        if backup.point > now - LEFTOVERS_STAY:
            reasons.append(f"failed less than {format_duration(LEFTOVERS_STAY)} ago")
    elif backup.point > now + FUTURE:
        reasons.append("from the future")
    elif not history.is_good(backup):
        reasons.append("not restorable: never removed automatically")
    return reasons


def _apply_rules(good: Sequence[KnownBackup], rules: Rules, zone_name: str, reasons: dict[str, list[str]]) -> None:
    """Add the reasons that the rules give. ``good``: newest first."""
    zone = find_zone(zone_name)
    for number, backup in enumerate(good[: rules.last], start=1):
        reasons[backup.id].append(f"last {number} of {rules.last}")
    start, within = max(backup.point for backup in good) - rules.within, f"within {format_duration(rules.within)}"
    for backup in good:
        if backup.point > start:
            reasons[backup.id].append(within)
    wall: list[datetime] = []
    for name, find_period in _PERIODS.items():
        wanted: int = getattr(rules, name)
        if not wanted:
            continue
        representatives: dict[tuple[object, ...], KnownBackup] = {}
        for place, backup in enumerate(good):
            if place == len(wall):
                wall.append(backup.started.astimezone(zone))
            period = find_period(wall[place])
            if period not in representatives:
                if len(representatives) == wanted:
                    break
                representatives[period] = backup
            elif name in _PREFER_FULL and representatives[period].parent is not None and backup.parent is None:
                representatives[period] = backup
        for number, backup in enumerate(representatives.values(), start=1):
            reasons[backup.id].append(f"{name} {number} of {wanted}")


def order_removals(history: History, decisions: dict[str, Decision]) -> list[KnownBackup]:
    """Backups that expire, children before their parents: stopped anywhere, what is left has all its ancestors."""
    gone = [decision.backup for decision in decisions.values() if not decision.is_kept]
    return sorted(gone, key=lambda backup: (-history.count_ancestors(backup), backup.started, backup.id))


def needs_confirmation(history: History, removals: Sequence[KnownBackup], *, max_chain: int) -> bool:
    """Whether so much would go that a person has to confirm: more than half of the good backups, and more than one chain."""
    good = [backup for backup in history.backups if history.is_good(backup)]
    gone = sum(history.is_good(backup) for backup in removals)
    return gone * 2 > len(good) and gone > max_chain
