"""Where a server of MariaDB keeps files outside the top of its data directory. Read from the running server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from strongroom.datastores.innodb.outside import find_logs, find_place, find_system_tablespace, read_settings
from strongroom.datastores.protocol.placement import EntryPlacement, Place
from strongroom.datastores.protocol.servers import Server

_REDO = [r"ib_logfile\d+"]
_UNDO = [r"undo\d+"]
_ARIA = [r"aria_log_control", r"aria_log\.\d{8}"]
_SETTINGS = (
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "innodb_data_home_dir",
    "innodb_data_file_path",
    "aria_log_dir_path",
    "log_bin_basename",
    "log_bin_index",
    "relay_log_basename",
    "relay_log_index",
    "wsrep_provider_options",
)


class ServerPlacement(EntryPlacement):
    """See ``Placement``."""

    def places(self, server: Server) -> list[Place]:
        """The places of an adopted server. Other servers keep everything in the data directory."""
        if not server.is_adopted:
            return []
        return find_places(read_settings(server, _SETTINGS), server.data_dir)


def find_places(settings: Mapping[str, str], data_dir: Path) -> list[Place]:
    """The places that the settings of the server name."""
    return [
        *find_place("innodb_log_group_home_dir", settings.get("innodb_log_group_home_dir"), data_dir, _REDO),
        *find_place("innodb_undo_directory", settings.get("innodb_undo_directory"), data_dir, _UNDO),
        *find_place("aria_log_dir_path", settings.get("aria_log_dir_path"), data_dir, _ARIA),
        *find_system_tablespace(settings, data_dir),
        *find_logs("log_bin", settings.get("log_bin_basename"), settings.get("log_bin_index"), data_dir),
        *find_logs("relay_log", settings.get("relay_log_basename"), settings.get("relay_log_index"), data_dir),
        *_write_set_cache(settings.get("wsrep_provider_options", ""), data_dir),
    ]


def _write_set_cache(options: str, data_dir: Path) -> list[Place]:
    """The write-set cache of Galera, which has the history before the restore."""
    said = dict(re.findall(r"(gcache\.dir|gcache\.name) *= *([^;]*?) *(?:;|$)", options))
    path = Path(said.get("gcache.dir") or "") / (said.get("gcache.name") or "galera.cache")
    return find_place("wsrep_provider_options", str(path.parent), data_dir, [re.escape(path.name)]) if said else []
