"""Server profiles of PostgreSQL: implements ``protocol.profiles.Profiles``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from strongroom.datastores.postgresql.files import tablespaces
from strongroom.datastores.postgresql.profile import carry
from strongroom.datastores.postgresql.profile.check import check
from strongroom.datastores.postgresql.profile.compare import compare
from strongroom.datastores.postgresql.profile.items import ITEMS
from strongroom.datastores.postgresql.profile.read import read_profile as read
from strongroom.datastores.postgresql.profile.rehearsal import rehearse
from strongroom.datastores.protocol.profiles import ProfileItem

__all__ = ["check", "compare", "items", "read", "rehearse", "steady"]

items: Sequence[ProfileItem] = ITEMS
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
