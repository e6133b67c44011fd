"""Cancel: SIGINT or SIGTERM becomes an exception in the main thread, wherever that is."""

from __future__ import annotations

import signal
from types import FrameType

from strongroom.errors import Cancelled


def raise_cancelled() -> None:
    """From now on the first SIGINT or SIGTERM raises Cancelled; what it interrupts cleans up undisturbed by further ones."""

    def handler(number: int, frame: FrameType | None) -> None:
        ignore()
        raise Cancelled("the job was cancelled")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def ignore() -> None:
    """From now on nothing is interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
