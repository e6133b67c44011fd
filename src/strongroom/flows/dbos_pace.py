"""Keeps DBOS from polling for what this service does not use: queues that others add, delays, timeouts, schedules, messages.

There are no settings for some of it, so names of its modules are replaced; a test sees whether it is still quiet.
"""

from __future__ import annotations

import threading
from typing import Any

from dbos import _dbos, _queue, _scheduler

HARDLY_EVER = 3600.0
"""Seconds between two looks for what is never there."""
RECOVERY = 60.0
"""Seconds after a start in which DBOS goes on with what was running: until then its queue is looked at every second."""
RESTING = 60.0
"""Seconds between two looks at its queue after that. What recovers jobs may have had to wait for the database."""


def slow_down() -> None:
    """Before DBOS is launched."""
    _scheduler._STARTUP_FAST_POLL_DURATION_SEC = 0.0
    _dbos.background_jobs_thread = _end_at_once  # type: ignore[attr-defined, assignment]
    _dbos.queue_thread = _serve_own_queue  # type: ignore[attr-defined, assignment]


def _end_at_once(_stop: threading.Event, _instance: Any) -> None:
    """In the place of a thread that ends delays and timeouts.

    It keeps a transaction open from look to look. Less frequent looks would each be an error in the log of PostgreSQL, which is
    told to end such a transaction after five seconds.
    """


def _serve_own_queue(stop: threading.Event, dbos: Any) -> None:
    """In the place of a thread that lists all queues every second, and of one more for each."""
    queue = dbos._registry.get_internal_queue()
    queue._polling_interval_sec = _queue.DEFAULT_QUEUE_POLLING_INTERVAL_SEC  # it outlives an engine of the same process
    later = threading.Timer(RECOVERY, _rest, (queue,))
    later.daemon = True
    later.start()
    try:
        _queue.queue_worker_thread(stop, dbos, queue)
    finally:
        later.cancel()


def _rest(queue: Any) -> None:
    queue._polling_interval_sec = RESTING
