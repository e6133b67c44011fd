"""What a user or a policy chooses for a new backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from strongroom.flows.backups.chains import ChainLimit, no_limit
from strongroom.flows.jobs import Scheduled
from strongroom.flows.records import check_container, check_name


@dataclass(frozen=True, kw_only=True)
class BackupOptions:
    """The options of a backup of an instance or a cluster."""

    name: str
    description: str | None = None
    container: str | None = None
    incremental: bool = False
    """Base it on the newest usable backup, if there is one."""
    parent: str | None = None
    """Of an instance: id or name of the backup on which to base an incremental."""
    node: str | None = None
    """Of a cluster: the node to back up. By default the node of the chain, or the one with the fewest writes."""
    desync: bool = False
    """Of a cluster: exclude the node from flow control during the backup."""
    codec: str | None = None
    damaged_pages: Literal["fail", "warn"] = "warn"
    limit: ChainLimit = no_limit
    """Explains why a chain must not become longer."""
    scheduled: Scheduled | None = None
    """The run of a policy that takes it."""

    def check(self) -> None:
        """Raises InvalidRequest if the name of the backup or of its container is not allowed."""
        check_name(self.name, "backup")
        if self.container is not None:
            check_container(self.container)
