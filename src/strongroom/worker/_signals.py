"""Cancelling a job: SIGINT or SIGTERM raises an exception in the main thread, whatever that does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PAUSE = 0.2
"""Seconds until a signal is repeated."""
_over = threading.Event()
"""Signals are ignored from now on."""


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end of the job. It is no Exception: code that handles errors must not continue after it."""


def reset_signals() -> None:
    """Let signals end the process, which has not begun its job. The agent may have been started with SIGINT ignored (nohup)."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def raise_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise Interrupted. During the cleanup that follows, they have no effect.

    A signal can get lost: the main thread begins to wait for a lock right after Python has looked for signals, or the kernel
    gives the signal to another thread, or Python ignores the exception because a finalizer runs. So a thread repeats the signal
    until the job ends.
    """
    received, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    threading.Thread(target=_repeat, args=(received, threading.get_ident()), name="signals", daemon=True).start()
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """From now on SIGINT and SIGTERM are ignored."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _over.set()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if not is_interrupted(sys.exc_info()[1]):
        raise Interrupted


def is_interrupted(error: BaseException | None) -> bool:
    """Whether it is an Interrupted, or was raised by the cleanup after one."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


def _repeat(received: int, main: int) -> None:
    os.read(received, 1)  # Python writes into the pipe in whichever thread gets the signal
    while not _over.wait(_PAUSE):
        signal.pthread_kill(main, signal.SIGINT)
