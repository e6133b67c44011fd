"""Plugins of servers: those that accounts need, and their directories. No plugin is loaded by a name from a backup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from strongroom.datastores.mysql.server.versions import find_base_dir
from strongroom.datastores.protocol.servers import Version

CLONE_LIBRARY = "mysql_clone.so"
_FOLDERS = ("lib*/plugin", "lib*/mysql/plugin", "lib*/*/mysql/plugin")
"""Directories of plugins, relative to the root of an installation."""
_AUTHENTICATION = {
    "auth_socket": "auth_socket.so",
    "mysql_no_login": "mysql_no_login.so",
}


def list_directories(version: Version) -> Iterator[Path]:
    """The plugin directories of this installation."""
    for pattern in _FOLDERS:
        yield from find_base_dir(version).glob(pattern)


def authentication_libraries(version: Version, plugins: Iterable[str]) -> list[str]:
    """Libraries of the plugins that check passwords, if this installation has them."""
    wanted = [library for name, library in _AUTHENTICATION.items() if name in set(plugins)]
    return [library for library in wanted if any((folder / library).is_file() for folder in list_directories(version))]
