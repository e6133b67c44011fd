"""Servers of owners, and copies of them, with their profiles."""

from __future__ import annotations

from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores import RestoredProfile, Server, Version, write_restored_profile
from support.identity import run_as
from support.own_postgresql import OwnPostgreSQL
from support.postgresql import PostgreSQLServer, backup, driver, restore, scratch, version


def adopted(own: OwnPostgreSQL, place: Path, credentials: Path | None = None, of: Version | None = None) -> Server:
    """The owner's server as we know it."""
    base = scratch(place, "adopted")
    return Server(
        id="id-own",
        name="own",
        datastore="postgresql",
        runtime="adopted",
        user=own.user,
        base_dir=base,
        data_dir=own.data,
        socket=own.run / ".s.PGSQL.5432",
        version=of or version(),
        credentials_file=credentials,
        start_command=[str(own.start)],
        stop_command=[str(own.stop)],
    )


def copy_of(source: PostgreSQLServer, place: Path, name: str, *, isolated: bool = True) -> tuple[Server, Profile]:
    """A new server on a full backup of ``source``, with its profile, as the worker leaves it."""
    profile = run_as(source.server.user, driver.profiles.read, source.server)
    full = backup(source, place, f"full-{name}")
    full.profile = profile
    server = restore(full, place, name)
    run_as(server.user, write_restored_profile, server.data_dir, RestoredProfile(profile=profile, isolated=isolated))
    return server, profile
