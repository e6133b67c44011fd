"""The keyring of a server, which contains its master keys. Backups do not contain it; a restore uses that of the installation."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import describe_server, query, split_error
from strongroom.datastores.mysql.server.plugins import list_directories
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import ConfigurationError, ServerFailed, ToolFailed

WARNING = "the keyring is not part of a backup, without which its encrypted tables cannot be read"
REMEDY = "Keep a copy of the keyring where backups are not."
_NO_TABLE = 1146
"""The table does not exist: components exist since 8.0.24."""
_CONFIGURATION = "component_keyring_file.cnf"
_COMPLAINT = re.compile(r"\[ERROR\] .*(?:keyring|ncrypt).*")


def has_encryption(connection: Connection[Cursor]) -> bool:
    """Whether InnoDB encrypts anything, now or in future."""
    ((spaces, redo, undo),) = query(
        connection,
        "SELECT (SELECT COUNT(*) FROM information_schema.innodb_tablespaces WHERE encryption = 'Y'),"
        " @@innodb_redo_log_encrypt, @@innodb_undo_log_encrypt",
    )
    return bool(spaces or redo or undo)


def has_keyring(connection: Connection[Cursor]) -> bool:
    """Whether the server can encrypt anything: it has an active keyring."""
    plugins = "SELECT 1 FROM information_schema.plugins WHERE plugin_type = 'KEYRING' AND plugin_status = 'ACTIVE'"
    return bool(_component(connection) or query(connection, plugins))


def _component(connection: Connection[Cursor]) -> dict[str, str]:
    """The status of the keyring component; empty if there is none or it does not work."""
    try:
        rows = query(connection, "SELECT status_key, status_value FROM performance_schema.keyring_component_status")
    except pymysql.ProgrammingError as error:
        if split_error(error)[0] != _NO_TABLE:
            raise
        return {}
    found = {str(name): str(value) for name, value in rows}
    return found if found.get("Component_status") == "Active" else {}


def require_keyring(connection: Connection[Cursor], server: Server) -> None:
    """Refuse a server whose keyring a restore would not find again. Raises ConfigurationError."""
    found = _component(connection)
    if not found:
        raise ConfigurationError(
            f"{describe_server(server)} has encrypted tablespaces, and its keyring is not a component: "
            "nobody has tried to restore them",
            remedy="Migrate to component_keyring_file or another component, or use XtraBackup.",
        )
    file = found.get("Data_file", "")
    if file and Path(file).resolve().is_relative_to(server.data_dir.resolve()):
        raise ConfigurationError(
            f"the keyring of {describe_server(server)} is in its data directory ({file}), which a restore would replace",
            remedy="Move the file elsewhere, and its path in the configuration of the component.",
        )


@contextmanager
def explain_missing_key(version: Version, masters: Sequence[str], log: Path) -> Iterator[None]:
    """Turn the error of a server that lacks the master key, or has a different one, into a ConfigurationError with this cause."""
    try:
        yield
    except (ServerFailed, ToolFailed) as error:
        said = _COMPLAINT.search(log.read_text(errors="replace")) if masters and log.is_file() else None
        if said is None:
            raise
        raise ConfigurationError(
            f"the keyring of {version.programs['server']} lacks the master key {', '.join(masters)}, "
            f"which encrypts tables of the backup: {said[0]}",
            remedy=f"Give it a copy of the keyring of the server that was backed up ({manifest_path(version)} names it), "
            "then restore again.",
        ) from error


class Borrowed:
    """A copy of the installation's keyring, if that is a file, for one server, which has to be started with ``options``.

    A server may rewrite the whole file at its start with what it read, which would undo concurrent changes by another server.
    The copy is in ``folder``, with links to the plugins, because the server looks in its plugin directory for the keyring's path.
    Raises ConfigurationError if the keyring cannot be read.
    """

    def __init__(self, version: Version, folder: Path) -> None:
        self.options: dict[str, Path] = {}
        self._keys = folder / "keys"
        self._before: set[str] = set()
        found = [place for folder in list_directories(version) if (place := folder / _CONFIGURATION).exists()]
        if not found or not manifest_path(version).exists():
            return
        try:
            settings = dict(json.loads(found[0].read_bytes()))
            original = Path(str(settings.get("path", "")))
            if not original.is_absolute():
                return
            folder.mkdir(mode=0o700)
            for plugin in found[0].parent.iterdir():
                if plugin.name != _CONFIGURATION:
                    (folder / plugin.name).symlink_to(plugin)
            (folder / _CONFIGURATION).write_text(json.dumps(settings | {"path": str(self._keys)}))
            if original.exists():
                shutil.copyfile(original, self._keys)
            self._before = _elements(self._keys)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"the keyring of {version.programs['server']} cannot be read: {error}",
                remedy=f"See {found[0]}; the OS user of the server must be able to read it and the file that it names.",
            ) from error
        self.options = {"plugin-dir": folder}

    def require_same(self) -> None:
        """Raises ToolFailed if the server has created keys: no other server could read what it encrypted by them."""
        if self.options and _elements(self._keys) - self._before:
            raise ToolFailed(
                "the binary log created a master key for encrypted tables, which the keyring of this host lacks",
                remedy="Restore the previous backup, then take a full.",
            )

    def remove(self) -> None:
        """Remove the copy of the keys."""
        if self.options:
            shutil.rmtree(self._keys.parent, ignore_errors=True)


def _elements(keys: Path) -> set[str]:
    """The keys in the file, unordered; the whole text if the format is unknown."""
    text = keys.read_text(errors="replace") if keys.exists() else ""
    try:
        return {json.dumps(element, sort_keys=True) for element in json.loads(text or "{}").get("elements", ())}
    except (ValueError, AttributeError, TypeError):
        return {text}


def manifest_path(version: Version) -> Path:
    """The file from which servers of an installation learn which keyring to load."""
    return Path(f"{version.programs['server']}.my")
