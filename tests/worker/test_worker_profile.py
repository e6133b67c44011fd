"""The profile that a backup gets when its server was changed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.artifact import Notice, Profile
from strongroom.datastores import Server, get
from strongroom.errors import ConfigurationError
from strongroom.worker._backup import _agreed
from support.postgresql import describe

STEADY = get("postgresql").profiles.steady


@pytest.fixture
def server(place: Path) -> Server:
    return describe(place, "a", None)


def test_what_a_busy_server_makes_and_drops_does_not_fail_a_backup(server: Server) -> None:
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
    agreed, told = _agreed(before, after, STEADY, server)
    assert "extensions" in told[0] and "TimeZone" in told[0]
    assert agreed.settings == after.settings and agreed.tables is None
    assert agreed.facts == {
        "extensions": ["citext", "hstore"],
        "superuser": None,
        "md5_passwords": None,
        "machine": "x86_64",
    }


def test_a_notice_with_very_many_names_is_cut() -> None:
    notice = Notice(item="prepared transactions", effect="warn", message="x" * 10_000, remedy="y" * 4000)
    assert (len(notice.message), notice.message[-2:], len(notice.remedy)) == (4000, "x…", 4000)
    assert Notice.model_validate_json(notice.model_dump_json()) == notice


@pytest.mark.parametrize("name", ["wal_level", "max_connections"])
def test_what_a_restore_depends_on_must_not_change_during_a_backup(server: Server, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        _agreed(Profile(settings={name: "1"}), Profile(settings={name: "2"}), STEADY, server)
    with pytest.raises(ConfigurationError, match="data_checksums"):
        _agreed(Profile(facts={"data_checksums": "on"}), Profile(facts={"data_checksums": "off"}), STEADY, server)
