"""What the agent needs of a runtime: the way in which a database server runs on this host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.agent.models import ServerDefinition, Start
from strongroom.agent.registry import ServerRecord
from strongroom.system.processes import Process


@dataclass(frozen=True, slots=True)
class Launch:
    """What was started: the server, or a command that starts the server and ends."""

    process: Process
    is_command: bool = False


class Runtime(Protocol):
    """Finds, starts and stops servers. The caller does one thing at a time to a server, and waits for it."""

    can_kill: bool
    """Whether the agent may kill a server that does not stop."""

    def define(self, server_id: str, definition: ServerDefinition, known: ServerRecord | None) -> ServerRecord:
        """Make a server known, with its paths and address, or apply a changed definition to a ``known`` one. Idempotent.

        Raises Conflict, ConfigurationError, ServerFailed, VersionMismatch, InvalidRequest.
        """

    def find_process(self, record: ServerRecord) -> Process | None:
        """The process that serves the data directory, healthy or not."""

    def recover_process(self, record: ServerRecord) -> None:
        """Record a process that runs, but that the agent could not record because it died."""

    def start(self, record: ServerRecord, start: Start) -> Launch:
        """Start a server that does not run, and do not wait. Raises ServerFailed, ConfigurationError, Conflict."""

    def stop(self, record: ServerRecord) -> Process | None:
        """Make a running server stop, and do not wait. Returns the command that stops it, if any. Raises ServerFailed."""

    def kill(self, record: ServerRecord) -> None:
        """Kill everything that was started for the server. Raises ServerFailed if that is not possible."""

    def require_movable(self, record: ServerRecord) -> None:
        """Raise ConfigurationError if the data directory cannot be replaced while the server is stopped."""
