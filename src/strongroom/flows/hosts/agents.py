"""Clients of the agents of all hosts, with the presence of the hosts and their unknown servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.errors import NotFound
from strongroom.flows.hosts.presence import Presence


class Agents:
    """Clients of agents by the names of their hosts. Thread-safe."""

    def __init__(self, embedded: dict[str, Callable[[], AgentClient]], lost_after: float) -> None:
        """``embedded``: the agents of this process. ``connect`` adds others."""
        self._clients = dict(embedded)
        self._embedded = frozenset(embedded)
        self.presence = Presence(lost_after)
        self.urls: dict[str, str] = {}
        """Host → URL of its agent; empty until it has joined."""
        self.unknown: dict[str, list[ServerView]] = {}
        """Host → servers of its agent without an instance, as last seen."""
        self.lost_keys = ""
        """An error message if the keys of this control plane, which hosts know, were lost and had to be replaced."""
        self.ask: Callable[[], None] = _ask_nobody
        """Set by the monitor: requests the facts of all hosts and waits a short time for them. Not on the event loop."""
        self.ask_server: Callable[[str, str], None] = _ask_no_server
        """Set by the monitor: asks the agent of a host for the current state of a server. Not on the event loop."""
        self.perform: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run
        """Set by the monitor: runs calls of agents on its event loop and returns their result. Not on the event loop."""
        self.on_host: Callable[[str, int | None], None] = ignore_host
        """Set by the engine: called for every host that joins, and with its limit of jobs as soon as that is known."""

    @property
    def names(self) -> list[str]:
        """The hosts that have an agent."""
        return list(self._clients)

    def embedded(self, host: str) -> bool:
        """Whether the agent of the host is in this process."""
        return host in self._embedded

    def client(self, host: str) -> AgentClient:
        """A client of the agent on ``host``. It is cheap: create one where you need it. Raises NotFound."""
        try:
            return self._clients[host]()
        except KeyError:
            raise NotFound(f"host {host} has no agent", remedy="See `strongroom host list`.") from None

    def connect(self, host: str, client: Callable[[], AgentClient], url: str = "") -> None:
        """Add the agent of a host."""
        self._clients[host] = client
        self.urls[host] = url
        self.presence.expect(host)
        self.on_host(host, None)

    def disconnect(self, host: str) -> None:
        """Remove the agent of a host."""
        self._clients.pop(host, None)
        self.urls.pop(host, None)
        self.presence.forget(host)
        self.unknown.pop(host, None)


def ignore_host(_host: str, _limit: int | None) -> None:
    """Used while the engine is not running: it reads the limits when it starts."""


def _ask_nobody() -> None:
    """Used while the monitor is not running."""


def _ask_no_server(_host: str, _server: str) -> None:
    """Used while the monitor is not running."""
