"""Small files: durable, atomic, and safe where another OS user may write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.errors import ConfigurationError
from strongroom.system import files
from strongroom.system.directories import make_directory
from strongroom.system.files import create_file, read_bytes, read_text, write_file
from strongroom.system.locks import is_locked, take_lock
from strongroom.system.processes import identify_process
from strongroom.system.users import Owner, find_owner, find_user, name_user
from support.identity import server_user


def test_a_file_is_replaced_and_nothing_else_stays(place: Path) -> None:
    path = place / "file"
    for text in ("one", "two"):
        write_file(path, text)
        assert path.read_text() == text and path.stat().st_mode & 0o777 == 0o600
    write_file(path, b"three", mode=0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileExistsError):
        create_file(path, "four")
    create_file(place / "new", "four")
    assert (path.read_bytes(), (place / "new").read_text()) == (b"three", "four")
    assert sorted(entry.name for entry in place.iterdir()) == ["file", "new"]


def test_a_file_that_cannot_be_written_is_reported_with_a_remedy(place: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory") as caught:
        write_file(place / "missing" / "file", "text")
    assert str(place / "missing") in caught.value.remedy
    (place / "directory").mkdir()
    with pytest.raises(ConfigurationError, match="cannot write"):
        write_file(place / "directory", "text")
    assert [entry.name for entry in place.iterdir()] == ["directory"]


def test_only_regular_files_are_read(place: Path) -> None:
    os.mkfifo(place / "fifo")
    (place / "link").symlink_to("file")
    (place / "file").write_bytes(b"12345")
    assert (read_bytes(place / "file"), read_text(place / "file", limit=2), read_text(place / "none")) == (b"12345", "12", None)
    for name, limit in (("fifo", 10), ("file", 4)):
        with pytest.raises(ValueError, match="regular file"):
            read_bytes(place / name, limit)
    with pytest.raises(OSError, match="symbolic links"):
        read_bytes(place / "link")


def test_a_lock_is_released_when_its_holder_dies(place: Path) -> None:
    path = place / "lock"
    assert not is_locked(path)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[held := take_lock(path) or 0])
    os.close(held)
    process = identify_process(child.pid)
    assert process is not None and process.is_alive() and is_locked(path) and take_lock(path) is None
    child.kill()
    child.wait()
    assert not process.is_alive() and not is_locked(path)


def test_users_without_a_name_are_named_by_number() -> None:
    assert (name_user(0), name_user(4_000_000)) == ("root", "uid 4000000")
    with pytest.raises(ConfigurationError, match="no OS user") as caught:
        find_user("no-such-user")
    assert "servers_user" in caught.value.remedy


@pytest.mark.root
def test_another_user_cannot_lead_root_astray(place: Path) -> None:
    precious = place / "precious"
    precious.write_text("precious")
    theirs = place / "theirs"
    owner = find_user(server_user()).owner
    make_directory(theirs, owner)
    (theirs / "my.cnf").symlink_to(precious)
    (theirs / "run").symlink_to(place)
    write_file(theirs / "my.cnf", "[mysqld]\n", owner)
    assert precious.read_text() == "precious" and precious.stat().st_uid == 0
    assert not (theirs / "my.cnf").is_symlink() and find_owner(theirs / "my.cnf") == owner
    with pytest.raises(ConfigurationError, match="not a usable directory"):
        make_directory(theirs / "run", owner)
    assert place.stat().st_uid == 0
    (theirs / "link").symlink_to(precious)
    with pytest.raises(ConfigurationError):
        read_text(theirs / "link")


def test_a_log_that_cannot_get_its_owner_is_closed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, owner: Owner) -> None:
        raise PermissionError

    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    monkeypatch.setattr(files, "set_owner", refuse)
    with pytest.raises(PermissionError):
        files.create_log(place / "log", find_owner(place))
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
