"""Where the uninterrupted part of a log archive begins that ends now: over the seams of its series, as the store has them."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.archive import LogLocation, load_series
from strongroom.errors import ArtifactError
from strongroom.storage import Store

_MOST = 1000


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first series of the part."""

    began: str
    """As in ``archive.Series``."""
    reason: str
    started: int
    """Microseconds since 1970, by the clock of the host."""


def find_beginning(store: Store, log: LogLocation, series: int) -> Beginning:
    """The beginning of the part that series ``series`` belongs to.

    Raises ArtifactMissing, ArtifactCorrupt if the record of the series itself is missing or damaged; StorageError.
    """
    record = load_series(store, log.series(series)).record
    for _ in range(_MOST):
        if record.continues is None or record.continues.series >= record.location.number:
            break
        try:
            record = load_series(store, log.series(record.continues.series)).record
        except ArtifactError:  # retention has removed it, or it is lost, and so is what is before it
            break
    return Beginning(record.began, record.reason, record.started)
