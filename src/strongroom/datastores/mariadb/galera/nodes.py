"""The nodes of Galera clusters: implements ``protocol.clusters.Nodes``."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.datastores.mariadb.galera import config, files
from strongroom.datastores.mariadb.galera.running import view
from strongroom.datastores.mariadb.galera.stopped import find_position, seed, start_options
from strongroom.datastores.protocol.servers import Server

__all__ = ["find_position", "is_receiving", "list_ports", "seed", "start_options", "view"]


def is_receiving(server: Server) -> bool:
    """See ``Nodes.is_receiving``."""
    return files.is_receiving(server.data_dir)


def list_ports() -> Sequence[int]:
    """See ``Nodes.list_ports``."""
    return (config.GROUP_PORT, config.IST_PORT, config.SST_PORT)
