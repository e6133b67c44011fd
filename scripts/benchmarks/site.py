"""The environment of the cases: one service and one database, which is reused if the next case needs the same data."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from demo import Service

FLAVOR = "d3"
VOLUME = "40"


class Database(Protocol):
    """A server that Strongroom manages."""

    name: str


D = TypeVar("D", bound=Database)


class Site:
    """A service below ``place``, which is started when it is first needed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.service = Service(place)
        self._running = False
        self._database: tuple[object, Database] | None = None

    def ask(self, *words: str) -> Any:
        """Run a command of Strongroom. Returns its JSON output."""
        if not self._running:
            self.service.start()
            self._running = True
        return self.service.ask(*words)

    def database(self, key: object, make: Callable[[Site], D]) -> D:
        """The database with this key. It replaces the current one if that has another key."""
        if self._database is None or self._database[0] != key:
            self.drop()
            self._database = (key, make(self))
        return self._database[1]  # type: ignore[return-value]

    def drop(self) -> None:
        """Delete the database."""
        if self._database is not None:
            self.forget_backups()
            self.ask("instance", "delete", self._database[1].name, "--yes")
            self._database = None

    def forget_backups(self) -> None:
        """Delete every backup, including incrementals."""
        for backup in self.ask("backup", "list") if self._running else []:
            if backup["kind"] == "full":
                self.ask("backup", "delete", backup["id"], "--yes", "--cascade", "--now")

    @contextmanager
    def configured(self, **settings: str) -> Iterator[None]:
        """Run the service with other settings (environment variables without ``STRONGROOM_``). Databases keep running."""
        before = dict(self.service.environment)
        self._end()
        self.service.environment |= {f"STRONGROOM_{name}": value for name, value in settings.items()}
        try:
            yield
            self.forget_backups()
        finally:
            self._end()
            self.service.environment.clear()
            self.service.environment.update(before)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the service, because it restarts servers that are stopped. Databases keep running."""
        self._end()
        yield

    def close(self) -> None:
        """Stop everything."""
        self.service.stop()

    def _end(self) -> None:
        if self._running:
            os.kill(self.service.pid, signal.SIGTERM)
            deadline = time.monotonic() + 60
            with suppress(ProcessLookupError, ChildProcessError):
                while os.waitpid(self.service.pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                    time.sleep(0.02)
            self._running = False
