"""The database servers of this host."""

from strongroom.agent.servers.servers import Servers

__all__ = ["Servers"]
