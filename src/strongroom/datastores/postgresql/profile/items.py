"""The profile table of PostgreSQL: every item, and what a restore does about it."""

from __future__ import annotations

from strongroom.datastores.protocol.profiles import ProfileItem

_NO_START = "The restored server does not start."
_RESULTS = "Queries return different results."
_ACCESS = "The copy accesses other servers."

ITEMS = (
    ProfileItem(
        "max_connections, max_wal_senders, max_worker_processes",
        "carried",
        "kept",
        "The server allows fewer clients than before.",
    ),
    ProfileItem("max_prepared_transactions, max_locks_per_transaction", "carried", "kept", _NO_START),
    ProfileItem("prepared transactions", "warned", "warned", "They hold their locks until they are committed or rolled back."),
    ProfileItem("WAL segment size (min_wal_size, max_wal_size)", "carried", "kept", _NO_START),
    ProfileItem("block size, segment size", "refused", "refused", "The server cannot read the pages."),
    ProfileItem("machine, catalog version", "compared", "compared", _NO_START),
    ProfileItem("release of the time zones", "warned", "warned", "Indexes and partitions by local time are wrong."),
    ProfileItem("Unicode rules of builtin locales", "unaffected", "unaffected", "Nothing: they belong to the series."),
    ProfileItem("data_checksums", "unaffected", "unaffected", "An incremental of changed blocks lacks changes."),
    ProfileItem("custom WAL resource managers", "carried", "kept", _NO_START),
    ProfileItem("shared_preload_libraries", "carried", "kept", "Tables of their extensions cannot be used."),
    ProfileItem("extensions, access methods, libraries", "compared", "unaffected", "Tables and functions cannot be used."),
    ProfileItem("background workers", "disabled", "kept", _ACCESS),
    ProfileItem("foreign servers", "warned", "kept", _ACCESS),
    ProfileItem("subscriptions", "disabled", "warned", "The copy consumes the changes meant for the original subscriber."),
    ProfileItem("replication slots", "warned", "warned", "Consumers lose their position."),
    ProfileItem("archive_mode, archive_command", "disabled", "kept", "The copy overwrites WAL in the archive of the source."),
    ProfileItem("timeline", "unaffected", "kept", "Two histories have the same name in the archive."),
    ProfileItem("synchronous_standby_names", "disabled", "kept", "The first commit waits for ever."),
    ProfileItem("bootstrap superuser", "carried", "kept", "Strongroom cannot log in to the new instance."),
    ProfileItem("md5 passwords", "carried", "kept", "Users cannot log in."),
    ProfileItem("login methods", "warned", "kept", "Users cannot log in."),
    ProfileItem(
        "settings of roles and databases", "unaffected", "unaffected", "They may prevent the logins and sessions of backups."
    ),
    ProfileItem("wal_level, track_commit_timestamp", "carried", "kept", "Logical replication does not work."),
    ProfileItem(
        "TimeZone, DateStyle, lc_*, default_text_search_config, search_path and similar settings", "carried", "kept", _RESULTS
    ),
    ProfileItem("other settings", "warned", "kept", _RESULTS),
    ProfileItem("settings that wait for a restart", "unaffected", "warned", _RESULTS),
    ProfileItem("fsync, full_page_writes", "unaffected", "kept", "A crash damages the database."),
    ProfileItem("collations of databases and columns", "warned", "unaffected", "Indexes on text are wrong."),
    ProfileItem("unlogged tables and sequences", "warned", "warned", "They are empty."),
    ProfileItem("databases", "warned", "warned", "What they require is unknown."),
    ProfileItem("cluster managers", "unaffected", "refused", "The manager fails over while the data is replaced."),
    ProfileItem("encryption of data", "refused", "refused", "Tables cannot be read."),
    ProfileItem("tablespaces", "placed", "placed", "Tables cannot be read."),
    ProfileItem("pg_wal as a link", "placed", "placed", "The WAL is on a different disk than before."),
    ProfileItem("links in the data directory", "refused", "refused", "A database is missing."),
    ProfileItem("unreadable files", "refused", "refused", "The backup fails."),
    ProfileItem("mount points", "warned", "refused", "The data directory cannot be renamed."),
    ProfileItem(
        "configuration, certificates and other files in the data directory",
        "warned",
        "kept",
        "Older versions of these files replace the current ones.",
    ),
)
