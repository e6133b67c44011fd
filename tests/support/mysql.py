"""Real MySQL servers in a test's own place: like those of MariaDB, of which they have all but the version."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from strongroom.artifact import Profile
from strongroom.datastores import RestoredProfile, Server, get, write_restored_profile
from support import mariadb
from support.identity import run_as
from support.mariadb import FileLink, MariaDBServer, scratch
from support.mysql_programs import version

driver = get("mysql")
MySQLServer = MariaDBServer


def make(place: Path, pool: str | None, **options: Any) -> MySQLServer:
    """See ``mariadb.make``. The test is skipped when MySQL cannot be had."""
    return mariadb.make(place, pool, of=version(), **options)


def running(place: Path, pool: str | None, **options: Any) -> AbstractContextManager[MySQLServer]:
    """A new server that runs, stopped at the end."""
    return mariadb.running(place, pool, of=version(), **options)


def restore_copy(server: Server, chain: list[FileLink], work_dir: Path) -> None:
    """What a restore job leaves for a copy with a new name; to be called by ``run_as``."""
    driver.restores.restore(server.version, chain, server.data_dir, work_dir, len)
    profile = chain[-1].profile or Profile()
    write_restored_profile(server.data_dir, RestoredProfile(profile=profile, isolated=True))


def rehearse(server: Server, work_dir: Path, profile: Profile | None) -> int:
    """How many tables a rehearsal reads; to be called by ``run_as``."""
    return driver.profiles.rehearse(server.version, server.data_dir, work_dir, profile).tables


def restored(chain: list[FileLink], place: Path, name: str = "copy", pool: str | None = None, number: int = 1) -> MySQLServer:
    """A server with a new name on the restored chain, as a job leaves it, not started yet."""
    other = make(place, pool, name=name, number=number)
    shutil.rmtree(other.data_dir)
    scratch(other.server.base_dir, "data")
    work_dir = scratch(place, f"restore-{name}")
    run_as(other.server.user, restore_copy, other.server, chain, work_dir)
    return other
