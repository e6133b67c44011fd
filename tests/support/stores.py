"""Stores with faults, around real ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from strongroom.storage import Capabilities, Stat, Store


class Wrapped:
    """A real store with a fault in one call."""

    capabilities = Capabilities(server_checksum=True, conditional_create=True)

    def __init__(self, store: Store) -> None:
        self.store = store
        self.puts: list[str] = []

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        self.puts.append(key)
        return self.store.put(key, data, create=create)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return self.store.get(key, start=start, length=length)

    def head(self, key: str) -> Stat:
        return self.store.head(key)

    def list(self, prefix: str) -> Iterator[Stat]:
        return self.store.list(prefix)

    def folders(self, prefix: str = "") -> Iterator[str]:
        return self.store.folders(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.store.delete(keys)

    def url(self, key: str) -> str:
        return self.store.url(key)

    def close(self) -> None:
        self.store.close()
