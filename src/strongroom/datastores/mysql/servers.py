"""Servers of MySQL: implements ``protocol.servers.Servers``."""

from strongroom.datastores.innodb.sizes import measure
from strongroom.datastores.mysql.server.config import build_command, configure, initialize
from strongroom.datastores.mysql.server.examine import examine
from strongroom.datastores.mysql.server.facts import check_data, read_facts
from strongroom.datastores.toolkit.lineage import ensure_lineage

__all__ = ["build_command", "check_data", "configure", "ensure_lineage", "examine", "initialize", "measure", "read_facts"]
