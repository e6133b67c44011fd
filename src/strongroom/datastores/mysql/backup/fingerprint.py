"""Checksums of some tables at the end of an incremental, which reveal a replay that leads to other rows.

They are computed a moment after the end, without a lock. So only tables count that the server did not change in that moment,
according to its log. Rows that were written without the binary log (sql_log_bin=0) differ as well, as they should.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import query, quote_name
from strongroom.datastores.mysql.backup.events import Changed, Event, Statement
from strongroom.errors import ArtifactCorrupt

_MOST_TABLES = 50
_MOST_BYTES = 8 << 20
"""Limit for one table."""
_ALL_BYTES = 64 << 20
_SYSTEM = ("mysql", "sys", "information_schema", "performance_schema", "strongroom")
MAX_BYTES = 1 << 20
REMEDY = "Rows may have been written with sql_log_bin = 0. Restore the backup before it, and take a full."


class Fingerprint:
    """Checksums by schema and table."""

    def __init__(self, checksums: dict[tuple[str, str], int]) -> None:
        self._checksums = checksums

    def __len__(self) -> int:
        return len(self._checksums)

    def forget(self, events: Iterable[Event]) -> None:
        """Leave out tables that were changed, or named in a statement, after the end of the incremental."""
        for event in events:
            if isinstance(event, Changed):
                self._checksums.pop((event.schema, event.table), None)
            elif isinstance(event, Statement):
                if re.match(r"\s*XA\b", event.text, re.IGNORECASE):
                    self._checksums.clear()  # its rows may be in an older log, for unknown tables
                words = {word.casefold() for word in re.findall(r"[\w$]+", event.text)}
                self._checksums = {
                    (schema, table): checksum
                    for (schema, table), checksum in self._checksums.items()
                    if not words & {schema.casefold(), table.casefold()} and re.fullmatch(r"[\w$]+", table)
                }

    def dump(self) -> bytes:
        """The stored form."""
        return json.dumps({"format": 1, "tables": [[*name, checksum] for name, checksum in self._checksums.items()]}).encode()

    @classmethod
    def parse(cls, data: bytes) -> Fingerprint:
        """Parse hostile input. Raises ArtifactCorrupt."""
        try:
            found = json.loads(data)
            tables = {(str(schema), str(table)): int(checksum) for schema, table, checksum in found["tables"][:_MOST_TABLES]}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactCorrupt(f"the fingerprint of an incremental cannot be read: {error}") from error
        return cls(tables)

    def differences(self, ask: Callable[[str], list[tuple[Any, ...]]]) -> list[str]:
        """A sentence for each table with other rows in the server that ``ask`` sends statements to.

        Raises ArtifactCorrupt when a table is missing.
        """
        found = []
        for (schema, table), checksum in self._checksums.items():
            name = f"{quote_name(schema)}.{quote_name(table)}"
            ((_, now),) = ask(f"CHECKSUM TABLE {name} EXTENDED")
            if now is None:
                raise ArtifactCorrupt(f"after the replay of the binary log table {name} is missing", remedy=REMEDY)
            if now != checksum:
                found.append(f"after the replay of the binary log table {name} has other rows than when the backup was taken")
        return found


def take_fingerprint(connection: Connection[Cursor], tables: Collection[tuple[str, str]]) -> Fingerprint:
    """Checksums of small tables among these. Raises pymysql.MySQLError.

    Tables that the server changes by foreign keys are left out: its log does not say so.
    """
    query(connection, "SET SESSION lock_wait_timeout = 1, SESSION information_schema_stats_expiry = 0")
    cascades = {
        (schema, table)
        for schema, table in query(
            connection,
            "SELECT constraint_schema, table_name FROM information_schema.referential_constraints"
            " WHERE update_rule NOT IN ('RESTRICT', 'NO ACTION') OR delete_rule NOT IN ('RESTRICT', 'NO ACTION')",
        )
    }
    checksums: dict[tuple[str, str], int] = {}
    left = _ALL_BYTES
    for schema, table in sorted(name for name in tables if name not in cascades and name[0] not in _SYSTEM):
        if len(checksums) == _MOST_TABLES:
            break
        rows = query(
            connection,
            "SELECT data_length FROM information_schema.tables WHERE table_schema = %s AND table_name = %s AND engine = 'InnoDB'",
            schema,
            table,
        )
        if not rows or rows[0][0] is None or rows[0][0] > min(_MOST_BYTES, left):
            continue
        left -= rows[0][0]
        ((_, checksum),) = query(connection, f"CHECKSUM TABLE {quote_name(schema)}.{quote_name(table)} EXTENDED")
        if checksum is not None:
            checksums[schema, table] = checksum
    return Fingerprint(checksums)
