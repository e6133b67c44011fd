"""The agents of all hosts, and what is known of them: which answer, which servers nobody manages."""

from __future__ import annotations

from collections.abc import Callable

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.errors import NotFound
from strongroom.flows.hosts.presence import Presence


class Agents:
    """Clients of agents by the names of their hosts. Safe with threads."""

    def __init__(self, embedded: dict[str, Callable[[], AgentClient]], lost_after: float) -> None:
        """``embedded``: the agents of this process. Others are added with ``connect``."""
        self._clients = dict(embedded)
        self._embedded = frozenset(embedded)
        self.presence = Presence(lost_after)
        self.urls: dict[str, str] = {}
        """Host → URL of its agent; empty until it has joined."""
        self.unknown: dict[str, list[ServerView]] = {}
        """Host → servers that its agent has and no instance stands for, as last seen."""
        self.lost_keys = ""
        """What happened to the keys of this control plane, if it had to make new ones though hosts know the previous ones."""
        self.ask: Callable[[], None] = _ask_nobody
        """Set by the monitor: asks all hosts for their facts, and waits for those that answer soon. Not for the event loop."""
        self.ask_server: Callable[[str, str], None] = _ask_no_server
        """Set by the monitor: asks the agent of a host for the state of a server now. Not for the event loop."""
        self.on_host: Callable[[str, int | None], None] = ignore_host
        """Set by the engine: called for every host that joins, with its limit of jobs once that is known."""

    @property
    def names(self) -> list[str]:
        """The hosts that have an agent."""
        return list(self._clients)

    def embedded(self, host: str) -> bool:
        """Whether the agent of the host is in this process."""
        return host in self._embedded

    def client(self, host: str) -> AgentClient:
        """A client of the agent on ``host``; cheap: make one where it is used. Raises NotFound."""
        try:
            return self._clients[host]()
        except KeyError:
            raise NotFound(f"host {host} has no agent", remedy="See `strongroom host list`.") from None

    def connect(self, host: str, client: Callable[[], AgentClient], url: str = "") -> None:
        """From now on the host has this agent."""
        self._clients[host] = client
        self.urls[host] = url
        self.presence.expect(host)
        self.on_host(host, None)

    def disconnect(self, host: str) -> None:
        """The host has no agent any more."""
        self._clients.pop(host, None)
        self.urls.pop(host, None)
        self.presence.forget(host)
        self.unknown.pop(host, None)


def ignore_host(_host: str, _limit: int | None) -> None:
    """While the engine does not run: it reads the limits when it starts."""


def _ask_nobody() -> None:
    """While the monitor does not run."""


def _ask_no_server(_host: str, _server: str) -> None:
    """While the monitor does not run."""
