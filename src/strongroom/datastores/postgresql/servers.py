"""Servers of PostgreSQL: implements ``protocol.servers.Servers``."""

from strongroom.datastores.postgresql.server.config import build_command, configure, initialize
from strongroom.datastores.postgresql.server.examine import examine
from strongroom.datastores.postgresql.server.facts import check_data, measure, read_facts
from strongroom.datastores.toolkit.lineage import ensure_lineage

__all__ = ["build_command", "check_data", "configure", "ensure_lineage", "examine", "initialize", "measure", "read_facts"]
