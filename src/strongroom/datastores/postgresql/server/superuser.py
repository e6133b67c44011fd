"""Strongroom's role on servers that are not adopted: the superuser of the data, whatever its name is."""

from __future__ import annotations

from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.protocol.profiles import read_restored_profile
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

DEFAULT = "postgres"
"""The superuser of new servers."""
FACT = "superuser"
FOUND = "strongroom_superuser"
"""File in a restored data directory with the superuser that was found or created there, if the backup names no usable one."""
_LONGEST = 63


def find_superuser(data_dir: Path) -> str:
    """A superuser of this data that can log in. Raises ConfigurationError if the file with its name is damaged."""
    found = (read_text(data_dir / FOUND) or "").removesuffix("\n")
    if is_usable(found):
        return found
    restored = read_restored_profile(data_dir)
    return (find_in_profile(restored.profile) if restored else None) or DEFAULT


def find_in_profile(profile: Profile | None) -> str | None:
    """The superuser in a profile; none if the profile names no role that can log in."""
    name = profile.facts.get(FACT) if profile else None
    return name if isinstance(name, str) and is_usable(name) else None


def is_usable(name: str) -> bool:
    """Whether the name can be used in pg_hba.conf and pg_ident.conf. A leading slash would make it a pattern."""
    return 0 < len(name.encode(errors="replace")) <= _LONGEST and name.isprintable() and name[0] not in "/+"


def remember(data_dir: Path, name: str) -> None:
    """Record the superuser that was found in the data."""
    write_file(data_dir / FOUND, name + "\n", find_owner(data_dir))
