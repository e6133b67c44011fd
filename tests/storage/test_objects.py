"""Object stores: what the settings need, and errors that help."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from strongroom.errors import ConfigurationError, StorageDenied, StorageError, StorageFull
from strongroom.settings import Storage
from strongroom.storage import Store, open_store


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
        ({"driver": "s3", "bucket": "b", "access_key_id": "me"}, "go together"),
        ({"driver": "gcs", "bucket": "b", "credentials_file": Path("/nowhere.json")}, "settings for gcs are not usable"),
        ({"driver": "azure", "bucket": "b"}, "settings for azure are not usable"),
    ],
)
def test_missing_options_are_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        open_store(Storage(**options))
    assert caught.value.remedy


def test_gcs_and_azure_open_without_a_call(place: Path) -> None:
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


def test_no_bucket(swift: Any) -> None:
    store = s3(swift, bucket="nowhere")
    for call in (lambda: store.put("c/a/0", b"x"), lambda: store.get("c/a/0"), lambda: list(store.list("c"))):
        with pytest.raises(StorageError, match="no bucket") as caught:
            call()
        assert "Create the bucket" in caught.value.remedy


def test_quota(swift: Any) -> None:
    bucket = swift.make_container(f"q{uuid4().hex}", Meta_Quota_Bytes="1000")
    with pytest.raises(StorageFull, match="c/a/0"):
        s3(swift, bucket=bucket).put("c/a/0", bytes(5000))


def test_nobody_answers(free_port: int) -> None:
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


class Flaky:
    """A wire to Swift that is cut in the middle of the first ``cuts`` connections, before or after Swift has answered."""

    def __init__(self, port: int, cuts: int, *, after_answer: bool) -> None:
        self.target, self.cuts, self.after_answer = port, cuts, after_answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(client, self.connections <= self.cuts), daemon=True).start()

    def serve(self, client: socket.socket, cut: bool) -> None:
        with contextlib.suppress(OSError):
            self.carry(client, cut)

    def carry(self, client: socket.socket, cut: bool) -> None:
        if cut and not self.after_answer:
            client.recv(10)
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self.target))
        up = threading.Thread(target=self.pump, args=(client, server), daemon=True)
        up.start()
        if cut:
            server.recv(65536)
            client.shutdown(socket.SHUT_RDWR)
            client.close()
            return
        self.pump(server, client)

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture(params=[False, True], ids=["before-answer", "after-answer"])
def flaky(request: pytest.FixtureRequest, swift: Any) -> Iterator[Flaky]:
    wire = Flaky(swift.port, 1, after_answer=request.param)
    yield wire
    wire.listener.close()


@pytest.mark.parametrize("create", [False, True])
def test_a_put_survives_a_cut_wire(swift: Any, flaky: Flaky, create: bool) -> None:
    bucket = swift.make_container(f"f{uuid4().hex}")
    store = s3(swift, bucket=bucket, endpoint=flaky.url, region="us-east-1")
    data = bytes(range(256)) * 4000
    store.put("c/a/0", data, create=create)
    assert flaky.connections > 1
    assert s3(swift, bucket=bucket).get("c/a/0") == data


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("Server returned non-2xx status code: 507 Insufficient Storage: ", True),
        ("HTTP error: after 3 retries in 1.507s, retry_timeout 180s - connection refused", False),
        ("HTTP error: after 3 retries in 413 ms - connection refused", False),
    ],
)
def test_a_number_is_a_status_only_where_it_is_called_one(text: str, full: bool) -> None:
    from strongroom.storage import _objects

    assert bool(_objects._FULL.search(text)) is full
