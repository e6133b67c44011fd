"""Columns of lists and fields of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from strongroom.cli.output.values import escape, format_age, format_moment, format_value, parse_moment

Style = Callable[[Any], str]


class Times(StrEnum):
    """How times are printed in tables."""

    age = "age"
    utc = "utc"
    local = "local"


@dataclass(frozen=True)
class Look:
    """The style of a table: format of times, length of ids."""

    times: Times = Times.utc
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    digits: int = 36

    def moment(self, value: str | None) -> str:
        """A time of the API."""
        if not value:
            return ""
        match self.times:
            case Times.age:
                return format_age(value, self.now)
            case Times.local:
                return parse_moment(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            case _:
                return format_moment(value)


@dataclass(frozen=True)
class Column:
    """A column of a list or a field of a record: a title, a dotted ``path`` into the view, and a style.

    If the terminal is too narrow, columns with the highest ``rank`` are left out, except those of rank 0.
    A ``cut`` column is shortened instead.
    """

    title: str
    path: str
    style: Style = format_value
    right: bool = False
    rank: int = 0
    cut: bool = False

    def raw(self, item: Mapping[str, Any]) -> Any:
        """The value in the view, or None."""
        value: Any = item
        for part in self.path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def heading(self, _look: Look) -> str:
        """The title above the column."""
        return self.title

    def text(self, item: Mapping[str, Any], _look: Look) -> str:
        """The value for people."""
        return escape(self.style(self.raw(item)))


class When(Column):
    """A time: its age, in UTC, or in local time."""

    def heading(self, look: Look) -> str:
        match look.times:
            case Times.age:
                return self.title
            case Times.local:
                return f"{self.title} ({look.now.astimezone().tzname()})"
            case _:
                return f"{self.title} (UTC)"

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        return escape(look.moment(self.raw(item)))


class Exact(When):
    """A time that people copy, so never an age."""

    def heading(self, look: Look) -> str:
        return super().heading(_without_ages(look))

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        return super().text(item, _without_ages(look))


def _without_ages(look: Look) -> Look:
    return replace(look, times=Times.utc) if look.times is Times.age else look


class Id(Column):
    """An id, shortened to its first characters."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        return escape(str(self.raw(item) or "")[: look.digits])


class JobId(Id):
    """An id of a job, shortened to its last characters: the first ones are a time."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        return escape(str(self.raw(item) or "")[-look.digits :])
