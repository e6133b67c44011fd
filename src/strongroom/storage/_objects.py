"""Object stores, by the library obstore (Rust, releases the GIL): S3 and compatible ones, Google Cloud Storage, Azure."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import obstore
from obstore import exceptions
from obstore.store import ObjectStore

from strongroom.errors import StorageDenied, StorageError, StorageExists, StorageFull, StorageNameInvalid, StorageNotFound
from strongroom.storage._key import split, split_prefix
from strongroom.storage._protocol import Capabilities, Stat

_MD5 = re.compile(r"[0-9a-f]{32}")
_FULL = re.compile(r"(?:status|code)\D{0,12}(?:507|413)\b|InsufficientStorage|QuotaExceeded|EntityTooLarge|quota", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:status|code)\D{0,12}(?:401|403)\b|AccessDenied|SignatureDoesNotMatch|InvalidAccessKeyId|Forbidden", re.IGNORECASE
)
_EXPIRED = re.compile(r"ExpiredToken|TokenRefreshRequired|InvalidToken|RequestTimeTooSkewed", re.IGNORECASE)
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist", re.IGNORECASE)
_WANTS_CHECKSUM = re.compile(r"Content-MD5|x-amz-checksum", re.IGNORECASE)
_ODD_NAME = re.compile(r"object with invalid path: (.*)")
_RETRIED = re.compile(r"after \d+ retries")
_FAILURES = (exceptions.BaseError, OSError)
"""obstore raises the built-in FileNotFoundError for an object that does not exist."""
_REFUSALS = (exceptions.AlreadyExistsError, exceptions.PreconditionError, exceptions.PermissionDeniedError)
"""Errors of a put if the key is taken, also in buckets that forbid overwriting."""
_NOT_IN_RANGE = re.compile(r"(?:status|code)\D{0,12}416\b|InvalidRange|Range Not Satisfiable", re.IGNORECASE)
_PUT_ATTEMPTS = 3
"""obstore repeats a PUT after an error response or a broken connection, but not after a timeout. This store does."""


class ObjectsStore:
    """Objects in one bucket of ``store``. ``top`` is the URL of the bucket in messages: ``s3://bucket/prefix``.

    Whether the ETag is the MD5 of the content depends on the vendor and on encryption. The first object that is put decides: if
    its ETag is not its MD5, the object is read back and compared, and from then on no MD5 is reported.
    """

    def __init__(
        self,
        store: ObjectStore,
        top: str,
        *,
        server_checksum: bool,
        with_checksums: Callable[[], ObjectStore] | None = None,
    ) -> None:
        """``with_checksums`` opens the same bucket with a SHA-256 in each put, which S3 requires in buckets with object lock."""
        self.capabilities = Capabilities(server_checksum=server_checksum, conditional_create=True)
        self._store = store
        self._top = top.rstrip("/")
        self._with_checksums = with_checksums
        self._lock = threading.Lock()
        self._etag_is_md5: bool | None = None

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        split(key)
        with self._translate_errors(key):
            etag = self._put(key, data, create)
        stat = Stat(key=key, size=len(data), modified=datetime.now(UTC), etag=etag)
        if etag is None or not _MD5.fullmatch(etag) or self._etag_is_md5 is False:
            return stat
        if etag != hashlib.md5(data, usedforsecurity=False).hexdigest():
            if not self._has_content(key, data):
                raise StorageError(
                    f"{self.url(key)} does not hold what was written", remedy="Run the backup again; check the store."
                )
            self._etag_is_md5 = False
            return stat
        self._etag_is_md5 = True
        return Stat(key=key, size=stat.size, modified=stat.modified, etag=etag, md5=etag)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        split(key)
        with self._translate_errors(key):
            if length is not None:
                return self._get_range(key, start, length) if length else b""
            if start:
                return bytes(obstore.get(self._store, key, options={"range": {"offset": start}}).bytes())
            return bytes(obstore.get(self._store, key).bytes())

    def _get_range(self, key: str, start: int, length: int) -> bytes:
        try:
            return bytes(obstore.get_range(self._store, key, start=start, length=length))
        except exceptions.GenericError as error:
            if not _NOT_IN_RANGE.search(str(error)):
                raise
            return b""  # the range begins after the end of the object

    def _has_content(self, key: str, data: bytes | memoryview) -> bool:
        """Whether the object has the expected content. Reads at most one byte more."""
        return self.get(key, length=len(data) + 1) == data if len(data) else self.head(key).size == 0

    def head(self, key: str) -> Stat:
        split(key)
        with self._translate_errors(key):
            return self._make_stat(obstore.head(self._store, key))

    def list(self, prefix: str) -> Iterator[Stat]:
        split_prefix(prefix)
        with self._translate_errors(prefix):
            for page in obstore.list(self._store, prefix or None):
                for found in page:
                    yield self._make_stat(found)

    def folders(self, prefix: str = "") -> Iterator[str]:
        split_prefix(prefix)
        with self._translate_errors(prefix):
            found = obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
        for folder in found:
            yield folder.rstrip("/").rsplit("/", 1)[-1]

    def delete(self, keys: Iterable[str]) -> None:
        names = list(keys)
        for name in names:
            split(name)
        if not names:
            return
        with self._translate_errors(names[0]):
            try:
                obstore.delete(self._store, names)
            except FileNotFoundError:  # some vendors report this, but not which objects were deleted
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        obstore.delete(self._store, name)

    def url(self, key: str) -> str:
        return f"{self._top}/{key}" if key else self._top

    def close(self) -> None:
        """Do nothing: obstore closes its connections automatically."""

    def _put(self, key: str, data: bytes | memoryview, create: bool) -> str | None:
        for attempt in range(1, _PUT_ATTEMPTS + 1):
            try:
                result = obstore.put(self._store, key, data, mode="create" if create else "overwrite", use_multipart=False)
                return _strip_quotes(result["e_tag"])
            except _REFUSALS as error:
                # if the response to an earlier attempt was lost, the existing object is the one that this call wrote
                if (attempt > 1 or _RETRIED.search(str(error))) and self._has_content(key, data):
                    return _strip_quotes(obstore.head(self._store, key)["e_tag"])
                raise
            except exceptions.GenericError as error:
                if self._add_checksums(error):
                    return self._put(key, data, create)
                if attempt == _PUT_ATTEMPTS or any(sign.search(str(error)) for sign in (_DENIED, _EXPIRED, _FULL)):
                    raise
        raise AssertionError("unreachable")

    def _add_checksums(self, error: Exception) -> bool:
        """Whether puts have checksums from now on because the store requires them. Threads may find this out together."""
        if not _WANTS_CHECKSUM.search(str(error)):
            return False
        with self._lock:
            if self._with_checksums is None:
                return False
            self._store, self._with_checksums = self._with_checksums(), None
            return True

    def _make_stat(self, found: obstore.ObjectMeta) -> Stat:
        etag = _strip_quotes(found["e_tag"])
        md5 = etag if self._etag_is_md5 and etag and _MD5.fullmatch(etag) else None
        return Stat(key=found["path"], size=found["size"], modified=found["last_modified"], etag=etag, md5=md5)

    @contextlib.contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise _translate(error, self.url(key), self._top) from error


def _strip_quotes(etag: str | None) -> str | None:
    return etag.strip('"') if etag else None


def _translate(error: Exception, where: str, top: str) -> StorageError:
    text = " ".join(str(error).partition("Debug source")[0].split())[:500]
    if _NO_BUCKET.search(text):
        return StorageError(
            f"the bucket of {where} does not exist", remedy=f"Create the bucket of {top}, or correct storage.bucket."
        )
    if found := _ODD_NAME.search(text):
        return StorageNameInvalid(
            f"there is an object below {where} whose name cannot be used: {found[1]}",
            remedy="It was not written by Strongroom. Remove it with another client of the store.",
        )
    if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
        return StorageNotFound(f"{where} does not exist")
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
        return StorageExists(f"{where} exists already")
    if _EXPIRED.search(text):
        return StorageDenied(
            f"the store no longer accepts the credentials for {where}: {text}",
            remedy="Renew the access key or token of this service, and check the clock of this machine.",
        )
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or _DENIED.search(text):
        return StorageDenied(
            f"the store refused {where}: {text}",
            remedy="Check the access key, the secret key and what this user is allowed to do in the bucket.",
        )
    if _FULL.search(text):
        return StorageFull(f"no space or quota left for {where}: {text}", remedy="Raise the quota, or delete backups.")
    return StorageError(
        f"the store failed at {where}: {text}",
        remedy="Check storage.endpoint and the network; on a slow connection raise storage.timeout.",
    )
