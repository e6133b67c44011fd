"""Calls to Swift: authenticated connections, calls that are made again when that may help, and errors that help people."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  (loaded late by others, when a worker that has given up root's rights may be unable to)
import netrc  # noqa: F401  (the same)
import random
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, TypeVar
from urllib.parse import quote

import requests
import urllib3
from keystoneauth1 import access, session
from keystoneauth1 import exceptions as keystone
from keystoneauth1.identity import v3
from keystoneauth1.identity.base import BaseIdentityPlugin
from pydantic import SecretStr
from swiftclient.client import Connection
from swiftclient.exceptions import ClientException

from strongroom.errors import ConfigurationError, StorageDenied, StorageError, StorageFull, StorageNotFound
from strongroom.sections import Storage, TokenStorage

T = TypeVar("T")
Action = Callable[[Connection, int], T]
"""Called with a connection and the number of the attempt, from 1."""

_AGAIN = frozenset({401, 408, 422, 429, 498, 499, 500, 502, 503, 504})
"""401: a new token was refused, too. 422: the bytes that arrived were not those that were sent."""
_NETWORK = (OSError, requests.RequestException, urllib3.exceptions.HTTPError)
_AUTH_AGAIN = (keystone.RetriableConnectionFailure, keystone.HttpServerError)
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
_SERVICE_USER = 'the user of the service: storage.auth = "service", with storage.username and password.'


class Wire:
    """Connections to one account. One serves one call at a time; there are as many as calls side by side."""

    def __init__(self, storage: Storage) -> None:
        """Contacts nobody. Raises ConfigurationError that names the missing option."""
        self._storage = storage
        self._session = _session(storage) if storage.auth_version == "3" else None
        self._options = _options(storage, self._session)
        self._idle: LifoQueue[Connection] = LifoQueue()
        self._lock = threading.Lock()
        self._url: str | None = None

    @property
    def shown(self) -> str:
        """The account for messages, as far as it is known without asking."""
        return self._url or f"Swift at {self._storage.auth_url}"

    @property
    def url(self) -> str:
        """The storage URL of the account. Raises StorageError when nobody answers or the credentials are wrong."""
        return self._url or self.call("", lambda connection, _: str(connection.url))

    def call(self, key: str, action: Action[T]) -> T:
        """What ``action`` returns; it is called again when it failed in a way that may pass. Raises StorageError for ``key``."""
        for attempt in range(1, self._storage.retries + 2):
            try:
                return self._once(action, attempt)
            except (ClientException, keystone.ClientException, *_NETWORK) as error:
                if attempt > self._storage.retries or not _may_pass(error):
                    raise self._translate(error, key) from error
                time.sleep(_pause(error, attempt))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close what is not in use."""
        with contextlib.suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    # --- one attempt

    def _once(self, action: Action[T], attempt: int) -> T:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = Connection(**self._options)
        try:
            if not connection.token:
                self._authenticate(connection)
            try:
                result = action(connection, attempt)
            except ClientException:
                if connection.token:
                    raise
                self._authenticate(connection)  # the client lets go of a token that was refused: it may just have expired
                try:
                    result = action(connection, attempt)
                except ClientException as error:
                    if connection.token:
                        raise
                    raise ClientException("token refused", http_status=401) from error
        except BaseException:
            connection.close()  # the line only: what it knows of the token stays
            raise
        finally:
            self._idle.put(connection)
        return result

    def _authenticate(self, connection: Connection) -> None:
        try:
            url, connection.token = connection.get_auth()
        except ClientException as error:
            if error.http_status != 401:
                raise
            raise keystone.Unauthorized from error  # of version 1: told apart from a token that is refused
        if not url:
            raise keystone.EndpointNotFound("the catalog has no object-store endpoint")
        connection.url = self._account(url)
        connection.os_options["object_storage_url"] = connection.url
        with self._lock:
            self._url = connection.url

    def _account(self, url: str) -> str:
        """The URL of the account that is wanted, made from that of the user's own."""
        if self._storage.account in ("service", "project"):  # what is of no project goes to the service's own
            return url.rstrip("/")
        return f"{url.rstrip('/').rpartition('/')[0]}/{quote(self._storage.account)}"

    # --- errors

    def _translate(self, error: Exception, key: str) -> StorageError:
        where = f"{key} in {self.shown}" if key else self.shown
        if isinstance(error, ClientException):
            return _refusal(error, where)
        if isinstance(error, keystone.Unauthorized) and self._storage.by_token:
            return StorageDenied(
                f"the token of whoever asked for this is not valid any more, for {where}",
                remedy=f"Ask again with a new one. What takes longer than a token lives needs {_SERVICE_USER}",
            )
        if isinstance(error, keystone.Unauthorized):
            return StorageDenied(
                f"{self._storage.auth_url} does not accept the credentials for {where}",
                remedy="Check storage.username, password, project_name and the domains, or the application credential.",
            )
        if isinstance(error, keystone.ClientException) and not _is_of_trust(error):
            return StorageError(
                f"Keystone at {self._storage.auth_url} does not lead to Swift, for {where}: {_text(error)}",
                remedy="Check storage.auth_url, storage.region and storage.interface, and that Keystone answers.",
            )
        if _is_of_trust(error):
            return StorageError(
                f"the certificate of the server is not trusted, for {where}: {_text(error)}",
                remedy="Name the certificates to trust in storage.cacert.",
            )
        return StorageError(
            f"Swift does not answer for {where}: {_text(error)}",
            remedy="Check that Swift runs, and the network; on a slow line raise storage.timeout, on a bad one storage.retries.",
        )


class _GivenToken(BaseIdentityPlugin):
    """The token of somebody else, used as it is: Keystone tells its catalog, and gives no other."""

    def __init__(self, auth_url: str, token: SecretStr | None) -> None:
        super().__init__(auth_url=auth_url)
        self._top = auth_url.rstrip("/")
        self._token = token

    def get_auth_ref(self, session: session.Session, **_: Any) -> access.AccessInfo:
        if self._token is None:
            raise StorageDenied(
                "the token of whoever asked for this is not known any more: the service was started anew since then, and keeps "
                "tokens in memory alone",
                remedy=f"Ask again. What has to outlast the service's process needs {_SERVICE_USER}",
            )
        token = self._token.get_secret_value()
        headers = {"X-Auth-Token": token, "X-Subject-Token": token, "Accept": "application/json"}
        try:
            reply = session.get(f"{self._top}/auth/tokens", headers=headers, authenticated=False)
        except (keystone.NotFound, keystone.Forbidden) as error:
            raise keystone.Unauthorized from error
        return access.create(resp=reply, auth_token=token)

    def get_cache_id_elements(self) -> dict[str, Any]:
        return {}


def _session(storage: Storage) -> session.Session:
    auth: Any
    url = _needed(storage, "auth_url", "It is Keystone's, such as https://keystone.example.org/v3.")
    if storage.by_token:
        auth = _GivenToken(url, storage.token if isinstance(storage, TokenStorage) else None)
    elif storage.application_credential_id or storage.application_credential_secret:
        auth = v3.ApplicationCredential(
            auth_url=url,
            application_credential_id=_needed(storage, "application_credential_id"),
            application_credential_secret=_needed(storage, "application_credential_secret"),
        )
    else:
        auth = v3.Password(
            auth_url=url,
            username=_needed(storage, "username", "Name the user of this service, or an application credential."),
            password=_needed(storage, "password"),
            project_name=_needed(storage, "project_name", "It is the project of storage.username."),
            user_domain_name=storage.user_domain,
            project_domain_name=storage.project_domain,
        )
    return session.Session(auth=auth, verify=_trusted(storage), timeout=storage.timeout)


def _options(storage: Storage, keystone_session: session.Session | None) -> dict[str, Any]:
    """What every connection is made of. It does not try again by itself, save for a token that is refused."""
    trusted = _trusted(storage)
    common = {
        "retries": 0,
        "starting_backoff": 0,
        "timeout": storage.timeout,
        "insecure": storage.insecure,
        "cacert": trusted if isinstance(trusted, str) else None,
    }
    if keystone_session is not None:
        region = {"region_name": storage.region} if storage.region else {}
        return {**common, "session": keystone_session, "os_options": {"endpoint_type": storage.interface, **region}}
    return {
        **common,
        "auth_version": "1",
        "authurl": _needed(storage, "auth_url", "It is Swift's own, such as https://swift.example.org/auth/v1.0."),
        "user": _needed(storage, "username"),
        "key": _needed(storage, "password"),
    }


def _needed(storage: Storage, option: str, remedy: str = "See docs/stores.md.") -> str:
    value: str | SecretStr | None = getattr(storage, option)
    if not value:
        raise ConfigurationError(f"storage.{option} is not set, and driver swift needs it", remedy=remedy)
    return value if isinstance(value, str) else value.get_secret_value()


def _trusted(storage: Storage) -> bool | str:
    """Certificates as ``requests`` wants them: the system's, which workers can read, before those that it brings along."""
    if storage.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # whoever set the option knows
        return False
    if storage.cacert:
        return str(storage.cacert)
    system = ssl.get_default_verify_paths().cafile
    return system if system and Path(system).exists() else True


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientException):
        return error.http_status in _AGAIN
    if isinstance(error, keystone.ClientException):
        return isinstance(error, _AUTH_AGAIN) and not _is_of_trust(error)
    return not _is_of_trust(error)


def _is_of_trust(error: Exception) -> bool:
    return "certificate verify failed" in str(error)


def _pause(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the server asks for, else longer each time; never quite the same, for others wait too."""
    asked = (getattr(error, "http_response_headers", None) or {}).get("retry-after", "")
    wanted = float(asked) if asked.isdigit() else _FIRST_WAIT * 2**attempt
    return min(wanted, _LONGEST_WAIT) * random.uniform(0.7, 1.0)  # noqa: S311


def _refusal(error: ClientException, where: str) -> StorageError:
    said = _said(error)
    match error.http_status:
        case 401:
            return StorageDenied(
                f"Swift does not accept the token that it was given for {where}",
                remedy="See that storage.auth_url is the one that this Swift asks, and look at the log of Swift's proxy.",
            )
        case 403:
            return StorageDenied(
                f"Swift does not allow this user to use {where}",
                remedy="Give the user a role that Swift's operator_roles names; for accounts of others it is the reseller role.",
            )
        case 404:
            return StorageNotFound(f"{where} does not exist")
        case 413 | 507:
            return StorageFull(
                f"no space or quota left for {where}: {said}",
                remedy="Raise the quota of the account or the container, or delete backups.",
            )
    return StorageError(
        f"Swift failed at {where}: {said}",
        remedy="Look at the log of Swift's proxy; when it is only busy, raise storage.retries.",
    )


def _said(error: ClientException) -> str:
    """What the server said, without markup and in a line."""
    body = error.http_response_content or b""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    words = " ".join(text.split()) if "<" not in text else ""
    status = f"{error.http_status} {error.http_reason}".strip() if error.http_status else str(error)
    return f"{status}: {words[:300]}" if words else status


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
