"""Where a server of MariaDB keeps files outside the top of its data directory. Read from the running server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pymysql

from strongroom.datastores.innodb.connection import connect, query, where
from strongroom.datastores.protocol.placement import EntryPlacement, Place, outside_directory
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ServerFailed

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
    """See ``datastores.Placement``."""

    def places(self, server: Server) -> list[Place]:
        """Of an adopted server; one that we run keeps everything in its data directory."""
        if not server.is_adopted:
            return []
        return outside_places(read_settings(server, _SETTINGS), server.data_dir)


def read_settings(server: Server, names: tuple[str, ...]) -> dict[str, str]:
    """Global variables of the running server. Raises ServerFailed, ConfigurationError."""
    wanted = ", ".join(f"'{name}'" for name in names)
    try:
        with connect(server, timeout=5, patience=30) as connection:
            rows = query(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})")
    except pymysql.MySQLError as error:
        raise ServerFailed(f"{where(server)} does not say where its files are: {error}") from error
    return {str(name).lower(): str(value or "") for name, value in rows}


def outside_places(settings: Mapping[str, str], data_dir: Path) -> list[Place]:
    """By the settings of the server."""
    return [
        *place("innodb_log_group_home_dir", settings.get("innodb_log_group_home_dir"), data_dir, _REDO),
        *place("innodb_undo_directory", settings.get("innodb_undo_directory"), data_dir, _UNDO),
        *place("aria_log_dir_path", settings.get("aria_log_dir_path"), data_dir, _ARIA),
        *system_tablespace(settings, data_dir),
        *logs("log_bin", settings.get("log_bin_basename"), settings.get("log_bin_index"), data_dir),
        *logs("relay_log", settings.get("relay_log_basename"), settings.get("relay_log_index"), data_dir),
        *_write_set_cache(settings.get("wsrep_provider_options", ""), data_dir),
    ]


def place(item: str, value: str | None, data_dir: Path, entries: list[str], *, nested: bool = True) -> list[Place]:
    """One place, when the setting names another directory than the data directory."""
    directory = outside_directory(value, data_dir)
    return [Place(item=item, directory=directory, entries=entries, nested=nested)] if directory else []


def system_tablespace(settings: Mapping[str, str], data_dir: Path, *, nested: bool = True) -> list[Place]:
    """``innodb_data_home_dir``, and the paths in ``innodb_data_file_path``, which are relative to it."""
    files: dict[str, list[str]] = {}
    for path in system_files(settings.get("innodb_data_home_dir", ""), settings.get("innodb_data_file_path", "")):
        files.setdefault(str(path.parent), []).append(re.escape(path.name))
    return [
        each for folder, names in files.items() for each in place("innodb_data_home_dir", folder, data_dir, names, nested=nested)
    ]


def system_files(home: str, files: str) -> list[Path]:
    """Files of the system tablespace, by the two settings; relative ones are in the data directory."""
    return [Path(home) / part.split(":")[0] for part in files.split(";") if part]


def logs(item: str, base: str | None, index: str | None, data_dir: Path) -> list[Place]:
    """A log that is a series of numbered files. A restore puts none back: the server begins a new series."""
    if not base:
        return []
    name = re.escape(Path(base).name)
    entries = [rf"{name}\.\d{{6,}}", rf"{name}\.(?:index|state)", rf"{name}\.\d{{6,}}\.idx"]
    found = place(item, str(Path(base).parent), data_dir, entries)
    if index:
        known = re.escape(Path(index).name)
        found += place(item, str(Path(index).parent), data_dir, [known])
    return found


def _write_set_cache(options: str, data_dir: Path) -> list[Place]:
    """Of Galera: what it holds is of the history before the restore."""
    said = dict(re.findall(r"(gcache\.dir|gcache\.name) *= *([^;]*?) *(?:;|$)", options))
    path = Path(said.get("gcache.dir") or "") / (said.get("gcache.name") or "galera.cache")
    return place("wsrep_provider_options", str(path.parent), data_dir, [re.escape(path.name)]) if said else []
