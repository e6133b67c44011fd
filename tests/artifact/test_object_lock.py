"""A bucket with S3 Object Lock as moto has it: what was written stays, whatever this service or a thief of its key deletes.

As in S3, a plain put or delete there makes a new version or a marker: only versions are locked. What a policy forbids altogether
is in ``test_locked_bucket.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app
from pydantic import SecretStr
from werkzeug.serving import make_server

from strongroom.artifact import Location, Writer, delete_artifact, open_artifact, verify
from strongroom.errors import ArtifactMissing, StorageExists
from strongroom.sections import Storage
from strongroom.storage import Store, open_store
from support.artifacts import SMALL, feed, mb_file, noise, take, write_artifact

DATA = mb_file("db/t.ibd", noise(300_000))
HERE = Location(container="box", id="one")
KEY, SECRET, REGION = "key", "secret-of-the-key", "us-east-1"


class Bucket:
    """A bucket in which every version is retained for a day, in compliance mode."""

    def __init__(self, url: str) -> None:
        self.name = f"b{uuid4().hex}"
        self.client: Any = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION
        )
        self.client.create_bucket(Bucket=self.name, ObjectLockEnabledForBucket=True)
        retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
        rule = {"ObjectLockEnabled": "Enabled", "Rule": retention}
        self.client.put_object_lock_configuration(Bucket=self.name, ObjectLockConfiguration=rule)
        storage = Storage(
            driver="s3",
            bucket=self.name,
            endpoint=url,
            region=REGION,
            access_key_id=KEY,
            secret_access_key=SecretStr(SECRET),
            retries=1,
            timeout=20,
        )
        self.store: Store = open_store(storage)

    def versions(self) -> list[tuple[str, str]]:
        """Key and id of every version that holds data."""
        found = self.client.list_object_versions(Bucket=self.name).get("Versions", [])
        return [(version["Key"], version["VersionId"]) for version in found]

    def body(self, key: str, version: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key, VersionId=version)["Body"].read())


def name_checksum(application: Any) -> Any:
    """moto wants the header that names the checksum, which Amazon's clients send; S3 itself is content with the checksum."""

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        if "HTTP_X_AMZ_CHECKSUM_SHA256" in environ:
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "SHA256"
        return application(environ, start_response)

    return serve


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = make_server("127.0.0.1", 0, name_checksum(DomainDispatcherApplication(create_backend_app)), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Bucket]:
    bucket = Bucket(endpoint)
    yield bucket
    bucket.store.close()


def test_a_backup_is_written_once_and_read_back(bucket: Bucket) -> None:
    write_artifact(bucket.store, HERE, DATA, stream="mbstream")
    reader = open_artifact(bucket.store, HERE)
    assert take(reader) == b"".join(DATA)
    assert verify(reader).ok
    keys = [key for key, _ in bucket.versions()]
    assert len(keys) == len(set(keys)), "an object was written twice"
    with pytest.raises(StorageExists):
        bucket.store.put(HERE.manifest, b"another", create=True)


def test_versions_outlive_the_deletion_of_a_backup(bucket: Bucket) -> None:
    write_artifact(bucket.store, HERE, DATA, stream="mbstream")
    before = {(key, version): bucket.body(key, version) for key, version in bucket.versions()}
    for key, version in before:
        with pytest.raises(ClientError, match="AccessDenied"):
            bucket.client.delete_object(Bucket=bucket.name, Key=key, VersionId=version)
    delete_artifact(bucket.store, HERE)
    with pytest.raises(ArtifactMissing):
        open_artifact(bucket.store, HERE)
    assert {(key, version): bucket.body(key, version) for key, version in bucket.versions()} == before


def test_a_broken_attempt_blocks_nothing(bucket: Bucket) -> None:
    writer = Writer(bucket.store, HERE, SMALL, stream="mbstream", owner="us")
    writer.open()
    feed([*mb_file("db/other.ibd", noise(200_000, 7))], writer.copy_from)
    writer.wait()
    writer.abort()
    write_artifact(bucket.store, HERE, DATA, stream="mbstream")
    assert take(open_artifact(bucket.store, HERE)) == b"".join(DATA)
