"""The profile of a backup whose server was changed during the backup."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.artifact import Notice, Profile
from strongroom.datastores import Server, get
from strongroom.errors import ConfigurationError
from strongroom.worker._backup import _merge_profiles
from support.postgresql import describe

STEADY = get("postgresql").profiles.steady


@pytest.fixture
def server(place: Path) -> Server:
    return describe(place, "a", None)


def test_ordinary_changes_do_not_fail_a_backup(server: Server) -> None:
    before = Profile(
        settings={"TimeZone": "UTC", "wal_level": "replica"},
        facts={"extensions": ["citext"], "superuser": "boss", "md5_passwords": False, "machine": "x86_64"},
        tables={"heap": 3},
    )
    after = Profile(
        settings={"TimeZone": "Asia/Tokyo", "wal_level": "replica"},
        facts={"extensions": ["hstore"], "superuser": "dba", "md5_passwords": True, "machine": "x86_64"},
        tables={"heap": 4},
    )
    merged, warnings = _merge_profiles(before, after, STEADY, server)
    assert "extensions" in warnings[0] and "TimeZone" in warnings[0]
    assert merged.settings == after.settings and merged.tables is None
    assert merged.facts == {
        "extensions": ["citext", "hstore"],
        "superuser": None,
        "md5_passwords": None,
        "machine": "x86_64",
    }


def test_long_notices_are_truncated() -> None:
    notice = Notice(item="prepared transactions", effect="warn", message="x" * 10_000, remedy="y" * 4000)
    assert (len(notice.message), notice.message[-2:], len(notice.remedy)) == (4000, "x…", 4000)
    assert Notice.model_validate_json(notice.model_dump_json()) == notice


@pytest.mark.parametrize("name", ["wal_level", "max_connections"])
def test_changes_that_affect_a_restore_fail_the_backup(server: Server, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        _merge_profiles(Profile(settings={name: "1"}), Profile(settings={name: "2"}), STEADY, server)
    with pytest.raises(ConfigurationError, match="data_checksums"):
        _merge_profiles(Profile(facts={"data_checksums": "on"}), Profile(facts={"data_checksums": "off"}), STEADY, server)
