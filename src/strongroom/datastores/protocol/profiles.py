"""Server profiles: a table of settings and facts with a policy for each, and what a driver does with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import ValidationError

from strongroom.artifact import Notice, Profile
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.protocol.strict import Strict
from strongroom.errors import ConfigurationError
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

Policy = Literal["carried", "placed", "refused", "warned", "disabled", "compared", "kept", "unaffected"]
"""What a restore does with an item.

carried: the new server gets the setting · placed: files outside the data directory come back where they belong · refused: the
backup, or the restore, fails with the reason · warned: the plan and the result name it · disabled: off in every copy with a new
name · compared: the restore is refused when the target differs · kept: stays as the target has it · unaffected: nothing to do.
"""
PROFILE = "strongroom_profile.json"
_MOST = 64 << 20
"""Largest size of the file in bytes. The manifest, from which the profile comes, cannot be larger."""


@dataclass(frozen=True, slots=True)
class ProfileItem:
    """A row of a driver's profile table, which docs/adopt.md shows."""

    name: str
    """The setting or the fact, by the name that users of the database know."""
    new: Policy
    """In a restore to a new instance."""
    in_place: Policy
    """In a restore in place."""
    otherwise: str
    """What happens after a restore that ignores it: a short sentence."""


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """The target of a restore. ``server`` is none for a rehearsal in scratch space."""

    version: Version
    server: Server | None
    in_place: bool
    chosen: Collection[str] = ()
    """Parts of the backup for which the user has chosen a place: names or locations of tablespaces."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The result of a private server that has read all restored data."""

    tables: int
    """Number of tables that were read."""
    warnings: Sequence[str] = ()


class Profiles(Protocol):
    """Reads, compares and checks server profiles."""

    items: Sequence[ProfileItem]
    steady: Collection[str]
    """Settings and facts that must not change during a backup. Changes of others are reported; the values at its end count."""

    def read(self, server: Server) -> Profile:
        """Query the running server. Notices say what prevents a backup or a restore. Changes nothing.

        Raises ServerFailed, ConfigurationError.
        """

    def compare(self, profile: Profile, target: RestoreTarget) -> list[Notice]:
        """Compare the profile of a backup with the target of a restore. The profile's own notices are not repeated."""

    def check(self, server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
        """Check that the restored, running server has what the profile says. Any effect except ``warn`` fails the restore.

        For an ``isolated`` copy this also disables what only SQL can disable; a notice says what was disabled and how to enable
        it again.
        """

    def rehearse(self, version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
        """Start a private server on prepared data and read every table. The data cannot be used afterwards.

        Raises ArtifactCorrupt if a table cannot be read or is missing, ServerFailed if the server does not start.
        """


class RestoredProfile(Strict):
    """A file in a restored data directory with what its server needs. It is swapped and restored together with the data."""

    profile: Profile
    isolated: bool = False
    """A copy with a new name. Until it is activated, it connects to no other server and runs no events."""


def write_restored_profile(data_dir: Path, restored: RestoredProfile) -> None:
    """Write it into the data directory, durably."""
    write_file(data_dir / PROFILE, restored.model_dump_json(), find_owner(data_dir))


def read_restored_profile(data_dir: Path) -> RestoredProfile | None:
    """Read the file that a restore left in this data directory; none if the data was not restored.

    Raises ConfigurationError if it cannot be read: without it the server would start with wrong settings.
    """
    text = read_text(data_dir / PROFILE, limit=_MOST)
    if text is None:
        return None
    try:
        return RestoredProfile.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError(
            f"{data_dir / PROFILE} is damaged: {error.error_count()} fields are not valid",
            remedy="Restore again; the file says with which settings the restored data has to be served.",
        ) from None
