"""Whose log it is."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from strongroom.datastores.innodb.connection import query


def find_identity(connection: Connection[Any]) -> str:
    """The UUID of the server: a copy of its data gets another one."""
    ((uuid,),) = query(connection, "SELECT @@server_uuid")
    return str(uuid)
