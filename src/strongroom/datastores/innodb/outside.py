"""Paths of the files that servers of MariaDB and MySQL keep outside the top of the data directory, from their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pymysql

from strongroom.datastores.innodb.connection import connect, describe_server, query
from strongroom.datastores.protocol.placement import Place, outside_directory
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ServerFailed


def read_settings(server: Server, names: tuple[str, ...]) -> dict[str, str]:
    """Global variables of the running server. Raises ServerFailed, ConfigurationError."""
    wanted = ", ".join(f"'{name}'" for name in names)
    try:
        with connect(server, timeout=5, patience=30) as connection:
            rows = query(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})")
    except pymysql.MySQLError as error:
        raise ServerFailed(f"{describe_server(server)} cannot report where its files are: {error}") from error
    return {str(name).lower(): str(value or "") for name, value in rows}


def find_place(item: str, value: str | None, data_dir: Path, entries: list[str], *, nested: bool = True) -> list[Place]:
    """One place if the setting names a directory other than the data directory."""
    directory = outside_directory(value, data_dir)
    return [Place(item=item, directory=directory, entries=entries, nested=nested)] if directory else []


def find_system_tablespace(settings: Mapping[str, str], data_dir: Path, *, nested: bool = True) -> list[Place]:
    """``innodb_data_home_dir``, and the paths in ``innodb_data_file_path``, which are relative to it."""
    files: dict[str, list[str]] = {}
    for path in find_system_files(settings.get("innodb_data_home_dir", ""), settings.get("innodb_data_file_path", "")):
        files.setdefault(str(path.parent), []).append(re.escape(path.name))
    return [
        each
        for folder, names in files.items()
        for each in find_place("innodb_data_home_dir", folder, data_dir, names, nested=nested)
    ]


def find_system_files(home: str, files: str) -> list[Path]:
    """Files of the system tablespace, by the two settings; relative ones are in the data directory."""
    return [Path(home) / part.split(":")[0] for part in files.split(";") if part]


def find_logs(item: str, base: str | None, index: str | None, data_dir: Path) -> list[Place]:
    """A log that is a series of numbered files. A restore does not restore them: the server begins a new series."""
    if not base:
        return []
    name = re.escape(Path(base).name)
    entries = [rf"{name}\.\d{{6,}}", rf"{name}\.(?:index|state)", rf"{name}\.\d{{6,}}\.idx"]
    found = find_place(item, str(Path(base).parent), data_dir, entries)
    if index:
        known = re.escape(Path(index).name)
        found += find_place(item, str(Path(index).parent), data_dir, [known])
    return found
