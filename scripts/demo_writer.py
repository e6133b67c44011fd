"""A process that writes to the database all the time: it transfers money between accounts, one transaction after the other.

Transfers are numbered, and a number is reported only after its transaction is committed. So in every backup the sum of all
balances must be the same, and the numbers must have no gap.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import random
from typing import Any

import pymysql
from demo_data import ACCOUNTS

_context = mp.get_context("spawn")


def _work(terms: dict[str, Any], committed: Any, stop: Any) -> None:
    dice = random.Random(11)
    with contextlib.suppress(KeyboardInterrupt), pymysql.connect(**terms) as connection, connection.cursor() as cursor:
        while not stop.is_set():
            number = committed.value + 1
            source, target = dice.sample(range(1, ACCOUNTS + 1), 2)
            amount = dice.randrange(1, 5000) / 100
            changes = sorted([(source, -amount), (target, amount)])  # always in the same order, to avoid deadlocks
            for account, change in changes:
                cursor.execute("UPDATE db1.accounts SET balance = balance + %s WHERE id = %s", (change, account))
            cursor.execute(
                "INSERT INTO db1.transfers (n, source, target, amount) VALUES (%s, %s, %s, %s)", (number, source, target, amount)
            )
            connection.commit()
            committed.value = number


class Writer:
    """Controls the process. ``terms`` are the arguments of ``pymysql.connect``."""

    def __init__(self, terms: dict[str, Any]) -> None:
        self._committed = _context.Value("q", 0)
        self._stop = _context.Event()
        self._process = _context.Process(target=_work, args=(terms, self._committed, self._stop), daemon=True)
        self._process.start()

    @property
    def committed(self) -> int:
        """The number of the last committed transfer."""
        return int(self._committed.value)

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.is_alive()

    def stop(self) -> int:
        """Stop the process. Returns the number of the last committed transfer."""
        self._stop.set()
        self._process.join(30)
        return self.committed
