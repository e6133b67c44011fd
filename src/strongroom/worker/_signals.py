"""Cancelling a job: SIGINT or SIGTERM raises an exception in the main thread."""

from __future__ import annotations

import signal
from types import FrameType

from strongroom.errors import Cancelled


def raise_on_signals() -> None:
    """From now on the first SIGINT or SIGTERM raises Cancelled. Further ones are ignored, so that the cleanup completes."""

    def handler(number: int, frame: FrameType | None) -> None:
        ignore_signals()
        raise Cancelled("the job was cancelled")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def ignore_signals() -> None:
    """From now on SIGINT and SIGTERM are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
