"""What others keep where the agent, which may be root, moves and removes directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.agent.models import ServerDefinition
from strongroom.agent.registry import ServerRecord
from strongroom.agent.swap.directories import require_usable
from strongroom.agent.swap.outside import Outside, swap_in
from strongroom.agent.swap.swap import around, note_job
from strongroom.errors import ConfigurationError
from strongroom.system.directories import remove_entries
from strongroom.system.users import find_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")
THEM = find_user("nobody")


def theirs(path: Path) -> Path:
    path.mkdir(parents=True)
    os.chown(path, THEM.uid, THEM.gid)
    return path


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return theirs(tmp_path / "srv")


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    (tmp_path / "etc" / "data" / "cron").mkdir(parents=True)
    return tmp_path / "etc"


def lead_astray(top: Path, roots: Path) -> None:
    """The OS user of the server exchanges a directory of its path, after it was looked at."""
    (top / "a").rename(top / "b")
    (top / "a").symlink_to(roots)


def test_swap_moves_nothing_in_a_directory_of_another_user(top: Path, roots: Path) -> None:
    theirs(top / "a" / "data")
    outside = Outside(directory=top / "a" / "data", entries=["cron"], inside=True)
    lead_astray(top, roots)
    theirs(roots / "data" / "strongroom.new-j")
    with pytest.raises(OSError, match="does not belong to the OS user"):
        swap_in(outside, "j", THEM)
    assert (roots / "data" / "cron").is_dir()


def test_deletion_removes_nothing_in_a_directory_of_another_user(top: Path, roots: Path) -> None:
    place = theirs(top / "a" / "data")
    (place / "cron" / "d").mkdir(parents=True)
    (place / "kept").touch()
    remove_entries(place, THEM, lambda name: name == "cron")
    assert [path.name for path in place.iterdir()] == ["kept"]
    lead_astray(top, roots)
    with pytest.raises(OSError, match="does not belong to the OS user"):
        remove_entries(place, THEM, lambda name: name == "cron")
    assert (roots / "data" / "cron").is_dir()


def test_requested_directory_of_another_user_is_refused(top: Path, roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    theirs(top / "a")
    monkeypatch.setattr("strongroom.agent.swap.directories._require_place", lambda *_: lead_astray(top, roots))
    with pytest.raises(ConfigurationError):
        require_usable([top / "a" / "data"], None, THEM)  # type: ignore[arg-type]
    assert (roots / "data").stat().st_uid == 0


def test_files_of_the_owner_beside_the_data_are_kept(tmp_path: Path) -> None:
    job = "019d2b8c-0000-7000-8000-0123456789ab-1"
    for name in ("mysql", "mysql.old-2024", "mysql.new-disk", "mysql.old-r1", f"mysql.old-{job}"):
        (tmp_path / name).mkdir()
    definition = ServerDefinition.model_construct(runtime="adopted")
    record = ServerRecord.model_construct(definition=definition, data_dir=tmp_path / "mysql", beside=[])
    note_job(record, "r1")
    note_job(record, "r2")
    assert record.beside == ["r1", "r2"]
    assert sorted(path.name for path in around(record, "new", "old")) == [f"mysql.old-{job}", "mysql.old-r1"]
