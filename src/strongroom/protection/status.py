"""How well one instance or cluster is protected, from facts about its backups. Pure; the state of jobs takes no part.

Every condition that holds is listed, the worst first; the first one is the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.durations import format_duration
from strongroom.protection.retention import FUTURE

FACTS_AGE = timedelta(minutes=15)
"""Facts about the store that are older count as unknown."""
FIRST_DAY = timedelta(hours=24)
"""A new database without a backup is a warning for so long, then critical."""
FORGOTTEN = timedelta(days=7)
"""A pause without an end, or a longer one, is a warning."""


class Condition(StrEnum):
    """What may be wrong, the most severe first."""

    DAMAGED = "damaged"
    """Since the newest good full, a backup failed verification, or the store lost it."""
    UNPROTECTED = "unprotected"
    """No policy applies, or nothing can be restored."""
    LATE = "late"
    """The newest restorable moment is older than the policy allows."""
    LOSS = "loss"
    """The log archive is further behind than the policy allows."""
    UNKNOWN = "unknown"
    """The store or the catalog could not be read lately."""
    FAILING = "failing"
    """The last run failed in all attempts, or no run can begin; the age is still allowed."""
    UNVERIFIED = "unverified"
    """No verified chain, or too old a one."""
    PAUSED = "paused"
    """A person stopped the schedules."""
    PROTECTED = "protected"


class Level(StrEnum):
    """What a monitoring system makes of it."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


EXIT_CODES: Mapping[Level, int] = {Level.OK: 0, Level.WARNING: 1, Level.CRITICAL: 2, Level.UNKNOWN: 3}
_SEVERITY = (Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK)


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition of one database."""

    condition: Condition
    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Schedules that a person stopped."""

    since: datetime
    by: str
    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a log archive is behind its server."""

    loss: timedelta
    """How much could be lost, at most."""
    allowed: timedelta
    why: str = ""
    """Why it does not advance."""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a policy demands."""

    max_age: timedelta
    """The newest restorable moment is at most this old."""
    max_proof_age: timedelta | None = None
    """The newest verified chain is at most this old; None: any verified chain suffices."""
    needs_proof: bool = True
    """A chain has to be verified at all."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of one instance or cluster."""

    name: str
    created: datetime
    history: History
    limits: Limits | None
    """None: no policy applies."""
    facts_at: datetime | None
    """When the store was last read completely."""
    store: str = ""
    """Name of the store, for messages."""
    last_error: str = ""
    """Why the last run failed in all attempts; empty if it succeeded."""
    last_remedy: str = ""
    obstacle: str = ""
    """Why no run begins; empty if they do."""
    pause: Pause | None = None
    lag: Lag | None = None
    """None: its log is not archived, or its server does not run."""
    policy: str = "POLICY"
    """Name of the policy, for remedies."""


def judge(subject: Subject, now: datetime) -> list[Finding]:
    """All conditions that hold, the state first; never empty."""
    findings = [finding for check in _CHECKS if (finding := check(subject, now)) is not None]
    if not findings:
        return [Finding(Condition.PROTECTED, Level.OK, _describe_age(subject, now))]
    order = list(Condition)
    return sorted(findings, key=lambda finding: order.index(finding.condition))


def find_worst(levels: Iterable[Level]) -> Level:
    """The level of all together: critical, then unknown, then warning."""
    found = set(levels)
    return next((level for level in _SEVERITY if level in found), Level.OK)


def find_newest_point(history: History, now: datetime) -> datetime | None:
    """The newest moment that can be restored."""
    newest = _newest_good(history, now)
    return newest.point if newest else None


def _newest_good(history: History, now: datetime) -> KnownBackup | None:
    good = (b for b in history.backups if history.is_good(b) and b.point <= now + FUTURE)
    return max(good, key=lambda backup: backup.point, default=None)


def find_newest_proof(history: History, now: datetime) -> datetime | None:
    """The newest moment that can be restored from a chain that was verified."""
    return max((b.point for b in history.backups if history.is_verified(b) and b.point <= now + FUTURE), default=None)


def _check_damage(subject: Subject, now: datetime) -> Finding | None:
    bad = [
        backup for backup in subject.history.backups if (backup.damaged or backup.state is State.MISSING) and not backup.imported
    ]
    if not bad or subject.limits is None:
        return None
    newest = max(bad, key=lambda backup: backup.point)
    later = [b for b in subject.history.backups if subject.history.is_good(b) and b.parent is None and b.point > newest.point]
    if later:  # a newer full replaces what is damaged; the damaged one stays listed
        return None
    what = "is not in the store" if newest.state is State.MISSING else "is damaged"
    point = find_newest_point(subject.history, now)
    until = f" Restorable until then: {point:%Y-%m-%d %H:%M} UTC." if point else " Nothing else can be restored."
    return Finding(
        Condition.DAMAGED,
        Level.CRITICAL,
        f"backup {newest.id} {what}",
        f"Take a full backup now: strongroom backup create NAME --instance {subject.name}.{until}",
    )


def _check_protection(subject: Subject, now: datetime) -> Finding | None:
    is_new = now - subject.created < FIRST_DAY
    if subject.limits is None:
        level = Level.WARNING if is_new else Level.CRITICAL
        return Finding(Condition.UNPROTECTED, level, "no policy applies", f"strongroom policy attach POLICY {subject.name}")
    if find_newest_point(subject.history, now) is None:
        level = Level.WARNING if is_new and not subject.last_error else Level.CRITICAL
        return Finding(
            Condition.UNPROTECTED,
            level,
            "nothing can be restored",
            f"strongroom policy run {subject.policy} --instance {subject.name} --full",
        )
    return None


def _check_age(subject: Subject, now: datetime) -> Finding | None:
    point = find_newest_point(subject.history, now)
    if subject.limits is None or point is None or now - point <= subject.limits.max_age:
        return None
    why = f"; the last run failed: {subject.last_error}" if subject.last_error else ""
    age, allowed = format_duration(_round(now - point)), format_duration(subject.limits.max_age)
    return Finding(
        Condition.LATE,
        Level.CRITICAL,
        f"the newest backup is {age} old, {allowed} are allowed{why}",
        subject.last_remedy or f"strongroom policy run {subject.policy} --instance {subject.name}",
    )


def _check_loss(subject: Subject, now: datetime) -> Finding | None:
    lag = subject.lag
    if lag is None or lag.loss <= lag.allowed:
        return None
    why = f": {lag.why}" if lag.why else ""
    behind, allowed = format_duration(_round(lag.loss)), format_duration(lag.allowed)
    return Finding(
        Condition.LOSS,
        Level.CRITICAL,
        f"the log archive is {behind} behind, {allowed} are allowed{why}",
        lag.remedy or "See the log of the agent on its host.",
    )


def _check_knowledge(subject: Subject, now: datetime) -> Finding | None:
    if subject.limits is None or (subject.facts_at is not None and now - subject.facts_at <= FACTS_AGE):
        return None
    since = f"since {subject.facts_at:%Y-%m-%d %H:%M} UTC" if subject.facts_at else "yet"
    return Finding(
        Condition.UNKNOWN,
        Level.UNKNOWN,
        f"store {subject.store} was not read {since}",
        "Check the network and the credentials of the store.",
    )


def _check_runs(subject: Subject, now: datetime) -> Finding | None:
    if subject.obstacle and subject.limits is not None:
        remedy = f"strongroom policy update {subject.policy}"
        return Finding(Condition.FAILING, Level.WARNING, f"no run begins: {subject.obstacle}", remedy)
    if not subject.last_error or subject.limits is None:
        return None
    return Finding(Condition.FAILING, Level.WARNING, f"the last run failed: {subject.last_error}", subject.last_remedy)


def _check_verification(subject: Subject, now: datetime) -> Finding | None:
    newest = _newest_good(subject.history, now)
    if subject.limits is None or not subject.limits.needs_proof or newest is None:
        return None
    proof = find_newest_proof(subject.history, now)
    remedy = f"strongroom backup verify {newest.id[:8]} --prepare"
    if proof is None:
        return Finding(Condition.UNVERIFIED, Level.WARNING, "no backup was verified", remedy)
    allowed = subject.limits.max_proof_age
    if allowed is None or now - proof <= allowed:
        return None
    age = format_duration(_round(now - proof))
    return Finding(
        Condition.UNVERIFIED,
        Level.WARNING,
        f"the newest verified backup is {age} old, {format_duration(allowed)} are allowed",
        remedy,
    )


def _check_pause(subject: Subject, now: datetime) -> Finding | None:
    pause = subject.pause
    if pause is None or (pause.until is not None and now >= pause.until):
        return None
    is_forgotten = pause.until is None or now - pause.since > FORGOTTEN
    end = f"until {pause.until:%Y-%m-%d %H:%M} UTC" if pause.until else "without an end"
    return Finding(
        Condition.PAUSED,
        Level.WARNING if is_forgotten else Level.OK,
        f"paused by {pause.by or 'somebody'} {end}: {pause.reason or 'no reason given'}",
        f"strongroom policy resume {subject.policy}",
    )


def _describe_age(subject: Subject, now: datetime) -> str:
    point = find_newest_point(subject.history, now)
    return f"the newest backup is {format_duration(_round(now - point))} old" if point else "nothing can be restored"


def _round(age: timedelta) -> timedelta:
    """To minutes, for people; below a minute to seconds."""
    step = timedelta(minutes=1) if age >= timedelta(minutes=1) else timedelta(seconds=1)
    return max(timedelta(0), age // step * step)


_CHECKS = (
    _check_damage,
    _check_protection,
    _check_age,
    _check_loss,
    _check_knowledge,
    _check_runs,
    _check_verification,
    _check_pause,
)


def summarize(states: Sequence[Finding]) -> str:
    """The first line for a monitoring system: level, counts, performance data. ``states``: the first finding of each database."""
    level = find_worst(finding.level for finding in states)
    counts = {condition: sum(finding.condition is condition for finding in states) for condition in Condition}
    troubled = [f"{count} {name}" for name, count in counts.items() if count and name is not Condition.PROTECTED]
    text = f"{', '.join(troubled)} of {len(states)}" if troubled else f"{len(states)} protected"
    data = " ".join(f"{name}={count};" for name, count in counts.items() if name is not Condition.PROTECTED)
    return f"{level.upper()}: {text} | {data}"
