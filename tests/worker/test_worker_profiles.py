"""What a busy server changes while its backup is taken stops the backup only where that would make it a wrong one."""

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


def agreed(datastore: str, before: Profile, **changes: Any) -> tuple[Profile, list[str]]:
    return _backup._agreed(before, before.model_copy(update=changes), get(datastore).profiles.steady, SERVER)


@pytest.mark.parametrize("datastore", ["mariadb", "mysql", "postgresql"])
def test_settings_that_a_backup_does_not_depend_on_may_change(datastore: str) -> None:
    before = Profile(
        settings={"sql_mode": "ANSI", "DateStyle": "ISO"}, facts={"replica of": [], "accounts with host names": False}
    )
    settings = {"sql_mode": "", "DateStyle": "SQL"}
    profile, told = agreed(
        datastore, before, settings=settings, facts={"replica of": ["a:3306"], "accounts with host names": True}
    )
    assert profile.settings == settings
    assert "sql_mode" in told[0] and "replica of" in told[0]
    assert agreed(datastore, before) == (before, [])


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
def test_what_a_restore_depends_on_may_not_change(datastore: str, before: Profile, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="was changed during the backup"):
        agreed(datastore, before, **changes)


def test_long_lists_of_names_stop_no_backup() -> None:
    assert len(Notice(item="x", effect="warn", message="n" * 9000, remedy="r" * 5000).message) == 4000
    assert len(Profile(left_behind=[f"notes/{n}" for n in range(20_000)]).left_behind) == 10_000
