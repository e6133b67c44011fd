"""A datastore: its properties, and its parts by subject."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from strongroom.datastores.protocol.administration import Administration
from strongroom.datastores.protocol.backups import Backups
from strongroom.datastores.protocol.clusters import Clusters
from strongroom.datastores.protocol.logs import Logs
from strongroom.datastores.protocol.placement import Placement
from strongroom.datastores.protocol.profiles import Profiles
from strongroom.datastores.protocol.restores import Restores
from strongroom.datastores.protocol.servers import Servers
from strongroom.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a datastore can do, and what it needs."""

    incremental: bool
    log_apply: bool
    """Incrementals are applied to a prepared parent, one after the other."""
    side_files: frozenset[str] = frozenset()
    """Names of the small files of a stream that ``Backups.describe`` reads."""
    keep: frozenset[str] = frozenset()
    """Files of the stream whose content ``BackupSession.finish`` needs."""
    keep_end: frozenset[str] = frozenset()
    """Files of the stream of which ``BackupSession.finish`` needs the last 16 KiB."""
    log_names_tables: bool = True
    """The log contains the names of tables, not only their files."""
    aio_events: int = 0
    """Events of asynchronous I/O (fs.aio-max-nr) that a server with usual settings needs for its start."""


@dataclass(frozen=True, slots=True)
class Datastore:
    """One kind of database. Its parts are stateless."""

    name: str
    default_port: int
    default_user: str
    """OS user of the servers if the service runs as root."""
    socket_name: str
    """Name of a server's socket in its own directory."""
    stop_signal: signal.Signals
    """Shuts a server down cleanly, even if clients are connected."""
    capabilities: Capabilities
    servers: Servers
    backups: Backups
    restores: Restores
    profiles: Profiles
    placement: Placement
    administration: Administration | None = None
    """None for a datastore without SQL administration."""
    clusters: Clusters | None = None
    """None for a datastore without clusters."""
    logs: Logs | None = None
    """None for a datastore whose log cannot be archived."""

    def require_administration(self) -> Administration:
        """Raises Unsupported for a datastore without SQL administration."""
        if self.administration is None:
            raise Unsupported(
                f"{self.name} has no databases and users that can be managed", remedy="Use the tools of the database."
            )
        return self.administration

    def require_clusters(self) -> Clusters:
        """Raises Unsupported for a datastore without clusters."""
        if self.clusters is None:
            raise Unsupported(f"there are no Galera clusters of {self.name}", remedy="Use MariaDB for a cluster.")
        return self.clusters

    def require_logs(self) -> Logs:
        """Raises Unsupported for a datastore whose log cannot be archived."""
        if self.logs is None:
            raise Unsupported(f"the log of {self.name} cannot be archived", remedy="Take backups more often.")
        return self.logs
