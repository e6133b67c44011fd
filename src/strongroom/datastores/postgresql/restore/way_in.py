"""Gives Strongroom a login to restored data without a known superuser that can log in: in single-user mode, which needs none."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.postgresql.profile import carry
from strongroom.datastores.postgresql.restore.wal import find_file_size
from strongroom.datastores.postgresql.server import superuser
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ToolFailed
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

_ROLE = "strongroom"
_SIGNAL = "recovery.signal"
_REMEDY = "Restore another backup, or look into the log."


def is_needed(profile: Profile | None) -> bool:
    """Whether no superuser is known, or the WAL may have records of libraries that an isolated copy must not load.

    In single-user mode, a server loads these libraries and replays the records without starting their workers.
    """
    return superuser.find_in_profile(profile) is None or bool(profile is not None and profile.facts.get("wal_resource_managers"))


def admit(version: Version, data_dir: Path, work_dir: Path, profile: Profile | None) -> str:
    """Find a superuser that can log in, or create one. Its name is recorded in the data directory and returned.

    This also replays the WAL of the backup. Raises ToolFailed.
    """
    found = _ask(
        version,
        data_dir,
        work_dir,
        profile,
        "SELECT 'role ' || encode(textsend(rolname::text), 'hex') ||"
        " CASE WHEN rolcanlogin AND rolsuper THEN ' yes' ELSE ' no' END FROM pg_authid ORDER BY oid",
        r'"role ((?:[0-9a-f]{2})+) (yes|no)"',
    )
    names = {bytes.fromhex(name).decode("utf-8", "surrogateescape"): usable == "yes" for name, usable in found}
    if not names:
        raise ToolFailed("the restored data has no roles", remedy=_REMEDY)
    name = next((name for name, usable in names.items() if usable and superuser.is_usable(name)), None)
    if name is None:
        name = _ROLE if _ROLE not in names else f"{_ROLE}_{secrets.token_hex(4)}"
        made = _ask(
            version,
            data_dir,
            work_dir,
            profile,
            f"CREATE ROLE {name} SUPERUSER LOGIN\nSELECT 'made ' || rolname FROM pg_roles WHERE rolname = '{name}' AND rolsuper",
            r'"(made) (\w+)"',
        )
        if not made:
            raise ToolFailed(f"the superuser {name} could not be made in the restored data", remedy=_REMEDY)
    superuser.remember(data_dir, name)
    return name


def _ask(
    version: Version, data_dir: Path, work_dir: Path, profile: Profile | None, sql: str, pattern: str
) -> list[tuple[str, str]]:
    """The output of a server in single-user mode for ``sql``, one statement per line."""
    owner = find_owner(data_dir)
    config, question, log = work_dir / "way_in.conf", work_dir / "way_in.sql", work_dir / f"way_in-{secrets.token_hex(4)}.log"
    write_file(config, make_settings(profile, data_dir, version), owner)
    write_file(question, sql + "\n", owner)
    argv: list[str | Path] = [version.programs["server"], "--single", "-D", data_dir, "-c", f"config_file={config}"]
    with question.open("rb") as stdin:
        tool = Tool([*argv, "template1"], log, stdin=stdin.fileno())
    try:
        tool.check()
    finally:
        tool.abort(0)
    if (data_dir / _SIGNAL).exists():
        raise ToolFailed("the WAL of the backup could not be replayed", remedy=_REMEDY)
    return re.findall(pattern, log.read_text(encoding="utf-8", errors="replace"))


def make_settings(profile: Profile | None, data_dir: Path, version: Version) -> str:
    """Settings of a private server that archives nothing and starts no workers."""
    return (
        "archive_mode = off\n"
        "max_logical_replication_workers = 0\n"
        "synchronous_standby_names = ''\n"
        "hot_standby = off\n"
        "shared_buffers = 128MB\n"
        "fsync = off\n"  # everything is synced once, after success
        "lc_messages = 'C'\n"
        "log_timezone = 'UTC'\n"
    ) + carry.format_recovery_settings(profile, find_file_size(data_dir / "pg_wal"), version)
