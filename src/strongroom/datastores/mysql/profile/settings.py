"""Settings that a restored server takes over: an allowlist of names and types, since backups are hostile input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SWITCH = r"ON|OFF|0|1"
_NUMBER = r"\d{1,20}"
_WORD = r"[A-Za-z0-9_]{1,64}"
_FILE = r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,16})?:\d{1,16}[KMG]?"

DEMANDED = {
    "lower_case_table_names": "[012]",
    "innodb_page_size": "4096|8192|16384|32768|65536",
    "innodb_data_file_path": rf"{_FILE}(;{_FILE})*(:autoextend(:max:\d{{1,16}}[KMG]?)?)?",
}
"""Settings without which a server does not start on the data. They never change during the life of the data."""
REPLAYED = {
    "partial_revokes": _SWITCH,
    "innodb_default_row_format": "dynamic|compact|redundant",
    "default_storage_engine": "InnoDB|MyISAM|MEMORY|CSV|ARCHIVE|BLACKHOLE",
    "innodb_ft_min_token_size": _NUMBER,
    "innodb_ft_max_token_size": _NUMBER,
    "innodb_ft_enable_stopword": _SWITCH,
    "innodb_ft_server_stopword_table": r"[A-Za-z0-9_]{1,64}/[A-Za-z0-9_]{1,64}|",
    "ngram_token_size": _NUMBER,
}
"""Settings that a replay depends on and the binary log does not contain: they must not change within a chain."""
_ANSWERS = {
    "auto_increment_increment": _NUMBER,
    "auto_increment_offset": _NUMBER,
    "activate_all_roles_on_login": _SWITCH,
    "block_encryption_mode": r"[a-z0-9-]{1,32}",
    "character_set_filesystem": _WORD,
    "character_set_server": _WORD,
    "collation_server": _WORD,
    "cte_max_recursion_depth": _NUMBER,
    "default_collation_for_utf8mb4": "utf8mb4_0900_ai_ci|utf8mb4_general_ci",
    "default_password_lifetime": _NUMBER,
    "default_table_encryption": _SWITCH,
    "default_tmp_storage_engine": "InnoDB|MyISAM|MEMORY",
    "default_week_format": "[0-7]",
    "div_precision_increment": _NUMBER,
    "event_scheduler": _SWITCH,
    "explicit_defaults_for_timestamp": _SWITCH,
    "ft_boolean_syntax": r"[ -~]{14}",
    "ft_max_word_len": _NUMBER,
    "ft_min_word_len": _NUMBER,
    "group_concat_max_len": _NUMBER,
    "innodb_autoinc_lock_mode": "[012]",
    "innodb_file_per_table": _SWITCH,
    "innodb_rollback_on_timeout": _SWITCH,
    "innodb_strict_mode": _SWITCH,
    "lc_time_names": _WORD,
    "log_bin_trust_function_creators": _SWITCH,
    "mandatory_roles": r"[A-Za-z0-9_@%.,`' -]{0,2000}",
    "max_allowed_packet": _NUMBER,
    "mysql_native_password": "ON",
    "password_history": _NUMBER,
    "password_require_current": _SWITCH,
    "password_reuse_interval": _NUMBER,
    "regexp_time_limit": _NUMBER,
    "require_secure_transport": _SWITCH,
    "restrict_fk_on_non_standard_key": _SWITCH,
    "skip_name_resolve": _SWITCH,
    "sql_generate_invisible_primary_key": _SWITCH,
    "sql_mode": "[A-Z_,]{0,1000}",
    "sql_require_primary_key": _SWITCH,
    "table_encryption_privilege_check": _SWITCH,
    "time_zone": r"SYSTEM|[+-]\d{2}:\d{2}|[A-Za-z0-9_+/-]{1,64}",
    "transaction_isolation": "[A-Z-]{1,32}",
    "windowing_use_high_precision": _SWITCH,
}
"""Settings that change the effect or the result of statements."""
CARRIED = DEMANDED | REPLAYED | _ANSWERS
_OPTIONS = {"time_zone": "default_time_zone"}
"""Names of options that differ from those of their variables."""
_STATEMENTS = {"default_collation_for_utf8mb4"}
"""Settings without an option."""
_SIZES_AND_PLACES = re.compile(
    r"(basedir|datadir|socket|pid_file|port|bind_address|tmpdir|plugin_dir|lc_messages_dir|log_error|general_log_file|report_\w+"
    r"|slow_query_log_file|secure_file_priv|character_sets_dir|server_(id|uuid)|log_bin\w*|binlog_\w+|relay_log\w*|sync_\w+"
    r"|gtid_mode|enforce_gtid_consistency|mysqlx\w*|admin_\w+|skip_networking|local_infile|user|clone_\w+|performance_schema\w*"
    r"|innodb_(buffer_pool|redo_log|log_|flush|io_|doublewrite|directories|undo_directory|data_home|temp_|use_native_aio)\w*"
    r"|(ssl|tls)_\w+|table_(open|definition)_cache\w*|thread_\w+|back_log|open_files_limit|init_file|hostname|foreground"
    r"|log_(replica|slave)_updates|replica_\w+|slave_\w+|skip_(replica|slave)_start|persisted_globals_load|event_scheduler)"
)
"""Settings that do not matter to the data, or that Strongroom sets: it is not reported that they are not carried."""


def filter_settings(settings: Mapping[str, object], names: Iterable[str] = CARRIED) -> dict[str, str]:
    """The settings in ``names`` whose value has the right type; all others are left out."""
    found = {name: str(settings[name]) for name in names if name in settings}
    return {name: value for name, value in found.items() if re.fullmatch(CARRIED[name], value)}


def make_options(settings: Mapping[str, object]) -> dict[str, str]:
    """Options of an option file. Those that a newer server may not have are marked as ``loose``."""
    return {
        (name if name in DEMANDED else f"loose_{_OPTIONS.get(name, name)}"): value
        for name, value in filter_settings(settings, CARRIED.keys() - _STATEMENTS).items()
    }


def make_statements(settings: Mapping[str, object]) -> str:
    """Statements for the other settings, which a server runs at its start."""
    return "".join(f"SET GLOBAL {name} = {value};\n" for name, value in filter_settings(settings, _STATEMENTS).items())


def is_reported(name: str) -> bool:
    """Whether a setting differs from its default, is not carried, and should be reported."""
    return name not in CARRIED and not _SIZES_AND_PLACES.fullmatch(name)
