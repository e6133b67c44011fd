"""Settings of the source that the server of restored data gets: an allowlist with types, since a backup may be forged.

No path, command or code is taken from a backup. Libraries are loaded by name, from the library directory of the target.
"""

from __future__ import annotations

import locale
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.postgresql.server.superuser import FOUND
from strongroom.datastores.protocol.profiles import RestoredProfile, read_restored_profile
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.installed import ask_program

Options = dict[str, str | int | Path]
MD5 = "md5_passwords"
"""The fact whether roles have md5 passwords; null if the user may not read them."""
SEGMENT = "wal_segment_size"
PRELOAD = "shared_preload_libraries"
_ZONES = Path("/usr/share/zoneinfo")
_LARGEST = 262143


def _among(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


def _is_zone(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}", value) is not None and (_ZONES / value).is_file()


def _has_locale(value: str) -> bool:
    """Whether the host has the locale: a server does not start without it."""
    if re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", value) is None:
        return False
    before = locale.setlocale(locale.LC_COLLATE)
    try:
        locale.setlocale(locale.LC_COLLATE, value)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_COLLATE, before)
    return True


_switch = _among("on", "off")

AT_LEAST: Mapping[str, int] = {
    "max_connections": _LARGEST,
    "max_prepared_transactions": _LARGEST,
    "max_locks_per_transaction": 1 << 20,
    "max_pred_locks_per_transaction": 1 << 20,
    "max_wal_senders": _LARGEST,
    "max_worker_processes": _LARGEST,
    "max_replication_slots": _LARGEST,
}
"""Settings that the data requires: the server of restored data has at least these values. With the largest trusted value."""

AS_THERE: Mapping[str, Callable[[str], bool]] = {
    "wal_level": _among("replica", "logical"),
    "wal_log_hints": _switch,
    "track_commit_timestamp": _switch,
    "TimeZone": _is_zone,
    "DateStyle": _matches(r"(ISO|SQL|Postgres|German)(, (MDY|DMY|YMD))?"),
    "IntervalStyle": _among("postgres", "postgres_verbose", "sql_standard", "iso_8601"),
    "lc_monetary": _has_locale,
    "lc_numeric": _has_locale,
    "lc_time": _has_locale,
    "default_text_search_config": _matches(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?"),
    "default_transaction_isolation": _among("read committed", "repeatable read", "serializable", "read uncommitted"),
    "default_transaction_deferrable": _switch,
    "default_transaction_read_only": _switch,
    "default_toast_compression": _among("pglz", "lz4"),
    "search_path": _matches(r'(("\$user"|[a-z_][a-z0-9_]{0,62}|"[^"\\\n]{1,63}")(, ?|$)){1,50}'),
    "array_nulls": _switch,
    "backslash_quote": _among("safe_encoding", "on", "off"),
    "bytea_output": _among("hex", "escape"),
    "check_function_bodies": _switch,
    "escape_string_warning": _switch,
    "extra_float_digits": _matches(r"-?\d{1,2}"),
    "gin_fuzzy_search_limit": _matches(r"\d{1,10}"),
    "icu_validation_level": _among("disabled", "log", "notice", "warning", "error"),
    "lo_compat_privileges": _switch,
    "password_encryption": _among("scram-sha-256", "md5"),
    "quote_all_identifiers": _switch,
    "row_security": _switch,
    "standard_conforming_strings": _switch,
    "timezone_abbreviations": _among("Default", "Australia", "India"),
    "transform_null_equals": _switch,
    "xmlbinary": _among("base64", "hex"),
    "xmloption": _among("content", "document"),
}
"""Settings that change the server's answers: the same as at the source if this host supports the value."""

_QUIET = {
    "auto_explain": {},
    "pg_hint_plan": {},
    "pg_prewarm": {"pg_prewarm.autoprewarm": "off"},
    "pg_qualstats": {},
    "pg_stat_kcache": {},
    "pg_stat_statements": {},
    "pg_wait_sampling": {},
    "pgaudit": {},
    "plpgsql": {},
    "plpgsql_check": {},
    "set_user": {},
    "timescaledb": {"timescaledb.max_background_workers": "0", "timescaledb.telemetry_level": "off"},
}
"""Libraries that an isolated copy loads, with settings that keep them passive. Others may start active workers."""


def add_settings(options: Options, server: Server) -> Options:
    """Add to ``options`` what the data in the server's directory requires. Not for adopted servers. Raises ConfigurationError."""
    restored = read_restored_profile(server.data_dir)
    if restored is None:
        return options
    options = options | select_carried(restored.profile, server.version, options)
    libraries = list_preloaded(restored, server.version)
    if libraries:
        options[PRELOAD] = ",".join(libraries)
    if restored.isolated:
        options |= {"max_logical_replication_workers": 0, "synchronous_standby_names": "", "archive_mode": "off"}
        for library in libraries:
            options |= _QUIET.get(library, {})
    return options


def select_carried(profile: Profile, version: Version, options: Options) -> Options:
    """Options that the profile adds to ``options``, which contain Strongroom's own values."""
    found: Options = {}
    for name, most in AT_LEAST.items():
        value = read_number(profile, name, most)
        present = options.get(name)
        if value is not None and (not isinstance(present, int) or value > present):
            found[name] = value
    size = read_segment_size(profile) >> 20
    if size > 16:
        usual = re.fullmatch(r"(\d+)MB", str(options.get("max_wal_size", "")))
        found["min_wal_size"] = f"{2 * size}MB"
        found["max_wal_size"] = f"{max(4 * size, int(usual[1]) if usual else 0)}MB"
    for name, is_valid in AS_THERE.items():
        value_text = profile.settings.get(name)
        if value_text is not None and is_valid(value_text) and _is_known(name, version):
            found[name] = value_text
    return found


def read_number(profile: Profile, name: str, most: int) -> int | None:
    """A number from the profile; none if it is missing or implausible."""
    text = profile.settings.get(name, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text) and int(text) <= most else None


def read_segment_size(profile: Profile | None) -> int:
    """Size of a WAL file; 16 MiB if the profile does not contain it."""
    text = profile.settings.get(SEGMENT, "") if profile else ""
    size = int(text) if re.fullmatch(r"\d{7,10}", text) else 0
    return size if 1 << 20 <= size <= 1 << 30 and size & (size - 1) == 0 else 16 << 20


_SINCE = {"default_toast_compression": 14, "icu_validation_level": 16}


def _is_known(name: str, version: Version) -> bool:
    return int(version.series) >= _SINCE.get(name, 0)


def list_preloaded(restored: RestoredProfile, version: Version) -> list[str]:
    """Installed libraries that the server of restored data loads; in an isolated copy, only those known to be passive."""
    installed = [name for name in list_wanted_libraries(restored.profile) if has_library(version, name)]
    return [name for name in installed if name in _QUIET] if restored.isolated else installed


def list_withheld(profile: Profile) -> list[str]:
    """Libraries that an isolated copy does not load, since they may act independently."""
    return [name for name in list_wanted_libraries(profile) if name not in _QUIET]


def list_wanted_libraries(profile: Profile) -> list[str]:
    """Names of the source's preloaded libraries; entries that are not plain names are ignored."""
    return [name for name in profile.plugins if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name)]


def has_library(version: Version, name: str) -> bool:
    """Whether the server's library directory contains it."""
    return (find_library_dir(version.programs["server"]) / f"{name}.so").is_file()


@cache
def find_library_dir(program: Path) -> Path:
    """``$libdir`` of an installation."""
    said = ask_program(program.with_name("pg_config"), "--pkglibdir")
    if said is not None and Path(said.strip()).is_dir():
        return Path(said.strip())
    lib = program.parent.parent / "lib"
    return next((path for path in (lib / "postgresql", lib) if (path / "plpgsql.so").is_file()), lib)


def choose_password_method(data_dir: Path) -> str:
    """How users of restored data authenticate: scram, or also md5 if there are or may be md5 passwords."""
    restored = read_restored_profile(data_dir)
    if restored is None:
        return "md5" if (data_dir / FOUND).exists() else "scram-sha-256"
    return "scram-sha-256" if restored.profile.facts.get(MD5) is False else "md5"


def format_recovery_settings(profile: Profile | None, segment_size: int, version: Version) -> str:
    """Settings of a private server that replays a source's WAL: minimum values, and libraries with their own WAL records."""
    base: Options = {"max_wal_size": "128MB", "max_prepared_transactions": 1000}
    known = Profile(settings={SEGMENT: str(segment_size)}) if profile is None else profile
    options = base | {name: value for name, value in select_carried(known, version, base).items() if name not in AS_THERE}
    if profile is not None and profile.facts.get("wal_resource_managers"):
        libraries = [name for name in list_wanted_libraries(profile) if has_library(version, name)]
        options[PRELOAD] = ",".join(libraries)
    if profile is not None and profile.settings.get("track_commit_timestamp") == "on":
        options["track_commit_timestamp"] = "on"
    size = segment_size >> 20
    options |= {"min_wal_size": f"{max(2 * size, 32)}MB", "max_wal_size": f"{max(4 * size, 128)}MB"}
    return "".join(f"{name} = '{value}'\n" for name, value in options.items())
