"""The server profile of PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from strongroom.artifact import Notice, Profile
from strongroom.datastores.postgresql.files import tablespaces
from strongroom.datastores.postgresql.profile import carry, rehearsal
from strongroom.datastores.postgresql.profile import check as check_module
from strongroom.datastores.postgresql.profile import compare as compare_module
from strongroom.datastores.postgresql.profile import items as items_module
from strongroom.datastores.postgresql.profile import read as read_module
from strongroom.datastores.protocol.profiles import ProfileItem, Rehearsal, RestoreTarget
from strongroom.datastores.protocol.servers import Server, Version


class ServerProfiles:
    """See ``datastores.Profiles``."""

    items: Sequence[ProfileItem] = items_module.ITEMS
    steady: Collection[str] = frozenset(
        {
            *carry.AT_LEAST,
            carry.SEGMENT,
            tablespaces.FACT,
            "wal_level",
            "wal_log_hints",
            "track_commit_timestamp",
            "data_checksums",
        }
    )

    def read(self, server: Server) -> Profile:
        return read_module.read(server)

    def compare(self, profile: Profile, target: RestoreTarget) -> list[Notice]:
        return list(compare_module.compare(profile, target))

    def check(self, server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
        return check_module.check(server, profile, isolated=isolated)

    def rehearse(self, version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
        return rehearsal.rehearse(version, data_dir, work_dir, profile)
