"""The page of all metrics. It is made in a thread, and kept for some seconds."""

from __future__ import annotations

import asyncio
import time

from strongroom.flows import Site
from strongroom.flows.metrics import FinishedJobs

FRESH = 15.0
"""Seconds for which a page is sent again."""
REST = 20.0
"""It is also sent again for this many times as long as it took: metrics take at most a twentieth of a core."""


class MetricsPage:
    """The metrics of a service."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._jobs = FinishedJobs()
        self._making = asyncio.Lock()
        self._text = b""
        self._until = 0.0

    async def read(self) -> bytes:
        """The page in Prometheus's text format."""
        async with self._making:
            if time.monotonic() >= self._until:
                began = time.monotonic()
                self._text = await asyncio.to_thread(self._make)
                ended = time.monotonic()
                self._until = ended + max(FRESH, REST * (ended - began))
        return self._text

    def _make(self) -> bytes:
        from strongroom.api.metrics.families import make_page  # loads the library of Prometheus: 2 MB

        return make_page(self._site, self._jobs)
