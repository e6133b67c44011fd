"""``strongroom user-file``: users of a service, kept on its host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from strongroom.identity import UserFile
from strongroom.identity._users import is_password

Run = Callable[..., Result]
PASSWORD = "correct horse"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


@pytest.fixture
def user_file(run: Run, file: Path) -> Run:
    def invoke(*words: str, stdin: str | None = None) -> Result:
        return run("user-file", *words, "--file", str(file), stdin=stdin)

    return invoke


def users(file: Path) -> dict[str, Any]:
    return {name: user.projects for name, user in UserFile(file).users().items()}


def test_add_grant_revoke_remove(user_file: Run, file: Path) -> None:
    added = user_file("add", "alice", "shop=member", "a=b=reader", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert added.exit_code == 0, added.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.read_text() + added.output
    assert users(file) == {"alice": {"shop": "member", "a=b": "reader"}}
    assert user_file("grant", "alice", "shop=admin", "lab=reader").exit_code == 0
    assert user_file("revoke", "alice", "a=b").exit_code == 0
    assert users(file) == {"alice": {"shop": "admin", "lab": "reader"}}
    assert user_file("remove", "alice").exit_code == 2, "nobody is asked"
    assert user_file("remove", "alice", "--yes").exit_code == 0
    assert users(file) == {}


def test_passwd(user_file: Run, file: Path, tmp_path: Path) -> None:
    user_file("add", "alice", "shop=member", "--password-stdin", stdin=f"{PASSWORD}\n")
    (tmp_path / "new").write_text("another password\n")
    assert user_file("passwd", "alice", "--password-file", str(tmp_path / "new")).exit_code == 0
    alice = UserFile(file).users()["alice"]
    assert is_password("another password", alice.password) and not is_password(PASSWORD, alice.password)
    assert alice.projects == {"shop": "member"}


def test_list(user_file: Run) -> None:
    for name, grant in (("bob", "lab=reader"), ("alice", "shop=member")):
        user_file("add", name, grant, "--password-stdin", stdin=f"{PASSWORD}\n")
    table = user_file("list").stdout
    assert table.index("alice") < table.index("bob") and "shop=member" in table
    shown = json.loads(user_file("list", "--format", "json").stdout)
    assert shown == [{"name": "alice", "projects": ["shop=member"]}, {"name": "bob", "projects": ["lab=reader"]}]
    assert "argon2" not in table + json.dumps(shown)


def test_the_configuration_selects_the_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f'[service]\ndata_dir = "{tmp_path}"\n')
    config = ("--config", str(tmp_path / "c.toml"))
    assert run("user-file", "add", "alice", "shop=member", "--password-stdin", *config, stdin=f"{PASSWORD}\n").exit_code == 0
    assert users(tmp_path / "users.json") == {"alice": {"shop": "member"}}


@pytest.mark.parametrize(
    ("words", "stdin", "code", "said"),
    [
        (["add", "bob", "shop=owner", "--password-stdin"], PASSWORD, 2, "roles are reader, member, admin"),
        (["add", "bob", "shop", "--password-stdin"], PASSWORD, 2, "'shop' is not PROJECT=ROLE"),
        (["add", "bob", "=member", "--password-stdin"], PASSWORD, 2, "PROJECT=ROLE"),
        (["add", "bob:x", "shop=member", "--password-stdin"], PASSWORD, 2, "is not a valid user name"),
        (["add", "bob", "shop=member", "--password-stdin"], "short", 2, "has 5 characters"),
        (["add", "bob", "shop=member", "--password-stdin"], "", 2, "password is empty"),
        (["add", "bob", "shop=member"], None, 2, "--password-file"),
        (["add", "alice", "shop=member", "--password-stdin"], PASSWORD, 4, "already exists in"),
        (["grant", "nobody", "shop=member"], None, 3, "no user nobody"),
        (["revoke", "alice", "lab"], None, 3, "no role in project lab"),
        (["passwd", "nobody", "--password-stdin"], PASSWORD, 3, "no user nobody"),
        (["remove", "nobody"], None, 3, "no user nobody"),
    ],
)
def test_mistakes_are_reported_and_change_nothing(
    user_file: Run, file: Path, words: list[str], stdin: str | None, code: int, said: str
) -> None:
    user_file("add", "alice", "shop=member", "--password-stdin", stdin=f"{PASSWORD}\n")
    before = file.read_bytes()
    result = user_file(*words, stdin=stdin)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
    assert file.read_bytes() == before


def test_missing_or_unwritable_directory_is_named(run: Run, tmp_path: Path) -> None:
    nowhere = tmp_path / "no" / "users.json"
    result = run("user-file", "list", "--file", str(nowhere))
    assert (result.exit_code, str(nowhere) in result.stderr) == (1, True)
    result = run("user-file", "add", "a", "p=member", "--password-stdin", "--file", str(nowhere), stdin=PASSWORD)
    assert (result.exit_code, str(nowhere) in result.stderr) == (1, True)
