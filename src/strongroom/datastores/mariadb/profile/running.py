"""Settings and plugins of a running server."""

from __future__ import annotations

from collections.abc import Mapping

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import query
from strongroom.datastores.mariadb.server.plugins import KNOWN, Kind
from strongroom.datastores.mariadb.server.settings import OF_INSTANCE, SETTINGS

_SET_BY_OWNER = ("CONFIG", "COMMAND-LINE", "SQL")
_SETTINGS = "SELECT LOWER(variable_name), global_value, global_value_origin FROM information_schema.system_variables"
_PLUGINS = (
    "SELECT plugin_name, plugin_type FROM information_schema.plugins"
    " WHERE plugin_status = 'ACTIVE' AND plugin_library IS NOT NULL AND plugin_library <> ''"
)
_KINDS: Mapping[str, Kind] = {
    "STORAGE ENGINE": "engine",
    "AUTHENTICATION": "account",
    "PASSWORD VALIDATION": "password check",
    "ENCRYPTION": "keys",
    "DATA TYPE": "type",
}


_ORDERS = ("_now", "_abort")
"""Suffixes of variables that trigger an action, such as innodb_log_checkpoint_now, which the backup tool sets."""


def read_settings(connection: Connection[Cursor]) -> tuple[dict[str, str], list[str]]:
    """Values of the settings that are carried, by name; and names of other settings that the owner has changed."""
    values: dict[str, str] = {}
    others: list[str] = []
    for name, value, origin in query(connection, _SETTINGS):
        if name in SETTINGS:
            if value is not None:
                values[name] = str(value)
        elif name not in OF_INSTANCE and not name.startswith("wsrep_") and not name.endswith(_ORDERS) and origin in _SET_BY_OWNER:
            others.append(name)
    return dict(sorted(values.items())), sorted(others)


def read_plugins(connection: Connection[Cursor]) -> dict[str, Kind]:
    """Active plugins that are not part of the server's program, with their kind."""
    return {
        str(name): KNOWN[name].kind if name in KNOWN else _KINDS.get(kind, "other") for name, kind in query(connection, _PLUGINS)
    }
