"""What commands print: tables for people, JSON and bare values for programs. Names are shown, never interpreted."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from strongroom.errors import InvalidRequest

Style = Callable[[Any], str]


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"
    value = "value"
    csv = "csv"


class Times(StrEnum):
    """How times are printed in tables."""

    age = "age"
    utc = "utc"
    local = "local"


FORMULAS = ("=", "+", "-", "@")
"""What formulas of spreadsheets begin with. Tabs and carriage returns never begin a cell: ``safe`` escapes them."""


def safe(value: object) -> str:
    """Text that cannot move the cursor, ring, or turn the line around: what is not printable is escaped, newlines stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))


def plain(value: Any) -> str:
    """A value of the API as a word: nothing for null, yes and no, lists with commas."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(plain(v) for v in value)
        case dict():
            return ", ".join(f"{k}={plain(v)}" for k, v in value.items() if v is not None)
        case _:
            return str(value)


def size(value: float | None) -> str:
    """Bytes for people: ``1.5 GiB``."""
    if value is None:
        return ""
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(value: float | None) -> str:
    """Seconds for people: ``0.4 s``, ``2 min 5 s``, ``3 h 10 min``."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def moment(value: str | None) -> str:
    """A time of the API, which is UTC with or without a zone, without fractions."""
    return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M:%S") if value else ""


def age(value: str | None, now: datetime) -> str:
    """How long ago a time of the API was: ``40 s ago``, ``12 min ago``, ``3 h ago``, ``5 days ago``."""
    if not value:
        return ""
    seconds = (now - instant(value)).total_seconds()
    if seconds < 0:
        return moment(value)
    for limit, unit, word in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {word} ago"
    return f"{int(seconds // 86400)} days ago"


def instant(value: str) -> datetime:
    """A time of the API as an aware one."""
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def times(raw: float | None, stored: float | None) -> str:
    """How many times smaller the stored bytes are: ``3.1x``."""
    return f"{raw / stored:.1f}x" if raw and stored else ""


@dataclass(frozen=True)
class Look:
    """How a table is written: times, and how many characters of an id."""

    times: Times = Times.utc
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    digits: int = 36

    def moment(self, value: str | None) -> str:
        """A time of the API."""
        if not value:
            return ""
        match self.times:
            case Times.age:
                return age(value, self.now)
            case Times.local:
                return instant(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            case _:
                return moment(value)


@dataclass(frozen=True)
class Column:
    """A column of a list or a field of a record: a title for people, a dotted ``path`` into the view, and how it looks.

    Where a terminal is too narrow, the columns with the highest ``rank`` are left out; those of rank 0 always stay.
    A ``cut`` one is shortened instead.
    """

    title: str
    path: str
    style: Style = plain
    right: bool = False
    rank: int = 0
    cut: bool = False

    def raw(self, item: Mapping[str, Any]) -> Any:
        """The value as the API gives it; null when the path leads nowhere."""
        value: Any = item
        for part in self.path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def heading(self, _look: Look) -> str:
        """The title above the column."""
        return self.title

    def text(self, item: Mapping[str, Any], _look: Look) -> str:
        """The value for people."""
        return safe(self.style(self.raw(item)))


class When(Column):
    """A time: how long ago, in UTC, or here."""

    def heading(self, look: Look) -> str:
        match look.times:
            case Times.age:
                return self.title
            case Times.local:
                return f"{self.title} ({look.now.astimezone().tzname()})"
            case _:
                return f"{self.title} (UTC)"

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        return safe(look.moment(self.raw(item)))


class Id(Column):
    """An id, of which the first characters will do."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        return safe(str(self.raw(item) or "")[: look.digits])


class JobId(Id):
    """Ids of jobs begin with the time: their last characters tell them apart."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        return safe(str(self.raw(item) or "")[-look.digits :])


@dataclass(frozen=True)
class Output:
    """Prints results in the asked format. ``columns``, when given, are titles or paths that choose what is printed.

    A list on a terminal shows the columns that fit, short ids and ages; ``wide``, and where there is no terminal, all in full.
    """

    format: Format = Format.table
    columns: tuple[str, ...] = ()
    wide: bool = False
    times: Times | None = None

    def rows(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, noun: str = "") -> None:
        """A list: one row an item. ``noun`` (in the plural) tells what there is none of."""
        chosen = self._choose(columns, items[0] if items else {})
        match self.format:
            case Format.json:
                _print_json([self._cut(item, chosen) for item in items])
            case Format.value:
                for item in items:
                    print(*(_line(c.raw(item)) for c in chosen), sep="\t")
            case Format.csv:
                writer = csv.writer(sys.stdout, lineterminator="\n")
                writer.writerows([[c.path for c in chosen], *([_cell(c.raw(item)) for c in chosen] for item in items)])
            case _:
                if items:
                    self._table(items, chosen)
                elif noun:
                    note(f"No {noun}.")

    def _table(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        compact = sys.stdout.isatty() and not self.wide and not self.columns
        look = self._look(Times.age if compact else Times.utc)
        if compact:
            look = replace(look, digits=_digits(items, columns))
        cells = {column: [column.text(item, look) for item in items] for column in columns}
        widths = {
            column: max(cell_len(line) for text in [column.heading(look), *texts] for line in text.split("\n"))
            for column, texts in cells.items()
        }
        room = Console().width if compact else None
        some = {c: width for c, width in widths.items() if c.rank == 0 or any(cells[c])}
        shown = _fitting(some, room) if room else list(columns)
        table = _table()
        for column in shown:
            others = sum(widths[c] for c in shown if c is not column) + GAP * (len(shown) - 1)
            most = max(SHORTEST, room - others) if room and column.cut else None
            table.add_column(
                Text(column.heading(look)),
                justify="right" if column.right else "left",
                overflow="ellipsis" if most else "fold",
                no_wrap=most is not None,
                max_width=most,
            )
        for number in range(len(items)):
            table.add_row(*(Text(cells[column][number]) for column in shown))
        _show(table)

    def record(self, item: Mapping[str, Any], fields: Sequence[Column]) -> None:
        """One thing: a field a row; fields that are empty are left out of the table, unless asked for."""
        chosen = self._choose(fields, item)
        match self.format:
            case Format.json:
                _print_json(self._cut(item, chosen))
            case Format.value:
                for column in chosen:
                    print(_line(column.raw(item)))
            case Format.csv:
                self.rows([item], fields)
            case _:
                look = self._look(Times.utc)
                table = _table()
                table.add_column("Field")
                table.add_column("Value", overflow="fold")
                for column in chosen:
                    if (text := column.text(item, look)) or self.columns:
                        table.add_row(Text(column.heading(look)), Text(text))
                _show(table)

    def _look(self, usual: Times) -> Look:
        return Look(self.times or usual)

    def _choose(self, columns: Sequence[Column], item: Mapping[str, Any]) -> Sequence[Column]:
        if not self.columns:
            return columns
        paths = {c.path.lower(): c for c in columns}
        titles = {title.lower(): c for c in columns for title in (c.title, c.heading(Look()))}
        chosen = []
        for name in self.columns:
            column = paths.get(name.lower()) or (None if name in item else titles.get(name.lower()))
            if column is None and item and name.split(".")[0] not in item:
                raise InvalidRequest(
                    f"there is no column {name}",
                    remedy=f"Columns are {', '.join(c.path for c in columns)}, and all that JSON shows.",
                )
            chosen.append(column or Column(name, name))
        return chosen

    def _cut(self, item: Mapping[str, Any], chosen: Sequence[Column]) -> Mapping[str, Any]:
        return {c.path: c.raw(item) for c in chosen} if self.columns else item


GAP = 2
"""Spaces between two columns."""
SHORTEST = 12
"""Width below which no column is cut."""


def _fitting(widths: Mapping[Column, int], room: int) -> list[Column]:
    """The columns that fit into the width."""
    shown = list(widths)
    while sum(min(widths[c], SHORTEST) if c.cut else widths[c] for c in shown) + GAP * (len(shown) - 1) > room:
        least = max(shown, key=lambda column: column.rank)
        if least.rank == 0:
            break
        shown.remove(least)
    return shown


def _digits(items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> int:
    """How many characters of the ids tell them apart; at least 8."""
    digits = 8
    for column in columns:
        ids = {str(column.raw(item)) for item in items} if isinstance(column, Id) else set()
        while digits < 36 and len({key[-digits:] if isinstance(column, JobId) else key[:digits] for key in ids}) < len(ids):
            digits += 1
    return digits


def _line(value: Any) -> str:
    """A value on one line, as a program wants it: numbers bare, structures as JSON."""
    text = json.dumps(value) if isinstance(value, (dict, list, bool)) else "" if value is None else str(value)
    return safe(text).replace("\n", "\\n")


def _cell(value: Any) -> str:
    """A value in CSV. Text that a spreadsheet would take for a formula begins with an apostrophe."""
    line = _line(value)
    return f"'{line}" if isinstance(value, str) and line.startswith(FORMULAS) else line


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _show(table: Table) -> None:
    """Print a table on stdout: as wide as the terminal, or as wide as the data where there is none."""
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


class Remarks:
    """Whether remarks and progress are left out; one for the whole program."""

    quiet = False


def note(text: str) -> None:
    """A remark for the person, on stderr, so that stdout holds the result alone."""
    if not Remarks.quiet:
        warn(text)


def warn(text: str) -> None:
    """An error, a warning or a question: on stderr, and also shown to those who want no remarks."""
    print(safe(text), file=sys.stderr, flush=True)
