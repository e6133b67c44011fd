"""Times of logs, which are microseconds since 1970, as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from strongroom.archive import Target

SECOND = 10**6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(time: int) -> str:
    """ISO 8601 in UTC with ``Z``, with as many digits as it needs."""
    moment = (_EPOCH + timedelta(microseconds=time)).replace(tzinfo=None)
    text = moment.isoformat(timespec="microseconds" if time % SECOND else "seconds")
    return f"{text}Z"


def describe_time(time: int) -> str:
    """For sentences."""
    return f"{format_time(time)[:-1].replace('T', ' ')} UTC"


def describe_target(target: Target) -> str:
    """For sentences."""
    return describe_time(target.microseconds) if target.kind == "time" else str(target)


def round_inwards(begin: int, end: int) -> tuple[int, int]:
    """The whole seconds in this interval; the interval itself if there are none."""
    first, last = -(-begin // SECOND) * SECOND, end // SECOND * SECOND
    return (first, last) if first <= last else (begin, end)
