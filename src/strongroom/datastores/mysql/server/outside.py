"""Where a server of MySQL keeps files outside the top of its data directory. Read from the running server."""

from __future__ import annotations

from strongroom.datastores.innodb.outside import find_logs, find_place, find_system_tablespace, read_settings
from strongroom.datastores.protocol.placement import EntryPlacement, Place
from strongroom.datastores.protocol.servers import Server

_REDO = [r"#innodb_redo", r"ib_logfile\d+"]
_UNDO = [r"undo_\d+", r".+\.ibu"]
_DOUBLEWRITE = [r"#ib_\d+_\d+\.b?dblwr"]
_SETTINGS = (
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "innodb_doublewrite_dir",
    "innodb_data_home_dir",
    "innodb_data_file_path",
    "log_bin_basename",
    "log_bin_index",
    "relay_log_basename",
    "relay_log_index",
)


class ServerPlacement(EntryPlacement):
    """See ``datastores.Placement``."""

    def places(self, server: Server) -> list[Place]:
        """The places of an adopted server. InnoDB looks for tablespaces everywhere below its undo and home directories."""
        if not server.is_adopted:
            return []
        said, data_dir = read_settings(server, _SETTINGS), server.data_dir
        doublewrite = said.get("innodb_doublewrite_dir") or said.get("innodb_data_home_dir")
        return [
            *find_place("innodb_log_group_home_dir", said.get("innodb_log_group_home_dir"), data_dir, _REDO),
            *find_place("innodb_undo_directory", said.get("innodb_undo_directory"), data_dir, _UNDO, nested=False),
            *find_place("innodb_doublewrite_dir", doublewrite, data_dir, _DOUBLEWRITE),
            *find_system_tablespace(said, data_dir, nested=False),
            *find_logs("log_bin", said.get("log_bin_basename"), said.get("log_bin_index"), data_dir),
            *find_logs("relay_log", said.get("relay_log_basename"), said.get("relay_log_index"), data_dir),
        ]
