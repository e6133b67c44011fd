"""Settings that a restored server takes from its source: their names, and the values that are allowed in a backup."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.artifact import Profile

Options = dict[str, str]


@dataclass(frozen=True, slots=True)
class Setting:
    """A system variable that is carried to a new server if its whole value matches ``pattern``."""

    name: str
    pattern: str
    option: str = ""
    """Its name in an option file, if that differs."""
    demanded: bool = False
    """With another value the data cannot be served or is not found."""


_SWITCH = "ON|OFF|0|1"
_NUMBER = r"\d{1,20}"
_DECIMAL = r"\d{1,10}(\.\d{1,6})?"
_WORD = r"[A-Za-z0-9_-]{1,64}"
_WORDS = r"([A-Za-z0-9_]{1,64}(,[A-Za-z0-9_]{1,64})*)?"
_SIZE = r"\d{1,12}[KMG]?"
_FILE = rf"[A-Za-z0-9_-]{{1,64}}:{_SIZE}"
_ZONE = r"SYSTEM|[+-]\d{2}:\d{2}|[A-Za-z][A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}"
_COLLATIONS = r"([A-Za-z0-9_]{1,32}=[A-Za-z0-9_]{1,64}(,[A-Za-z0-9_]{1,32}=[A-Za-z0-9_]{1,64})*)?"
_ISOLATION = "READ-UNCOMMITTED|READ-COMMITTED|REPEATABLE-READ|SERIALIZABLE"

DEMANDED = (
    Setting("innodb_page_size", "4096|8192|16384|32768|65536", demanded=True),
    Setting(
        "innodb_data_file_path", rf"{_FILE}(;{_FILE}){{0,62}}(:autoextend(:max:{_SIZE})?)?", demanded=True
    ),  # raw devices and paths do not match
    Setting("lower_case_table_names", "0|1|2", demanded=True),
    Setting("aria_block_size", "1024|2048|4096|8192|16384|32768", "aria-block-size", demanded=True),
)
ANSWERS = (
    Setting("alter_algorithm", "DEFAULT|COPY|INPLACE|NOCOPY|INSTANT"),
    Setting("auto_increment_increment", _NUMBER),
    Setting("auto_increment_offset", _NUMBER),
    Setting("autocommit", _SWITCH),
    Setting("character_set_collations", _COLLATIONS),
    Setting("character_set_filesystem", _WORD),
    Setting("character_set_server", _WORD),
    Setting("check_constraint_checks", _SWITCH),
    Setting("collation_server", _WORD),
    Setting("concurrent_insert", "NEVER|AUTO|ALWAYS"),
    Setting("default_password_lifetime", _NUMBER),
    Setting("default_regex_flags", _WORDS),
    Setting("default_storage_engine", "InnoDB|Aria|MyISAM|MEMORY|CSV|MRG_MyISAM"),
    Setting("default_week_format", "[0-7]"),
    Setting("disconnect_on_expired_password", _SWITCH),
    Setting("div_precision_increment", _NUMBER),
    Setting("event_scheduler", "ON|OFF|DISABLED"),
    Setting("explicit_defaults_for_timestamp", _SWITCH),
    Setting("foreign_key_checks", _SWITCH),
    Setting("ft_boolean_syntax", r"[ +\-><()~*:\"&|!?@^%$#=/\\;,.]{14}"),
    Setting("ft_max_word_len", _NUMBER),
    Setting("ft_min_word_len", _NUMBER),
    Setting("ft_query_expansion_limit", _NUMBER),
    Setting("group_concat_max_len", _NUMBER),
    Setting("innodb_default_row_format", "redundant|compact|dynamic"),
    Setting("innodb_ft_enable_stopword", _SWITCH),
    Setting("innodb_ft_max_token_size", _NUMBER),
    Setting("innodb_ft_min_token_size", _NUMBER),
    Setting("innodb_ft_server_stopword_table", r"[A-Za-z0-9_$-]{1,64}/[A-Za-z0-9_$-]{1,64}"),
    Setting("innodb_rollback_on_timeout", _SWITCH),
    Setting("innodb_snapshot_isolation", _SWITCH),
    Setting("innodb_strict_mode", _SWITCH),
    Setting("lc_time_names", _WORD),
    Setting("log_bin_trust_function_creators", _SWITCH),
    Setting("low_priority_updates", _SWITCH),
    Setting("max_allowed_packet", _NUMBER),
    Setting("max_connections", _NUMBER),
    Setting("max_recursive_iterations", _NUMBER),
    Setting("max_sort_length", _NUMBER),
    Setting("max_sp_recursion_depth", _NUMBER),
    Setting("old_mode", _WORDS),
    Setting("sql_auto_is_null", _SWITCH),
    Setting("sql_if_exists", _SWITCH),
    Setting("sql_mode", _WORDS),
    Setting("standard_compliant_cte", _SWITCH),
    Setting("strict_password_validation", _SWITCH),
    Setting("system_versioning_alter_history", "ERROR|KEEP"),
    Setting("system_versioning_insert_history", _SWITCH),
    Setting("time_zone", _ZONE, "default-time-zone"),
    Setting("tx_isolation", _ISOLATION, "transaction-isolation"),
    Setting("unique_checks", _SWITCH),
    Setting("updatable_views_with_limit", "YES|NO"),
    Setting("use_stat_tables", "NEVER|COMPLEMENTARY|PREFERABLY|COMPLEMENTARY_FOR_QUERIES|PREFERABLY_FOR_QUERIES"),
)
GALERA = (
    Setting("wsrep_gtid_mode", _SWITCH),
    Setting("wsrep_gtid_domain_id", _NUMBER),
    Setting("wsrep_osu_method", "TOI|RSU"),
)
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in (*DEMANDED, *ANSWERS, *GALERA)}
STEADY = frozenset({setting.name for setting in DEMANDED} | {"encryption", "binlog_storage_engine"})
"""Settings that must not change during a backup. Other changes do not damage a backup, which consists of pages."""
# fmt: off
OF_INSTANCE = frozenset((
    "basedir", "bind_address", "datadir", "innodb_buffer_pool_size", "innodb_log_file_size", "key_buffer_size",
    "aria_pagecache_buffer_size", "log_bin", "log_error", "pid_file", "port", "server_id", "socket", "tmpdir",
    "performance_schema", "expire_logs_days", "binlog_expire_logs_seconds", "sync_binlog", "innodb_flush_log_at_trx_commit",
    "innodb_io_capacity", "innodb_io_capacity_max", "innodb_max_dirty_pages_pct_lwm", "binlog_format", "log_basename",
    "skip_networking", "skip_name_resolve", "local_infile", "version", "version_comment", "hostname", "lc_messages_dir",
    "character_sets_dir", "open_files_limit", "table_open_cache", "pseudo_thread_id", "last_gtid", "gtid_binlog_pos",
    "gtid_binlog_state", "gtid_slave_pos", "gtid_current_pos", "innodb_autoinc_lock_mode", "log_slave_updates",
    "thread_handling", "core_file", "user", "large_pages", "slow_query_log_file", "general_log_file", "log_bin_index",
    "log_bin_basename", "relay_log", "relay_log_index", "relay_log_basename", "innodb_data_home_dir",
    "innodb_log_group_home_dir", "innodb_undo_directory", "aria_log_dir_path", "plugin_dir", "init_file",
    "file_key_management_filename", "file_key_management_filekey", "gtid_domain_id", "innodb_undo_tablespaces",
    "innodb_fast_shutdown",
))
# fmt: on
"""Sizes, places and identities, of which each instance has its own."""


def refused_values(settings: Mapping[str, str]) -> list[str]:
    """Demanded settings whose value is not possible on a new server: a raw device, or files with paths."""
    return [s.name for s in DEMANDED if s.name in settings and not re.fullmatch(s.pattern, settings[s.name])]


def select_carried(profile: Profile, *, isolated: bool, galera: bool) -> Options:
    """Options for a server on restored data. The profile is hostile, so names and values must match the list."""
    options: Options = {}
    for name, value in profile.settings.items():
        setting = SETTINGS.get(name)
        if setting is None or not re.fullmatch(setting.pattern, value) or (setting in GALERA and not galera):
            continue
        if name == "event_scheduler" and (isolated or value != "ON"):
            continue
        if name == "time_zone" and value == "SYSTEM":
            continue
        option = setting.option or name
        # A server of another release may not know one of them, which must not prevent its start.
        options[option if setting.demanded else f"loose-{option}"] = value
    return options


def select_demanded(settings: Mapping[str, str]) -> Options:
    """The options without which the data cannot be read, with their values."""
    return {
        setting.option or setting.name: settings[setting.name]
        for setting in DEMANDED
        if setting.name in settings and re.fullmatch(setting.pattern, settings[setting.name])
    }
