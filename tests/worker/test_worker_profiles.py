"""Changes on the server during a backup fail it only if the backup could not be restored correctly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from strongroom.artifact import Notice, Profile
from strongroom.datastores import Server, get
from strongroom.errors import ConfigurationError
from strongroom.worker import _backup

SERVER = cast("Server", SimpleNamespace(name="s", id="1", data_dir=Path("/nowhere")))


def merge(datastore: str, before: Profile, **changes: Any) -> tuple[Profile, list[str]]:
    return _backup._merge_profiles(before, before.model_copy(update=changes), get(datastore).profiles.steady, SERVER)


@pytest.mark.parametrize("datastore", ["mariadb", "mysql", "postgresql"])
def test_other_settings_may_change(datastore: str) -> None:
    before = Profile(
        settings={"sql_mode": "ANSI", "DateStyle": "ISO"}, facts={"replica of": [], "accounts with host names": False}
    )
    settings = {"sql_mode": "", "DateStyle": "SQL"}
    profile, warnings = merge(
        datastore, before, settings=settings, facts={"replica of": ["a:3306"], "accounts with host names": True}
    )
    assert profile.settings == settings
    assert "sql_mode" in warnings[0] and "replica of" in warnings[0]
    assert merge(datastore, before) == (before, [])


@pytest.mark.parametrize(
    ("datastore", "before", "changes"),
    [
        ("mysql", Profile(plugins=[]), {"plugins": ["a"]}),
        ("mysql", Profile(settings={"partial_revokes": "ON"}), {"settings": {"partial_revokes": "OFF"}}),
        ("postgresql", Profile(facts={"tablespaces": []}), {"facts": {"tablespaces": ["1"]}}),
        ("mariadb", Profile(facts={"encryption": ""}), {"facts": {"encryption": "file_key_management"}}),
        ("mariadb", Profile(), {"outside": {"aria_log_dir_path": "/x"}}),
    ],
)
def test_changes_that_affect_a_restore_fail_the_backup(datastore: str, before: Profile, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="was changed during the backup"):
        merge(datastore, before, **changes)


def test_long_lists_of_names_are_truncated() -> None:
    assert len(Notice(item="x", effect="warn", message="n" * 9000, remedy="r" * 5000).message) == 4000
    assert len(Profile(left_behind=[f"notes/{n}" for n in range(20_000)]).left_behind) == 10_000
