"""What the error log of a server says about a failure: the lines that decide come first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from strongroom.datastores.toolkit.tools import hide_secrets, read_lines

SIZE = 64 * 1024
"""Bytes at the end of a log that are looked at."""
_SERVES = re.compile(r"ready to accept connections|ready for connections")
_START = re.compile(rf"starting as process|starting PostgreSQL|Starting (MariaDB|MySQL)|{_SERVES.pattern}")
_DECIDES = re.compile(r"\[ERROR\]|\b(FATAL|PANIC):")
_EXPLAINS = re.compile(r"\b(DETAIL|HINT):")
_FOLLOWS = (
    "Aborting",
    "init function returned error",
    "registration as a STORAGE ENGINE failed",
    "Unknown/unsupported storage engine",
    "Failed to initialize plugins",
    "Data Dictionary initialization failed",
    "Failed to initialize DD Storage Engine",
    "Can't init tc log",
)
"""Errors that only follow from an earlier one."""
_OF_CLIENTS = (
    "the database system is",
    "not yet accepting connections",
    "authentication failed",
    "pg_hba.conf",
    "too many clients",
    "remaining connection slots",
    "terminating connection",
    "canceling",
    'role "',
    'database "',
)
"""What a server logs of clients that it did not let in says nothing about its start."""
_MOST = 3


@dataclass(frozen=True, slots=True)
class LogExcerpt:
    """``cause``: the lines that say why, in one text; empty when there are none. ``end``: the last lines."""

    cause: str
    end: str

    def describe(self, text: str) -> str:
        """``text``, what we met ourselves, with what the log says: the cause before everything."""
        said = f"{self.cause} ({text.strip()})" if self.cause else text.strip()
        return said + (f"; the end of its error log:\n{self.end}" if self.end else "")


def read_log(path: Path | None, *, owner: int | None = None) -> LogExcerpt:
    """The excerpt of a log; nothing when it cannot be read. With ``owner`` only of a plain file that belongs to this OS user.

    The owner of a server names its log, and we may be root: nothing of anybody else is shown to him.
    """
    return excerpt([] if path is None else read_lines(path, SIZE, owner=owner))


def excerpt(lines: Iterable[str]) -> LogExcerpt:
    """Of the newest start on. What keeps a server from serving comes first, what ends one that has served comes last."""
    known = [hide_secrets(line.rstrip()) for line in lines if line.strip()]
    begins = max((number for number, line in enumerate(known[:-1]) if _START.search(line)), default=0)
    newest = known[begins:]
    found: list[str] = []
    for number, line in enumerate(newest):
        if _DECIDES.search(line) and not any(sign in line for sign in (*_FOLLOWS, *_OF_CLIENTS)):
            more = [next_line for next_line in newest[number + 1 : number + 3] if _EXPLAINS.search(next_line)]
            text = " ".join(_message(each) for each in (line, *more))
            if text not in found:
                found.append(text)
    found = found[-_MOST:] if newest and _SERVES.search(newest[0]) else found[:_MOST]
    return LogExcerpt("; ".join(found), "\n".join(known[-8:]))


def _message(line: str) -> str:
    """A line without its time and process."""
    return re.sub(r"^.*?(?=\[ERROR\]|\b(?:FATAL|PANIC|DETAIL|HINT):)", "", line)
