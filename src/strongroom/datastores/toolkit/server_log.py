"""The cause of an error in the error log of a server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from strongroom.datastores.toolkit.tools import hide_secrets, read_lines

SIZE = 64 * 1024
"""Bytes at the end of a log that are read."""
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
"""Errors that only result from an earlier one."""
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
"""Errors of clients; they say nothing about the start of the server."""
_MOST = 3


@dataclass(frozen=True, slots=True)
class LogExcerpt:
    """``cause``: the lines with the cause, in one text; empty if there are none. ``end``: the last lines."""

    cause: str
    end: str

    def describe(self, text: str) -> str:
        """Combine ``text``, the error that Strongroom saw, with the log: cause, text, end of the log."""
        said = f"{self.cause} ({text.strip()})" if self.cause else text.strip()
        return said + (f"; the end of its error log:\n{self.end}" if self.end else "")


def read_log(path: Path | None, *, owner: int | None = None) -> LogExcerpt:
    """The excerpt of a log; empty if it cannot be read. With ``owner``, the log must be a plain file of this OS user.

    The owner of a server names its log, and the agent may be root: files of other users must not be shown to the owner.
    """
    return make_excerpt([] if path is None else read_lines(path, SIZE, owner=owner))


def make_excerpt(lines: Iterable[str]) -> LogExcerpt:
    """The excerpt since the newest start: the first errors of a server that never served, the last errors of one that did."""
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
    """A line without its time and process id."""
    return re.sub(r"^.*?(?=\[ERROR\]|\b(?:FATAL|PANIC|DETAIL|HINT):)", "", line)
