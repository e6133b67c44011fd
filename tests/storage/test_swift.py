"""The Swift driver, beyond the conformance tests: credentials, accounts, refused requests, and outages of Swift."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from strongroom.errors import StorageDenied, StorageError, StorageExists, StorageFull, StorageNotFound
from strongroom.sections import Storage
from strongroom.storage import open_store
from strongroom.storage._swift import SwiftStore
from support.proxy import proxy
from support.swift import EXPIRATION

WIRES = pytest.mark.parametrize(("direction", "after"), [("up", 10), ("up", 200_000), ("down", 0)])
"""Where a connection is cut: in the head of the request, in its body, or after Swift carried it out."""
DATA = bytes(range(256)) * 4000


def opened(storage: Storage) -> SwiftStore:
    store = open_store(storage)
    assert isinstance(store, SwiftStore)
    return store


def calls(store: SwiftStore) -> list[Any]:
    return [
        lambda: store.put("c/a/0", b"x"),
        lambda: store.get("c/a/0"),
        lambda: store.head("c/a/0"),
        lambda: list(store.list("c/a")),
        lambda: list(store.folders()),
        lambda: store.delete(["c/a/0"]),
        lambda: store.join("c/a", [], {}),
    ]


# --- authentication


@pytest.mark.parametrize("kind", ["swift", "keystone_swift"])
def test_wrong_password(request: pytest.FixtureRequest, kind: str) -> None:
    swift = request.getfixturevalue(kind)
    for call in calls(opened(swift.storage(password=SecretStr("hush-hush")))):
        with pytest.raises(StorageDenied, match="does not accept the credentials") as caught:
            call()
        assert "hush-hush" not in repr(caught.value) + repr(caught.value.__cause__)
        assert "storage.username" in caught.value.remedy


@pytest.mark.parametrize("kind", ["swift", "keystone_swift"])
def test_account_of_another_user(request: pytest.FixtureRequest, kind: str) -> None:
    swift = request.getfixturevalue(kind)
    mine: dict[str, Any] = {"username": swift.user, "password": SecretStr(swift.password)}
    if kind == "keystone_swift":
        swift.keystone.user("mallory", ("mallory", "member"))
        mine = {"username": "mallory", "password": SecretStr("mallorypw"), "project_name": "mallory"}
    *most, join = calls(opened(swift.storage("AUTH_other", **mine)))
    with pytest.raises(StorageError):  # Swift checks the list of parts, which is empty, before the permissions
        join()
    for call in most:
        with pytest.raises(StorageDenied, match="does not allow this user") as caught:
            call()
        assert "reseller role" in caught.value.remedy


def test_each_project_has_its_own_account(keystone_swift: Any) -> None:
    keystone = keystone_swift.keystone
    project = keystone.project(uuid4().hex)
    settings = keystone_swift.storage("project")
    assert settings.by_project and not keystone_swift.storage().by_project
    store = opened(settings.of_project(project))
    store.put("c/a/0", b"x")
    assert store.url("c/a/0") == f"{keystone_swift.url}/v1/AUTH_{project}/c_segments/a/0"
    assert list(opened(settings.of_project(keystone.project("empty"))).list("")) == []
    with keystone_swift.in_account(f"AUTH_{project}") as account:
        assert account.get("/c_segments").text.split() == ["a/0"]


def test_token_of_the_requesting_user(keystone_swift: Any) -> None:
    keystone = keystone_swift.keystone
    name = uuid4().hex
    keystone.user(name, (name, "member"))
    project, token = keystone.project(name), SecretStr(keystone.token(name, name))
    settings = Storage(driver="swift", auth="user", auth_url=keystone.url, retries=0)
    assert settings.by_project
    store = opened(settings.of_project(project, token))
    store.put("c/a/0", b"x")
    assert store.get("c/a/0") == b"x"
    with keystone_swift.in_account(f"AUTH_{project}") as account:
        assert account.get("/c_segments").text.split() == ["a/0"]
    with pytest.raises(StorageDenied, match="does not allow this user"):
        opened(settings.of_project(keystone.project("empty"), token)).put("c/a/0", b"x")
    for without_token in (settings, settings.of_project(project)):
        with pytest.raises(StorageDenied, match="token is lost: the service keeps tokens only in memory") as caught:
            opened(without_token).get("c/a/0")
        assert 'storage.auth = "service"' in caught.value.remedy
    keystone.revoke(token.get_secret_value())
    keystone_swift.forget_tokens()
    for some in (store, opened(settings.of_project(project, token))):
        for call in calls(some)[:-1]:
            with pytest.raises(StorageDenied, match="requesting user's token is no longer valid for ") as caught:
                call()
            assert 'storage.auth = "service"' in caught.value.remedy
            assert token.get_secret_value() not in repr(caught.value) + repr(caught.value.__cause__)


def test_application_credential(keystone_swift: Any) -> None:
    keystone = keystone_swift.keystone
    user = keystone.user("strongroom")
    token = keystone.token("strongroom", "service")
    body = {"application_credential": {"name": uuid4().hex, "unrestricted": False}}
    reply = keystone.call("POST", f"/users/{user}/application_credentials", body, **{"X-Auth-Token": token})
    made = reply.json()["application_credential"]
    settings = Storage(
        driver="swift",
        auth_url=keystone.url,
        application_credential_id=made["id"],
        application_credential_secret=SecretStr(made["secret"]),
        account=f"AUTH_{uuid4().hex}",
    )
    store = opened(settings)
    store.put("c/a/0", b"x")
    assert store.get("c/a/0") == b"x"


@pytest.mark.parametrize(("option", "value"), [("region", "Nowhere"), ("auth_url", "http://127.0.0.1:1/v3")])
def test_keystone_gives_no_endpoint_of_swift(keystone_swift: Any, option: str, value: str) -> None:
    store = opened(keystone_swift.storage(retries=1, **{option: value}))
    with pytest.raises(StorageError, match="gives no usable endpoint of Swift") as caught:
        store.put("c/a/0", b"x")
    assert f"storage.{option}" in caught.value.remedy
    assert store.url("c/a/0") == "swift:/c_segments/a/0"


@pytest.mark.parametrize("version", ["1", "3"])
def test_self_signed_certificate(swift: Any, place: Path, version: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, to make a certificate with")
    files = ["-keyout", place / "key", "-out", place / "crt", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files], check=True, capture_output=True)
    with proxy(swift.port, certificate=(place / "crt", place / "key")) as wire:
        options = {"auth_url": f"https://127.0.0.1:{wire.port}/auth/v1.0", "auth_version": version, "project_name": "p"}
        store = opened(swift.storage(**options))
        with pytest.raises(StorageError, match="server's certificate is not trusted") as caught:
            store.put("c/a/0", b"x")
        assert "storage.cacert" in caught.value.remedy
        if version == "1":
            for trusting in ({"cacert": place / "crt"}, {"insecure": True}):
                assert (
                    opened(swift.storage(**options, **trusting)).url("c").startswith("http://")
                )  # the URL is Swift's own, not the proxy's


# --- refused requests


def test_quota(swift: Any, place: Path) -> None:
    account = f"AUTH_{place.name}"
    store = opened(swift.storage(account))
    store.put("c/a/0", b"x")
    with swift.in_account(account) as client:
        client.post("/c_segments", headers={"X-Container-Meta-Quota-Bytes": "1000"}).raise_for_status()
    with pytest.raises(StorageFull, match=r"no space or quota left for c/a/1 in http.*413") as caught:
        store.put("c/a/1", bytes(5000))
    assert "quota" in caught.value.remedy
    assert [stat.key for stat in store.list("c")] == ["c/a/0"]


def test_name_that_swift_rejects(swift: Any, place: Path) -> None:
    with pytest.raises(StorageError, match="400"):
        opened(swift.storage(f"AUTH_{place.name}")).put("/".join(["c", *["x" * 200] * 6]), b"x")


def test_metadata_is_returned_by_head(swift: Any, place: Path) -> None:
    store = opened(swift.storage(f"AUTH_{place.name}"))
    part = store.put("c/a/0", b"hello")
    joined = store.join("c/a.gz", [part], {"lsn": "42", "parent-location": "http://x/y"})
    assert store.head("c/a.gz").metadata == {"lsn": "42", "parent-location": "http://x/y"} == joined.metadata
    assert (store.head("c/a.gz").etag, store.head("c/a.gz").size) == (joined.etag, 5)
    assert store.get("c/a.gz") == b"hello"
    assert [(s.key, s.size, s.etag, s.md5) for s in store.list("c")] == [
        ("c/a.gz", 5, joined.etag, None),
        ("c/a/0", 5, part.md5, part.md5),
    ]
    store.delete(["c/a/0"])
    with pytest.raises(StorageError, match=r"Swift failed at c/a\.gz.*409"):
        store.get("c/a.gz")


# --- outages


@WIRES
@pytest.mark.parametrize("create", [False, True])
def test_put_survives_a_broken_connection(swift: Any, place: Path, create: bool, direction: Any, after: int) -> None:
    account = f"AUTH_{place.name}"
    opened(swift.storage(account)).put("c/a/first", b"makes the container")
    with proxy(swift.port) as wire:
        store = opened(swift.storage(account, auth_url=f"{wire.url}/auth/v1.0"))
        store.head("c/a/first")
        store.close()
        wire.cut(2, after=after, direction=direction)
        store.put("c/a/0", DATA, create=create)
        assert wire.connections > 3
    assert opened(swift.storage(account)).get("c/a/0") == DATA


def test_create_finds_an_object_of_another_writer_after_a_broken_connection(swift: Any, place: Path) -> None:
    account = f"AUTH_{place.name}"
    opened(swift.storage(account)).put("c/a/0", b"of another")
    with proxy(swift.port) as wire:
        store = opened(swift.storage(account, auth_url=f"{wire.url}/auth/v1.0"))
        store.head("c/a/0")
        store.close()
        wire.cut(1, after=0, direction="down")
        with pytest.raises(StorageExists, match="c/a/0"):
            store.put("c/a/0", DATA, create=True)
    assert opened(swift.storage(account)).get("c/a/0") == b"of another"


@pytest.mark.parametrize("after", [0, 300, 500_000])
def test_get_survives_a_broken_connection(swift: Any, place: Path, after: int) -> None:
    account = f"AUTH_{place.name}"
    opened(swift.storage(account)).put("c/a/0", DATA)
    with proxy(swift.port) as wire:
        store = opened(swift.storage(account, auth_url=f"{wire.url}/auth/v1.0"))
        store.head("c/a/0")
        store.close()
        wire.cut(2, after=after, direction="down")
        assert store.get("c/a/0") == DATA


def test_connection_that_always_breaks(swift: Any, place: Path) -> None:
    with proxy(swift.port) as wire:
        store = opened(swift.storage(f"AUTH_{place.name}", auth_url=f"{wire.url}/auth/v1.0", retries=1))
        with pytest.raises(StorageNotFound):
            store.head("c/a/0")
        store.close()
        wire.cut(100, after=1000)
        with pytest.raises(StorageError, match="Swift does not answer for c/a/0 in http") as caught:
            store.put("c/a/0", DATA)
    assert "storage.retries" in caught.value.remedy


def test_hanging_request_times_out_and_is_retried(swift: Any, place: Path) -> None:
    account = f"AUTH_{place.name}"
    with proxy(swift.port) as wire:
        store = opened(swift.storage(account, auth_url=f"{wire.url}/auth/v1.0", timeout=1, retries=3))
        store.put("c/a/0", DATA)
        wire.stall()
        threading.Timer(2.5, wire.go_on).start()
        began = time.monotonic()
        assert store.get("c/a/0") == DATA
        assert time.monotonic() - began > 2
        assert wire.connections > 2


def test_slow_connection_does_not_time_out(swift: Any, place: Path) -> None:
    """A call takes longer than ``timeout``, but data keeps flowing."""
    account = f"AUTH_{place.name}"
    opened(swift.storage(account)).put("c/a/0", DATA)
    with proxy(swift.port) as wire:
        store = opened(swift.storage(account, auth_url=f"{wire.url}/auth/v1.0", timeout=1, retries=0))
        store.head("c/a/0")
        wire.rate = 500_000
        began = time.monotonic()
        assert store.get("c/a/0") == DATA
        assert time.monotonic() - began > 1.5


def test_swift_is_killed_and_restarted(own_swift: Any, place: Path) -> None:
    """It forgets all tokens in between."""
    store = opened(own_swift.storage(f"AUTH_{place.name}", retries=6))
    store.put("c/a/0", DATA)
    own_swift.kill()
    threading.Timer(1, own_swift.start).start()
    store.put("c/a/1", DATA)
    own_swift.kill()
    own_swift.start()
    assert store.get("c/a/0") == DATA  # the token is refused, and a new one is requested
    assert [stat.key for stat in store.list("c")] == ["c/a/0", "c/a/1"]
    own_swift.kill()
    impatient = opened(own_swift.storage(f"AUTH_{place.name}", retries=0))
    for call in calls(impatient):
        with pytest.raises(StorageError, match="Swift does not answer"):
            call()


def test_many_threads_share_connections(swift: Any, place: Path) -> None:
    with proxy(swift.port) as wire:
        store = opened(swift.storage(f"AUTH_{place.name}", auth_url=f"{wire.url}/auth/v1.0"))
        failed: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(5):
                    key = f"c/{number}/{turn}"
                    store.put(key, key.encode() * 1000)
                    assert store.get(key) == key.encode() * 1000
            except BaseException as error:
                failed.append(error)

        for _ in range(2):
            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not failed
        # each thread opens one connection for authentication and one that is kept
        assert wire.connections <= 2 * 4 + 4
        assert len(list(store.list("c"))) == 20


EVERYTHING = """
import sys
import strongroom.worker.__main__  # imported by a worker while it can still read everything
import strongroom.storage
strongroom.storage.load("swift")
loaded = set(sys.modules)
store = strongroom.storage.open_store(strongroom.sections.TokenStorage.model_validate_json(sys.stdin.read()))
part = store.put("c/a/0", b"x" * 100_000)
store.put("c/a/m", b"x", create=True)
try:
    store.put("c/a/m", b"y", create=True)
except strongroom.errors.StorageExists:
    pass
store.join("c/a", [part], {"lsn": "1"})
store.get("c/a"), store.get("c/a/0", start=5), store.head("c/a/0"), list(store.list("")), list(store.folders()), store.url("c/a")
try:
    store.get("c/a/never")
except strongroom.errors.StorageNotFound:
    pass
store.delete(["c/a/0", "c/a/m", "c/a"])
store.close()
print(sorted(set(sys.modules) - loaded))
"""


@pytest.mark.parametrize("kind", ["swift", "keystone_swift"])
def test_nothing_is_imported_late(request: pytest.FixtureRequest, kind: str, place: Path) -> None:
    """A worker drops root's privileges before it opens the store and may be unable to import anything afterwards."""
    settings = request.getfixturevalue(kind).storage(f"AUTH_{place.name}")
    text = settings.model_dump_json().replace('"**********"', f'"{settings.password.get_secret_value()}"', 1)
    _nothing_is_imported_late(text)


def test_nothing_is_imported_late_with_a_token(keystone_swift: Any) -> None:
    keystone = keystone_swift.keystone
    keystone.user("alice", ("late", "member"))
    token = keystone.token("alice", "late")
    settings = Storage(driver="swift", auth="user", auth_url=keystone.url).of_project(keystone.project("late"), SecretStr(token))
    _nothing_is_imported_late(settings.model_dump_json().replace("**********", token))


def _nothing_is_imported_late(text: str) -> None:
    done = subprocess.run([sys.executable, "-c", EVERYTHING], input=text, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_expired_token_is_renewed(short_keystone_swift: Any, place: Path) -> None:
    account = f"AUTH_{place.name}"
    store = opened(short_keystone_swift.storage(account, retries=0))
    store.put("c/a/0", DATA)
    with short_keystone_swift.in_account(account) as other:
        assert other.get("").status_code == 200
        time.sleep(EXPIRATION + 1)
        assert other.get("").status_code == 401
    store.put("c/a/1", DATA)
    time.sleep(EXPIRATION + 1)
    assert store.get("c/a/0") == DATA
    assert [stat.key for stat in store.list("c")] == ["c/a/0", "c/a/1"]


def test_new_token_that_is_refused(own_swift: Any, place: Path) -> None:
    store = opened(own_swift.storage(f"AUTH_{place.name}", retries=6))
    store.put("c/a/0", DATA)
    for _ in range(3):
        own_swift.forget_tokens()
        store.put("c/a/0", DATA)
        own_swift.forget_tokens()
        assert store.get("c/a/0") == DATA
    stop = threading.Event()

    def forget() -> None:
        while not stop.wait(0.001):
            own_swift.forget_tokens()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        impatient = opened(own_swift.storage(f"AUTH_{place.name}", retries=0))
        with pytest.raises(StorageDenied, match="does not accept the token"):
            for _ in range(100):
                impatient.put("c/a/1", DATA)
    finally:
        stop.set()
        thread.join()
    store.put("c/a/1", DATA)
