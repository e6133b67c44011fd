"""Every supported series once: full, incremental, profile, rehearsal, restore; and what is new in 19."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.artifact import Profile
from strongroom.datastores import BackupRequest, Server, Version, discover
from strongroom.datastores.postgresql.server import versions
from strongroom.datastores.protocol.profiles import RestoreTarget
from strongroom.errors import LineageChanged
from support import postgresql_debian, postgresql_versions
from support.identity import run_as
from support.postgresql import backup, checksums, driver, fill, restore, running, scratch, started

SERIES: list[Callable[[], Version]] = [
    pytest.param(lambda: postgresql_versions.version("16"), id="16"),  # type: ignore[list-item]
    pytest.param(lambda: postgresql_debian.version("17"), id="17"),  # type: ignore[list-item]
    pytest.param(lambda: postgresql_versions.version("18"), id="18"),  # type: ignore[list-item]
    pytest.param(lambda: postgresql_debian.version("19"), id="19"),  # type: ignore[list-item]
]


@pytest.mark.parametrize("find", SERIES)
def test_a_chain_of_each_series_is_restored_and_rehearsed(place: Path, find: Callable[[], Version]) -> None:
    of = find()
    with running(place, of=of) as source:
        source.sql("CREATE DATABASE db1", "postgres")
        with source.connect() as connection:
            fill(connection, 300)
            connection.execute("CREATE TABLE seen (at timestamptz)")
            connection.execute("CREATE TABLE part (at timestamptz) PARTITION BY RANGE (at)")
            connection.execute("CREATE TABLE part_1 PARTITION OF part DEFAULT")
            for table, index in (("seen", "by_day"), ("part", "part_by_day")):
                connection.execute(f"CREATE INDEX {index} ON {table} (((at AT TIME ZONE 'Europe/Berlin')::date))".encode())
        full = backup(source, place)
        source.sql("UPDATE customers SET name = 'changed' WHERE id % 10 = 0")
        profile = run_as(source.server.user, driver.profiles.read, source.server)
        incremental = backup(source, place, "incremental", full)
        incremental.profile = profile
        assert (incremental.positions.blocks_from is not None) == (int(of.series) >= 17)
        with source.connect() as connection:
            data = checksums(connection)
    assert not profile.stopping("refuse", "refuse_new", "refuse_in_place"), profile.notices
    assert differences_here(profile, of) == []
    catalogs = profile.facts["catalog_version"]
    assert isinstance(catalogs, int)
    assert differences_here(profile, of, catalog_version=catalogs + 1) == [("refuse", "machine, catalog version")]
    if profile.facts["time_zones"] is not None:  # the programs use those of the host
        assert differences_here(profile, of, time_zones="1999a") == [("warn", "release of the time zones")]
        assert profile.facts["by_time_zone"] == ["db1.by_day", "db1.part_by_day"]
    target, work = scratch(place, "target"), scratch(place, "work")
    run_as(source.server.user, driver.restores.restore, of, [full, incremental], target, work, str)
    assert run_as(source.server.user, driver.profiles.rehearse, of, target, work, profile).tables > 200
    with started(restore([full, incremental], place, "copy", of=of)) as copy, copy.connect() as connection:
        assert checksums(connection) == data
        assert not [n for n in driver.profiles.check(copy.server, profile, isolated=True) if n.effect != "warn"]


def differences_here(profile: Profile, of: Version, **facts: int | str) -> list[tuple[str, str]]:
    """What a restore of a backup with these facts meets at this host."""
    changed = profile.model_copy(update={"facts": profile.facts | facts})
    found = driver.profiles.compare(changed, RestoreTarget(of, None, in_place=False))
    return [(notice.effect, notice.item) for notice in found if notice.item != "other settings"]


def test_a_locked_table_hides_nothing_else_of_its_database(place: Path) -> None:
    with running(place) as source:
        source.sql("CREATE DATABASE db1", "postgres")
        source.sql("CREATE TABLE seen (at timestamptz)")
        source.sql("CREATE INDEX by_day ON seen (((at AT TIME ZONE 'Europe/Berlin')::date))")
        with source.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE seen")
            profile = run_as(source.server.user, driver.profiles.read, source.server)
    assert profile.facts["by_time_zone"] == ["db1 (which could not be looked into)"]
    assert (profile.tables or {})["heap"] >= 1
    assert not [notice for notice in profile.notices if notice.item == "databases"]


def test_enabling_or_disabling_checksums_prevents_an_incremental(place: Path) -> None:
    """Offline here: 19rc1 cannot do it while the server runs, as announced for 19; yet its states are distinguished."""
    of = postgresql_debian.version("17")
    with running(place, of=of) as source:
        source.sql("CREATE DATABASE db1", "postgres")
        before = run_as(source.server.user, driver.profiles.read, source.server)
        full = backup(source, place)
        assert full.pages is not None and before.facts["data_checksums"] == "on"
        source.sql("ALTER SYSTEM SET wal_log_hints = on", "postgres")
        source.end()
        run_as(source.server.user, switch_off, source.server)
        source.start()
        after = run_as(source.server.user, driver.profiles.read, source.server)
        assert backup(source, place, "unchecked").pages is None
        for now, then in ((after, before), (before, profile_of("inprogress-on")), (profile_of("inprogress-off"), before)):
            request = BackupRequest(
                "incremental", full.positions, place / "work", parent_file=full.read, profile=now, parent_profile=then
            )
            scratch(place, "work")
            with pytest.raises(LineageChanged, match=r"data_checksums of .* when the parent backup was taken"):
                run_as(source.server.user, driver.backups.begin, source.server, request)


def switch_off(server: Server) -> None:
    program = server.version.programs["server"].with_name("pg_checksums")
    subprocess.run([program, "--disable", "--pgdata", server.data_dir], check=True, stdout=subprocess.DEVNULL)


def profile_of(checksums: str) -> Profile:
    return Profile(facts={"data_checksums": checksums})


@pytest.mark.parametrize(
    ("said", "number", "series", "key"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18", "15", (15, 0, 18)),
        ("postgres (PostgreSQL) 19rc1 (Debian 19~rc1-1)", "19rc1", "19", (19, -1, 1)),
        ("postgres (PostgreSQL) 19beta3", "19beta3", "19", (19, -2, 3)),
        ("postgres (PostgreSQL) 20devel", "20devel", "20", (20, -3, 0)),
    ],
)
def test_versions_that_are_not_released_yet(tmp_path: Path, said: str, number: str, series: str, key: tuple[int, ...]) -> None:
    for name in versions.PROGRAMS.values():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    found = next(each for each in discover("postgresql", [tmp_path]) if each.programs["server"].parent == tmp_path)
    assert (found.number, found.series, versions.make_sort_key(found.number)) == (number, series, key)
    assert versions.extract_number(said.partition(") ")[2]) == number


def test_releases_are_newer_than_betas() -> None:
    numbers = ["19beta2", "18.6", "19.0", "19rc1", "20devel", "19.1", "19beta10"]
    assert sorted(numbers, key=versions.make_sort_key) == ["18.6", "19beta2", "19beta10", "19rc1", "19.0", "19.1", "20devel"]
