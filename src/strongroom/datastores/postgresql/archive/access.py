"""Connects to a server to receive its WAL, with the account that Strongroom has there."""

from __future__ import annotations

from strongroom.datastores.postgresql.archive.replication import Replication
from strongroom.datastores.postgresql.server.account import acting_as_owner, find_account
from strongroom.datastores.postgresql.server.config import get_host, get_port
from strongroom.datastores.protocol.servers import Server


def connect_replication(server: Server) -> Replication:
    """A connection that can stream WAL. Raises ServerFailed, ConfigurationError."""
    us = find_account(server)
    parameters: dict[str, str | int] = {"host": get_host(server), "port": get_port(server), "user": us.user}
    if us.password is not None:
        parameters["password"] = us.password
    with acting_as_owner(server):
        return Replication(parameters)
