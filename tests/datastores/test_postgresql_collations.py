"""How text is sorted is recorded with a backup, and compared where it is restored."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.artifact import Collation
from strongroom.datastores.postgresql.profile import collations
from support import postgresql
from support.postgresql import driver, version


def test_the_versions_found_on_the_host_are_those_that_a_server_uses(place: Path) -> None:
    with postgresql.running(place) as instance:
        instance.sql("CREATE DATABASE german TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C.UTF-8'", "postgres")
        with instance.connect("postgres") as connection:
            found = collations.read_collations(connection)
        ((actual,),) = instance.sql(
            "SELECT pg_collation_actual_version(oid) FROM pg_collation WHERE collname = 'de-x-icu'", "german"
        )
    assert Collation(provider="icu", locale="de", version=actual) in found
    assert {(each.provider, each.locale) for each in found} == {("icu", "de"), ("libc", "C"), ("libc", "C.UTF-8")}
    assert driver.restores.find_differences(version(), found) == []


def test_other_versions_are_reported() -> None:
    libc = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1]
    (text,) = driver.restores.find_differences(version(), [Collation(provider="icu", locale="de", version="1.2.3")])
    assert "locale de of ICU" in text and "had 1.2.3" in text and "REINDEX" in text
    (text,) = driver.restores.find_differences(version(), [Collation(provider="libc", locale="C.UTF-8", version="2.1")])
    assert f"has version {libc} here" in text
    (text,) = driver.restores.find_differences(version(), [Collation(provider="libc", locale="xx_YY.UTF-8", version="2.1")] * 2)
    assert "is not on this host" in text
    assert driver.restores.find_differences(version(), [Collation(provider="libc", locale="C.UTF-8", version=libc)]) == []
    assert driver.restores.find_differences(version(), [Collation(provider="builtin", locale="C.UTF-8", version="1")]) == []
    # Servers of other versions tell no version, and libraries that cannot be asked give none.
    assert driver.restores.find_differences(version(), [Collation(provider="libc", locale="C")]) == []
