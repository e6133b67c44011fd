"""Filters and order of lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any

import typer

from strongroom.cli.output.columns import Column
from strongroom.cli.output.values import parse_moment
from strongroom.errors import InvalidRequest
from strongroom.protection.durations import parse_duration

Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only those created since: 2026-11-21, 2026-11-21T07:00 (UTC), or 3d, 12h.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only those created before: a time as in --since.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of rows.")]
Sort = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Sort by this column; -COLUMN reverses the order. Default: newest first.")
]


def require_known(option: str, values: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise InvalidRequest if a value of a filter is not a known one; case is ignored."""
    by_word = {word.lower(): word for word in known}
    for value in values or ():
        if value.lower() not in by_word:
            close = get_close_matches(value.lower(), by_word, n=1)
            hint = f"Did you mean {by_word[close[0]]}? " if close else ""
            raise InvalidRequest(f"{option} cannot be {value!r}", remedy=f"{hint}It is one of {', '.join(known)}.")


def parse_time(text: str, now: datetime) -> datetime:
    """Parse a time or an age. Raises InvalidRequest."""
    with suppress(ValueError, OverflowError):
        return parse_moment(text)
    try:
        return now - parse_duration(text)
    except InvalidRequest:
        raise InvalidRequest(
            f"{text!r} is not a time", remedy="Write 2026-11-21, 2026-11-21T07:00 (UTC), or an age like 90m, 12h, 3d, 2w."
        ) from None


@dataclass(frozen=True)
class Filters:
    """Filters of a list. ``fields`` are fields of the API and their accepted values, case-insensitive."""

    since: datetime | None = None
    until: datetime | None = None
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    limit: int | None = None
    sort: str | None = None

    @staticmethod
    def given(
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        sort: str | None = None,
        **fields: Sequence[str] | None,
    ) -> Filters:
        """Create filters from options. Raises InvalidRequest."""
        now = datetime.now(UTC)
        return Filters(
            parse_time(since, now) if since else None,
            parse_time(until, now) if until else None,
            tuple((name, tuple(value.lower() for value in values)) for name, values in fields.items() if values),
            limit,
            sort,
        )

    @property
    def page(self) -> int | None:
        """Number of items to request per page, if known."""
        return self.limit if not (self.until or self.fields or self.sort) and self.limit and self.limit < 1000 else None

    def apply(self, items: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> list[Mapping[str, Any]]:
        """Filter and sort ``items``, which are sorted newest first. Raises InvalidRequest for an unknown column."""
        wanted = self._wanted(items)
        if self.sort is None:
            return list(islice(wanted, self.limit))
        key = self.sort.removeprefix("-").lower()
        column = next((c for c in columns if key in (c.path.lower(), c.title.lower())), None)
        if column is None:
            raise InvalidRequest(
                f"there is no column {key!r} to sort by", remedy=f"Columns are {', '.join(c.path for c in columns)}."
            )
        found = sorted(wanted, key=lambda item: _sortable(column.raw(item)), reverse=self.sort.startswith("-"))
        return found[: self.limit]

    def _wanted(self, items: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for item in items:
            if self.since and parse_moment(item["created"]) < self.since:
                return
            if self.until and parse_moment(item["created"]) >= self.until:
                continue
            if all(str(item.get(name)).lower() in values for name, values in self.fields):
                yield item


def _sortable(value: Any) -> tuple[int, float, str]:
    """A sort key: missing values first, then numbers, then text."""
    if value is None:
        return (0, 0, "")
    if isinstance(value, (int, float)):
        return (1, value, "")
    return (1, 0, str(value.get("at", value) if isinstance(value, dict) else value))
