"""Compares the profile of the source with the target of a restore."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator
from typing import Literal

import psycopg

from strongroom.artifact import Collation, Notice, Profile
from strongroom.datastores.postgresql.files import tablespaces
from strongroom.datastores.postgresql.profile import carry, collations, installation
from strongroom.datastores.postgresql.profile.notices import list_strings, name_some
from strongroom.datastores.postgresql.server.connection import connect, query
from strongroom.datastores.protocol.profiles import RestoreTarget
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import StrongroomError

_PROVIDERS: dict[str, Literal["libc", "icu", "builtin"]] = {"c": "libc", "i": "icu", "b": "builtin"}


def compare(profile: Profile, target: RestoreTarget) -> list[Notice]:
    """See ``Profiles.compare``."""
    return list(_compare(profile, target))


def _compare(profile: Profile, target: RestoreTarget) -> Iterator[Notice]:
    yield from _compare_host(profile, target.version)
    if target.server is not None and target.server.is_adopted:
        yield from _compare_owner(profile, target.server)
    else:
        yield from _compare_libraries(profile, target.version)
    yield from _compare_in_place(profile) if target.in_place else _compare_new(profile)
    if target.server is not None:
        yield from _compare_places(profile, target.server, target.chosen)


def _compare_places(profile: Profile, server: Server, chosen: Collection[str]) -> Iterator[Notice]:
    """Directories that are outside the data directory at the source and will be inside it."""
    moved = [
        f"{space.name} ({space.location})"
        for space in tablespaces.list_in_profile(profile)
        if space.is_outside and not (server.data_dir / space.path).is_symlink() and not {space.name, space.location} & {*chosen}
    ]
    if moved:
        yield Notice(
            item="tablespaces",
            effect="warn",
            message=f"tablespaces that lay elsewhere come into the data directory: {name_some(moved)}",
            remedy="A restore to a new instance takes `--tablespace NAME=DIRECTORY`.",
        )
    if "pg_wal" in profile.outside and not (server.data_dir / "pg_wal").is_symlink():
        yield Notice(
            item="pg_wal as a link",
            effect="warn",
            message=f"the WAL, which lay in {profile.outside['pg_wal']}, comes into the data directory",
        )


def _compare_host(profile: Profile, version: Version) -> Iterator[Notice]:
    machine = profile.facts.get("machine")
    if machine is not None and machine != platform.machine():
        yield Notice(
            item="machine, catalog version",
            effect="warn",
            message=f"the backup was taken on {machine}, and this host is {platform.machine()}: the server may refuse the data, "
            "and indexes of some extensions may be wrong",
            remedy="REINDEX the databases after the restore.",
        )
    catalogs, here = profile.facts.get("catalog_version"), installation.read_catalog_version(version.programs["server"])
    if isinstance(catalogs, int) and here is not None and catalogs != here:
        yield Notice(
            item="machine, catalog version",
            effect="refuse",
            message=f"the backup has catalogs of version {catalogs}, and PostgreSQL {version.number} here reads {here} only",
            remedy="Install the version that the backup was taken from: betas and release candidates of a series differ.",
        )
    zones, installed = profile.facts.get("time_zones"), installation.read_zones_version(version.programs["server"])
    if zones and installed and zones != installed and (names := list_strings(profile.facts, "by_time_zone")):
        yield Notice(
            item="release of the time zones",
            effect="warn",
            message=f"the time zones here are of release {installed}, those of the backup's server were of {zones}; values "
            f"computed with them may be wrong: {name_some(names)}",
            remedy="REINDEX these indexes, and check that the rows of these tables are in the right partitions.",
        )
    found = []
    for text in list_strings(profile.facts, "column_collations"):
        provider, _, rest = text.partition(" ")
        name, _, number = rest.partition(" ")
        if provider in _PROVIDERS:
            found.append(Collation(provider=_PROVIDERS[provider], locale=name, version=number or None))
    for sentence in collations.find_differences(version.programs["server"], found):
        yield Notice(item="collations of databases and columns", effect="warn", message=sentence)


def _compare_owner(profile: Profile, server: Server) -> Iterator[Notice]:
    """An adopted server keeps its configuration, which must support what the data contains."""
    try:
        with connect(server, timeout=5, patience=10) as connection:
            rows = query(connection, "SELECT name, setting::bigint FROM pg_settings WHERE name = ANY(%s)", list(carry.AT_LEAST))
    except (StrongroomError, psycopg.Error):
        return  # it is stopped: its start shows what it supports; if it fails, the previous data is put back
    prepared = any(notice.item == "prepared transactions" for notice in profile.notices)
    for name, value in rows:
        wanted = carry.read_number(profile, name, carry.AT_LEAST[name])
        if wanted is not None and value < wanted and name in ("max_prepared_transactions", "max_locks_per_transaction"):
            yield Notice(
                item="max_prepared_transactions, max_locks_per_transaction",
                effect="refuse_in_place" if prepared else "warn",
                message=f"{name} is {value} now and was {wanted} when the backup was taken",
                remedy=f"ALTER SYSTEM SET {name} = {wanted}; then restart the server.",
            )


def _compare_libraries(profile: Profile, version: Version) -> Iterator[Notice]:
    missing = [name for name in carry.list_wanted_libraries(profile) if not carry.has_library(version, name)]
    managers = list_strings(profile.facts, "wal_resource_managers")
    if missing:
        yield Notice(
            item="custom WAL resource managers" if managers else "shared_preload_libraries",
            effect="refuse" if managers else "warn",
            message=f"preloaded libraries of the source are not installed on this host: {name_some(missing)}",
            remedy="Install the packages of these extensions first.",
        )
    libraries = [name.rpartition("/")[2].removesuffix(".so") for name in list_strings(profile.facts, "libraries")]
    lacking = sorted({name for name in libraries if name and not carry.has_library(version, name)} - set(missing))
    if lacking:
        yield Notice(
            item="extensions, access methods, libraries",
            effect="warn",
            message=f"libraries that functions or tables use are not installed on this host: {name_some(lacking)}",
            remedy="Install the packages of these extensions; until then what uses them fails.",
        )


def _compare_in_place(profile: Profile) -> Iterator[Notice]:
    facts = profile.facts
    if subscriptions := list_strings(facts, "subscriptions"):
        yield Notice(
            item="subscriptions",
            effect="warn",
            message=f"the subscriptions {name_some(subscriptions)} continue at the position of their publisher: changes that it "
            "sent after the backup are lost",
            remedy="Create these subscriptions again, with a copy of the tables.",
        )
    if facts.get("archive_mode") in ("on", "always"):
        yield Notice(
            item="timeline",
            effect="warn",
            message="the server continues in a new timeline, which its archive does not contain yet",
            remedy="Take a full backup after the restore.",
        )
    if facts.get("synchronous_standby_names") is True:
        yield Notice(
            item="synchronous_standby_names",
            effect="warn",
            message="commits wait for standbys that have to be built again after the restore",
            remedy="ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf(); until they are there.",
        )


def _compare_new(profile: Profile) -> Iterator[Notice]:
    facts = profile.facts
    if withheld := carry.list_withheld(profile):
        yield Notice(
            item="background workers",
            effect="warn",
            message=f"libraries that may act on their own are not loaded in the copy: {name_some(withheld)}",
            remedy="`strongroom instance activate` loads those that are installed.",
        )
    if servers := list_strings(facts, "foreign_servers"):
        yield Notice(
            item="foreign servers",
            effect="warn",
            message=f"the copy can reach other servers when a query or a trigger uses them: {name_some(servers)}",
            remedy="ALTER SERVER … OPTIONS (SET host …) before the copy is used.",
        )
    if facts.get(carry.MD5) is True:
        yield Notice(
            item="md5 passwords",
            effect="warn",
            message="roles have md5 passwords: the new instance accepts md5 as well as scram-sha-256",
            remedy="Set these passwords again, to have them stored as scram-sha-256.",
        )
    if facts.get("archive_mode") in ("on", "always"):
        yield Notice(item="archive_mode, archive_command", effect="warn", message="the new instance archives no WAL")
    if names := list_strings(facts, "not_carried"):
        yield Notice(
            item="other settings", effect="warn", message=f"settings of the source that the copy does not get: {name_some(names)}"
        )
