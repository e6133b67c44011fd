"""Object stores: required settings, and the messages of errors."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from strongroom.errors import ConfigurationError, StorageDenied, StorageError, StorageFull
from strongroom.sections import Storage
from strongroom.storage import Store, open_store
from support.proxy import proxy


def s3(swift: Any, **options: Any) -> Store:
    values: dict[str, Any] = {
        "bucket": "bucket",
        "endpoint": swift.url,
        "access_key_id": swift.user,
        "secret_access_key": SecretStr(swift.password),
        "retries": 1,
        "timeout": 5,
    }
    return open_store(Storage(driver="s3", **{**values, **options}))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"driver": "directory"}, "storage.path is not set"),
        ({"driver": "s3"}, "storage.bucket is not set, and driver s3"),
        ({"driver": "gcs"}, "storage.bucket is not set, and driver gcs"),
        ({"driver": "azure"}, "storage.bucket is not set, and driver azure"),
        ({"driver": "s3", "bucket": "b", "access_key_id": "me"}, "must be set together"),
        ({"driver": "swift"}, "storage.auth_url is not set, and driver swift"),
        ({"driver": "swift", "auth_version": "1"}, "storage.auth_url is not set"),
        ({"driver": "swift", "auth_url": "http://x", "auth_version": "1", "username": "me"}, "storage.password is not set"),
        ({"driver": "swift", "auth_url": "http://x", "username": "me", "password": "pw"}, "storage.project_name is not set"),
        (
            {"driver": "swift", "auth_url": "http://x", "application_credential_id": "me"},
            "application_credential_secret is not set",
        ),
        ({"driver": "gcs", "bucket": "b", "credentials_file": Path("/nowhere.json")}, "settings for gcs are not valid"),
        ({"driver": "azure", "bucket": "b"}, "settings for azure are not valid"),
    ],
)
def test_missing_options_are_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        open_store(Storage(**options))
    assert caught.value.remedy


def test_azure_opens_without_a_connection(place: Path) -> None:
    azure = Storage(
        driver="azure", bucket="b", access_key_id="me", secret_access_key=SecretStr("c2VjcmV0"), prefix="/some/where/"
    )
    assert open_store(azure).url("c/a/0") == "az://b/some/where/c/a/0"


def test_wrong_secret(swift: Any) -> None:
    swift.make_container("bucket")
    store = s3(swift, secret_access_key=SecretStr("wrong-secret"))
    for call in (lambda: store.put("c/a/0", b"x"), lambda: store.get("c/a/0"), lambda: list(store.list("c"))):
        with pytest.raises(StorageDenied, match="refused s3://bucket/c") as caught:
            call()
        assert "wrong-secret" not in str(caught.value)
        assert "access key" in caught.value.remedy


def test_missing_bucket(swift: Any) -> None:
    store = s3(swift, bucket="nowhere")
    for call in (lambda: store.put("c/a/0", b"x"), lambda: store.get("c/a/0"), lambda: list(store.list("c"))):
        with pytest.raises(StorageError, match=r"the bucket of s3://nowhere.* does not exist") as caught:
            call()
        assert "Create the bucket" in caught.value.remedy


def test_quota(swift: Any) -> None:
    bucket = swift.make_container(f"q{uuid4().hex}", Meta_Quota_Bytes="1000")
    with pytest.raises(StorageFull, match="c/a/0"):
        s3(swift, bucket=bucket).put("c/a/0", bytes(5000))


def test_unreachable_store(free_port: int) -> None:
    store = open_store(
        Storage(
            driver="s3",
            bucket="b",
            endpoint=f"http://127.0.0.1:{free_port}",
            access_key_id="me",
            secret_access_key=SecretStr("hush-hush"),
            retries=0,
            timeout=2,
        )
    )
    with pytest.raises(StorageError, match="the store failed at s3://b/c/a/0") as caught:
        store.put("c/a/0", b"x")
    assert "storage.endpoint" in caught.value.remedy
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(("direction", "after"), [("up", 10), ("down", 0)], ids=["before-answer", "after-answer"])
def test_put_survives_a_broken_connection(swift: Any, create: bool, direction: Any, after: int) -> None:
    bucket = swift.make_container(f"f{uuid4().hex}")
    data = bytes(range(256)) * 4000
    with proxy(swift.port) as wire:
        wire.cut(1, after=after, direction=direction)
        store = s3(swift, bucket=bucket, endpoint=wire.url, region="us-east-1")
        store.put("c/a/0", data, create=create)
        assert wire.connections > 1
    assert s3(swift, bucket=bucket).get("c/a/0") == data


class _Busy(BaseHTTPRequestHandler):
    """A store that reads requests but answers 503 until ``until``, or always answers the error ``code``."""

    protocol_version = "HTTP/1.1"
    until = 0.0
    code = ""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.code:
            self._answer(400, f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode())
        elif time.monotonic() < self.until:
            self._answer(503, b"<Error><Code>SlowDown</Code></Error>")
        else:
            self._answer(200, b"", ETag='"x"')

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def answering(**state: Any) -> Iterator[Store]:
    """A store with the default retries, on a server with this state."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Busy,), state))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield open_store(
            Storage(
                driver="s3",
                bucket="bucket",
                endpoint=f"http://127.0.0.1:{server.server_port}",
                access_key_id="me",
                secret_access_key=SecretStr("pw"),
            )
        )
    finally:
        server.shutdown()
        server.server_close()


def test_short_outage_of_the_store_is_retried() -> None:
    with answering(until=time.monotonic() + 5) as store:  # longer than the 2.3 s that obstore retries with its defaults
        assert store.put("c/a/0", b"data").size == 4


def test_remedy_for_expired_credentials() -> None:
    with (
        answering(code="ExpiredToken") as store,
        pytest.raises(StorageDenied, match="no longer accepts the credentials") as caught,
    ):
        store.put("c/a/0", b"data")
    assert "Renew" in caught.value.remedy
