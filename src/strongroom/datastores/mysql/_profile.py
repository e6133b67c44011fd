"""The server profile of MySQL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strongroom.artifact import Notice, Profile
from strongroom.datastores._profile import ProfileItem, Rehearsal, RestoreTarget
from strongroom.datastores._servers import Server, Version

ITEMS: tuple[ProfileItem, ...] = ()


class ServerProfiles:
    """See ``datastores.Profiles``."""

    items: Sequence[ProfileItem] = ITEMS

    def read(self, server: Server) -> Profile:
        return Profile()

    def compare(self, profile: Profile, target: RestoreTarget) -> list[Notice]:
        return []

    def check(self, server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
        return []

    def rehearse(self, version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
        return Rehearsal(tables=0)
