"""A realistic data set: customers, accounts and a shop, with numbers, text, blobs and foreign keys.

The same seed gives the same rows. Text has the word frequencies of a natural language, so that it compresses like real text. A
third of the documents are incompressible, like images.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import Any

import pymysql

ACCOUNTS = 2000
OPENING_BALANCE = 1000
CHUNK = 4 * 1024**2
"""Bytes of one INSERT."""

SCHEMA = """
CREATE TABLE db1.customers (
    id INT PRIMARY KEY, name VARCHAR(80) NOT NULL, email VARCHAR(120) NOT NULL UNIQUE, born DATE NOT NULL, remarks TEXT NOT NULL);
CREATE TABLE db1.accounts (
    id INT PRIMARY KEY, customer INT NOT NULL, balance DECIMAL(12,2) NOT NULL,
    FOREIGN KEY (customer) REFERENCES db1.customers (id));
CREATE TABLE db1.transfers (
    n BIGINT PRIMARY KEY, source INT NOT NULL, target INT NOT NULL, amount DECIMAL(12,2) NOT NULL,
    at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    FOREIGN KEY (source) REFERENCES db1.accounts (id), FOREIGN KEY (target) REFERENCES db1.accounts (id));
CREATE TABLE db2.products (
    id INT PRIMARY KEY, name VARCHAR(80) NOT NULL, price DECIMAL(8,2) NOT NULL, description TEXT NOT NULL);
CREATE TABLE db2.orders (
    id INT PRIMARY KEY, customer INT NOT NULL, placed DATETIME NOT NULL, state ENUM('open', 'paid', 'sent', 'back') NOT NULL,
    address VARCHAR(200) NOT NULL, KEY (customer, placed));
CREATE TABLE db2.items (
    purchase INT NOT NULL, line TINYINT NOT NULL, product INT NOT NULL, quantity SMALLINT NOT NULL, price DECIMAL(8,2) NOT NULL,
    PRIMARY KEY (purchase, line), FOREIGN KEY (purchase) REFERENCES db2.orders (id),
    FOREIGN KEY (product) REFERENCES db2.products (id));
CREATE TABLE db2.reviews (
    id INT PRIMARY KEY, product INT NOT NULL, stars TINYINT NOT NULL, body TEXT NOT NULL,
    FOREIGN KEY (product) REFERENCES db2.products (id));
CREATE TABLE db2.documents (
    id INT PRIMARY KEY, purchase INT NOT NULL, kind VARCHAR(20) NOT NULL, content MEDIUMBLOB NOT NULL,
    FOREIGN KEY (purchase) REFERENCES db2.orders (id));
"""

STILL = ("db1.customers", "db2.products", "db2.orders", "db2.items", "db2.reviews", "db2.documents")
"""Tables that the writing process does not change."""
BOUNDS = ("db1.accounts", "db1.transfers")
"""Tables that the writing process changes."""

Row = tuple[Any, ...]


class Prose:
    """Random text: slices of a few megabytes of words."""

    LENGTH = 4_000_000

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "ing", "ou")]
        self.vocabulary = ["".join(dice.choices(syllables, k=dice.choice((1, 2, 2, 3, 3, 4)))) for _ in range(20_000)]
        weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(self.vocabulary))))
        words = dice.choices(self.vocabulary, cum_weights=weights, k=self.LENGTH // 5)
        self._text = " ".join(word + "." if n % 13 == 0 else word for n, word in enumerate(words, 1))

    def some(self, length: int) -> str:
        """About ``length`` characters."""
        start = self._dice.randrange(len(self._text) - length)
        return self._text[start : start + length]

    def name(self) -> str:
        """Two words with capitals."""
        return " ".join(self._dice.choices(self.vocabulary, k=2)).title()


class Loader:
    """Inserts rows in large statements, while the next ones are being generated."""

    def __init__(self, connection: pymysql.Connection) -> None:
        self._connection = connection
        connection.query("SET unique_checks = 0, foreign_key_checks = 0")  # the rows are consistent, and loading is faster
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def table(self, name: str, rows: Iterable[Row]) -> None:
        """Load ``rows`` into the table."""
        values: list[bytes] = []
        size = 0
        for row in rows:
            value = b"(" + b",".join(map(_literal, row)) + b")"
            values.append(value)
            size += len(value)
            if size > CHUNK:
                self._submit(name, values)
                values, size = [], 0
        if values:
            self._submit(name, values)

    def close(self) -> None:
        """Wait until all rows are inserted."""
        if self._running:
            self._running.result()
        self._thread.shutdown()

    def _submit(self, name: str, values: list[bytes]) -> None:
        if self._running:
            self._running.result()
        self._running = self._thread.submit(self._load, b"INSERT INTO %s VALUES " % name.encode() + b",".join(values))

    def _load(self, statement: bytes) -> None:
        self._connection.query(statement)
        self._connection.commit()


def _literal(value: Any) -> bytes:
    match value:
        case int() | float():
            return str(value).encode()
        case bytes():
            return b"_binary'%s'" % _escape(value)
        case _:
            return b"'%s'" % _escape(str(value).encode())


def _escape(data: bytes) -> bytes:
    return data.replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b"\0", b"\\0")


class DataSet:
    """Generates about ``megabytes`` of rows, and more of them later."""

    def __init__(self, megabytes: int, seed: int = 7) -> None:
        self._dice = random.Random(seed)
        self._prose = Prose(self._dice)
        self._total = megabytes * 1024**2 * 7 // 10  # indexes and half-empty pages take the rest
        self._products = max(50, self._total // 100_000)
        self._orders = 0
        self._reviews = 0
        self._documents = 0

    def fill(self, loader: Loader) -> None:
        """Load the whole data set."""
        dice, prose, total = self._dice, self._prose, self._total
        customers = max(ACCOUNTS, total // 20_000)
        born = date(1940, 1, 1)
        loader.table(
            "db1.customers",
            (
                (
                    n,
                    prose.name(),
                    f"{dice.choice(prose.vocabulary)}{n}@example.org",
                    born + timedelta(dice.randrange(24000)),
                    prose.some(300),
                )
                for n in range(1, customers + 1)
            ),
        )
        loader.table("db1.accounts", ((n, n, OPENING_BALANCE) for n in range(1, ACCOUNTS + 1)))
        loader.table(
            "db2.products",
            ((n, prose.name(), dice.randrange(99, 99999) / 100, prose.some(600)) for n in range(1, self._products + 1)),
        )
        self.grow(loader, total)

    def grow(self, loader: Loader, size: int) -> None:
        """Load about ``size`` more bytes of orders, items, reviews and documents."""
        orders = range(self._orders + 1, self._orders + 1 + size // 1000)
        self._orders = orders.stop - 1
        loader.table("db2.orders", self._make_orders(orders))
        loader.table("db2.items", self._make_items(orders))
        loader.table("db2.reviews", self._make_reviews(size // 5))
        loader.table("db2.documents", self._make_documents(size * 2 // 5))

    def _make_orders(self, numbers: Iterable[int]) -> Iterator[Row]:
        dice = self._dice
        for n in numbers:
            placed = datetime(2020, 1, 1) + timedelta(seconds=n * 61)  # noqa: DTZ001 - a column without a zone
            yield n, dice.randrange(1, ACCOUNTS), placed, dice.choice(("open", "paid", "sent", "back")), self._prose.some(60)

    def _make_items(self, orders: Iterable[int]) -> Iterator[Row]:
        dice = self._dice
        for order in orders:
            for line in range(dice.randrange(1, 7)):
                yield order, line, dice.randrange(1, self._products + 1), dice.randrange(1, 20), dice.randrange(99, 99999) / 100

    def _make_reviews(self, size: int) -> Iterator[Row]:
        dice = self._dice
        while size > 0:
            self._reviews += 1
            body = self._prose.some(dice.randrange(100, 2000))
            size -= len(body)
            yield self._reviews, dice.randrange(1, self._products + 1), dice.randrange(1, 6), body

    def _make_documents(self, size: int) -> Iterator[Row]:
        dice = self._dice
        while size > 0:
            self._documents += 1
            length = dice.randrange(4_000, 120_000)
            picture = dice.random() < 1 / 3
            content = dice.randbytes(length) if picture else self._prose.some(length).encode()
            size -= length
            yield self._documents, dice.randrange(1, self._orders + 1), "picture" if picture else "letter", content
