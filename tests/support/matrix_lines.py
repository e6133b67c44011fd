"""Lines of the matrix test, and the groups of lines that share a server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Where = Literal["backup", "incremental", "verify", "new", "in place"]


@dataclass(frozen=True)
class Refused:
    """The backup or the restore is refused, and the error message contains ``part``."""

    part: str
    at: Where = "backup"


@dataclass(frozen=True)
class Line:
    """A server configuration and its expected outcome.

    Text may hold ``{base}`` (directory of the server), ``{data}`` (its data directory), ``{peer}`` and ``{peer_port}`` (somebody
    that a restored copy must not contact).
    """

    name: str
    options: str = ""
    """Lines of the server's option file (MariaDB, MySQL: of [mysqld])."""
    init: tuple[str, ...] = ()
    """Arguments of the program that makes the database."""
    groups: str = ""
    """Further groups of the option file."""
    directories: tuple[str, ...] = ()
    """Directories below ``{base}`` that exist before the server starts."""
    prepare: tuple[str, ...] = ()
    """SQL before the full backup."""
    change: tuple[str, ...] = ()
    """SQL between the full and the incremental backup."""
    spoil: tuple[str, ...] = ()
    """SQL after the incremental backup, before the restore in place."""
    crash: bool = False
    """The server is killed before the restore in place, as after a power failure."""
    refused: tuple[Refused, ...] = ()
    """Empty: everything is restored."""
    undo: tuple[str, ...] = ()
    """SQL after a refused backup, so that the other lines of the group can go on."""
    warnings: tuple[str, ...] = ()
    """Parts of sentences that backup or restore must report."""
    full_because: str = ""
    """The incremental becomes a full; its reason contains this."""
    emptied: tuple[str, ...] = ()
    """Tables that are there after a restore, without their rows, by nature."""
    new_has: tuple[tuple[str, str], ...] = ()
    """Queries to the new instance, with the expected value."""
    in_place_has: tuple[tuple[str, str], ...] = ()
    """The same for the server after its restore in place."""
    series: str = ""
    """Default: the version of this machine."""
    user: str = ""
    """The superuser, when it has another name than usual."""
    plugins: bool = False
    """The server has plugins that are packaged apart from it; the line is skipped where they cannot be had."""
    layout: str = ""
    """Shell commands that change the data directory before the first start, in ``{data}``."""

    def __str__(self) -> str:
        return self.name

    def refusal(self, at: Where) -> Refused | None:
        return next((refused for refused in self.refused if refused.at == at), None)


@dataclass(frozen=True)
class Group:
    """Lines that one server carries: no start option contradicts another, and each line has tables of its own.

    The incremental backup of the lines with ``full_because`` is no incremental; they go into groups of their own, in which each
    of them takes a backup. What a line refuses is tried after the backups, and undone.
    """

    name: str
    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        assert not (self.usual and self.fulls), f"{self.name}: {self.fulls[0]} needs another server than {self.usual[0]}"
        for at in ("verify", "new", "in place"):
            assert sum(bool(line.refusal(at)) for line in self.lines) < 2, f"{self.name}: one refusal at {at} would hide another"
        names = [option.split("=")[0].strip() for option in self.options.splitlines() if "plugin_load_add" not in option]
        assert len(names) == len(set(names)), f"{self.name}: {sorted(names)} has an option twice"

    def __str__(self) -> str:
        return self.name

    @cached_property
    def usual(self) -> tuple[Line, ...]:
        """Lines that are backed up and restored."""
        return tuple(line for line in self.lines if line not in self.refused and not line.full_because)

    @cached_property
    def fulls(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.full_because)

    @cached_property
    def refused(self) -> tuple[Line, ...]:
        """Lines that cannot be backed up."""
        return tuple(line for line in self.lines if line.refusal("backup") or line.refusal("incremental"))

    @property
    def taken(self) -> bool:
        """A full backup is taken."""
        return any(not line.refusal("backup") for line in self.lines)

    @property
    def options(self) -> str:
        return "\n".join(_once(option for line in self.lines for option in line.options.splitlines()))

    @property
    def init(self) -> tuple[str, ...]:
        return tuple(argument for line in self.lines for argument in line.init)

    @property
    def groups(self) -> str:
        return "\n".join(line.groups for line in self.lines)

    @property
    def directories(self) -> tuple[str, ...]:
        return tuple(_once(name for line in self.lines for name in line.directories))

    @property
    def layout(self) -> str:
        return "\n".join(line.layout for line in self.lines if line.layout)

    @property
    def plugins(self) -> bool:
        return any(line.plugins for line in self.lines)

    @property
    def series(self) -> str:
        return self._only(line.series for line in self.lines)

    @property
    def user(self) -> str:
        return self._only(line.user for line in self.lines)

    def _only(self, values: Iterable[str]) -> str:
        found = {value for value in values if value}
        assert len(found) < 2, f"{self.name}: {found} contradict each other"
        return "".join(found)


def separate(groups: Iterable[Group]) -> list[Group]:
    """Every line on a server of its own."""
    return [Group(line.name, (line,)) for group in groups for line in group.lines]


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
