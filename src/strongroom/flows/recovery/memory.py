"""What the service remembers of log archives: their records, which never change, so that they are read only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock

from strongroom.archive import Contents, LogLocation, load_log
from strongroom.errors import ArtifactError
from strongroom.storage import Store

LIMIT = 128 * 1024**2
"""Bytes that are remembered, about 35,000 records."""
_RECORD = 3328
"""Bytes that a record takes in memory besides its index."""


class LogMemory:
    """Series of log archives in the stores. The series that were not used for the longest time are forgotten. Thread-safe."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, int], tuple[Contents, int]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def load(self, store: Store, log: LogLocation) -> tuple[Sequence[Contents], Mapping[int, ArtifactError]]:
        """As ``load_log``. What the store lists at present decides which records exist. Raises StorageError."""
        place = store.url(log.prefix)
        with self._lock:
            known = {number: contents for (where, number), (contents, _) in self._known.items() if where == place}
        found, damaged = load_log(store, log, known)
        with self._lock:
            for contents in found:
                self._remember((place, contents.series.record.location.number), contents)
        return found, damaged

    def _remember(self, key: tuple[str, int], contents: Contents) -> None:
        size = sum(_RECORD + len(each.record.index) for each in contents.segments.values())
        self._size += size - self._known.pop(key, (contents, 0))[1]
        self._known[key] = (contents, size)
        while self._size > self._limit:
            _, (_, freed) = self._known.popitem(last=False)
            self._size -= freed
