"""A bucket that forbids overwriting and deleting: backups are taken, nothing is written twice, what is broken blocks nothing."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import Location, Writer, delete_artifact, open_artifact, sweep_orphans, verify
from strongroom.errors import StorageDenied, StorageError
from strongroom.sections import Storage
from strongroom.storage import Stat, Store, open_store
from support.artifacts import FIELDS, SMALL, feed, mb_file, noise, take, write_artifact
from support.raw import open_raw
from support.stores import Wrapped

DATA = mb_file("db/t.ibd", noise(300_000))
HERE = Location(container="box", id="one")
REFUSAL = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>the object is locked</Message></Error>"

NO_CHECKSUM = (
    b"<?xml version='1.0'?><Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required "
    b"for Put Object requests with Object Lock parameters</Message></Error>"
)


class Locked(Wrapped):
    """A store that takes each key once and lets go of none."""

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        try:
            self.store.head(key)
        except StorageError:
            return super().put(key, data, create=create)
        raise StorageDenied(f"{key} is locked")

    def delete(self, keys: Iterable[str]) -> None:
        if keys := list(keys):
            raise StorageDenied(f"{keys[0]} is locked")


class Front:
    """An S3 endpoint in front of another that answers 403 to what would overwrite or delete an object.

    ``lose``: the answers to so many puts get lost, although they were carried out.
    """

    def __init__(self, port: int) -> None:
        self.lose = 0
        self.wants_checksums = False
        self.refused: list[str] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                bulk = self.command == "POST" and "delete" in self.path
                if self.command == "DELETE" or bulk or (self.command == "PUT" and self.path in front.written):
                    front.refused.append(f"{self.command} {self.path}")
                    self._answer(403, {"Content-Type": "application/xml"}, REFUSAL)
                    return
                if front.wants_checksums and self.command == "PUT" and "x-amz-checksum-sha256" not in self.headers:
                    self._answer(400, {"Content-Type": "application/xml"}, NO_CHECKSUM)
                    return
                there = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    there.putheader(name, value)
                there.endheaders(body)
                reply = there.getresponse()
                data = reply.read()
                there.close()
                if self.command == "PUT" and reply.status == 200:
                    front.written.add(self.path)
                    if front.lose > 0:
                        front.lose -= 1
                        self._answer(503, {}, b"")
                        return
                skip = {"content-length", "connection", "transfer-encoding"}
                headers = {name: value for name, value in reply.getheaders() if name.lower() not in skip}
                if self.command == "HEAD":
                    headers["Content-Length"] = reply.getheader("Content-Length", "0")
                self._answer(reply.status, headers, data)

            def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

            def log_message(self, *_: object) -> None:
                return

        self.written: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def front(swift: Any) -> Iterator[Front]:
    front = Front(swift.port)
    yield front
    front.close()


@pytest.fixture(params=["directory", "s3", "swift"])
def locked(request: pytest.FixtureRequest, place: Path) -> Store:
    if request.param != "s3":
        return Locked(open_raw(request.param, place, request.getfixturevalue).store)
    raw = open_raw("s3", place, request.getfixturevalue)
    storage: Storage = raw.storage.model_copy(update={"endpoint": request.getfixturevalue("front").url, "retries": 2})
    return open_store(storage)


def leave_dead_attempt(store: Store) -> None:
    writer = Writer(store, HERE, SMALL, stream="mbstream", owner="us")
    writer.open()
    feed([*mb_file("db/other.ibd", noise(200_000, 7))], writer.copy_from)
    writer.wait()
    with pytest.raises(StorageError):
        writer.abort()


def test_attempts_follow_each_other_and_write_nothing_twice(locked: Store) -> None:
    for number in range(2):
        leave_dead_attempt(locked)
        assert {stat.key for stat in locked.list("box")} >= {HERE.intent_of(number), HERE.segment(0, number)}
    with Writer(locked, HERE, SMALL, stream="mbstream", owner="us") as writer:
        feed(DATA, writer.copy_from)
        manifest = writer.finish(**{**FIELDS, "chain": "one"})
    assert manifest.attempt == 2
    assert "cannot be removed from the store" in writer.warnings[0]
    reader = open_artifact(locked, HERE)
    assert take(reader) == b"".join(DATA)
    assert verify(reader).ok
    assert b"".join(reader.extract(["db/t.ibd"])) == b"".join(DATA)


def test_a_first_attempt_has_the_plain_names(locked: Store) -> None:
    manifest = write_artifact(locked, HERE, DATA, stream="mbstream")
    assert manifest.attempt is None
    keys = {stat.key for stat in locked.list(HERE.prefix)}
    assert keys == {HERE.manifest, HERE.intent, HERE.index, *(HERE.segment(n) for n in range(len(manifest.segments)))}


def test_undeletable_objects_are_skipped_and_reported(locked: Store) -> None:
    leave_dead_attempt(locked)
    write_artifact(locked, Location(container="box", id="two"), DATA, stream="mbstream")
    skipped: dict[str, str] = {}
    at_once = timedelta(seconds=-5)  # stores round the time of an object up
    swept = sweep_orphans(locked, "us", lambda _: False, at_once, report=lambda at, error: skipped.update({at.id: error.code}))
    assert (swept, skipped) == ([], {"one": "StorageDenied"})
    with pytest.raises(StorageDenied):
        delete_artifact(locked, Location(container="box", id="two"))
    assert take(open_artifact(locked, Location(container="box", id="two"))) == b"".join(DATA)


def test_lost_response_is_not_taken_for_a_lock(front: Front, place: Path, request: pytest.FixtureRequest) -> None:
    """The put is tried again, and refused because its first try was carried out: what is there is our own."""
    raw = open_raw("s3", place, request.getfixturevalue)
    store = open_store(raw.storage.model_copy(update={"endpoint": front.url, "retries": 2}))
    front.lose = 3
    write_artifact(store, HERE, DATA, stream="mbstream")
    assert front.lose == 0
    assert [line for line in front.refused if line.startswith("PUT")]
    assert take(open_artifact(store, HERE)) == b"".join(DATA)
    with pytest.raises(StorageDenied):
        store.put(HERE.segment(0), b"something else")


def test_a_bucket_with_object_lock_gets_the_checksums_that_it_demands(
    front: Front, place: Path, request: pytest.FixtureRequest
) -> None:
    raw = open_raw("s3", place, request.getfixturevalue)
    store = open_store(raw.storage.model_copy(update={"endpoint": front.url}))
    front.wants_checksums = True
    write_artifact(store, HERE, DATA, stream="mbstream")
    assert take(open_artifact(store, HERE)) == b"".join(DATA)
