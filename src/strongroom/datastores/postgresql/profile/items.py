"""The profile table of PostgreSQL: every item, and what a restore does about it."""

from __future__ import annotations

from strongroom.datastores.protocol.profiles import ProfileItem

_NO_START = "the restored server does not start"
_OTHER = "queries answer differently"
_ACTS = "the copy acts on other servers"

ITEMS = (
    ProfileItem("max_connections, max_wal_senders, max_worker_processes", "carried", "kept", "fewer clients than before"),
    ProfileItem("max_prepared_transactions, max_locks_per_transaction", "carried", "kept", _NO_START),
    ProfileItem("prepared transactions", "warned", "warned", "they hold their locks for ever"),
    ProfileItem("WAL segment size (min_wal_size, max_wal_size)", "carried", "kept", _NO_START),
    ProfileItem("block size, segment size", "refused", "refused", "pages are misread"),
    ProfileItem("machine, catalog version", "compared", "compared", _NO_START),
    ProfileItem("release of the time zones", "warned", "warned", "indexes and partitions by local time are wrong"),
    ProfileItem("Unicode rules of builtin locales", "unaffected", "unaffected", "they are part of the series"),
    ProfileItem("data_checksums", "unaffected", "unaffected", "an incremental of blocks lacks changes"),
    ProfileItem("custom WAL resource managers", "carried", "kept", _NO_START),
    ProfileItem("shared_preload_libraries", "carried", "kept", "tables of their extensions cannot be used"),
    ProfileItem("extensions, access methods, libraries", "compared", "unaffected", "tables and functions cannot be used"),
    ProfileItem("background workers", "disabled", "kept", _ACTS),
    ProfileItem("foreign servers", "warned", "kept", _ACTS),
    ProfileItem("subscriptions", "disabled", "warned", "the copy takes the rows of the real subscriber"),
    ProfileItem("replication slots", "warned", "warned", "consumers lose their place"),
    ProfileItem("archive_mode, archive_command", "disabled", "kept", "the WAL of the source is overwritten in its archive"),
    ProfileItem("timeline", "unaffected", "kept", "two histories have the same name in the archive"),
    ProfileItem("synchronous_standby_names", "disabled", "kept", "the first commit waits for ever"),
    ProfileItem("bootstrap superuser", "carried", "kept", "the new instance cannot be managed"),
    ProfileItem("md5 passwords", "carried", "kept", "users cannot log in"),
    ProfileItem("login methods", "warned", "kept", "users cannot log in"),
    ProfileItem("settings of roles and databases", "unaffected", "unaffected", "backups are shut out"),
    ProfileItem("wal_level, track_commit_timestamp", "carried", "kept", "logical replication does not work"),
    ProfileItem("TimeZone, DateStyle, lc_*, default_text_search_config, search_path and their like", "carried", "kept", _OTHER),
    ProfileItem("other settings", "warned", "kept", _OTHER),
    ProfileItem("settings that wait for a restart", "unaffected", "warned", _OTHER),
    ProfileItem("fsync, full_page_writes", "unaffected", "kept", "a crash damages the database"),
    ProfileItem("collations of databases and columns", "warned", "unaffected", "indexes on text are wrong"),
    ProfileItem("unlogged tables and sequences", "warned", "warned", "they are empty"),
    ProfileItem("databases", "warned", "warned", "what they need is unknown"),
    ProfileItem("cluster managers", "unaffected", "refused", "the manager fails over while the data is replaced"),
    ProfileItem("encryption of data", "refused", "refused", "tables cannot be read"),
    ProfileItem("tablespaces", "placed", "placed", "tables cannot be read"),
    ProfileItem("pg_wal as a link", "placed", "placed", "the WAL is on another disk than before"),
    ProfileItem("links in the data directory", "refused", "refused", "a database is missing"),
    ProfileItem("unreadable files", "refused", "refused", "the backup fails"),
    ProfileItem("mount points", "warned", "refused", "the data directory cannot be renamed"),
    ProfileItem("configuration, certificates and other files in the data directory", "warned", "kept", "old ones come back"),
)
