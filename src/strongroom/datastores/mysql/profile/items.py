"""The profile table of MySQL: settings and facts of a server that a restore depends on, and what is done with them."""

from __future__ import annotations

from strongroom.datastores.mysql.profile.settings import CARRIED, DEMANDED, REPLAYED
from strongroom.datastores.protocol.profiles import ProfileItem

ITEMS: tuple[ProfileItem, ...] = (
    ProfileItem("lower_case_table_names", "carried", "compared", "The server does not start."),
    ProfileItem("innodb_page_size", "carried", "compared", "The server does not start."),
    ProfileItem("innodb_data_file_path", "carried", "compared", "The server does not start."),
    *(ProfileItem(name, "carried", "kept", "The replay of an incremental leads to different data.") for name in sorted(REPLAYED)),
    *(
        ProfileItem(name, "carried", "kept", "Statements have other effects or results.")
        for name in sorted(set(CARRIED) - set(DEMANDED) - set(REPLAYED) - {"event_scheduler", "mysql_native_password"})
    ),
    ProfileItem("SET PERSIST", "carried", "kept", "Settings in mysqld-auto.cnf are lost, except those in this table."),
    ProfileItem("other settings", "warned", "kept", "They have their defaults; the plan names those that the owner changed."),
    ProfileItem("DATA DIRECTORY, CREATE TABLESPACE, innodb_directories", "refused", "refused", "Tables cannot be read."),
    ProfileItem("engines other than InnoDB", "refused", "refused", "A clone leaves their tables empty. XtraBackup copies them."),
    ProfileItem("MEMORY tables", "warned", "warned", "They are empty, as after every restart."),
    ProfileItem(
        "innodb_undo_directory", "unaffected", "placed", "The server finds two files of one tablespace and does not start."
    ),
    ProfileItem("innodb_log_group_home_dir", "unaffected", "placed", "The server crashes on the redo log of other data."),
    ProfileItem("innodb_doublewrite_dir", "unaffected", "placed", "Old pages may be written over restored ones."),
    ProfileItem("links and mount points", "warned", "warned", "They come back as plain files and directories."),
    ProfileItem("open files", "refused", "refused", "Files outside the data directory that no setting names are lost."),
    ProfileItem("events", "disabled", "kept", "Events run in the copy as well."),
    ProfileItem("replication", "disabled", "kept", "The copy replicates: what its source drops is dropped there, too."),
    ProfileItem("group_replication_start_on_boot", "disabled", "refused", "A member joins its group with older data."),
    ProfileItem(
        "plugins and components", "warned", "warned", "Features that require them fail; accounts may be unable to log in."
    ),
    ProfileItem("accounts by plugin", "carried", "kept", "They cannot log in; the plan names them."),
    ProfileItem("strongroom@localhost", "warned", "kept", "An owner's account of this name gets another password."),
    ProfileItem(
        "server_uuid (auto.cnf)",
        "warned",
        "warned",
        "Its GTIDs would be used twice, and replicas would skip them. Never carried.",
    ),
    ProfileItem("*.pem", "warned", "kept", "Clients that trust the old certificate cannot connect."),
    ProfileItem("keyring", "warned", "kept", "Encrypted tables cannot be read: keep a copy of the keyring."),
    ProfileItem("prepared transactions", "warned", "warned", "They hold locks until they are committed or rolled back."),
    ProfileItem("sql_log_bin = 0", "warned", "warned", "Incrementals do not contain such changes."),
    ProfileItem("innovation release", "warned", "warned", "The backup can only be restored to its own series."),
)
