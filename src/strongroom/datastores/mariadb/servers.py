"""Servers of MariaDB: implements ``protocol.servers.Servers``."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.datastores.innodb import witness
from strongroom.datastores.innodb.sizes import measure
from strongroom.datastores.mariadb.galera.lineage import ensure_lineage
from strongroom.datastores.mariadb.server import facts
from strongroom.datastores.mariadb.server.config import build_command, configure, initialize
from strongroom.datastores.mariadb.server.facts import check_data, read_facts
from strongroom.datastores.protocol.servers import Finding, Server

__all__ = ["build_command", "check_data", "configure", "ensure_lineage", "examine", "initialize", "measure", "read_facts"]


def examine(server: Server) -> Iterator[Finding]:
    """See ``Servers.examine``."""
    yield from facts.examine(server)
    yield from witness.examine_witness(server)
