"""What a driver knows about servers that are not like ours: a table of items with a policy each, and what is done with them."""

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
"""What a restore does about an item.

carried: the new server gets the setting · placed: files outside the data directory come back where they belong · refused: the
backup, or the restore, fails with the reason · warned: the plan and the result name it · disabled: off in every copy with a new
name · compared: the restore is refused when the target differs · kept: stays as the target has it · unaffected: nothing to do.
"""
PROFILE = "strongroom_profile.json"
_MOST = 64 << 20
"""Bytes of the file: a manifest, from which the profile comes, cannot have more."""


@dataclass(frozen=True, slots=True)
class ProfileItem:
    """A row of a driver's profile table, which docs/adopt.md shows."""

    name: str
    """The setting or the fact, as users of the database call it."""
    new: Policy
    """In a restore to a new instance."""
    in_place: Policy
    """In a restore in place."""
    otherwise: str
    """What happens to a restore that ignores it: a short sentence."""


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """Where a backup is restored to. ``server`` is none when only a rehearsal in scratch space is meant."""

    version: Version
    server: Server | None
    in_place: bool
    chosen: Collection[str] = ()
    """Parts of the backup for which a person has chosen a place: names or locations of tablespaces."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What was found when a private server read all restored data."""

    tables: int
    """Tables that were read."""
    warnings: Sequence[str] = ()


class Profiles(Protocol):
    """Reads, judges and applies server profiles."""

    items: Sequence[ProfileItem]
    steady: Collection[str]
    """Settings and facts that may not change while a backup is taken; of others the end counts, and a change is told."""

    def read(self, server: Server) -> Profile:
        """Ask the running server. Notices say what stops a backup or a restore. Changes nothing.

        Raises ServerFailed, ConfigurationError.
        """

    def compare(self, profile: Profile, target: RestoreTarget) -> list[Notice]:
        """What a restore of a backup with this profile meets at the target, beside the profile's own notices."""

    def check(self, server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
        """Ask the restored, running server whether it has what the profile says. Any effect but ``warn`` fails the restore.

        For an ``isolated`` copy it also disables what only SQL can disable, and a notice says what was disabled and how a person
        enables it again.
        """

    def rehearse(self, version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
        """Start a private server on prepared data and read every table. The data is scrap afterwards.

        Raises ArtifactCorrupt when a table cannot be read or is missing, ServerFailed when the server does not start.
        """


class RestoredProfile(Strict):
    """Lies in a restored data directory: what its server needs, so that it moves and goes back together with the data."""

    profile: Profile
    isolated: bool = False
    """A copy with a new name: it contacts nobody and runs nothing by itself until a person activates it."""


def write_restored_profile(data_dir: Path, restored: RestoredProfile) -> None:
    """Write it into the data directory, durably."""
    write_file(data_dir / PROFILE, restored.model_dump_json(), find_owner(data_dir))


def read_restored_profile(data_dir: Path) -> RestoredProfile | None:
    """What the restore of this data directory left; none where there was no restore.

    Raises ConfigurationError when it cannot be read: without it the server would be started with the wrong settings.
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
