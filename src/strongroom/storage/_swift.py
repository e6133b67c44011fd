"""OpenStack Swift, by python-swiftclient. Two containers of Swift make one of ours.

What is below a folder (``box/one/00000000``) is object ``one/00000000`` of container ``box_segments``; what is directly in the
container (``box/one.xbstream.zst``) is an object of ``box`` itself. So whoever lists ``box`` sees the joined objects alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from swiftclient.client import Connection
from swiftclient.exceptions import ClientException

from strongroom.errors import StorageError, StorageExists, StorageNotFound
from strongroom.sections import Storage
from strongroom.storage._key import split, split_prefix
from strongroom.storage._protocol import Capabilities, Stat
from strongroom.storage._swift_wire import Action, Wire

SEGMENTS = "_segments"
_PAGE = 2000
_DELETES = 8
_BYTES = "application/octet-stream"
_META = "x-object-meta-"


class SwiftStore:
    """Objects in one account. Containers are made when something is put into them."""

    # Swift looks for an existing object when a request begins, so it cannot tell creators apart that begin together
    capabilities = Capabilities(server_checksum=True, conditional_create=False, expiry=True)
    most_joined = 1000

    def __init__(self, storage: Storage) -> None:
        """Contacts nobody. Raises ConfigurationError that names the missing option."""
        self._wire = Wire(storage)

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        container, name = _place(key)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        headers = {"If-None-Match": "*"} if create else {}

        def send(connection: Connection, attempt: int) -> str:
            try:
                body = io.BytesIO(data)  # shares the bytes
                etag: str = connection.put_object(
                    container, name, body, content_length=len(data), etag=md5, content_type=_BYTES, headers=headers
                )
            except ClientException as error:
                if not (create and error.http_status == 412):
                    raise
                # when the answer to a try before was lost on its way, it is our own that is there
                if attempt == 1 or _plain(connection.head_object(container, name)["etag"]) != md5:
                    raise StorageExists(f"{key} in {self._wire.shown} exists already") from error
                etag = md5
            return etag

        if self._into(container, key, send) != md5:
            raise StorageError(
                f"{key} in {self._wire.shown} does not hold what was written", remedy="Run the backup again; check the store."
            )
        return Stat(key=key, size=len(data), modified=datetime.now(UTC), etag=md5, md5=md5)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        container, name = _place(key)
        if length == 0:
            return b""
        headers = {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"} if start or length else {}

        def fetch(connection: Connection, _: int) -> bytes:
            try:
                body: bytes = connection.get_object(container, name, headers=headers)[1]
            except ClientException as error:
                if error.http_status != 416:
                    raise
                return b""  # nothing of the object is in the range
            return body

        return self._wire.call(key, fetch)

    def head(self, key: str) -> Stat:
        container, name = _place(key)
        found: Mapping[str, str] = self._wire.call(key, lambda connection, _: connection.head_object(container, name))
        etag = _plain(found["etag"])
        return Stat(
            key=key,
            size=int(found["content-length"]),
            modified=parsedate_to_datetime(found["last-modified"]).astimezone(UTC),
            etag=etag,
            md5=None if "x-static-large-object" in found or "x-object-manifest" in found else etag,
            metadata={name.removeprefix(_META): value for name, value in found.items() if name.startswith(_META)},
            expires=_expiry(found.get("x-delete-at", "")),
        )

    def list(self, prefix: str) -> Iterator[Stat]:
        container, *folders = split_prefix(prefix) or [""]
        if folders:
            yield from self._in_folders(container, "/".join(folders) + "/")
            return
        for name in [container] if container else self._containers():
            yield from heapq.merge(self._in_folders(name, ""), self._directly(name), key=lambda stat: stat.key.encode())

    def folders(self, prefix: str = "") -> Iterator[str]:
        container, *folders = split_prefix(prefix) or [""]
        if not container:
            for name in self._containers():
                if next(self._in_folders(name, ""), None) or next(self._directly(name), None):
                    yield name
            return
        for found in self._objects(container + SEGMENTS, prefix="".join(f"{folder}/" for folder in folders), delimiter="/"):
            if "subdir" in found:
                yield found["subdir"].rstrip("/").rpartition("/")[2]

    def delete(self, keys: Iterable[str]) -> None:
        places = [(key, *_place(key)) for key in keys]

        def remove(key: str, container: str, name: str) -> None:
            try:
                self._wire.call(key, lambda connection, _: connection.delete_object(container, name))
            except StorageNotFound:
                return

        if len(places) <= 1:
            for place in places:
                remove(*place)
            return
        with ThreadPoolExecutor(min(_DELETES, len(places)), thread_name_prefix="delete") as pool:
            for done in [pool.submit(remove, *place) for place in places]:
                done.result()

    def join(self, key: str, parts: Sequence[Stat], metadata: Mapping[str, str]) -> Stat:
        """A static large object. Swift looks at every part and refuses when its size or ETag is another."""
        container, name = _place(key)
        listing = [{"path": "/".join(("", *_place(p.key))), "etag": p.etag, "size_bytes": p.size} for p in parts]
        body = json.dumps(listing).encode()
        headers = {f"X-Object-Meta-{name}": value for name, value in metadata.items()}

        def send(connection: Connection, _: int) -> str:
            etag: str = connection.put_object(
                container,
                name,
                io.BytesIO(body),
                content_length=len(body),
                content_type=_BYTES,
                headers=headers,
                query_string="multipart-manifest=put",
            )
            return etag

        etag = _plain(self._into(container, key, send))
        expected = hashlib.md5("".join(str(part.etag) for part in parts).encode(), usedforsecurity=False).hexdigest()
        if etag != expected:
            raise StorageError(
                f"{key} in {self._wire.shown} does not join what was written", remedy="Run the backup again; check the store."
            )
        return Stat(key=key, size=sum(part.size for part in parts), modified=datetime.now(UTC), etag=etag, metadata=metadata)

    def url(self, key: str) -> str:
        try:
            top = self._wire.url
        except StorageError:  # for a message of what failed already
            top = "swift:"
        parts = key.split("/", 1)
        if len(parts) > 1 and "/" in parts[1]:
            parts[0] += SEGMENTS
        return "/".join((top, *(quote(part, safe="/@_+=:,.-") for part in parts if part)))

    def close(self) -> None:
        self._wire.close()

    # --- containers

    def _into(self, container: str, key: str, send: Action[str]) -> str:
        """``send``, once more when it failed because there is no container."""
        try:
            return self._wire.call(key, send)
        except StorageNotFound:
            self._wire.call(container, lambda connection, _: connection.put_container(container))
        return self._wire.call(key, send)

    def _containers(self) -> Sequence[str]:
        """Ours, in the order of their keys, whether they hold anything or not."""
        names: set[str] = set()
        for found in self._pages("", lambda connection, marker: connection.get_account(marker=marker, limit=_PAGE)):
            names.update((found["name"], found["name"].removesuffix(SEGMENTS) or found["name"]))
        return sorted(names, key=lambda name: f"{name}/".encode())

    def _in_folders(self, container: str, prefix: str) -> Iterator[Stat]:
        for found in self._objects(container + SEGMENTS, prefix=prefix):
            if "/" in found["name"]:
                yield _stat(f"{container}/{found['name']}", found)

    def _directly(self, container: str) -> Iterator[Stat]:
        for found in self._objects(container, delimiter="/"):
            if "subdir" not in found:
                yield _stat(f"{container}/{found['name']}", found)

    def _objects(self, container: str, **options: str) -> Iterator[dict[str, Any]]:
        """What is in a container of Swift; nothing when there is none."""
        with contextlib.suppress(StorageNotFound):
            yield from self._pages(
                container, lambda connection, marker: connection.get_container(container, marker=marker, limit=_PAGE, **options)
            )

    def _pages(self, key: str, fetch: Callable[[Connection, str], Any]) -> Iterator[dict[str, Any]]:
        marker = ""

        def ask(connection: Connection, _: int) -> list[dict[str, Any]]:
            page: list[dict[str, Any]] = fetch(connection, marker)[1]
            return page

        while page := self._wire.call(key, ask):
            yield from page
            marker = page[-1].get("name") or page[-1]["subdir"]


def _place(key: str) -> tuple[str, str]:
    """Container and object of Swift. Raises StorageError for a key that cannot be one."""
    container, *rest = split(key)
    if not rest:
        raise StorageNotFound(f"{key} is a container, not an object")
    return container if len(rest) == 1 else container + SEGMENTS, "/".join(rest)


def _plain(etag: str) -> str:
    return etag.strip('"')


def _expiry(seconds: str) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds.isdecimal() and len(seconds) < 12 else None


def _stat(key: str, found: Mapping[str, Any]) -> Stat:
    joined = found.get("slo_etag")
    etag = _plain(joined or found["hash"])
    modified = datetime.fromisoformat(found["last_modified"]).replace(tzinfo=UTC)
    return Stat(key=key, size=found["bytes"], modified=modified, etag=etag, md5=None if joined else etag)
