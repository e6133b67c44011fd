"""Objects of an artifact that are numbered from 0, each written once: the newest are read, and a new one gets the next number."""

from __future__ import annotations

import contextlib
import heapq
import re

from strongroom.errors import StorageError, StorageExists
from strongroom.storage import Store

MAX_BYTES = 64 * 1024
MOST = 200
"""How many objects of one folder are read, newest first."""
LARGEST_NUMBER = 10**7
_ATTEMPTS = 20
_NUMBER = re.compile(r"(\d{8})\.json")


def numbered_key(folder: str, number: int) -> str:
    """Key of an object of the folder."""
    return f"{folder}/{number:08d}.json"


def list_numbers(store: Store, folder: str) -> list[int]:
    """Numbers of the newest objects, in order. Raises StorageError."""
    top = len(folder) + 1
    found = (int(match[1]) for stat in store.list(folder) if (match := _NUMBER.fullmatch(stat.key[top:])))
    return sorted(heapq.nlargest(MOST, (number for number in found if number < LARGEST_NUMBER)))


def put_next(store: Store, folder: str, data: bytes, after: int | None) -> None:
    """Store the object with the next free number after ``after``. Raises StorageError."""
    first = 0 if after is None else after + 1
    for number in range(first, min(first + _ATTEMPTS, LARGEST_NUMBER)):
        key = numbered_key(folder, number)
        with contextlib.suppress(StorageExists):
            store.put(key, data, create=True)
            if store.capabilities.conditional_create or store.get(key, length=len(data) + 1) == data:
                return
    raise StorageError(
        f"nothing can be stored below {store.url(folder)}",
        remedy="Check the objects there: another program may have written some.",
    )
