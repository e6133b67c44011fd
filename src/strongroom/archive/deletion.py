"""Deletes a series. Only keys that its location makes are removed, whatever the store lists."""

from __future__ import annotations

from itertools import islice

from strongroom.archive.location import SeriesLocation
from strongroom.storage import Store

_BATCH = 1000


def delete_series(store: Store, location: SeriesLocation) -> None:
    """Remove every object of the series. Its records go before its bytes, so that an interrupted deletion leaves no false window.

    Raises StorageError.
    """
    store.delete([location.series, location.covered])
    for folder in (location.records, location.data):
        keys = (key for stat in store.list(folder) if (key := location.parse_part(stat.key)) is not None)
        known = list(keys)
        for at in range(0, len(known), _BATCH):
            store.delete(islice(known, at, at + _BATCH))
