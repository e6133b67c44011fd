"""Tables of users: their number by engine, and those that need plugins or other directories."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import query

SYSTEM = frozenset({"information_schema", "performance_schema", "mysql", "sys", "strongroom"})
_SQL = f"""
    SELECT table_schema, table_name, engine, create_options FROM information_schema.tables
    WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')
    AND table_schema NOT IN ({", ".join(repr(name) for name in sorted(SYSTEM))})"""  # noqa: S608 - constants
BUILT_IN = frozenset({"InnoDB", "Aria", "MyISAM", "MEMORY", "CSV", "MRG_MyISAM", "SEQUENCE"})


@dataclass(slots=True)
class Tables:
    """The tables of a server. Names are ``database.table``."""

    engines: Counter[str] = field(default_factory=Counter)
    by_engine: Mapping[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Names of the tables of engines other than InnoDB, MyISAM, Aria and CSV."""
    local: list[str] = field(default_factory=list)
    """Tables of engines that a Galera cluster does not replicate by default: MyISAM and Aria."""
    compressed: list[str] = field(default_factory=list)
    special: list[tuple[str, str]] = field(default_factory=list)
    """Database and name of each table with an engine, encryption, compression or directory of its own."""
    broken: list[str] = field(default_factory=list)
    """Tables that the server cannot open: their engine is unknown."""


def read_tables(connection: Connection[Cursor]) -> Tables:
    """All tables that the account may see, without those of the system and of Strongroom."""
    tables = Tables()
    for schema, name, engine, options in query(connection, _SQL):
        full = f"{schema}.{name}"
        text = str(options or "").lower()
        if engine is None:
            tables.broken.append(full)
            continue
        tables.engines[str(engine)] += 1
        if engine not in ("InnoDB", "MyISAM", "Aria", "CSV"):
            tables.by_engine[str(engine)].append(full)
        if engine in ("MyISAM", "Aria"):
            tables.local.append(full)
        if "page_compressed" in text and "page_compressed`=0" not in text:
            tables.compressed.append(full)
        if engine not in BUILT_IN or any(word in text for word in ("page_compressed", "encrypt", "directory", "partitioned")):
            tables.special.append((str(schema), str(name)))
    return tables


def list_tables(connection: Connection[Cursor]) -> Iterator[tuple[str, str, str]]:
    """Database, name and engine of every table, including tables of the system."""
    sql = (
        "SELECT table_schema, table_name, engine FROM information_schema.tables"
        " WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')"
        " AND table_schema NOT IN ('information_schema', 'performance_schema') ORDER BY 1, 2"
    )
    for schema, name, engine in query(connection, sql):
        yield str(schema), str(name), str(engine or "")
