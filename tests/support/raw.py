"""What somebody with the store's credentials can do to it without our code: write and read any object, in every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from strongroom.sections import Storage
from strongroom.storage import Store, open_store


class Raw:
    """One store, through our driver (``store``) and past it."""

    def __init__(self, kind: str, storage: Storage, top: Path, client: httpx.Client | None = None) -> None:
        self.kind = kind
        self.storage = storage
        self.store: Store = open_store(storage, top)
        self._top = top
        self._client = client

    def write(self, key: str, data: bytes, **headers: str) -> None:
        """Put an object; the key may be anything that the store itself allows."""
        if self._client is None:
            path = self._top / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        else:
            self._client.put(self._at(key), content=data, headers=headers).raise_for_status()

    def read(self, key: str) -> bytes:
        if self._client is None:
            return (self._top / key).read_bytes()
        reply = self._client.get(self._at(key))
        reply.raise_for_status()
        return reply.content

    def delete(self, key: str) -> None:
        if self._client is None:
            (self._top / key).unlink()
        else:
            self._client.delete(self._at(key)).raise_for_status()

    def names(self) -> set[str]:
        """Every object, by the name that the store itself has for it."""
        if self._client is None:
            return {str(path.relative_to(self._top)) for path in self._top.rglob("*") if not path.is_dir()}
        if self.kind == "s3":
            return set(self._list(self.storage.bucket or ""))
        inside = {f"box/{name}" for name in self._list("box_segments")}
        return inside | {f"box/{name}" for name in self._list("box")}

    def _list(self, container: str) -> Iterator[str]:
        assert self._client is not None
        reply = self._client.get(f"/{container}", params={"format": "json"})
        if reply.status_code == 200:
            yield from (found["name"] for found in reply.json())

    def _at(self, key: str) -> str:
        if self.kind == "s3":
            return f"/{self.storage.bucket}/{quote(key)}".replace("..", "%2e%2e")
        container, _, name = key.partition("/")
        return f"/{container}{'_segments' if '/' in name else ''}/{quote(name)}".replace("..", "%2e%2e")

    def close(self) -> None:
        self.store.close()
        if self._client is not None:
            self._client.close()


def open_raw(kind: str, place: Path, fixture: Callable[[str], Any]) -> Raw:
    """A store of this kind of its own; ``fixture`` is ``request.getfixturevalue``."""
    if kind == "directory":
        return Raw(kind, Storage(driver="directory"), place / "store")
    swift = fixture("swift")
    if kind == "s3":
        storage = Storage(
            driver="s3",
            bucket=swift.make_container(f"b{uuid4().hex}"),
            endpoint=swift.url,
            access_key_id=swift.user,
            secret_access_key=SecretStr(swift.password),
            retries=1,
            timeout=20,
        )
        return Raw(kind, storage, place, swift.account())
    account = f"AUTH_{place.name}"
    raw = Raw(kind, swift.storage(account), place, swift.in_account(account))
    for container in ("box", "box_segments"):
        assert raw._client is not None
        raw._client.put(f"/{container}").raise_for_status()
    return raw


@pytest.fixture(params=["directory", "s3", "swift"])
def raw(request: pytest.FixtureRequest, place: Path) -> Iterator[Raw]:
    """A store of every kind."""
    found = open_raw(request.param, place, request.getfixturevalue)
    yield found
    found.close()
