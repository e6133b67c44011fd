"""Load on a database, in a separate process: small transactions on four connections, with their durations.

Started as ``python -m benchmarks.load``, with the parameters of the connection as JSON in its first line of input. Prints
"ready", runs until its input ends, and then prints when each transaction ended (monotonic clock) and its duration in seconds.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

CONNECTIONS = 4
PAUSE = 0.004
"""Seconds that a connection pauses between two transactions."""


class Load:
    """Controls the process, as a context manager."""

    def __init__(self, terms: dict[str, Any]) -> None:
        self._terms = terms
        self.done: list[tuple[float, float]] = []

    def __enter__(self) -> Load:
        command = [sys.executable, "-m", "benchmarks.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(self._terms) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the load did not start")
        return self

    def __exit__(self, *_: object) -> None:
        output, _unused = self._process.communicate("", timeout=60)
        with suppress(ValueError):
            self.done = [(at, took) for at, took in json.loads(output)]

    def between(self, began: float, ended: float) -> list[float]:
        """The durations of the transactions that ended in this interval. Available when the load has ended."""
        return [took for at, took in self.done if began <= at < ended]


def work(terms: dict[str, Any], over: threading.Event, done: list[tuple[float, float]], ready: threading.Barrier) -> None:
    """Repeatedly read five rows and change one of them."""
    rows, postgresql = terms.pop("rows"), terms.pop("postgresql")
    connection: Any
    if postgresql:
        import psycopg

        connection = psycopg.connect(**terms)
    else:
        import pymysql

        connection = pymysql.connect(**terms)
    dice = random.Random()
    cursor = connection.cursor()
    ready.wait()
    while not over.is_set():
        began = time.monotonic()
        ids = [dice.randrange(1, rows) for _ in range(5)]
        for number in ids:
            cursor.execute("SELECT body FROM db1.large WHERE id = %s", (number,))
            cursor.fetchall()
        cursor.execute("UPDATE db1.large SET touched = touched + 1 WHERE id = %s", (ids[0],))
        connection.commit()
        ended = time.monotonic()
        done.append((ended, ended - began))
        time.sleep(dice.uniform(0.5, 1.5) * PAUSE)


def main() -> None:
    """Run the process."""
    terms = json.loads(sys.stdin.readline())
    over, ready = threading.Event(), threading.Barrier(CONNECTIONS + 1)
    done: list[tuple[float, float]] = []
    threads = [threading.Thread(target=work, args=(dict(terms), over, done, ready), daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    print("ready", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join(10)
    print(json.dumps(done))


if __name__ == "__main__":
    main()
