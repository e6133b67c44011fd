"""Method basic: valid and invalid credentials, and the limits on guessing passwords."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import argon2
import pytest
from starlette.requests import HTTPConnection
from structlog.testing import capture_logs

from strongroom.errors import ConfigurationError, Forbidden, NotAuthenticated, TooManyRequests, Unavailable
from strongroom.identity import BasicAuthentication, User, edit_users, hash_password, open_method
from strongroom.settings import load

Connect = Callable[..., HTTPConnection]
PASSWORD = "correct horse"
QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users.json"
    with edit_users(path) as users:
        users["alice"] = User(password=QUICK.hash(PASSWORD), projects={"shop": "member", "lab": "reader", "ops": "admin"})
        users["bob"] = User(password=QUICK.hash("pässwörd ☃"), projects={"shop": "reader"})
    return path


@pytest.fixture
def method(file: Path) -> BasicAuthentication:
    return BasicAuthentication(file, attempts=3, window=60)


def header(user: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_user_has_its_own_role_in_each_project(method: BasicAuthentication, connect: Connect) -> None:
    async def ask() -> None:
        connection = connect(Authorization=header("alice"))
        member = await method.authenticate(connection, "shop")
        assert (member.project, member.user, member.roles, member.everywhere) == ("shop", "alice", {"member", "reader"}, False)
        assert not method.may_operate(connection, member)
        assert (await method.authenticate(connection, "lab")).roles == {"reader"}
        admin = await method.authenticate(connection, "ops")
        assert admin.roles == {"admin", "member", "reader"}
        assert admin.everywhere and method.may_operate(connection, admin)
        with pytest.raises(Forbidden, match="no role in project else"):
            await method.authenticate(connection, "else")

    asyncio.run(ask())


def test_password_may_contain_any_characters(method: BasicAuthentication, connect: Connect) -> None:
    principal = asyncio.run(method.authenticate(connect(Authorization=header("bob", "pässwörd ☃")), "shop"))
    assert principal.user == "bob"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Basic " + base64.b64encode(b"alice").decode(),
        "Bearer " + base64.b64encode(b"alice:correct horse").decode(),
        header("alice", ""),
        header("alice", "correct horse "),
        header("Alice"),
        header("nobody"),
        header(""),
        header("a\nb"),
        header("../users"),
        header("alice", "x" * 5000),
    ],
)
def test_invalid_credentials_are_refused(method: BasicAuthentication, connect: Connect, value: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        asyncio.run(method.authenticate(connect(**{} if value is None else {"Authorization": value}), "shop"))


def test_change_of_the_file_takes_effect_immediately(method: BasicAuthentication, file: Path, connect: Connect) -> None:
    def ask(password: str = PASSWORD) -> frozenset[str]:
        principal = asyncio.run(method.authenticate(connect(Authorization=header("alice", password)), "shop"))
        return frozenset(principal.roles)

    assert ask() == {"member", "reader"}
    with edit_users(file) as users:
        users["alice"].projects["shop"] = "reader"
    assert ask() == {"reader"}
    with edit_users(file) as users:
        users["alice"].password = QUICK.hash("another password")
    with pytest.raises(NotAuthenticated):
        ask()
    assert ask("another password") == {"reader"}
    with edit_users(file) as users:
        del users["alice"].projects["shop"]
    with pytest.raises(Forbidden):
        ask("another password")
    with edit_users(file) as users:
        del users["alice"]
    with pytest.raises(NotAuthenticated):
        ask("another password")


@pytest.mark.parametrize("damage", ["{", '{"users": {"alice": {"password": "plain", "projects": {}}}}', None])
def test_broken_user_file_refuses_all_logins(
    method: BasicAuthentication, file: Path, connect: Connect, damage: str | None
) -> None:
    asyncio.run(method.authenticate(connect(Authorization=header("alice")), "shop"))
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    with capture_logs() as logs, pytest.raises(Unavailable, match="cannot read its user file"):
        asyncio.run(method.authenticate(connect(Authorization=header("alice")), "shop"))
    assert str(file) in logs[0]["reason"] and "plain" not in str(logs)
    with pytest.raises(ConfigurationError):
        BasicAuthentication(file, attempts=3, window=60)


class TestGuessing:
    def guess(self, method: BasicAuthentication, connection: HTTPConnection) -> str:
        try:
            asyncio.run(method.authenticate(connection, "shop"))
        except (NotAuthenticated, TooManyRequests) as error:
            return error.code
        return "in"

    def test_is_refused_after_some_attempts(self, method: BasicAuthentication, connect: Connect) -> None:
        with capture_logs() as logs:
            wrong = [self.guess(method, connect(Authorization=header("alice", f"guess {n}"))) for n in range(5)]
        assert wrong == ["NotAuthenticated"] * 3 + ["TooManyRequests"] * 2
        assert [(entry["user"], entry["address"]) for entry in logs] == [("alice", "127.0.0.1")] * 3
        assert "guess" not in str(logs)
        assert self.guess(method, connect(Authorization=header("alice"))) == "TooManyRequests", "a correct guess"

    def test_is_limited_even_if_the_correct_password_is_cached(self, method: BasicAuthentication, connect: Connect) -> None:
        assert self.guess(method, connect(Authorization=header("alice"))) == "in"
        for n in range(3):
            self.guess(method, connect(Authorization=header("alice", f"guess {n}")))
        assert self.guess(method, connect(Authorization=header("alice"))) == "TooManyRequests"

    def test_does_not_lock_out_other_users_or_addresses(self, method: BasicAuthentication, connect: Connect) -> None:
        for n in range(4):
            self.guess(method, connect(Authorization=header("alice", f"guess {n}")))
        assert self.guess(method, connect(Authorization=header("bob", "pässwörd ☃"))) == "in"
        assert self.guess(method, connect("10.0.0.2", Authorization=header("alice"))) == "in"

    def test_of_many_users_from_one_address_is_limited(self, method: BasicAuthentication, connect: Connect) -> None:
        wrong = [self.guess(method, connect(Authorization=header(f"user{n}"))) for n in range(32)]
        assert wrong == ["NotAuthenticated"] * 30 + ["TooManyRequests"] * 2

    def test_is_limited_when_done_concurrently(self, method: BasicAuthentication, connect: Connect) -> None:
        async def all_at_once() -> list[object]:
            guesses = [connect(Authorization=header("alice", f"guess {n}")) for n in range(10)]
            return await asyncio.gather(*(method.authenticate(g, "shop") for g in guesses), return_exceptions=True)

        kinds = [type(outcome) for outcome in asyncio.run(all_at_once())]
        assert kinds == [NotAuthenticated] * 3 + [TooManyRequests] * 7

    def test_is_allowed_again_after_the_window(self, file: Path, connect: Connect) -> None:
        method = BasicAuthentication(file, attempts=2, window=0.3)
        for n in range(3):
            last = self.guess(method, connect(Authorization=header("alice", f"guess {n}")))
        assert last == "TooManyRequests"
        time.sleep(0.35)
        assert self.guess(method, connect(Authorization=header("alice"))) == "in"

    def test_response_has_the_time_to_wait(self, method: BasicAuthentication, connect: Connect) -> None:
        for n in range(3):
            self.guess(method, connect(Authorization=header("alice", f"guess {n}")))
        with pytest.raises(TooManyRequests) as refused:
            asyncio.run(method.authenticate(connect(Authorization=header("alice")), "shop"))
        assert 55 <= refused.value.retry_after <= 60
        assert str(refused.value.retry_after) in refused.value.remedy

    def test_does_not_reveal_which_users_exist(self, tmp_path: Path, connect: Connect) -> None:
        """An unknown user takes as long as a known one with a wrong password, and much longer than no check at all."""
        path = tmp_path / "users.json"
        with edit_users(path) as users:
            users["alice"] = User(password=hash_password(PASSWORD), projects={"shop": "member"})
        method = BasicAuthentication(path, attempts=100, window=60)

        def seconds(user: str, n: int) -> float:
            began = time.process_time()
            assert self.guess(method, connect(Authorization=header(user, f"guess {n}"))) == "NotAuthenticated"
            return time.process_time() - began

        known = statistics.median(seconds("alice", n) for n in range(5))
        unknown = statistics.median(seconds("mallory", n) for n in range(5))
        assert 0.5 < known / unknown < 2
        assert unknown > 0.01


def test_concurrent_requests_cause_one_password_check(
    method: BasicAuthentication, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from strongroom.identity import _basic

    checks: list[str] = []

    def count(password: str, hashed: str) -> bool:
        checks.append(password)
        time.sleep(0.05)
        return QUICK.verify(hashed, password)

    monkeypatch.setattr(_basic, "is_password", count)

    async def all_at_once() -> None:
        await asyncio.gather(*(method.authenticate(connect(Authorization=header("alice")), "shop") for _ in range(50)))

    asyncio.run(all_at_once())
    asyncio.run(all_at_once())
    assert checks == [PASSWORD]


@pytest.mark.parametrize(("origin", "allowed"), [("http://evil.example", False), ("null", False), ("https://db.example", True)])
def test_pages_of_other_sites_cannot_use_a_stored_password(
    method: BasicAuthentication, connect: Connect, origin: str, allowed: bool
) -> None:
    connection = connect(Host="db.example", Origin=origin)
    if allowed:
        method.admit(connection)
    else:
        with pytest.raises(Forbidden):
            method.admit(connection)


@pytest.mark.parametrize(
    ("host", "proxies", "warned"), [("127.0.0.1", [], False), ("0.0.0.0", [], True), ("0.0.0.0", ["10.0.0.1"], False)]
)
def test_unencrypted_passwords_are_logged_as_a_warning(file: Path, host: str, proxies: list[str], warned: bool) -> None:
    service = {"host": host, "proxies": proxies}
    with capture_logs() as logs:
        method = open_method(load(service=service, identity={"method": "basic", "user_file": file}))
    assert method.name == "basic"
    assert bool(logs) == warned
