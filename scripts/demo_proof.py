"""Checks restored data by querying it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pymysql
from demo_data import ACCOUNTS, BOUNDS, OPENING_BALANCE, STILL


def ask(connection: pymysql.Connection, statement: str) -> tuple[Any, ...]:
    """The only row of a query's result."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        assert row is not None
        return tuple(row)


@dataclass(frozen=True)
class Expected:
    """What a restored database must contain: unchanged tables, and a number of transfers within bounds."""

    tables: dict[str, tuple[int, int]]
    """Rows and CHECKSUM TABLE, by table."""
    at_least: int
    """The last transfer that was committed before the backup began."""
    at_most: int
    """The last transfer that was committed when the backup had ended."""


def look(connection: pymysql.Connection) -> dict[str, tuple[int, int]]:
    """Rows and checksums of the tables that the writing process does not change."""
    return {
        table: (
            int(ask(connection, f"SELECT COUNT(*) FROM {table}")[0]),
            int(ask(connection, f"CHECKSUM TABLE {table} EXTENDED")[1]),
        )
        for table in STILL
    }


@dataclass
class Proof:
    """The results of the comparisons."""

    tables: int = 0
    rows: int = 0
    good: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def judge(self, right: bool, what: str) -> None:
        """Add a result."""
        (self.good if right else self.wrong).append(what)


def prove(connection: pymysql.Connection, expected: Expected) -> Proof:
    """Compare the content of the database with what is expected."""
    proof = Proof()
    for table, (rows, checksum) in look(connection).items():
        proof.tables += 1
        proof.rows += rows
        same = expected.tables[table] == (rows, checksum)
        proof.judge(same, f"{table}: {rows} rows, checksum {checksum}" + ("" if same else f"; expected {expected.tables[table]}"))
    accounts, total = ask(connection, "SELECT COUNT(*), SUM(balance) FROM db1.accounts")
    proof.judge(
        (accounts, total) == (ACCOUNTS, ACCOUNTS * OPENING_BALANCE),
        f"{accounts} accounts have a total balance of {total}, as at the beginning",
    )
    transfers, first, last = ask(connection, "SELECT COUNT(*), MIN(n), MAX(n) FROM db1.transfers")
    proof.judge((first, transfers) == (1, last), f"{transfers} transfers are numbered {first} to {last} without a gap")
    proof.judge(
        expected.at_least <= last <= expected.at_most,
        f"the last transfer is {last}: at least {expected.at_least}, committed before the backup began, "
        f"at most {expected.at_most}, when it had ended",
    )
    (unexplained,) = ask(
        connection,
        f"""SELECT COUNT(*) FROM db1.accounts WHERE balance <> {OPENING_BALANCE}
            - (SELECT COALESCE(SUM(amount), 0) FROM db1.transfers WHERE source = accounts.id)
            + (SELECT COALESCE(SUM(amount), 0) FROM db1.transfers WHERE target = accounts.id)""",
    )
    proof.judge(unexplained == 0, f"{ACCOUNTS - unexplained} of {ACCOUNTS} balances match the transfers")
    proof.tables += len(BOUNDS)
    proof.rows += accounts + transfers
    return proof
