"""The server profile of MariaDB: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.connection import explain_refusals
from strongroom.datastores.mariadb.profile import check as check_module
from strongroom.datastores.mariadb.profile import read as read_module
from strongroom.datastores.mariadb.profile import rehearsal
from strongroom.datastores.mariadb.profile.items import ITEMS
from strongroom.datastores.mariadb.server.settings import STEADY
from strongroom.datastores.protocol.profiles import ProfileItem, Rehearsal, RestoreTarget
from strongroom.datastores.protocol.servers import Server, Version


class ServerProfiles:
    """See ``datastores.Profiles``."""

    items: Sequence[ProfileItem] = ITEMS
    steady: Collection[str] = STEADY

    def read(self, server: Server) -> Profile:
        with explain_refusals(server):
            return read_module.read(server)

    def compare(self, profile: Profile, target: RestoreTarget) -> list[Notice]:
        return check_module.compare(profile, target)

    def check(self, server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
        with explain_refusals(server):
            return check_module.check(server, profile, isolated=isolated)

    def rehearse(self, version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
        return rehearsal.rehearse(version, data_dir, work_dir, profile)
