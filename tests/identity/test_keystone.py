"""Tokens of a real Keystone: valid, forged, expired, revoked, unscoped, of other projects; and Keystone unreachable."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr
from starlette.requests import HTTPConnection
from structlog.testing import capture_logs

from strongroom.errors import ConfigurationError, Forbidden, NotAuthenticated, Unavailable
from strongroom.identity import Principal
from strongroom.identity._keystone import KeystoneAuthentication
from strongroom.sections import Identity
from support.keystone import Keystone

Connect = Callable[..., HTTPConnection]


@pytest.fixture(scope="module")
def site(keystone: Keystone) -> Keystone:
    """Keystone with the service's user and users of every role."""
    keystone.user("strongroom", ("service", "service"), ("service", "admin"))
    keystone.user("alice", ("shop", "member"))
    keystone.user("carol", ("shop", "reader"))
    keystone.user("dave", ("ops", "admin"))
    keystone.user("mallory", ("shop", "made_up"))
    keystone.user("powerless", ("service", "reader"))
    return keystone


def settings(url: str, **changes: object) -> Identity:
    known = {"auth_url": url, "username": "strongroom", "password": SecretStr("strongroompw"), "token_cache": 1.0}
    return Identity.model_validate({"method": "keystone", **known, **changes})


@pytest.fixture
def method(site: Keystone) -> KeystoneAuthentication:
    return KeystoneAuthentication(settings(site.url))


def ask(method: KeystoneAuthentication, connection: HTTPConnection, project: str) -> Principal:
    return asyncio.run(method.authenticate(connection, project))


@pytest.mark.parametrize(
    ("user", "project", "roles"),
    [
        ("alice", "shop", {"member", "reader"}),
        ("carol", "shop", {"reader"}),
        ("dave", "ops", {"admin", "member", "reader"}),
        ("mallory", "shop", set()),
    ],
)
def test_token_gives_user_project_and_roles(
    site: Keystone, method: KeystoneAuthentication, connect: Connect, user: str, project: str, roles: set[str]
) -> None:
    principal = ask(method, connect(X_Auth_Token=site.token(user, project)), site.project(project))
    assert (principal.project, principal.user, principal.roles) == (site.project(project), site.user(user), roles)
    assert principal.everywhere == principal.is_admin == (user == "dave")


def test_configured_role_names(site: Keystone, connect: Connect) -> None:
    method = KeystoneAuthentication(settings(site.url, member_roles=["Made_Up"]))
    principal = ask(method, connect(X_Auth_Token=site.token("mallory", "shop")), site.project("shop"))
    assert principal.roles == {"member", "reader"}


def test_token_is_valid_only_for_its_project(site: Keystone, method: KeystoneAuthentication, connect: Connect) -> None:
    for other in (site.project("ops"), "shop", "nowhere"):
        with pytest.raises(Forbidden, match="for another project"):
            ask(method, connect(X_Auth_Token=site.token("alice", "shop")), other)
    with pytest.raises(Forbidden, match="not scoped to a project"):
        ask(method, connect(X_Auth_Token=site.token("alice", None)), site.project("shop"))


@pytest.mark.parametrize("forged", [None, "", "x", "gAAAAA" + "B" * 170, "a b" * 10, "é" * 20, "x" * 20_000, "../tokens?a=b" * 3])
def test_forged_token_is_refused(method: KeystoneAuthentication, connect: Connect, forged: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        ask(method, connect(**{} if forged is None else {"X_Auth_Token": forged}), "shop")


def test_modified_token_is_refused(site: Keystone, method: KeystoneAuthentication, connect: Connect) -> None:
    token = site.token("alice", "shop")
    assert ask(method, connect(X_Auth_Token=token), site.project("shop"))
    changed = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    with pytest.raises(NotAuthenticated):
        ask(method, connect(X_Auth_Token=changed), site.project("shop"))


def test_revoked_token_is_refused_within_the_cache_time(site: Keystone, method: KeystoneAuthentication, connect: Connect) -> None:
    token = site.token("alice", "shop")
    connection = connect(X_Auth_Token=token)
    ask(method, connection, site.project("shop"))
    site.revoke(token)
    time.sleep(1.05)
    with pytest.raises(NotAuthenticated):
        ask(method, connection, site.project("shop"))


def test_removed_role_takes_effect(site: Keystone, connect: Connect) -> None:
    user = site.user("erin", ("shop", "member"))
    method = KeystoneAuthentication(settings(site.url, token_cache=0))
    connection = connect(X_Auth_Token=site.token("erin", "shop"))
    assert ask(method, connection, site.project("shop")).roles == {"member", "reader"}
    site.call("DELETE", f"/projects/{site.project('shop')}/users/{user}/roles/{site.role('member')}")
    with pytest.raises(NotAuthenticated):
        ask(method, connection, site.project("shop"))


def test_cached_token_expires_at_its_own_time(site: Keystone, connect: Connect) -> None:
    """The short-lived token comes from a second Keystone with the same keys."""
    twin = Keystone(site.python, site.directory, expiration=6)
    try:
        token = twin.start().token("alice", "shop")
        asked = time.monotonic()
        method = KeystoneAuthentication(settings(site.url, token_cache=3600))
        assert ask(method, connect(X_Auth_Token=token), site.project("shop"))
        time.sleep(max(0.0, asked + 6.1 - time.monotonic()))
        with pytest.raises(NotAuthenticated):
            ask(method, connect(X_Auth_Token=token), site.project("shop"))
    finally:
        twin.close()


def test_concurrent_requests_cause_one_validation(
    site: Keystone, method: KeystoneAuthentication, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = method._session.get

    def count(url: str, **options: object) -> object:
        asked.append(url)
        return real(url, **options)

    monkeypatch.setattr(method._session, "get", count)
    token = site.token("alice", "shop")

    async def all_at_once() -> None:
        connections = [connect(X_Auth_Token=token) for _ in range(40)]
        await asyncio.gather(*(method.authenticate(c, site.project("shop")) for c in connections))

    asyncio.run(all_at_once())
    assert len(asked) == 1


def test_service_renews_its_own_token(site: Keystone, connect: Connect) -> None:
    method = KeystoneAuthentication(settings(site.url, token_cache=0))
    connection = connect(X_Auth_Token=site.token("alice", "shop"))
    ask(method, connection, site.project("shop"))
    site.revoke(method._session.get_token())
    assert ask(method, connection, site.project("shop"))


class TestUnreachable:
    def test_requests_fail_until_keystone_is_back(self, site: Keystone, connect: Connect) -> None:
        method = KeystoneAuthentication(settings(site.url, token_cache=4))
        known, unknown = (connect(X_Auth_Token=site.token("alice", "shop")) for _ in range(2))
        ask(method, known, site.project("shop"))
        site.stop()
        try:
            for _ in range(2):
                with pytest.raises(Unavailable, match=f"Keystone at {site.url} does not answer") as refused:
                    ask(method, unknown, site.project("shop"))
                assert "Running jobs are not affected" in refused.value.remedy
            time.sleep(4.05)
            with pytest.raises(Unavailable):
                ask(method, known, site.project("shop"))
        finally:
            site.start()
        time.sleep(1.05)
        assert ask(method, unknown, site.project("shop"))

    def test_waiting_callers_do_not_time_out_one_after_the_other(self, silent: str, connect: Connect) -> None:
        method = KeystoneAuthentication(settings(silent, timeout=1))

        async def all_at_once() -> list[object]:
            connections = [connect(X_Auth_Token=f"token-number-{n}") for n in range(60)]
            return await asyncio.gather(*(method.authenticate(c, "shop") for c in connections), return_exceptions=True)

        began = time.monotonic()
        assert {type(outcome) for outcome in asyncio.run(all_at_once())} == {Unavailable}
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize(
        "changes", [{"password": "wrong"}, {"username": "powerless", "password": "powerlesspw"}, {"project_name": "nowhere"}]
    )
    def test_refused_service_credentials_are_reported_as_such(
        self, site: Keystone, connect: Connect, changes: dict[str, str]
    ) -> None:
        method = KeystoneAuthentication(settings(site.url, **changes))
        with (
            capture_logs() as logs,
            pytest.raises(Unavailable, match="does not allow this service to validate tokens") as refused,
        ):
            ask(method, connect(X_Auth_Token=site.token("alice", "shop")), site.project("shop"))
        assert "[identity]" in refused.value.remedy
        assert "pw" not in str(logs) and "wrong" not in str(logs)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v3"


@pytest.mark.parametrize("missing", ["auth_url", "username", "password"])
def test_missing_options_are_named(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"identity.{missing}"):
        KeystoneAuthentication(settings("http://127.0.0.1:1/v3", **{missing: None}))


def test_application_credential(site: Keystone, connect: Connect) -> None:
    import httpx

    user = site.user("strongroom")
    token = site.token("strongroom", "service")
    reply = httpx.post(
        f"{site.url}/users/{user}/application_credentials",
        json={"application_credential": {"name": "credentials", "secret": "app-secret"}},
        headers={"X-Auth-Token": token},
    )
    reply.raise_for_status()
    credential = reply.json()["application_credential"]["id"]
    credentials = {"application_credential_id": credential, "application_credential_secret": "app-secret"}
    method = KeystoneAuthentication(settings(site.url, username=None, password=None, **credentials))
    assert ask(method, connect(X_Auth_Token=site.token("alice", "shop")), site.project("shop")).user == site.user("alice")


def test_challenge_contains_the_url_of_keystone(site: Keystone) -> None:
    for url in (site.url, f"{site.url}/", site.url.removesuffix("/v3")):
        assert KeystoneAuthentication(settings(url)).challenge == f'Keystone uri="{site.url}"'
