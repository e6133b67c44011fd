"""A receiver of WAL, in a thread or as a process that can be killed: ``python -m support.wal_receiver SOCKET STORE``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from strongroom.archive import LogLocation
from strongroom.datastores.postgresql.archive.receiver import Target, WalReceiver
from strongroom.datastores.postgresql.archive.replication import Replication
from strongroom.datastores.postgresql.files.lsn import parse_lsn
from strongroom.sections import Artifact, Storage
from strongroom.storage import Store, open_store

LOG = LogLocation(container="box", database="shop", source="shop")
SLOT = "strongroom_log"


def target(run: Path, store: Store, log: LogLocation = LOG, **options: float) -> Target:
    """For the server whose socket is in ``run``; small segments, stored after a short time."""
    chosen: dict[str, float] = {"limit": 300_000, "max_age": 0.2, **options}
    return Target(
        connect=lambda: Replication({"host": str(run), "user": "postgres"}),
        slot=SLOT,
        store=store,
        log=log,
        settings=Artifact(),
        limit=int(chosen["limit"]),
        max_age=chosen["max_age"],
    )


class Running:
    """A receiver in a thread, until the end of the block."""

    def __init__(self, target: Target) -> None:
        self.receiver = WalReceiver(target)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.receiver.run()
        except BaseException as error:
            self.error = error

    def wait_until(self, done: Callable[[], bool], timeout: float = 90) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < deadline, f"trouble: {self.receiver.trouble}, stored: {self.position:X}"
            time.sleep(0.05)

    def wait_for(self, position: str) -> None:
        """Until the archive has everything up to a position."""
        self.wait_until(lambda: self.position >= parse_lsn(position))

    @property
    def position(self) -> int:
        head = self.receiver.durable
        return parse_lsn(head.position) if head else 0

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.receiver.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.receiver.close()


if __name__ == "__main__":
    WalReceiver(target(Path(sys.argv[1]), open_store(Storage(), Path(sys.argv[2])))).run()
