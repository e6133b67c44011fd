"""The user file: permissions, atomic replacement, and concurrent changes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.errors import ConfigurationError, InvalidRequest
from strongroom.identity import User, UserFile, edit_users, hash_password

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA"


def test_new_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    before = os.umask(0)
    try:
        with edit_users(path) as users:
            users["alice"] = User(password=HASH)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["users.json"]


def test_readable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    with edit_users(path) as users:
        users["alice"] = User(password=HASH)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="other OS users may read") as refused:
        UserFile(path).users()
    assert f"chmod 600 {path}" in refused.value.remedy


def test_failed_change_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    with edit_users(path) as users:
        users["alice"] = User(password=HASH)
    before = path.read_bytes()
    with pytest.raises(KeyError), edit_users(path) as users:
        del users["alice"]
        raise KeyError
    assert path.read_bytes() == before


def test_concurrent_changes_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    program = (
        "import sys; from pathlib import Path; from strongroom.identity import *\n"
        "for n in range(10):\n"
        f"    with edit_users(Path(sys.argv[1])) as users: users[sys.argv[2] + str(n)] = User(password={HASH!r})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(UserFile(path).users()) == 30


@pytest.mark.root
def test_root_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    with edit_users(path) as users:
        users["alice"] = User(password=HASH)
    os.chown(path, 65534, 65534)
    with edit_users(path) as users:
        users["bob"] = User(password=HASH)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


@pytest.mark.parametrize("content", ["", "[]", f'{{"users": {{"a b": {{"password": "{HASH}"}}}}}}', '{"user": {}}'])
def test_invalid_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=f"{path} is not valid") as refused:
        UserFile(path).users()
    assert HASH not in str(refused.value)


def test_directory_or_pipe_instead_of_the_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigurationError):
            UserFile(path).users()


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_password_length_is_limited(password: str) -> None:
    with pytest.raises(InvalidRequest, match="8 to 1024") as refused:
        hash_password(password)
    assert password not in str(refused.value) or not password


def test_hashes_are_argon2id_and_salted() -> None:
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first.startswith("$argon2id$") and first != second
