"""Opens a bucket of S3, Google Cloud Storage or Azure, as the settings describe it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore.store import AzureStore, GCSStore, S3Store

from strongroom.errors import ConfigurationError
from strongroom.sections import Storage
from strongroom.storage._objects import ObjectsStore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig


_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two attempts of a call: the same as for Swift, so that a store may be unreachable for minutes."""


def open_bucket(storage: Storage) -> ObjectsStore:
    """Raises ConfigurationError, which names the missing option."""
    if not storage.bucket:
        raise ConfigurationError(
            f"storage.bucket is not set, and driver {storage.driver} needs it", remedy="Name an existing bucket."
        )
    if (storage.access_key_id is None) != (storage.secret_access_key is None):
        raise ConfigurationError(
            "storage.access_key_id and storage.secret_access_key must be set together",
            remedy="Set both, or set neither to use the credentials of the machine.",
        )
    client: ClientConfig = {
        "timeout": timedelta(seconds=storage.timeout),
        "connect_timeout": timedelta(seconds=min(10.0, storage.timeout)),
        "allow_http": bool(storage.endpoint and storage.endpoint.startswith("http://")),
    }
    retry: RetryConfig = {
        "max_retries": storage.retries,
        "retry_timeout": timedelta(seconds=storage.retries * _LONGEST_PAUSE + 3 * storage.timeout),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_PAUSE),
            "max_backoff": timedelta(seconds=_LONGEST_PAUSE),
            "base": 2,
        },
    }
    common: dict[str, Any] = {"prefix": storage.prefix.strip("/") or None, "client_options": client, "retry_config": retry}
    options = {name: value for name, value in _driver_options(storage).items() if value is not None}
    with_checksums: Callable[[], ObjectStore] | None = None
    try:
        if storage.driver == "s3":
            store: Any = S3Store(storage.bucket, **common, **options)
            bucket = storage.bucket
            with_checksums = lambda: S3Store(bucket, **common, **options, checksum_algorithm="SHA256")  # noqa: E731
        elif storage.driver == "gcs":
            store = GCSStore(storage.bucket, **common, **options)
        else:
            store = AzureStore(storage.bucket, **common, **options)
    except Exception as error:  # obstore raises its own exceptions and built-in ones
        raise ConfigurationError(
            f"the storage settings for {storage.driver} are not valid: {error}",
            remedy="See docs/configuration.md, section storage.",
        ) from error
    scheme = {"s3": "s3", "gcs": "gs", "azure": "az"}[storage.driver]
    top = f"{scheme}://{storage.bucket}/{storage.prefix.strip('/')}"
    return ObjectsStore(store, top, server_checksum=storage.driver != "azure", with_checksums=with_checksums)


def _driver_options(storage: Storage) -> dict[str, Any]:
    secret = storage.secret_access_key.get_secret_value() if storage.secret_access_key else None
    if storage.driver == "s3":
        region = storage.region or ("us-east-1" if storage.endpoint else None)
        return {
            "endpoint": storage.endpoint,
            "region": region,
            "access_key_id": storage.access_key_id,
            "secret_access_key": secret,
        }
    if storage.driver == "gcs":
        return {"service_account_path": str(storage.credentials_file) if storage.credentials_file else None}
    return {"account_name": storage.access_key_id, "account_key": secret, "endpoint": storage.endpoint}
