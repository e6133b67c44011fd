"""OpenStack Swift, by python-swiftclient. A container of Strongroom is stored in two containers of Swift.

A key with a folder (``box/one/00000000``) is stored as object ``one/00000000`` in container ``box_segments``; a key directly in
the container (``box/one.xbstream.zst``) is stored in ``box`` itself. So a listing of ``box`` shows only the joined objects.
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
    """Objects in one account. Containers are created when the first object is put into them."""

    # Swift checks for an existing object at the start of a request, so two concurrent creators may both succeed
    capabilities = Capabilities(server_checksum=True, conditional_create=False, expiry=True)
    max_joined_objects = 1000

    def __init__(self, storage: Storage) -> None:
        """Opens no connection. Raises ConfigurationError, which names the missing option."""
        self._wire = Wire(storage)

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        container, name = _locate(key)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        headers = {"If-None-Match": "*"} if create else {}

        def send(connection: Connection, attempt: int) -> str:
            try:
                body = io.BytesIO(data)  # does not copy the bytes
                etag: str = connection.put_object(
                    container, name, body, content_length=len(data), etag=md5, content_type=_BYTES, headers=headers
                )
            except ClientException as error:
                if not (create and error.http_status == 412):
                    raise
                # if the response to an earlier attempt was lost, the existing object is the one that this call wrote
                if attempt == 1 or _strip_quotes(connection.head_object(container, name)["etag"]) != md5:
                    raise StorageExists(f"{key} in {self._wire.display_name} exists already") from error
                etag = md5
            return etag

        if self._put_creating(container, key, send) != md5:
            raise StorageError(
                f"{key} in {self._wire.display_name} does not hold what was written",
                remedy="Run the backup again; check the store.",
            )
        return Stat(key=key, size=len(data), modified=datetime.now(UTC), etag=md5, md5=md5)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        container, name = _locate(key)
        if length == 0:
            return b""
        headers = {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"} if start or length else {}

        def fetch(connection: Connection, _: int) -> bytes:
            try:
                body: bytes = connection.get_object(container, name, headers=headers)[1]
            except ClientException as error:
                if error.http_status != 416:
                    raise
                return b""  # the range begins after the end of the object
            return body

        return self._wire.call(key, fetch)

    def head(self, key: str) -> Stat:
        container, name = _locate(key)
        found: Mapping[str, str] = self._wire.call(key, lambda connection, _: connection.head_object(container, name))
        etag = _strip_quotes(found["etag"])
        return Stat(
            key=key,
            size=int(found["content-length"]),
            modified=parsedate_to_datetime(found["last-modified"]).astimezone(UTC),
            etag=etag,
            md5=None if "x-static-large-object" in found or "x-object-manifest" in found else etag,
            metadata={name.removeprefix(_META): value for name, value in found.items() if name.startswith(_META)},
            expires=_parse_expiry(found.get("x-delete-at", "")),
        )

    def list(self, prefix: str) -> Iterator[Stat]:
        container, *folders = split_prefix(prefix) or [""]
        if folders:
            yield from self._list_folders(container, "/".join(folders) + "/")
            return
        for name in [container] if container else self._list_containers():
            yield from heapq.merge(self._list_folders(name, ""), self._list_top(name), key=lambda stat: stat.key.encode())

    def folders(self, prefix: str = "") -> Iterator[str]:
        container, *folders = split_prefix(prefix) or [""]
        if not container:
            for name in self._list_containers():
                if next(self._list_folders(name, ""), None) or next(self._list_top(name), None):
                    yield name
            return
        for found in self._list_objects(container + SEGMENTS, prefix="".join(f"{folder}/" for folder in folders), delimiter="/"):
            if "subdir" in found:
                yield found["subdir"].rstrip("/").rpartition("/")[2]

    def delete(self, keys: Iterable[str]) -> None:
        places = [(key, *_locate(key)) for key in keys]

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
        """Create a static large object. Swift checks every part and refuses if its size or ETag differs."""
        container, name = _locate(key)
        listing = [{"path": "/".join(("", *_locate(p.key))), "etag": p.etag, "size_bytes": p.size} for p in parts]
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

        etag = _strip_quotes(self._put_creating(container, key, send))
        expected = hashlib.md5("".join(str(part.etag) for part in parts).encode(), usedforsecurity=False).hexdigest()
        if etag != expected:
            raise StorageError(
                f"{key} in {self._wire.display_name} does not consist of the parts that were written",
                remedy="Run the backup again; check the store.",
            )
        return Stat(key=key, size=sum(part.size for part in parts), modified=datetime.now(UTC), etag=etag, metadata=metadata)

    def url(self, key: str) -> str:
        try:
            top = self._wire.url
        except StorageError:  # the URL is probably needed for the message of an earlier error
            top = "swift:"
        parts = key.split("/", 1)
        if len(parts) > 1 and "/" in parts[1]:
            parts[0] += SEGMENTS
        return "/".join((top, *(quote(part, safe="/@_+=:,.-") for part in parts if part)))

    def close(self) -> None:
        self._wire.close()

    # --- containers

    def _put_creating(self, container: str, key: str, send: Action[str]) -> str:
        """Call ``send``; if the container does not exist, create it and call ``send`` again."""
        try:
            return self._wire.call(key, send)
        except StorageNotFound:
            self._wire.call(container, lambda connection, _: connection.put_container(container))
        return self._wire.call(key, send)

    def _list_containers(self) -> Sequence[str]:
        """The containers of Strongroom, including empty ones, in the order of their keys."""
        names: set[str] = set()
        for found in self._read_pages("", lambda connection, marker: connection.get_account(marker=marker, limit=_PAGE)):
            names.update((found["name"], found["name"].removesuffix(SEGMENTS) or found["name"]))
        return sorted(names, key=lambda name: f"{name}/".encode())

    def _list_folders(self, container: str, prefix: str) -> Iterator[Stat]:
        for found in self._list_objects(container + SEGMENTS, prefix=prefix):
            if "/" in found["name"]:
                yield _make_stat(f"{container}/{found['name']}", found)

    def _list_top(self, container: str) -> Iterator[Stat]:
        for found in self._list_objects(container, delimiter="/"):
            if "subdir" not in found:
                yield _make_stat(f"{container}/{found['name']}", found)

    def _list_objects(self, container: str, **options: str) -> Iterator[dict[str, Any]]:
        """The content of a container of Swift; empty if the container does not exist."""
        with contextlib.suppress(StorageNotFound):
            yield from self._read_pages(
                container, lambda connection, marker: connection.get_container(container, marker=marker, limit=_PAGE, **options)
            )

    def _read_pages(self, key: str, fetch: Callable[[Connection, str], Any]) -> Iterator[dict[str, Any]]:
        marker = ""

        def ask(connection: Connection, _: int) -> list[dict[str, Any]]:
            page: list[dict[str, Any]] = fetch(connection, marker)[1]
            return page

        while page := self._wire.call(key, ask):
            yield from page
            marker = page[-1].get("name") or page[-1]["subdir"]


def _locate(key: str) -> tuple[str, str]:
    """The container and the object name in Swift. Raises StorageError if the key is not valid."""
    container, *rest = split(key)
    if not rest:
        raise StorageNotFound(f"{key} is a container, not an object")
    return container if len(rest) == 1 else container + SEGMENTS, "/".join(rest)


def _strip_quotes(etag: str) -> str:
    return etag.strip('"')


def _parse_expiry(seconds: str) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds.isdecimal() and len(seconds) < 12 else None


def _make_stat(key: str, found: Mapping[str, Any]) -> Stat:
    joined = found.get("slo_etag")
    etag = _strip_quotes(joined or found["hash"])
    modified = datetime.fromisoformat(found["last_modified"]).replace(tzinfo=UTC)
    return Stat(key=key, size=found["bytes"], modified=modified, etag=etag, md5=None if joined else etag)
