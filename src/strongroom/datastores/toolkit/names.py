"""Lists of names in messages."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 20


def name_some(names: Iterable[str]) -> str:
    """The first names of a list, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - _MOST} more" if len(listed) > _MOST else ""
    return ", ".join(listed[:_MOST]) + more
