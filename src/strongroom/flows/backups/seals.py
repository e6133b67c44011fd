"""Seals the backups that this control plane records, and checks the seals of those that it finds in the store.

The key is in the directory ``control-plane`` of the state directory, beside the key by which hosts know the control plane.
Workers never get it, so a compromised database host cannot seal a forged backup.
"""

from __future__ import annotations

import secrets
import threading

import structlog

from strongroom.artifact import Location, Verdict, check_seal, put_seal
from strongroom.errors import ConfigurationError, StorageError
from strongroom.flows.site import Site
from strongroom.storage import Store
from strongroom.system.directories import make_directory
from strongroom.system.files import write_file

log = structlog.get_logger()

_BYTES = 32
_making = threading.Lock()


def seal_backup(site: Site, store: Store, location: Location, manifest_sha256: str) -> str | None:
    """Seal a backup that was just recorded. Returns a warning if that fails; the backup is complete without a seal."""
    try:
        put_seal(store, location, manifest_sha256, _key(site))
    except (StorageError, ConfigurationError) as error:
        log.warning("cannot seal a backup", backup=location.prefix, reason=error.message)
        return f"the backup could not be sealed: {error.message}"
    return None


def judge_backup(site: Site, store: Store, location: Location, manifest_sha256: str) -> Verdict:
    """Whether this control plane has recorded the manifest in the store. Raises StorageError, ConfigurationError."""
    return check_seal(store, location, manifest_sha256, _key(site))


def _key(site: Site) -> bytes:
    """The key, which is created if there is none. Raises ConfigurationError."""
    path = site.settings.service.data_dir / "control-plane" / "seal.key"
    try:
        with _making:
            if not path.exists():
                make_directory(path.parent)
                write_file(path, f"{secrets.token_hex(_BYTES)}\n")
            key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot use the key in {path}: {error}", remedy="Make the OS user of the service its owner, with mode 0600."
        ) from None
    if len(key) != _BYTES:
        raise ConfigurationError(f"{path} is not a key of {_BYTES} bytes", remedy="Restore the file from a backup, or remove it.")
    return key
