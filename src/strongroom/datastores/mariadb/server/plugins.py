"""Plugins of a server: what they are for, which of them a new server loads, and whether they are installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit import installed

Kind = Literal["engine", "provider", "account", "password check", "type", "keys", "other"]


@dataclass(frozen=True, slots=True)
class Known:
    """A plugin with its library. Names of libraries are never taken from a backup."""

    library: str
    kind: Kind
    carried: bool = True
    """A new server loads it if it is installed."""


KNOWN: Mapping[str, Known] = {
    "ARCHIVE": Known("ha_archive", "engine"),
    "BLACKHOLE": Known("ha_blackhole", "engine"),
    "OQGRAPH": Known("ha_oqgraph", "engine"),
    "provider_bzip2": Known("provider_bzip2", "provider"),
    "provider_lz4": Known("provider_lz4", "provider"),
    "provider_lzma": Known("provider_lzma", "provider"),
    "provider_lzo": Known("provider_lzo", "provider"),
    "provider_snappy": Known("provider_snappy", "provider"),
    "ed25519": Known("auth_ed25519", "account"),
    "pam": Known("auth_pam", "account"),
    "gssapi": Known("auth_gssapi", "account"),
    "parsec": Known("auth_parsec", "account"),
    "simple_password_check": Known("simple_password_check", "password check"),
    "cracklib_password_check": Known("cracklib_password_check", "password check"),
    "password_reuse_check": Known("password_reuse_check", "password check"),
    "MYSQL_JSON": Known("type_mysql_json", "type"),
    "file_key_management": Known("file_key_management", "keys", carried=False),
}
REACHING_OUT = frozenset({"FEDERATED", "SPIDER", "CONNECT", "S3", "SPHINX"})
"""Engines whose tables are on other servers: a copy would read, write and drop what belongs to the original."""
OWN_FILES = frozenset({"ROCKSDB", "MROONGA", "COLUMNSTORE", "TOKUDB", "VIDEX", "DUCKDB", "TIANMU"})
"""Engines with separate files, which mariadb-backup does not copy consistently with the rest."""


@lru_cache(maxsize=32)
def find_plugin_dir(server: Path, basedir: Path) -> Path | None:
    """The plugin directory of a server that is not adopted; none if its program does not report it."""
    said = installed.ask_program(server, "--no-defaults", f"--basedir={basedir}", "--verbose", "--help") or ""
    found = re.search(r"^plugin-dir\s+(/\S.*?)\s*$", said, re.MULTILINE)
    return Path(found[1]) if found else None


def is_installed(version: Version, name: str) -> bool:
    """Whether the plugin is in the plugin directory of this installation. False for an unknown plugin."""
    known, server = KNOWN.get(name), version.programs["server"]
    place = find_plugin_dir(server, server.parent.parent)
    return known is not None and place is not None and (place / f"{known.library}.so").is_file()


def list_libraries(version: Version, names: Iterable[str]) -> list[str]:
    """Libraries that a new server loads for these plugins, as far as they are known and installed."""
    wanted = {name for name in names if name in KNOWN and KNOWN[name].carried}
    return sorted({KNOWN[name].library for name in wanted if is_installed(version, name)})
