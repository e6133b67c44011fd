"""Connects to a server to receive its WAL, with the account that Strongroom has there."""

from __future__ import annotations

from strongroom.datastores.postgresql.archive.replication import Replication
from strongroom.datastores.postgresql.server.account import account, recognized
from strongroom.datastores.postgresql.server.config import host_of, port_of
from strongroom.datastores.protocol.servers import Server


def connect_replication(server: Server) -> Replication:
    """A connection that can stream WAL. Raises ServerFailed, ConfigurationError."""
    us = account(server)
    parameters: dict[str, str | int] = {"host": host_of(server), "port": port_of(server), "user": us.user}
    if us.password is not None:
        parameters["password"] = us.password
    with recognized(server):
        return Replication(parameters)
