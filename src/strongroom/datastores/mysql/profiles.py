"""Server profiles of MySQL: implements ``protocol.profiles.Profiles``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.connection import explain_refusals
from strongroom.datastores.mysql.profile.check import check_restored
from strongroom.datastores.mysql.profile.compare import compare
from strongroom.datastores.mysql.profile.items import ITEMS
from strongroom.datastores.mysql.profile.read import read_profile
from strongroom.datastores.mysql.profile.rehearsal import rehearse
from strongroom.datastores.mysql.profile.settings import DEMANDED, REPLAYED
from strongroom.datastores.protocol.profiles import ProfileItem
from strongroom.datastores.protocol.servers import Server

__all__ = ["check", "compare", "items", "read", "rehearse", "steady"]

items: Sequence[ProfileItem] = ITEMS
steady: Collection[str] = frozenset({*DEMANDED, *REPLAYED, "plugins", "gtid_mode", "log_bin"})


def read(server: Server) -> Profile:
    """See ``Profiles.read``."""
    with explain_refusals(server):
        return read_profile(server)


def check(server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
    """See ``Profiles.check``."""
    with explain_refusals(server):
        return check_restored(server, profile, isolated=isolated)
