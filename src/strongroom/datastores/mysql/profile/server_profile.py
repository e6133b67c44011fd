"""The server profile of MySQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pymysql

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.connection import connect, explain_refusals, parts, query, variables
from strongroom.datastores.mysql.profile.check import check_restored
from strongroom.datastores.mysql.profile.read import read_profile
from strongroom.datastores.mysql.profile.rehearsal import rehearse
from strongroom.datastores.mysql.profile.settings import CARRIED, DEMANDED, REPLAYED, filter_settings
from strongroom.datastores.protocol.profiles import ProfileItem, Rehearsal, RestoreTarget
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import StrongroomError

_NO_RIGHT = (1142, 1227)
ITEMS: tuple[ProfileItem, ...] = (
    ProfileItem("lower_case_table_names", "carried", "compared", "The server does not start."),
    ProfileItem("innodb_page_size", "carried", "compared", "The server does not start."),
    ProfileItem("innodb_data_file_path", "carried", "compared", "The server does not start."),
    *(ProfileItem(name, "carried", "kept", "An incremental would be replayed to something else.") for name in sorted(REPLAYED)),
    *(
        ProfileItem(name, "carried", "kept", "Statements do or answer something else.")
        for name in sorted(set(CARRIED) - set(DEMANDED) - set(REPLAYED) - {"event_scheduler", "mysql_native_password"})
    ),
    ProfileItem("SET PERSIST", "carried", "kept", "Settings of mysqld-auto.cnf are lost: those of this table are carried."),
    ProfileItem("other settings", "warned", "kept", "They have their defaults; the plan names those that the owner had set."),
    ProfileItem("DATA DIRECTORY, CREATE TABLESPACE, innodb_directories", "refused", "refused", "Tables cannot be read."),
    ProfileItem("engines other than InnoDB", "refused", "refused", "A clone leaves their tables empty. Not with XtraBackup."),
    ProfileItem("MEMORY tables", "warned", "warned", "They are empty, by nature."),
    ProfileItem(
        "innodb_undo_directory", "unaffected", "placed", "The server finds two files of one tablespace and does not start."
    ),
    ProfileItem("innodb_log_group_home_dir", "unaffected", "placed", "The server crashes on the redo log of other data."),
    ProfileItem("innodb_doublewrite_dir", "unaffected", "placed", "Old pages may be written over restored ones."),
    ProfileItem("links and mount points", "warned", "warned", "They come back as plain files and directories."),
    ProfileItem("open files", "refused", "refused", "Tables outside the data directory that nothing else shows are lost."),
    ProfileItem("events", "disabled", "kept", "Events run in the copy as well."),
    ProfileItem("replication", "disabled", "kept", "The copy replicates: what its source drops is dropped there, too."),
    ProfileItem("group_replication_start_on_boot", "disabled", "refused", "A member joins its group with older data."),
    ProfileItem("plugins and components", "warned", "warned", "What needs them fails; accounts may not log in."),
    ProfileItem("accounts by plugin", "carried", "kept", "They cannot log in. The plan names them."),
    ProfileItem("strongroom@localhost", "warned", "kept", "An owner's account of this name gets another password."),
    ProfileItem(
        "server_uuid (auto.cnf)", "warned", "warned", "Never carried: its GTIDs would be used twice, and replicas skip them."
    ),
    ProfileItem("*.pem", "warned", "kept", "Clients that trust the old certificate cannot connect."),
    ProfileItem("keyring", "warned", "kept", "Encrypted tables cannot be read: keep a copy of the keyring."),
    ProfileItem("prepared transactions", "warned", "warned", "They hold locks until somebody decides about them."),
    ProfileItem("sql_log_bin = 0", "warned", "warned", "Incrementals do not hold such changes."),
    ProfileItem("innovation release", "warned", "warned", "The backup restores only on its own series."),
)


class ServerProfiles:
    """See ``datastores.Profiles``."""

    items: Sequence[ProfileItem] = ITEMS
    steady: Collection[str] = frozenset({*DEMANDED, *REPLAYED, "plugins", "gtid_mode", "log_bin"})

    def read(self, server: Server) -> Profile:
        with explain_refusals(server):
            return read_profile(server)

    def compare(self, profile: Profile, target: RestoreTarget) -> list[Notice]:
        if target.server is None:
            return []
        if target.in_place:
            return list(_compare_in_place(profile, target.server))
        return list(_compare_new(profile))

    def check(self, server: Server, profile: Profile, *, isolated: bool) -> list[Notice]:
        with explain_refusals(server):
            return check_restored(server, profile, isolated=isolated)

    def rehearse(self, version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> Rehearsal:
        return rehearse(version, data_dir, work_dir, profile)


def _compare_new(profile: Profile) -> Iterator[Notice]:
    left = profile.facts.get("not_carried")
    if isinstance(left, list) and left:
        yield Notice(
            item="other settings",
            effect="warn",
            message=f"settings of the server that was backed up are not carried to a new instance: {', '.join(map(str, left))}",
        )


def _compare_in_place(profile: Profile, server: Server) -> Iterator[Notice]:
    """The owner's configuration stays, and has to fit the data."""
    if not server.is_adopted:
        return  # its settings come with the data
    try:
        with connect(server, timeout=5, patience=30) as connection:
            found = variables(connection, "VARIABLES", "%")
            try:
                replicas = query(connection, "SHOW REPLICAS") if "log_replica_updates" in found else []
            except pymysql.MySQLError as error:
                if parts(error)[0] not in _NO_RIGHT:
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
                remedy=f"Restore to a new instance, or set {name} = {value} and initialize the server anew.",
            )
    if replicas:
        yield Notice(
            item="server_uuid (auto.cnf)",
            effect="warn",
            message=f"replicas are connected ({len(replicas)}): the restored server has another server_uuid and less data",
            remedy="Rebuild the replicas from the restored server.",
        )
