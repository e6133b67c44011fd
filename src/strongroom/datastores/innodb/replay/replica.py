"""A private server that applies batches of the log, as a replica does."""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom.datastores.innodb.replay.batches import Batch
from strongroom.datastores.toolkit.tools import hide_secrets
from strongroom.errors import ToolFailed

SERVER_ID = 4_294_967_291
"""Of private servers. A server skips events with its own id, unless ``replicate_same_server_id`` is on."""
_IDLE = 2.0
"""Seconds after which an idle applier that has not applied everything is an error."""
_NAME = re.compile(r"relay\.(\d{6,})")


@dataclass(frozen=True, slots=True)
class Words:
    """Statements that have other words in other versions. ``change`` is followed by the name of a file and an offset."""

    change: str
    start: str
    stop: str
    reset: str
    status: str
    running: str
    """Column of the status that says whether the applier runs."""
    state: str
    """Column of the status that says what the applier does."""


class Replica(ABC):
    """The server runs from ``start`` to ``end`` or ``abort``. Relay logs are in ``folder``, which is new for each."""

    words: Words

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: Path | None = None
        self._attached = False
        self._idle_since: float | None = None

    @abstractmethod
    def start(self) -> None:
        """Raises ServerFailed, ToolFailed."""

    @abstractmethod
    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a statement. Raises ServerFailed, ToolFailed."""

    @abstractmethod
    def describe(self, statement: str) -> dict[str, Any]:
        """The first row of a statement by column; empty if there is none."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Process id of the server."""

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """False if it has ended, or ends now."""

    @abstractmethod
    def prepare(self, *, again: bool) -> None:
        """Take the GTIDs of the data out of the way. ``again``: private GTIDs are there, and stay."""

    @abstractmethod
    def count_applied(self) -> int:
        """The number of the last transaction that was applied."""

    @abstractmethod
    def has_exact_position(self) -> bool:
        """Whether the number of the last transaction is committed together with its changes."""

    @abstractmethod
    def keep_state(self, gtids: str, known: Sequence[str]) -> str:
        """Set the GTIDs that the data has at the end. Returns what was set. ``known`` are all that the archive knows."""

    @abstractmethod
    def end(self) -> None:
        """Shut it down cleanly. Nothing of it is left in the data."""

    @abstractmethod
    def abort(self) -> None:
        """Kill it. May be called at any time, and twice."""

    def load(self, batch: Batch, first: int) -> None:
        """Let the applier begin at transaction ``first`` of the batch."""
        numbers = [int(found[1]) for path in self._folder.iterdir() if (found := _NAME.fullmatch(path.name))]
        path = self._folder / f"relay.{max(numbers, default=0) + 1:06d}"
        batch.path.rename(path)
        batch.path = self._loaded = path
        with (self._folder / "relay.index").open("a", encoding="utf-8") as index:
            index.write(f"{path}\n")
        if self._attached:
            self.query("FLUSH RELAY LOGS")  # the server begins another file, so that this one has an end
        self.query(f"{self.words.change}'{path.name}', RELAY_LOG_POS = {batch.offsets[first - batch.first]}")
        self._attached = True
        self.query(self.words.start)

    def unload(self) -> None:
        """Stop the applier, and free the space of its batch. Temporary tables stay."""
        self.query(self.words.stop)
        assert self._loaded is not None
        os.truncate(self._loaded, 0)  # the server removes it, with the others
        self._loaded = None

    def require_applying(self, batch: Batch) -> None:
        """Raise ToolFailed if the applier has stopped, or waits for more than the batch has."""
        status = self.describe(self.words.status)
        if status.get(self.words.running) != "Yes":
            text = status.get("Last_SQL_Error") or "it reports no error"
            raise ToolFailed(
                f"the log cannot be applied to the restored data: {hide_secrets(str(text))} ({self._describe_place(batch)})",
                remedy="The data does not match the log: restore from another backup, or to a moment before.",
            )
        if not self.is_idle(status) or self.count_applied() == batch.last:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > _IDLE:
            raise ToolFailed(
                f"the private server skipped a part of the log: it is idle at {self._describe_place(batch)}",
                remedy="Report this as a defect, with the log of the job.",
            )

    def is_idle(self, status: dict[str, Any]) -> bool:
        """Whether the applier has read everything, and has nothing to do."""
        return "read all relay log" in str(status.get(self.words.state))

    def _describe_place(self, batch: Batch) -> str:
        return f"transaction {self.count_applied() + 1}, in {batch.first} to {batch.last}"

    def detach(self) -> None:
        """Forget the source."""
        if self._attached:
            self.query(self.words.reset)
            self._attached = False
