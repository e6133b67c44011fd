"""Behaviour that every driver must have, tested on real stores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from strongroom.errors import StorageError, StorageExists, StorageNotFound
from strongroom.sections import Storage
from strongroom.storage import DirectoryStore, Store, open_store

Opener = Callable[[], Store]


@pytest.fixture(params=["directory", "s3", "s3-with-prefix", "swift", "keystone_swift"])
def reopen(request: pytest.FixtureRequest, place: Path) -> Opener:
    """Opens the same store once more."""
    if request.param == "directory":
        return lambda: open_store(Storage(driver="directory"), place / "store")
    if request.param.endswith("swift"):
        storage = request.getfixturevalue(request.param).storage(f"AUTH_{place.name}")
        return lambda: open_store(storage)
    swift = request.getfixturevalue("swift")
    settings = Storage(
        driver="s3",
        bucket=swift.make_container(f"b{uuid4().hex}"),
        prefix="some/where" if request.param == "s3-with-prefix" else "",
        endpoint=swift.url,
        access_key_id=swift.user,
        secret_access_key=SecretStr(swift.password),
        retries=2,
        timeout=20,
    )
    return lambda: open_store(settings)


@pytest.fixture
def store(reopen: Opener) -> Iterator[Store]:
    store = reopen()
    yield store
    store.close()


def keys(store: Store, prefix: str = "") -> list[str]:
    return [stat.key for stat in store.list(prefix)]


def test_other_clients_see_an_object_after_put(store: Store, reopen: Opener) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    stat = store.put("c/a/0", b"hello")
    assert (stat.key, stat.size) == ("c/a/0", 5)
    other = reopen()
    assert other.get("c/a/0") == b"hello"
    head = other.head("c/a/0")
    assert (head.key, head.size) == ("c/a/0", 5)
    assert before <= head.modified <= datetime.now(UTC) + timedelta(seconds=2)


@pytest.mark.parametrize("size", [0, 1, 65_536, 9_000_001])
def test_sizes(store: Store, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    store.put("c/a/0", memoryview(data))
    assert store.head("c/a/0").size == size
    assert store.get("c/a/0") == data


def test_ranges(store: Store) -> None:
    store.put("c/a/0", b"0123456789")
    assert store.get("c/a/0", start=3, length=4) == b"3456"
    assert store.get("c/a/0", start=7) == b"789"
    assert store.get("c/a/0", length=3) == b"012"
    assert store.get("c/a/0", start=8, length=100) == b"89"
    assert store.get("c/a/0", start=2, length=0) == b""


def test_put_replaces(store: Store) -> None:
    store.put("c/a/0", b"first, and longer")
    store.put("c/a/0", b"second")
    assert store.get("c/a/0") == b"second"
    assert keys(store) == ["c/a/0"]


def test_create_never_replaces(store: Store) -> None:
    store.put("c/a/manifest.json", b"first", create=True)
    with pytest.raises(StorageExists, match=r"c/a/manifest\.json"):
        store.put("c/a/manifest.json", b"second", create=True)
    assert store.get("c/a/manifest.json") == b"first"


def test_one_of_many_concurrent_creators_succeeds(reopen: Opener) -> None:
    barrier = threading.Barrier(6)
    won: list[bytes] = []

    def create(number: int) -> None:
        store, data = reopen(), str(number).encode() * 1000
        barrier.wait()
        try:
            store.put("c/a/manifest.json", data, create=True)
        except StorageExists:
            return
        won.append(data)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Swift checks for an existing object at the start of a request, so several concurrent creators may succeed
    assert len(won) == 1 or (won and not isinstance(reopen(), DirectoryStore))
    assert reopen().get("c/a/manifest.json") in won


def test_missing_objects_are_not_found(store: Store) -> None:
    store.put("c/a/0", b"x")
    for key in ("c/a/1", "c/b/0", "d/a/0", "c/a"):
        with pytest.raises(StorageNotFound, match=key):
            store.get(key)
        with pytest.raises(StorageNotFound, match=key):
            store.head(key)
        store.delete([key])
    assert keys(store, "nowhere/at/all") == []
    assert list(store.folders("nowhere")) == []
    assert keys(store) == ["c/a/0"]


def test_list_is_ordered_and_matches_whole_folders(store: Store) -> None:
    names = ["c/a/00000000", "c/a/00000001", "c/a/manifest.json", "c/a-b/0", "c/a.b/0", "c/aa/0", "c/b/0", "d/a/0"]
    for name in reversed(names):
        store.put(name, b"x")
    assert keys(store) == sorted(names)
    assert keys(store, "c/a") == names[:3]
    assert keys(store, "c") == sorted(names[:-1])
    assert sorted(store.folders()) == ["c", "d"]
    assert sorted(store.folders("c")) == ["a", "a-b", "a.b", "aa", "b"]
    assert list(store.folders("c/a")) == []


def test_long_lists(store: Store) -> None:
    names = [f"c/a/{n:08d}" for n in range(100)]  # the Swift of the tests returns 40 per page
    for name in names:
        store.put(name, b"x")
    assert keys(store, "c/a") == names
    store.delete(iter(names[1:]))
    assert keys(store, "c") == names[:1]


def test_delete_removes_only_the_given_keys(store: Store) -> None:
    for name in ("c/a/0", "c/a/1", "c/b/0"):
        store.put(name, b"x")
    store.delete(["c/a/0", "c/a/1", "c/a/never"])
    assert keys(store) == ["c/b/0"]
    assert list(store.folders("c")) == ["b"]
    store.delete(["c/b/0"])
    store.delete([])
    assert keys(store) == []
    assert list(store.folders()) == []
    store.put("c/a/0", b"again")
    assert store.get("c/a/0") == b"again"


@pytest.mark.parametrize("name", ["a@b", "50%", "x_y+z=1", "a:b,c", "%41", "ä-ü-漢"])
def test_unusual_names_are_kept_unchanged(store: Store, name: str) -> None:
    store.put(f"{name}/{name}/0", b"x")
    assert keys(store) == [f"{name}/{name}/0"]
    assert list(store.folders()) == [name]
    assert list(store.folders(name)) == [name]
    assert store.get(f"{name}/{name}/0") == b"x"
    store.delete([f"{name}/{name}/0"])
    assert keys(store) == []


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "c//0", "c/../../x", "c/./0", "c/a/", "c/.hidden", "c/a\0b", "c/a\nb", "x" * 300]
)
def test_hostile_keys_are_refused(store: Store, key: str) -> None:
    for call in (lambda: store.put(key, b"x"), lambda: store.get(key), lambda: store.head(key), lambda: store.delete([key])):
        with pytest.raises(StorageError, match="not valid"):
            call()
    if key:
        with pytest.raises(StorageError, match="not valid"):
            list(store.list(key))
        with pytest.raises(StorageError, match="not valid"):
            list(store.folders(key))


def test_md5_is_reported_only_if_the_store_computes_it(store: Store) -> None:
    import hashlib

    put = store.put("c/a/0", b"hello")
    for stat in (put, store.head("c/a/0"), next(iter(store.list("c/a")))):
        expected = hashlib.md5(b"hello").hexdigest() if store.capabilities.server_checksum else None
        assert stat.md5 == expected


def test_url_contains_the_key(store: Store) -> None:
    url = store.url("c/a/0")
    assert url.endswith(("/c/a/0", "/c_segments/a/0"))
    assert url.split("://")[0] in ("file", "s3", "http")
