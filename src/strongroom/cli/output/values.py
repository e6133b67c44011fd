"""Values of the API as text: sizes, durations, times. Names are shown, never interpreted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def escape(value: object) -> str:
    """Escape unprintable characters except newlines, such as those that control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))


def format_value(value: Any) -> str:
    """A value of the API as text: empty for null, yes or no, lists with commas."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(format_value(v) for v in value)
        case dict():
            return ", ".join(f"{k}={format_value(v)}" for k, v in value.items() if v is not None)
        case _:
            return str(value)


def format_size(value: float | None) -> str:
    """Bytes for people: ``1.5 GiB``."""
    if value is None:
        return ""
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def format_duration(value: float | None) -> str:
    """Seconds for people: ``0.4 s``, ``2 min 5 s``, ``3 h 10 min``."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def format_moment(value: str | None) -> str:
    """A time of the API, which is UTC with or without a zone, without fractions."""
    return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M:%S") if value else ""


def format_utc(value: str | None) -> str:
    """A time of the API with its zone, for places without a heading that names it."""
    return f"{format_moment(value)} UTC" if value else ""


def format_count(count: int, noun: str) -> str:
    """A number of things whose plural ends in s: ``1 backup``, ``2 backups``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_age(value: str | None, now: datetime) -> str:
    """How long ago a time of the API was: ``40 s ago``, ``12 min ago``, ``3 h ago``, ``5 days ago``; a future time in UTC."""
    if not value:
        return ""
    seconds = (now - parse_moment(value)).total_seconds()
    if seconds < 0:
        return format_utc(value)
    for limit, unit, word in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {word} ago"
    return f"{int(seconds // 86400)} days ago"


def parse_moment(value: str) -> datetime:
    """A time of the API as an aware one."""
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def format_ratio(raw: float | None, stored: float | None) -> str:
    """The compression ratio: ``3.1x``."""
    return f"{raw / stored:.1f}x" if raw and stored else ""
