"""The server profile of PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from strongroom.artifact import Notice, Profile
from strongroom.datastores.postgresql import (
    _carry,
    _profile_check,
    _profile_compare,
    _profile_items,
    _profile_read,
    _rehearsal,
    _tablespaces,
)
from strongroom.datastores.protocol.profiles import ProfileItem, Rehearsal, RestoreTarget
from strongroom.datastores.protocol.servers import Server, Version


class ServerProfiles:
    """See ``datastores.Profiles``."""

    items: Sequence[ProfileItem] = _profile_items.ITEMS
    steady: Collection[str] = frozenset(
        {
            *_carry.AT_LEAST,
            _carry.SEGMENT,
            _tablespaces.FACT,
            "wal_level",
            "wal_log_hints",
            "track_commit_timestamp",
            "data_checksums",
        }
    )

    def read(self, server: Server) -> Profile:
        return _profile_read.read(server)

    def compare(self, profile: Profile, target: RestoreTarget) -> list[Notice]:
        return list(_profile_compare.compare(profile, target))

    def check(self, server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
        return _profile_check.check(server, profile, isolated=isolated)

    def rehearse(self, version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
        return _rehearsal.rehearse(version, data_dir, work_dir, profile)
