"""What a statement of the log does, as far as a search for it needs: its kind, and the tables or databases that it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["begin", "commit", "rollback", "savepoint", "xa", "ddl", "rights", "other"]
LONGEST = 65536
"""Bytes of a statement that are read."""
_MOST_NAMES = 64
_SPACE = re.compile(rb"(?:\s+|#[^\n]*|--(?=\s)[^\n]*|/\*(?![!M]).*?(?:\*/|\Z)|/\*M?!\d*|\*/)+", re.DOTALL)
_WORD = re.compile(rb"`(?:[^`]|``)*`|\"(?:[^\"]|\"\")*\"|'(?:[^'\\]|\\.|'')*'|[\w$\x80-\xff]+|.", re.DOTALL)
_DDL = {"CREATE", "ALTER", "DROP", "TRUNCATE", "RENAME"}
_RIGHTS = {"GRANT", "REVOKE"}
_ACCOUNTS = {"USER", "ROLE"}
_QUALIFIERS = {
    "OR", "REPLACE", "TEMPORARY", "UNIQUE", "FULLTEXT", "SPATIAL", "ONLINE", "OFFLINE", "IGNORE", "UNDO", "AGGREGATE",
}  # fmt: skip
_OPTIONAL = {"IF", "NOT", "EXISTS", "WAIT", "NOWAIT"}


@dataclass(frozen=True, slots=True)
class Statement:
    """``verb`` is what it does (``DROP TABLE``); ``names`` are ``(schema, table)``, with table "" for a database."""

    kind: Kind
    verb: str
    names: tuple[tuple[str, str], ...] = ()


def describe_statement(text: bytes, schema: str = "") -> Statement:
    """The kind of a statement, and its names: of tables, views, triggers' tables and databases. It may be cut."""
    words = _Words(text[:LONGEST])
    first = words.take()
    if first in ("BEGIN", "START"):
        return Statement("begin", "BEGIN")
    if first == "COMMIT":
        return Statement("commit", "COMMIT")
    if first == "ROLLBACK":
        return Statement("savepoint", "ROLLBACK TO") if words.take() else Statement("rollback", "ROLLBACK")
    if first == "SAVEPOINT":
        return Statement("savepoint", "SAVEPOINT")
    if first == "XA":
        return Statement("xa", f"XA {words.take()}")
    if first in _RIGHTS:
        return Statement("rights", first)
    if first not in _DDL:
        return Statement("other", first)
    return _describe_ddl(first, words, schema)


def _describe_ddl(first: str, words: _Words, schema: str) -> Statement:
    what = words.take()
    while what in _QUALIFIERS:
        what = words.take()
    if what in _ACCOUNTS:
        return Statement("rights", f"{first} {what}")
    if first == "TRUNCATE" and what != "TABLE":
        words.back()
        what = "TABLE"
    verb = f"{first} {what}"
    if what in ("DATABASE", "SCHEMA"):
        words.skip(_OPTIONAL)
        name = words.name()
        return Statement("ddl", f"{first} DATABASE", ((name or schema, ""),))
    if what == "INDEX" or verb == "CREATE TRIGGER":
        words.skip_to("ON")
        return Statement("ddl", verb, words.names(schema, more=False))
    if what in ("TABLE", "TABLES", "VIEW", "SEQUENCE"):
        words.skip(_OPTIONAL)
        return Statement("ddl", verb.replace("TABLES", "TABLE"), words.names(schema, more=first in ("DROP", "RENAME")))
    return Statement("ddl", verb)


class _Words:
    """The words of a statement without its comments. What is in a conditional comment of the server counts."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = self._before = 0

    def _next(self) -> bytes:
        self._before = self._at
        if space := _SPACE.match(self._text, self._at):
            self._at = space.end()
        if (word := _WORD.match(self._text, self._at)) is None:
            return b""
        self._at = word.end()
        return word.group()

    def take(self) -> str:
        """The next word in upper case; "" at the end."""
        return self._next().decode(errors="replace").upper()

    def back(self) -> None:
        """Return to the word before, once."""
        self._at = self._before

    def skip(self, words: set[str]) -> None:
        while (word := self.take()) in words or word.isdigit():
            pass
        self.back()

    def skip_to(self, word: str) -> None:
        while (found := self.take()) and found != word:
            pass

    def name(self) -> str:
        """The next word as a name, without its quotes."""
        word = self._next().decode(errors="replace")
        if word[:1] in ("`", '"') and len(word) > 1:
            return word[1:-1].replace(word[0] * 2, word[0])
        return word if word[:1].isalnum() or word[:1] in ("_", "$") or word[:1] > "\x7f" else ""

    def names(self, schema: str, *, more: bool) -> tuple[tuple[str, str], ...]:
        """``a``, ``b.a``, and with ``more`` further ones after a comma or TO."""
        found: list[tuple[str, str]] = []
        while len(found) < _MOST_NAMES and (name := self.name()):
            owner = schema
            following = self.take()
            if following == ".":
                owner, name = name, self.name()
                following = self.take()
            found.append((owner, name))
            if not more or following not in (",", "TO"):
                break
        return tuple(found)
