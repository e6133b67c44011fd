"""MySQL with a keyring: links to the installation for tests, with a manifest of its own as an operator would write it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from strongroom.datastores import Version, discover
from support.identity import server_user
from support.mysql_programs import programs


def ring(place: Path, name: str) -> Path:
    """Where a keyring may be kept, which only servers can read; the file is not there yet."""
    folder = place / name
    folder.mkdir(mode=0o700)
    shutil.chown(folder, server_user())
    return folder / "keys"


def installation(place: Path, name: str, keys: Path | None) -> Version:
    """MySQL whose keyring is the file ``keys``; with none it has no keyring."""
    real, own = programs().parent, place / name
    plugins = own / "lib" / "mysql" / "plugin"
    for folder in (own / "sbin", plugins):
        folder.mkdir(parents=True)
    for path in ("bin", "share", "sbin/mysqld"):
        (own / path).symlink_to(real / path)
    for path in (real / "lib" / "mysql" / "plugin").iterdir():
        (plugins / path.name).symlink_to(path)
    if keys is not None:
        (own / "sbin" / "mysqld.my").write_text(json.dumps({"components": "file://component_keyring_file"}))
        (plugins / "component_keyring_file.cnf").write_text(json.dumps({"path": str(keys), "read_only": False}))
    return next(found for found in discover("mysql", [own / "sbin"]) if found.programs["server"].parent == own / "sbin")
