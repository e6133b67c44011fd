"""Results on stdout: tables for people, JSON and bare values for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from strongroom.cli.output.columns import Column, Id, JobId, Look, Times
from strongroom.cli.output.remarks import note
from strongroom.cli.output.values import escape
from strongroom.errors import InvalidRequest


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"
    value = "value"
    csv = "csv"


FORMULAS = ("=", "+", "-", "@")
"""What formulas of spreadsheets begin with. Tabs and carriage returns never begin a cell: ``safe`` escapes them."""


@dataclass(frozen=True)
class Output:
    """Prints results in a format. ``columns`` are titles or paths of the columns to print; default: all.

    On a terminal, a list has the columns that fit, short ids and ages; with ``wide``, or without a terminal, everything.
    """

    format: Format = Format.table
    columns: tuple[str, ...] = ()
    wide: bool = False
    times: Times | None = None

    def rows(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, noun: str = "") -> None:
        """Print a list, one row per item. ``noun`` (plural) is for the message about an empty list."""
        chosen = self._choose(columns, items[0] if items else {})
        match self.format:
            case Format.json:
                _print_json([self._cut(item, chosen) for item in items])
            case Format.value:
                for item in items:
                    print(*(_format_line(c.raw(item)) for c in chosen), sep="\t")
            case Format.csv:
                writer = csv.writer(sys.stdout, lineterminator="\n")
                writer.writerows([[c.path for c in chosen], *([_format_cell(c.raw(item)) for c in chosen] for item in items)])
            case _:
                if items:
                    self._table(items, chosen)
                elif noun:
                    note(f"No {noun}.")

    def _table(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        compact = sys.stdout.isatty() and not self.wide and not self.columns
        look = self._look(Times.age if compact else Times.utc)
        if compact:
            look = replace(look, digits=_count_digits(items, columns))
        cells = {column: [column.text(item, look) for item in items] for column in columns}
        widths = {
            column: max(cell_len(line) for text in [column.heading(look), *texts] for line in text.split("\n"))
            for column, texts in cells.items()
        }
        width = Console().width if compact else None
        some = {c: width for c, width in widths.items() if c.rank == 0 or any(cells[c])}
        shown = _choose_fitting(some, width) if width else list(columns)
        table = _make_table()
        for column in shown:
            others = sum(widths[c] for c in shown if c is not column) + GAP * (len(shown) - 1)
            most = max(SHORTEST, width - others) if width and column.cut else None
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
        """Print a record, one row per field. Tables leave out empty fields that were not selected."""
        chosen = self._choose(fields, item)
        match self.format:
            case Format.json:
                _print_json(self._cut(item, chosen))
            case Format.value:
                for column in chosen:
                    print(_format_line(column.raw(item)))
            case Format.csv:
                self.rows([item], fields)
            case _:
                look = self._look(Times.utc)
                table = _make_table()
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
                    remedy=f"Columns are {', '.join(c.path for c in columns)}, and all fields in JSON.",
                )
            chosen.append(column or Column(name, name))
        return chosen

    def _cut(self, item: Mapping[str, Any], chosen: Sequence[Column]) -> Mapping[str, Any]:
        return {c.path: c.raw(item) for c in chosen} if self.columns else item


GAP = 2
"""Spaces between two columns."""
SHORTEST = 12
"""Minimum width of a shortened column."""


def _choose_fitting(widths: Mapping[Column, int], width: int) -> list[Column]:
    """The columns that fit into the width."""
    shown = list(widths)
    while sum(min(widths[c], SHORTEST) if c.cut else widths[c] for c in shown) + GAP * (len(shown) - 1) > width:
        least = max(shown, key=lambda column: column.rank)
        if least.rank == 0:
            break
        shown.remove(least)
    return shown


def _count_digits(items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> int:
    """The number of characters that distinguish the ids; at least 8."""
    digits = 8
    for column in columns:
        ids = {str(column.raw(item)) for item in items} if isinstance(column, Id) else set()
        while digits < 36 and len({key[-digits:] if isinstance(column, JobId) else key[:digits] for key in ids}) < len(ids):
            digits += 1
    return digits


def _format_line(value: Any) -> str:
    """A value on one line for programs: plain numbers, structures as JSON."""
    text = json.dumps(value) if isinstance(value, (dict, list, bool)) else "" if value is None else str(value)
    return escape(text).replace("\n", "\\n")


def _format_cell(value: Any) -> str:
    """A value in CSV. Text that a spreadsheet would take for a formula begins with an apostrophe."""
    line = _format_line(value)
    return f"'{line}" if isinstance(value, str) and line.startswith(FORMULAS) else line


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def _make_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _show(table: Table) -> None:
    """Print a table on stdout: as wide as the terminal, or without one as wide as the data."""
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())
