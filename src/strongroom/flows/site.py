"""The parts of the service that requests and steps work with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from strongroom.agent.client import AgentClient
from strongroom.catalog import Catalog, Job
from strongroom.flows.hosts.agents import Agents
from strongroom.flows.recovery.memory import LogMemory
from strongroom.flows.retention.memory import Watch
from strongroom.flows.secrets import Secrets
from strongroom.flows.stores import Stores
from strongroom.settings import Settings
from strongroom.storage import Store


class Queue:
    """Notifies the launcher of new jobs. A job is queued as soon as its row is committed."""

    def __init__(self) -> None:
        self.start: Callable[[Job], None] = _refuse
        """Set by the engine. The job runs at least once, even after crashes."""


SCHEDULES = "schedules"
"""Name of the chore that begins the runs of policies."""
LOG_ARCHIVES = "log-archives"
"""Name of the chore that keeps the log archives of policies running."""


class Alarm:
    """Wakes a chore whose work is due earlier than it expects. From any thread."""

    def __init__(self) -> None:
        self.wake: Callable[[str], None] = _ignore
        """Takes the name of the chore. Set by the service when its chores run."""


@dataclass(frozen=True, slots=True)
class Site:
    """Settings, catalog and the parts that use them. A function that needs only one part takes only that."""

    settings: Settings
    catalog: Catalog
    stores: Stores
    agents: Agents
    secrets: Secrets
    queue: Queue = field(default_factory=Queue)
    alarm: Alarm = field(default_factory=Alarm)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a handler of the API reads the catalog on the event loop."""
    watch: Watch = field(default_factory=Watch)
    """What retention remembers."""
    logs: LogMemory = field(default_factory=LogMemory)
    """The records of log archives."""
    token: SecretStr | None = None
    """The caller's token, if stores are accessed with the tokens of users."""

    def on_behalf(self, token: SecretStr | None) -> Site:
        """The site for a caller and the jobs that it starts: it accesses stores with this token, if the settings require that."""
        if not self.settings.storage.by_token:
            return self
        return replace(self, stores=self.stores.with_token(token), token=token)

    def for_job(self, job_id: str) -> Site:
        """The site on behalf of the user who requested the job."""
        return self.on_behalf(self.secrets.held(job_id))

    def follow_policies(self) -> None:
        """Wake the chores that do what policies demand: a policy, a database or a job has changed."""
        self.alarm.wake(SCHEDULES)
        self.alarm.wake(LOG_ARCHIVES)

    def start(self, job: Job) -> None:
        """Start a job whose row is committed. Its steps get the caller's token, from memory."""
        if self.token is not None:
            self.secrets.hold(job.id, self.token)
        self.queue.start(job)


def open_site(settings: Settings, catalog: Catalog, store: Store, embedded: dict[str, Callable[[], AgentClient]]) -> Site:
    """Open the site of a service. ``store``: the store of all projects; ``embedded``: the agents of this process, by host."""
    return Site(
        settings,
        catalog,
        Stores(settings, catalog, store),
        Agents(embedded, settings.hosts.lost_after),
        Secrets(settings.service.data_dir / "secrets"),
    )


def _refuse(job: Job) -> None:
    raise RuntimeError(f"the engine is not running; job {job.id} stays queued")


def _ignore(_chore: str) -> None:
    """No chore runs: what is due is found when they start."""
