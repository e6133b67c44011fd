"""Stops DBOS from polling for features that this service does not use: other queues, delays, timeouts, schedules, messages.

DBOS has no settings for some of them, so functions of its modules are replaced. A test checks that it is still quiet.
"""

from __future__ import annotations

import threading
from typing import Any

from dbos import _dbos, _queue, _scheduler

HARDLY_EVER = 3600.0
"""Seconds between two polls for something that never exists."""
RECOVERY = 60.0
"""Seconds after a start in which DBOS resumes its workflows. Until then its queue is polled every second."""
RESTING = 60.0
"""Seconds between two polls of its queue after that: the recovery of workflows may have had to wait for the database."""


def slow_down() -> None:
    """Reduce the polling of DBOS. Call this before it is launched."""
    _scheduler._STARTUP_FAST_POLL_DURATION_SEC = 0.0
    _dbos.background_jobs_thread = _end_at_once  # type: ignore[attr-defined, assignment]
    _dbos.queue_thread = _serve_own_queue  # type: ignore[attr-defined, assignment]


def _end_at_once(_stop: threading.Event, _instance: Any) -> None:
    """Replaces a thread that ends delays and timeouts.

    That thread keeps a transaction open between two polls, and PostgreSQL is configured to end such a transaction after five
    seconds. With a longer interval, each poll would be an error in the log of PostgreSQL.
    """


def _serve_own_queue(stop: threading.Event, dbos: Any) -> None:
    """Replaces a thread that lists all queues every second, and the threads that it starts for each queue."""
    queue = dbos._registry.get_internal_queue()
    queue._polling_interval_sec = _queue.DEFAULT_QUEUE_POLLING_INTERVAL_SEC  # the queue outlives the engine in this process
    later = threading.Timer(RECOVERY, _rest, (queue,))
    later.daemon = True
    later.start()
    try:
        _queue.queue_worker_thread(stop, dbos, queue)
    finally:
        later.cancel()


def _rest(queue: Any) -> None:
    queue._polling_interval_sec = RESTING
