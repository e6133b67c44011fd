"""The progress of jobs on stderr: a live bar on a terminal, otherwise plain lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console
from rich.text import Text

from strongroom.cli.output.remarks import Remarks, note, warn
from strongroom.cli.output.values import escape, format_duration, format_ratio, format_size
from strongroom.errors import Cancelled, JobError

if TYPE_CHECKING:
    from strongroom.cli.connection.client import Client

INTERVAL = 5.0
"""Seconds between two lines in one phase."""


class Meter:
    """Rate and remaining time of the current phase, from the last seconds."""

    WINDOW = 10.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, done: int, now: float) -> None:
        """Record ``done`` bytes at ``now`` on a monotonic clock. A smaller number means a new attempt."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > self.WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Bytes per second, or None if not yet known."""
        if len(self._seen) < 2 or self._seen[-1][0] == self._seen[0][0]:
            return None
        return (self._seen[-1][1] - self._seen[0][1]) / (self._seen[-1][0] - self._seen[0][0])

    def left(self, total: int | None) -> float | None:
        """Remaining seconds until ``total``, or None."""
        done = self._seen[-1][1] if self._seen else 0
        return (total - done) / self.rate if total and total >= done and self.rate else None


def describe_phase(job: dict[str, Any]) -> str:
    """The phase of the job, or a substitute if it has none."""
    return job["phase"] or ("waiting in the queue" if job["status"] == "queued" else "starting")


def format_figures(job: dict[str, Any], meter: Meter, width: int | None = None) -> str:
    """``120.0 MiB of 300.0 MiB, 2 s left, 110.0 MiB/s, stored 40.0 MiB (3.0x)``: all known values that fit."""
    done, total, stored = job["done"], job["total"], job["stored"]
    verb = "stored" if job["kind"] == "backup" else "fetched"
    parts = []
    if job["kind"].startswith("cluster_") and job["message"]:
        parts.append(job["message"])
    if done:
        parts.append(f"{format_size(done)} of {format_size(total)}" if total and total >= done else format_size(done))
    if meter.rate:
        if (left := meter.left(total)) is not None:
            parts.append(f"{format_duration(left)} left")
        parts.append(f"{format_size(meter.rate)}/s")
    if stored:
        parts.append(f"{verb} {format_size(stored)} ({format_ratio(done, stored)})" if done else f"{verb} {format_size(stored)}")
    while len(parts) > 1 and width is not None and len(", ".join(parts)) > width:
        parts.pop()
    return ", ".join(parts)


class Reporter(Protocol):
    """Shows the progress of a job."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *exception: object) -> None:
        """Restore the screen."""

    def show(self, job: dict[str, Any]) -> None:
        """Show a new view of the job."""


class Lines:
    """Prints a line at the start of each phase, and every few seconds."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._said = 0.0
        self._meter = Meter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return

    def show(self, job: dict[str, Any]) -> None:
        now = time.monotonic()
        phase = describe_phase(job)
        new = phase != self._phase
        if new:
            self._phase, self._meter = phase, Meter()
        self._meter.add(job["done"], now)
        if job["finished"] is None and (new or now - self._said >= INTERVAL):
            self._said = now
            note(": ".join(filter(None, [phase, format_figures(job, self._meter)])))
        if job["status"] == "succeeded" and job.get("seconds") is not None:
            note(f"done in {format_duration(job['seconds'])}")


class Bar:
    """A live line; finished phases remain above it."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # loaded only if shown

        bar = 24 if console.width >= 110 else 10
        self._taken = bar + 6  # with the spinner and the gaps
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("waiting", total=None, figures="")
        self._phase: str | None = None
        self._last: dict[str, Any] = {}
        self._began = time.monotonic()
        self._meter = Meter()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, job: dict[str, Any]) -> None:
        now = time.monotonic()
        phase = describe_phase(job)
        if phase != self._phase:
            self._close_phase(now)
            self._phase, self._began, self._meter = phase, now, Meter()
        self._last = job
        self._meter.add(job["done"], now)
        total = job["total"] if job["total"] and job["total"] >= job["done"] else None
        width = self._progress.console.width - self._taken - len(escape(phase))
        self._progress.update(
            self._task,
            description=escape(phase),
            completed=job["done"],
            total=total,
            figures=format_figures(job, self._meter, width),
        )
        if job["finished"] is not None and job["status"] == "succeeded":
            self._close_phase(now)

    def _close_phase(self, now: float) -> None:
        if self._phase is None or not self._last["phase"] or self._phase == "done":
            return
        self._progress.console.print(
            Text.assemble(("✓ ", "green"), f"{escape(self._phase)}: {format_duration(now - self._began)}")
        )


def choose_reporter() -> Reporter:
    """Choose the reporter for stderr."""
    if Remarks.quiet:
        return Lines()
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    return Bar(console) if sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal else Lines()


_LOST = "The service is unreachable; waiting for it. Running jobs continue on the hosts."


def follow(client: Client, job_id: str) -> dict[str, Any]:
    """Show the job until it ends, and return its last view. Raises JobError if it failed or was cancelled.

    Ctrl-C does not cancel the job; it prints how to continue, and raises KeyboardInterrupt.
    """
    job: dict[str, Any] = {}
    try:
        with choose_reporter() as screen:
            for job in client.watch(job_id, lambda: note(_LOST)):
                screen.show(job)
    except KeyboardInterrupt:
        note(
            f"No longer following; job {job_id} continues.\n"
            f"`strongroom job follow {job_id}` follows it again, `strongroom job cancel {job_id}` cancels it."
        )
        raise
    if job["status"] == "succeeded":
        for warning in job["output"].get("warnings", []):
            warn(f"Warning: {warning}")
        return job
    fault = job["fault"] or {}
    what = f"{job['kind']} job {job_id}"
    if job["status"] == "cancelled":
        raise Cancelled(f"{what} was cancelled", remedy=fault.get("remedy") or "")
    raise JobError(fault.get("message") or f"{what} failed", remedy=fault.get("remedy") or f"See `strongroom job show {job_id}`.")
