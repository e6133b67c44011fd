"""Servers as people run them: what their profile says, and that a copy of them serves what they served. One line a case."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest

from strongroom.artifact import Notice, Profile
from strongroom.datastores import (
    Rehearsal,
    Restored,
    RestoredProfile,
    RestoreTarget,
    Version,
    get,
    write_restored_profile,
)
from strongroom.datastores.mariadb.profile import check as check_module
from strongroom.datastores.mariadb.profile.items import NAMES
from support import mariadb, own_mariadb
from support.identity import run_as, server_user
from support.mariadb import FileLink, MariaDBServer
from support.mariadb_cases import CASES, Case, T
from support.own_mariadb import OwnServer

driver = get("mariadb")
needs_plugins = pytest.mark.skipif(not own_mariadb.have_plugins(), reason="scripts/setup could not get the plugins")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_copy_serves_the_data_of_its_source(place: Path, case: Case) -> None:
    if case.plugins and not own_mariadb.have_plugins():
        pytest.skip("scripts/setup could not get the plugins")
    version = own_mariadb.with_plugins(place) if own_mariadb.have_plugins() else mariadb.version()
    with own_mariadb.running(
        place, options=case.options, groups=case.groups, directories=list(case.directories), fresh=case.fresh, of=version
    ) as own:
        run_sql(own, (*T, *case.sql))
        link = back_up(own, place)
        profile = link.profile
        assert profile is not None
        assert sorted({notice.item for notice in profile.notices}) == sorted(case.warns)
        assert {notice.item for notice in profile.notices} <= NAMES
        assert profile.plugins == list(case.plugins)
        answer, asked = own.sql(case.query) if case.query else [], ask(own, case.asks)
        checksums = own.checksums("d")
        assert not compare(profile, version)
        rehearsed = rehearse(place, "rehearsal", version, link)
        assert rehearsed.tables > len(checksums) and not rehearsed.warnings
    copy = start_copy(place, version, link)
    assert copy.checksums("d") == checksums
    assert (copy.sql(case.query) if case.query else []) == answer
    assert ask(copy, case.asks) == asked
    assert not [notice for notice in check(copy, profile) if notice.item not in ("events",)]
    copy.kill()


def run_sql(server: OwnServer, statements: Sequence[str]) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement.replace("{place}", str(server.server.base_dir)))


def ask(server: MariaDBServer, names: Sequence[str]) -> list[Any]:
    return [server.sql(f"SELECT @@GLOBAL.{name}")[0][0] for name in names]


def back_up(own: OwnServer, place: Path, name: str = "full", parent: FileLink | None = None) -> FileLink:
    profile = run_as(own.server.user, driver.profiles.read, own.server)
    assert not profile.stopping("refuse"), profile.notices
    link = mariadb.backup(own, place, name, parent)
    return replace(link, profile=profile)


def prepare(place: Path, name: str, version: Version, links: Sequence[FileLink]) -> Path:
    target, work = mariadb.scratch(place, name), mariadb.scratch(place, f"{name}-work")
    run_as(server_user(), _restore, version, links, target, work)
    return target


def _restore(version: Version, links: Sequence[FileLink], target: Path, work: Path) -> Restored:
    return driver.restores.restore(version, links, target, work, lambda phase: None)


def rehearse(place: Path, name: str, version: Version, link: FileLink) -> Rehearsal:
    target = prepare(place, name, version, [link])
    return run_as(server_user(), driver.profiles.rehearse, version, target, place / f"{name}-work", link.profile)


def compare(profile: Profile, version: Version) -> list[Notice]:
    return driver.profiles.compare(profile, RestoreTarget(version, None, in_place=False))


def start_copy(place: Path, version: Version, link: FileLink, name: str = "copy", *, isolated: bool = True) -> MariaDBServer:
    """As an agent would: prepared data, its profile beside it, and a configuration made from that."""
    copy = MariaDBServer(mariadb.describe(place, name, None, user=server_user(), of=version))
    mariadb.prepare_directories(copy.server)
    data = prepare(place, f"{name}-new", version, [link])
    shutil.rmtree(copy.data_dir)
    data.rename(copy.data_dir)
    write_restored_profile(copy.data_dir, RestoredProfile(profile=link.profile or Profile(), isolated=isolated))
    copy.start()
    return copy


def check(copy: MariaDBServer, profile: Profile, *, isolated: bool = True) -> list[Notice]:
    return driver.profiles.check(copy.server, profile, isolated=isolated)


def test_clients_that_hold_tables_of_a_restored_server_do_not_fail_it(place: Path) -> None:
    with own_mariadb.running(place) as own:
        own.sql("CREATE DATABASE d")
        own.sql("CREATE TABLE d.t (a INT PRIMARY KEY) PARTITION BY HASH(a) PARTITIONS 2")
        profile = run_as(own.server.user, driver.profiles.read, own.server)
        with own.connect() as client, client.cursor() as cursor:
            cursor.execute("LOCK TABLES d.t WRITE")
            notices = run_as(own.server.user, lambda: driver.profiles.check(own.server, profile, isolated=False))
        assert not [notice for notice in notices if notice.effect != "warn"]


def test_unreadable_properties_of_a_restored_server_are_only_warned_about() -> None:
    assert check_module.report_unread(pymysql.OperationalError(1142, "SELECT command denied")).effect == "warn"
    with pytest.raises(pymysql.OperationalError):
        check_module.report_unread(pymysql.OperationalError(2013, "Lost connection"))
