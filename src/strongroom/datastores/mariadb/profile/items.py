"""The profile table of MariaDB: settings and facts of a server that a restore depends on, and what is done with them."""

from __future__ import annotations

from strongroom.datastores.protocol.profiles import ProfileItem

ITEMS: tuple[ProfileItem, ...] = (
    ProfileItem("innodb_page_size, innodb_data_file_path", "carried", "compared", "The server does not start."),
    ProfileItem("aria_block_size", "refused", "refused", "The backup tool cannot open the Aria log."),
    ProfileItem("lower_case_table_names", "carried", "compared", "Tables and databases with capital letters are not found."),
    ProfileItem("innodb_data_home_dir", "unaffected", "placed", "The server reads the old system tablespace with new tables."),
    ProfileItem("innodb_undo_directory", "unaffected", "placed", "The old undo log is applied to the restored tables."),
    ProfileItem("innodb_log_group_home_dir", "unaffected", "placed", "The old redo log is replayed over the restored tables."),
    ProfileItem("aria_log_dir_path", "unaffected", "placed", "The old Aria log is replayed over the restored tables."),
    ProfileItem(
        "log_bin, relay_log outside", "unaffected", "placed", "The old binary log continues after events that are undone."
    ),
    ProfileItem("InnoDB DATA DIRECTORY", "placed", "placed", "The tables cannot be read."),
    ProfileItem(
        "MyISAM and Aria DATA/INDEX DIRECTORY", "placed", "placed", "None: the files are restored into the data directory."
    ),
    ProfileItem("raw devices in innodb_data_file_path", "refused", "refused", "The backup tool cannot copy them."),
    ProfileItem("links and mount points", "refused", "refused", "Files behind them may be missing in the backup."),
    ProfileItem(
        "open files outside the data directory", "refused", "refused", "The backup lacks files whose purpose is unknown."
    ),
    ProfileItem("unknown files of a database", "refused", "refused", "The backup tool omits them."),
    ProfileItem("files beside the data", "warned", "warned", "Certificates, keys and notes in the data directory are left out."),
    ProfileItem("names of the backup tool", "refused", "refused", "A database and a file of the tool have the same name."),
    ProfileItem("lost+found", "unaffected", "unaffected", "The backup tool stops at it; it is excluded."),
    ProfileItem("encryption", "refused", "compared", "The tables cannot be read without their keys."),
    ProfileItem("page compression", "carried", "compared", "The tables cannot be read without the compression provider."),
    ProfileItem("engines from plugins", "carried", "compared", "The tables cannot be opened (error 1286)."),
    ProfileItem("engines that reach other servers", "refused", "warned", "The copy changes objects that belong to the original."),
    ProfileItem("engines with files of their own", "refused", "refused", "The files are not in the backup."),
    ProfileItem("MEMORY tables", "warned", "warned", "They come back empty, as after every restart."),
    ProfileItem("accounts by plugin", "carried", "compared", "The accounts cannot log in (error 1524)."),
    ProfileItem("accounts with host names", "carried", "kept", "The accounts are ignored under skip-name-resolve."),
    ProfileItem("account strongroom@localhost", "refused", "kept", "An account of the owner gets the password of Strongroom."),
    ProfileItem(
        "REQUIRE X509, ISSUER or SUBJECT", "warned", "kept", "The accounts need the authority's certificate at the server."
    ),
    ProfileItem("password checks", "carried", "kept", "The management account is refused at the first start."),
    ProfileItem("settings that change answers", "carried", "kept", "Queries return different results."),
    ProfileItem("settings that are not carried", "warned", "kept", "The server behaves differently."),
    ProfileItem("time zone of the host", "warned", "kept", "TIMESTAMP columns are shown in another zone."),
    ProfileItem("replication", "disabled", "warned", "The restored server is no replica."),
    ProfileItem("GTID state", "warned", "warned", "GTIDs are used again; replicas of the source cannot follow."),
    ProfileItem("events", "disabled", "kept", "Scheduled events run in the copy."),
    ProfileItem(
        "XA transactions in prepared state", "warned", "warned", "They hold their locks until they are committed or rolled back."
    ),
    ProfileItem(
        "functions in shared libraries", "warned", "warned", "The functions cannot be called where the library is missing."
    ),
    ProfileItem("wsrep_allowlist", "disabled", "kept", "Nodes with other addresses cannot join the cluster."),
    ProfileItem("tables that Galera does not replicate", "warned", "warned", "The backup has the rows of one node."),
    ProfileItem("innodb_log_archive", "refused", "refused", "The backup tool cannot read the redo log."),
    ProfileItem("binlog_storage_engine", "warned", "warned", "The binary log is not carried over; GTID is the only position."),
    ProfileItem("rights of the account", "warned", "warned", "What the account may not read is not known."),
)
NAMES = frozenset(item.name for item in ITEMS)
