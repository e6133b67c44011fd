"""Checks whether the binary log since a parent can be replayed to the same rows on another server."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from strongroom.artifact import Profile
from strongroom.datastores.innodb.binlog.header import INCIDENT
from strongroom.datastores.mysql.backup.events import GTIDS, STATEMENTS, Changed, Event, Mark, Statement
from strongroom.datastores.mysql.binlog.dialect import ANONYMOUS
from strongroom.datastores.mysql.profile import settings

KNOWN_PLUGINS = frozenset(
    {
        "auth_socket",
        "clone",
        "component_connection_control",
        "component_keyring_file",
        "component_log_filter_dragnet",
        "component_log_sink_json",
        "component_log_sink_syseventlog",
        "component_mysqlbackup",
        "component_query_attributes",
        "component_reference_cache",
        "component_validate_password",
        "connection_control",
        "group_replication",
        "mysql_native_password",
        "mysql_no_login",
        "rpl_semi_sync_master",
        "rpl_semi_sync_slave",
        "rpl_semi_sync_replica",
        "rpl_semi_sync_source",
        "validate_password",
    }
)
"""Plugins and components without own rights, or with rights that a server without them can grant too."""
_ACCOUNTS = {"caching_sha2_password", "sha256_password", "mysql_native_password"}
_REPLAYED = {
    "ALTER",
    "ANALYZE",
    "BEGIN",
    "COMMIT",
    "CREATE",
    "DROP",
    "FLUSH",
    "GRANT",
    "OPTIMIZE",
    "RELEASE",
    "RENAME",
    "REPAIR",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "START",
    "TRUNCATE",
    "XA",
}
_CHANGES = {"CALL", "DELETE", "DO", "INSERT", "LOAD", "REPLACE", "SELECT", "TABLE", "UPDATE", "VALUES", "WITH"}
_AS_TEXT = "a statement was logged as text, not as rows (binlog_format of its session)"
_PATTERNS = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (r"\b(DATA|INDEX)\s+DIRECTORY\b", "DATA DIRECTORY names a directory of its host"),
        (r"\bADD\s+DATAFILE\s+['\"][^'\"]*[/\\]", "CREATE TABLESPACE names a directory of its host"),
        (r"\b(IMPORT|DISCARD)\s+(PARTITION\b.*\s)?TABLESPACE\b", "IMPORT TABLESPACE takes rows from a file of its host"),
        (r"\bSONAME\b", "a function of a shared library was created"),
        (r"^\W*CREATE\s+TEMPORARY\s", _AS_TEXT),
        (r"^\W*ALTER\s+INSTANCE\b", "ALTER INSTANCE changes the server itself"),
        (r"\bUNDO\s+TABLESPACE\b", "undo tablespaces were changed"),
        (r"\bWITH\s+PARSER\s+(?![`'\"]?ngram\b)", "an index uses a parser that is a plugin"),
        (r"\bLANGUAGE\s+(?!SQL\b|MODE\b)[A-Z]", "a routine is in another language than SQL"),
    )
)
_PLUGIN = re.compile(r"\bIDENTIFIED\s+WITH\s+[`'\"]?(\w+)", re.IGNORECASE)
_GRANTS = re.compile(r"^\W*(GRANT|REVOKE)\b", re.IGNORECASE)
_TOKENS = re.compile(
    r"('(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`)|/\*(?!!).*?\*/|/\*!\d*|\*/|(?:--\s|#)[^\n]*", re.DOTALL
)


class Judge:
    """Checks the events of an incremental, one after the other. ``reason`` is the first reason against a replay."""

    def __init__(self, profile: Profile, *, by_gtid: bool, empty: Collection[str]) -> None:
        self.reason: str | None = None
        self.tables: set[tuple[str, str]] = set()
        """Tables whose rows were changed."""
        self._by_gtid = by_gtid
        self._foreign = sorted(set(profile.plugins) - KNOWN_PLUGINS)
        self._empty = set(empty)
        self._empty_names = {name.rpartition(".")[2].casefold() for name in empty}

    def look(self, events: Iterable[Event]) -> None:
        """Check events up to the first that cannot be replayed."""
        for event in events:
            if isinstance(event, Changed):
                self.tables.add((event.schema, event.table))
                if f"{event.schema}.{event.table}" in self._empty:
                    self.reason = f"rows of table {event.schema}.{event.table} were changed, which is restored empty"
            elif isinstance(event, Statement):
                self.reason = self._against(event)
            else:
                self.reason = self._against_mark(event)
            if self.reason:
                return

    def _against(self, statement: Statement) -> str | None:
        text = remove_comments(statement.text)
        word = re.match(r"[\s(]*(\w*)", text)
        first = word[1].upper() if word else ""
        if first in _CHANGES:
            return f"{_AS_TEXT}: {_short(statement.text)}"
        if first not in _REPLAYED:
            return f"it is unknown how to replay {_short(statement.text)}"
        if statement.plain_backslashes and "\\" in statement.text:
            return "a statement holds backslashes under NO_BACKSLASH_ESCAPES, which servers write to their log in a wrong way"
        for pattern, what in _PATTERNS:
            if pattern.search(text) or pattern.search(statement.text):
                return what
        for plugin in _PLUGIN.findall(text):
            if plugin.lower() not in _ACCOUNTS:
                return f"an account was given the plugin {plugin}, which other hosts may lack"
        if self._foreign and _GRANTS.search(text):
            return f"rights were granted or revoked, and the server has plugins with own rights ({self._foreign[0]})"
        if self._empty_names and self._empty_names & {found.casefold() for found in re.findall(r"[\w$]+", text)}:
            return f"a table that exists in memory only, and is restored empty, was changed: {_short(statement.text)}"
        return None

    def _against_mark(self, event: Mark) -> str | None:
        if event.kind in STATEMENTS:
            return _AS_TEXT
        if event.kind == INCIDENT:
            return "the server lost events of its binary log"
        if event.kind in GTIDS:
            return None if self._by_gtid else "transactions have GTIDs, though the server goes without: gtid_mode was changed"
        if event.kind == ANONYMOUS:
            return "transactions have no GTIDs: gtid_mode was changed" if self._by_gtid else None
        return f"the binary log has events of an unknown kind ({event.kind})"


def remove_comments(text: str) -> str:
    """A statement without comments, except those that MySQL executes."""
    return _TOKENS.sub(lambda found: found[1] or " ", text)


def find_changed_settings(before: Profile, now: Profile) -> str | None:
    """Why the log since ``before`` may replay to other rows: because of changes that it depends on, but does not contain."""
    names = [*settings.DEMANDED, *settings.REPLAYED]
    changed = sorted(name for name in names if before.settings.get(name) != now.settings.get(name))
    if changed:
        return f"{', '.join(changed)} was changed since the parent backup"
    if before.plugins != now.plugins:
        return (
            f"plugins were installed or removed since the parent backup: {', '.join(sorted({*before.plugins} ^ {*now.plugins}))}"
        )
    return None


def _short(text: str) -> str:
    """Only the first words, because a statement may contain data and hashes of passwords."""
    return " ".join(re.sub(r"\s+", " ", text).split(" ")[:3])[:60]
