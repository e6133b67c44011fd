"""What every request and every step needs: settings, catalog, store, agents, and a way to start a flow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.artifact import load_identities
from strongroom.catalog import Backup, Catalog, Job
from strongroom.errors import NotFound
from strongroom.flows.hosts.presence import Presence
from strongroom.flows.secrets import Secrets
from strongroom.sections import Storage
from strongroom.settings import Settings
from strongroom.storage import Store, open_store


class Control:
    """One a service. ``start`` is set by the engine: it makes a queued job run, at least once, whatever dies meanwhile."""

    def __init__(self, settings: Settings, catalog: Catalog, store: Store, agents: dict[str, Callable[[], AgentClient]]) -> None:
        """``agents``: those of this process, by the names of their hosts. Others come by ``connect``."""
        self.settings = settings
        self.catalog = catalog
        self.store = store
        self._stores: dict[str, Store] = {}
        self._token: SecretStr | None = None
        self._lock = threading.Lock()
        self.secrets = Secrets(settings.service.data_dir / "secrets")
        self.turn = asyncio.Lock()
        """Held by who looks into the catalog from the event loop."""
        self.start: Callable[[Job], None] = _not_running
        self._agents = dict(agents)
        self._embedded = frozenset(agents)
        self.presence = Presence(settings.hosts.lost_after)
        self.ask_hosts: Callable[[], None] = lambda: None
        """Set by the monitor: asks all hosts for their facts, and waits for those that answer soon. Not for the event loop."""
        self.unknown: dict[str, list[ServerView]] = {}
        """By host: servers that its agent has and no instance stands for, as last seen."""
        self.lost_keys = ""
        """What became of the keys of this control plane, when it had to make new ones though hosts know the old."""
        self.on_host: Callable[[str, int | None], None] = nobody_cares
        """Set by the engine: told of every host that joins, and how many jobs it takes at a time, once that is known."""

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts that have an agent."""
        return list(self._agents)

    def embedded(self, host: str) -> bool:
        """Whether the agent of the host is of this process."""
        return host in self._embedded

    def connect(self, host: str, agent: Callable[[], AgentClient]) -> None:
        """From now on the host has this agent."""
        self._agents[host] = agent
        self.presence.expect(host)
        self.on_host(host, None)

    def disconnect(self, host: str) -> None:
        """The host has no agent any more."""
        self._agents.pop(host, None)
        self.presence.forget(host)
        self.unknown.pop(host, None)

    def agent(self, host: str) -> AgentClient:
        """A client of the agent on ``host``; cheap, to be made anew where it is used. Raises NotFound."""
        try:
            return self._agents[host]()
        except KeyError:
            raise NotFound(f"host {host} has no agent", remedy="See `strongroom host list`.") from None

    def on_behalf(self, token: SecretStr | None) -> Control:
        """The same for somebody who asks, and for the jobs they start, if stores are used with the tokens of those who ask."""
        if not self.settings.storage.by_token:
            return self
        mine = copy(self)
        mine._token, mine._stores = token, {}

        def start(job: Job) -> None:
            if token is not None:
                self.secrets.hold(job.id, token)
            self.start(job)

        mine.start = start
        return mine

    def for_job(self, job_id: str) -> Control:
        """The same on behalf of whoever asked for the job."""
        return self.on_behalf(self.secrets.held(job_id))

    def storage_of(self, project: str) -> Storage:
        """Settings of the store that holds the backups of ``project``."""
        return self.settings.storage.of_project(project, self._token)

    def store_of(self, project: str) -> Store:
        """The store that holds the backups of ``project``: ``store`` for all, unless each project has its own."""
        if not self.settings.storage.by_project:
            return self.store
        with self._lock:
            if project not in self._stores:
                self._stores[project] = open_store(self.storage_of(project))
            return self._stores[project]

    def stores(self) -> Iterator[Store]:
        """Every store that holds a backup of this service, or may; none when there is nobody's token to use them with."""
        if self.settings.storage.by_token:
            return
        if not self.settings.storage.by_project:
            yield self.store
            return
        with self.catalog.read() as session:
            projects = list(session.scalars(select(Backup.project).distinct()))
        yield from map(self.store_of, projects)

    def identities(self) -> list[str]:
        """age identities that restores on behalf of this service may use. Raises ConfigurationError."""
        paths: list[Path] = self.settings.encryption.identity_files
        return load_identities(paths)


def nobody_cares(_host: str, _limit: int | None) -> None:
    """While the engine does not run: it looks for itself when it starts."""


def _not_running(job: Job) -> None:
    raise RuntimeError(f"the engine does not run; job {job.id} stays queued")
