"""What commands print: tables for people, JSON and bare values for programs. Names are shown, never interpreted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rich import box
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


def times(raw: float | None, stored: float | None) -> str:
    """How many times smaller the stored bytes are: ``3.1x``."""
    return f"{raw / stored:.1f}x" if raw and stored else ""


@dataclass(frozen=True)
class Column:
    """A column of a list or a field of a record: a title for people, a dotted ``path`` into the view, and how it looks."""

    title: str
    path: str
    style: Style = plain
    right: bool = False

    def raw(self, item: Mapping[str, Any]) -> Any:
        """The value as the API gives it; null when the path leads nowhere."""
        value: Any = item
        for part in self.path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def text(self, item: Mapping[str, Any]) -> str:
        """The value for people."""
        return safe(self.style(self.raw(item)))


@dataclass(frozen=True)
class Output:
    """Prints results in the asked format. ``columns``, when given, are titles or paths that choose what is printed."""

    format: Format = Format.table
    columns: tuple[str, ...] = ()

    def rows(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        """A list: one row an item."""
        chosen = self._choose(columns, items[0] if items else {})
        if self.format is Format.json:
            _print_json([self._cut(item, chosen) for item in items])
        elif self.format is Format.value:
            for item in items:
                print(*(_line(c.raw(item)) for c in chosen), sep="\t")
        else:
            table = _table()
            for column in chosen:
                table.add_column(Text(column.title), justify="right" if column.right else "left", overflow="fold")
            for item in items:
                table.add_row(*(Text(c.text(item)) for c in chosen))
            _show(table)

    def record(self, item: Mapping[str, Any], fields: Sequence[Column]) -> None:
        """One thing: a field a row; fields that are empty are left out of the table, unless asked for."""
        chosen = self._choose(fields, item)
        if self.format is Format.json:
            _print_json(self._cut(item, chosen))
        elif self.format is Format.value:
            for column in chosen:
                print(_line(column.raw(item)))
        else:
            table = _table()
            table.add_column("Field")
            table.add_column("Value", overflow="fold")
            for column in chosen:
                if (text := column.text(item)) or self.columns:
                    table.add_row(Text(column.title), Text(text))
            _show(table)

    def _choose(self, columns: Sequence[Column], item: Mapping[str, Any]) -> Sequence[Column]:
        if not self.columns:
            return columns
        known = {name.lower(): c for c in columns for name in (c.path, c.title)}
        chosen = []
        for name in self.columns:
            column = known.get(name.lower())
            if column is None and item and name.split(".")[0] not in item:
                raise InvalidRequest(
                    f"there is no column {name}",
                    remedy=f"Columns are {', '.join(c.path for c in columns)}, and all that JSON shows.",
                )
            chosen.append(column or Column(name, name))
        return chosen

    def _cut(self, item: Mapping[str, Any], chosen: Sequence[Column]) -> Mapping[str, Any]:
        return {c.path: c.raw(item) for c in chosen} if self.columns else item


def _line(value: Any) -> str:
    """A value on one line, as a program wants it: numbers bare, structures as JSON."""
    text = json.dumps(value) if isinstance(value, (dict, list, bool)) else "" if value is None else str(value)
    return safe(text).replace("\n", "\\n")


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")


def _show(table: Table) -> None:
    """Print a table on stdout: as wide as the terminal, or as wide as the data where there is none."""
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def note(text: str) -> None:
    """A remark for the person, on stderr, so that stdout holds the result alone."""
    print(safe(text), file=sys.stderr, flush=True)
