"""Small realistic data, and a writer whose work proves a restore: money that only moves, and a sequence without gaps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pymysql

Connect = Callable[[], AbstractContextManager["pymysql.Connection[Any]"]]
ACCOUNTS = 50
MONEY = 1000


def fill(connection: pymysql.Connection[Any], rows: int = 3000, database: str = "db1") -> None:
    """Tables with text, numbers, blobs and foreign keys, the same for the same ``rows``; and the writer's own."""
    rng = random.Random(rows)
    words = ["restore", "backup", "ledger", "account", "invoice", "harbour", "lantern", "quartz", "meadow", "copper"]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        cursor.execute(f"USE `{database}`")
        cursor.execute("CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(80), note TEXT) ENGINE=InnoDB")
        cursor.execute(
            "CREATE TABLE orders (id INT PRIMARY KEY, customer INT NOT NULL, amount DECIMAL(12,2), document BLOB,"
            " KEY (customer), FOREIGN KEY (customer) REFERENCES customers (id)) ENGINE=InnoDB"
        )
        connection.begin()
        for start in range(0, rows, 500):
            ids = range(start, min(start + 500, rows))
            cursor.executemany(
                "INSERT INTO customers VALUES (%s, %s, %s)",
                [(i, f"customer {i} 数据 'q'", " ".join(rng.choices(words, k=40))) for i in ids],
            )
            cursor.executemany(
                "INSERT INTO orders VALUES (%s, %s, %s, %s)",
                [(i, rng.randrange(start, ids[-1] + 1), rng.randrange(10**6) / 100, rng.randbytes(400)) for i in ids],
            )
        connection.commit()
        cursor.execute("CREATE TABLE accounts (id INT PRIMARY KEY, money BIGINT NOT NULL) ENGINE=InnoDB")
        cursor.executemany("INSERT INTO accounts VALUES (%s, %s)", [(i, MONEY) for i in range(ACCOUNTS)])
        cursor.execute("CREATE TABLE sequence (id BIGINT PRIMARY KEY) ENGINE=InnoDB")


class Writer:
    """Moves money between accounts and counts, a transaction each, until it is stopped."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.committed = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        deadline = time.monotonic() + 30
        while self.committed < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COALESCE(MAX(id), 0) FROM db1.sequence")
            (number,) = cursor.fetchone()  # type: ignore[misc]
            while not self._stop.is_set():
                number += 1
                giver, taker = random.sample(range(ACCOUNTS), 2)
                try:
                    cursor.execute("BEGIN")
                    cursor.execute("UPDATE db1.accounts SET money = money - 7 WHERE id = %s", (giver,))
                    cursor.execute("UPDATE db1.accounts SET money = money + 7 WHERE id = %s", (taker,))
                    cursor.execute("INSERT INTO db1.sequence VALUES (%s)", (number,))
                    cursor.execute("COMMIT")
                except pymysql.err.MySQLError:
                    return
                self.committed = number
                time.sleep(0.002)


def proven(connection: pymysql.Connection[Any], at_least: int) -> int:
    """Check what the writer left: no money lost, no gap, nothing missing that was committed before. The last number."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT SUM(money), COUNT(*) FROM db1.accounts")
        assert cursor.fetchone() == (ACCOUNTS * MONEY, ACCOUNTS)
        cursor.execute("SELECT COUNT(*), COALESCE(MAX(id), 0), COALESCE(MIN(id), 1) FROM db1.sequence")
        count, last, first = cursor.fetchone()  # type: ignore[misc]
    assert first == 1
    assert count == last, f"{last - count} gaps in the sequence"
    assert last >= at_least, f"commit {at_least} was before the backup, the restore ends at {last}"
    return int(last)
