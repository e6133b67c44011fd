"""Database versions that are installed on this host."""

from __future__ import annotations

from pathlib import Path

from strongroom import datastores
from strongroom.datastores import Version
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings


def list_program_places(settings: Settings, datastore: str) -> list[Path]:
    """Directories that the settings add to the usual ones."""
    return list(getattr(settings.datastores, datastore, []))


def list_versions(settings: Settings) -> list[Version]:
    """Every version of every datastore."""
    return [
        version for name in datastores.list_names() for version in datastores.discover(name, list_program_places(settings, name))
    ]


def find_version(settings: Settings, datastore: str, wanted: str) -> Version:
    """The version whose series or full number is ``wanted``. Raises InvalidRequest for the datastore, ConfigurationError."""
    found = datastores.discover(datastore, list_program_places(settings, datastore))
    for version in found:
        if wanted in (version.series, version.number) or wanted.startswith(f"{version.series}."):
            return version
    raise ConfigurationError(
        f"{datastore} {wanted} is not installed on this host",
        remedy=f"Installed: {', '.join(v.number for v in found) or 'none'}. Install it, or name its directory in [datastores].",
    )
