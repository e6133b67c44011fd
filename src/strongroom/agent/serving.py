"""What every process that listens needs: a state directory, a bound socket, a server that does not handle signals."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uvicorn.config import Config
from uvicorn.server import Server as BaseServer

from strongroom.errors import ConfigurationError


def prepare_data_dir(path: Path) -> None:
    """Make the state directory. Other users may traverse it, because database servers run as them, but not list it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711)
    except OSError as error:
        raise ConfigurationError(
            f"cannot use data directory {path}: {error.strerror}",
            remedy="Choose another with --data-dir, or make it for the user that runs strongroom.",
        ) from None
    if os.geteuid() == 0:
        for parent in path.resolve().parents:
            if not parent.stat().st_mode & 0o001:
                raise ConfigurationError(
                    f"database servers run as another user and cannot reach {path}: {parent} is closed to others",
                    remedy=f"Use a --data-dir outside of {parent}, or `chmod o+x {parent}`.",
                )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            remedy="Choose another --port.",
        ) from None
    return bound


TICK = 10
"""uvicorn counts tenths of a second."""


class Server(BaseServer):
    """uvicorn re-raises the signal that stopped it, which would end the process before the rest is stopped: no signals here.

    uvicorn also polls ten times a second whether it should exit. This server is notified, and wakes once a second to update the
    date of its replies.
    """

    def __init__(self, config: Config) -> None:
        self._notified = asyncio.Event()
        self._should_exit = False
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        """Whether it should end."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value:
            self._notified.set()

    async def main_loop(self) -> None:
        """Run until ``should_exit`` is set from the thread of its loop."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._notified.wait(), TICK / 10)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
