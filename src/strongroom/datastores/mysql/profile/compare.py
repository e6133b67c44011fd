"""Whether a backup of MySQL fits the target of a restore."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.connection import connect, query, read_variables, split_error
from strongroom.datastores.mysql.profile.settings import DEMANDED, filter_settings
from strongroom.datastores.protocol.profiles import RestoreTarget
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import StrongroomError

_NO_RIGHT = (1142, 1227)


def compare(profile: Profile, target: RestoreTarget) -> list[Notice]:
    """See ``Profiles.compare``."""
    if target.server is None:
        return []
    if target.in_place:
        return list(_compare_in_place(profile, target.server))
    return list(_compare_new(profile))


def _compare_new(profile: Profile) -> Iterator[Notice]:
    left = profile.facts.get("not_carried")
    if isinstance(left, list) and left:
        yield Notice(
            item="other settings",
            effect="warn",
            message=f"settings of the server that was backed up are not carried to a new instance: {', '.join(map(str, left))}",
        )


def _compare_in_place(profile: Profile, server: Server) -> Iterator[Notice]:
    """Compare with the owner's configuration, which does not change and must fit the data."""
    if not server.is_adopted:
        return  # its settings are restored with the data
    try:
        with connect(server, timeout=5, patience=30) as connection:
            found = read_variables(connection, "VARIABLES", "%")
            try:
                replicas = query(connection, "SHOW REPLICAS") if "log_replica_updates" in found else []
            except pymysql.MySQLError as error:
                if split_error(error)[0] not in _NO_RIGHT:
                    raise
                replicas = []
    except (StrongroomError, pymysql.MySQLError):
        yield Notice(
            item="settings",
            effect="warn",
            message="the server does not answer: its settings could not be compared with those of the backup",
        )
        return
    for name, value in filter_settings(profile.settings, DEMANDED).items():
        if found.get(name) != value:
            yield Notice(
                item=name,
                effect="refuse_in_place",
                message=f"the backup is of a server with {name} = {value}, and this one has {found.get(name)}",
                remedy=f"Restore to a new instance, or set {name} = {value} and initialize the server again.",
            )
    if replicas:
        yield Notice(
            item="server_uuid (auto.cnf)",
            effect="warn",
            message=f"replicas are connected ({len(replicas)}): the restored server has another server_uuid and less data",
            remedy="Rebuild the replicas from the restored server.",
        )
