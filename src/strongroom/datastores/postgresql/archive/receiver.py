"""Receives the WAL of a server and appends it to its log archive. Where to continue is what the store holds.

Only what is stored is confirmed to the server, which keeps the rest: so nothing is spooled here. A slow store never makes the
server wait: when memory is full, or the server stops, the connection is closed.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strongroom.archive import LIMIT, MAX_AGE, Head, LogLocation, Seam, SegmentWriter, begin_series, list_series, load_head
from strongroom.datastores.postgresql.archive.continuation import (
    Begin,
    Continue,
    Follow,
    SeriesDetails,
    history_of,
    plan_continuation,
)
from strongroom.datastores.postgresql.archive.replication import Replication, WalRemoved
from strongroom.datastores.postgresql.archive.stream import Diverged, WalStream
from strongroom.datastores.postgresql.files.lsn import format_lsn, parse_lsn
from strongroom.datastores.postgresql.files.wal import History, Unfit
from strongroom.errors import LogTaken, ServerFailed, StorageError
from strongroom.sections import Artifact
from strongroom.storage import Store

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """What a receiver reads and where it writes."""

    connect: Callable[[], Replication]
    slot: str
    store: Store
    log: LogLocation
    settings: Artifact
    recipients: Sequence[str] = ()
    server_version: str = ""
    find_lineage: Callable[[], str] = str
    """The id of the data directory: a restore in place replaces it while the receiver runs."""
    limit: int = LIMIT
    max_age: float = MAX_AGE


class WalReceiver:
    """Runs in the foreground until ``stop``."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped = False
        self._head: Head | None = None
        self._gap: Begin | None = None
        """Why the archive cannot continue where it ends."""
        self.trouble: ServerFailed | StorageError | None = None
        """Why nothing is received at present; None while it works."""
        self.complete_until: int | None = None
        """Everything that the server wrote until then is stored. In microseconds, by the clock of the server."""
        self.warnings: tuple[str, ...] = ()
        """What the owner of the server should change, or prevent."""
        self._lasting_warnings: tuple[str, ...] = ()
        """Those that do not end when the archive is complete."""

    @property
    def durable(self) -> Head | None:
        """Where the archive ends in the store; None before the first series."""
        return self._head

    def stop(self) -> None:
        """Make ``run`` store what it has and return. From any thread, and from a signal handler."""
        self._stopped = True
        self._notify()

    def close(self) -> None:
        """Release what the receiver holds. Call it after ``run`` has returned."""
        for end in self._wake:
            os.close(end)

    def run(self) -> None:
        """Receive until ``stop``; if the server or the store fails, try again.

        Raises LogTaken if another process writes the same archive, ArtifactError if the end of the archive is damaged.
        """
        pause = _FIRST_PAUSE
        while not self._stopped:
            began = time.monotonic()
            try:
                with contextlib.closing(self._target.connect()) as replication:
                    self._follow(replication)
                self.trouble = None
            except LogTaken:
                raise
            except (ServerFailed, StorageError) as error:
                self.trouble = error
            if self._stopped:
                return
            pause = _FIRST_PAUSE if time.monotonic() - began > _LONGEST_PAUSE else min(_LONGEST_PAUSE, pause * 2)
            select.select([self._wake[0]], [], [], pause)
            self._drain()

    def _notify(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake[1], b"!")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake[0], 4096)

    def _follow(self, replication: Replication) -> None:
        """Stream over one connection: timeline after timeline, until it ends."""
        identity = replication.identify()
        text = replication.read_history(identity.timeline)
        try:
            history = History.parse(identity.timeline, text)
        except Unfit as error:
            raise ServerFailed(f"the server sent a history file that cannot be read: {error}") from error
        kept = replication.keep_wal(self._target.slot)
        size = replication.file_size()
        limit = replication.keep_limit()
        self._lasting_warnings = warn_about_limit(limit, 0)
        self.warnings = warn_about_limit(limit, identity.position - kept)
        series = list_series(self._target.store, self._target.log)
        self._head = load_head(self._target.store, series[-1]) if series else None
        plan = self._gap or plan_continuation(self._head, identity, history, text)
        while not self._stopped:
            timeline, head = self._prepare(replication, plan, identity.system, history, kept, size)
            try:
                ended = self._stream(replication, head, timeline, history, size)
            except Diverged as error:
                self._gap = Begin("restore", str(error))  # after another connect: a stream cannot be moved
                raise ServerFailed(str(error)) from error
            except WalRemoved as error:
                self._gap = Begin("lost", error.message)
                raise
            if ended is None:
                return
            self._head = load_head(self._target.store, head.series.location)
            plan = Follow(ended[0], ended[1], Seam(series=head.series.location.number, position=format_lsn(ended[1])))
            if ended[0] not in (history.current, *(ancestor for ancestor, _ in history.ancestors)):
                history = History.parse(ended[0], replication.read_history(ended[0]))  # it was promoted meanwhile

    def _prepare(
        self, replication: Replication, plan: Continue | Follow | Begin, system: int, history: History, kept: int, size: int
    ) -> tuple[int, Head]:
        if isinstance(plan, Continue):
            assert self._head is not None
            return plan.timeline, self._head
        if isinstance(plan, Follow):
            start = plan.position // size * size
            reason = f"the server was promoted to timeline {plan.timeline}"
            return plan.timeline, self._create(replication, "timeline", reason, plan.timeline, start, system, size, plan.seam)
        timeline = history.at(kept)
        head = self._create(replication, plan.began, plan.reason, timeline, kept // size * size, system, size, None)
        self._gap = None
        return timeline, head

    def _create(
        self,
        replication: Replication,
        began: str,
        reason: str,
        timeline: int,
        start: int,
        system: int,
        size: int,
        seam: Seam | None,
    ) -> Head:
        details = SeriesDetails(system=system, timeline=timeline, file_size=size, history=replication.read_history(timeline))
        self._head = begin_series(
            self._target.store,
            self._target.log,
            datastore="postgresql",
            server_version=self._target.server_version,
            identity=f"{system}/{timeline}",
            lineage=self._target.find_lineage(),
            began=began,
            reason=reason[:1000],
            begin=format_lsn(start),
            started=time.time_ns() // 1000,
            continues=seam,
            details=details.model_dump_json(),
        )
        return self._head

    def _stream(self, replication: Replication, head: Head, timeline: int, history: History, size: int) -> tuple[int, int] | None:
        """Append one timeline; where it ended and what follows, or None if the receiver was stopped."""
        target = self._target
        details = SeriesDetails.of(head.series)
        start = parse_lsn(head.position) // size * size
        replication.start(target.slot, timeline, start)
        self.trouble = None
        with SegmentWriter(
            target.store,
            head,
            target.settings,
            target.recipients,
            limit=target.limit,
            max_age=target.max_age,
            on_stored=self._notify,
        ) as writer:
            stream = WalStream(replication, writer, head, size, details.system, history_of(history, timeline))
            try:
                while True:
                    ended = stream.advance()
                    self._head = writer.durable
                    if stream.complete_until is not None and stream.complete_until != self.complete_until:
                        self.complete_until = stream.complete_until
                        self.warnings = self._lasting_warnings
                    if ended is not None:
                        return ended.timeline, ended.position
                    if self._stopped:
                        stream.finish()
                        return None
                    self.trouble = writer.trouble
                    select.select([replication.socket, self._wake[0]], [], [], stream.pause())
                    self._drain()
            except BaseException:
                replication.close()  # first: the writer may wait for the store, and the server must not
                raise
            finally:
                self._head = writer.durable


def warn_about_limit(limit: int | None, kept: int) -> tuple[str, ...]:
    """What the owner of a server should know that keeps ``kept`` bytes of WAL for the archive, up to ``limit`` (None: any)."""
    if limit is None:
        return (
            "max_slot_wal_keep_size is not set: while the archive cannot be written, the server keeps WAL until its disk is "
            "full. Set a limit: ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'; SELECT pg_reload_conf();",
        )
    if kept * 2 > limit:
        return (
            f"the server keeps {kept >> 20} MB of WAL that is not archived; beyond {limit >> 20} MB (max_slot_wal_keep_size) it "
            "removes WAL, and the archive has a gap",
        )
    return ()
