"""Calls to Swift: authenticated connections, retries of transient errors, and errors with a cause and a remedy."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  (libraries import it late, when a worker that is no longer root may be unable to read it)
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

_RETRIED_STATUSES = frozenset({401, 408, 422, 429, 498, 499, 500, 502, 503, 504})
"""Statuses after which a call is repeated. 401: a new token was refused, too. 422: the data changed on the way to Swift."""
_NETWORK = (OSError, requests.RequestException, urllib3.exceptions.HTTPError)
_RETRIED_AUTH_ERRORS = (keystone.RetriableConnectionFailure, keystone.HttpServerError)
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
_SERVICE_USER = 'the service\'s own user: set storage.auth = "service", storage.username and storage.password.'


class Wire:
    """Connections to one account. A connection serves one call at a time; concurrent calls use one connection each."""

    def __init__(self, storage: Storage) -> None:
        """Opens no connection. Raises ConfigurationError, which names the missing option."""
        self._storage = storage
        self._session = _open_session(storage) if storage.auth_version == "3" else None
        self._options = _connection_options(storage, self._session)
        self._idle: LifoQueue[Connection] = LifoQueue()
        self._lock = threading.Lock()
        self._url: str | None = None

    @property
    def display_name(self) -> str:
        """The account for messages, as far as it is known without a request."""
        return self._url or f"Swift at {self._storage.auth_url}"

    @property
    def url(self) -> str:
        """The storage URL of the account. Raises StorageError if Swift is unreachable or the credentials are wrong."""
        return self._url or self.call("", lambda connection, _: str(connection.url))

    def call(self, key: str, action: Action[T]) -> T:
        """The result of ``action``, which is repeated after a transient error. Raises StorageError for ``key``."""
        for attempt in range(1, self._storage.retries + 2):
            try:
                return self._attempt(action, attempt)
            except (ClientException, keystone.ClientException, *_NETWORK) as error:
                if attempt > self._storage.retries or not _is_transient(error):
                    raise self._translate(error, key) from error
                time.sleep(_compute_pause(error, attempt))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections that are not in use."""
        with contextlib.suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    # --- one attempt

    def _attempt(self, action: Action[T], attempt: int) -> T:
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
                self._authenticate(connection)  # the client drops a refused token, which may have expired just now
                try:
                    result = action(connection, attempt)
                except ClientException as error:
                    if connection.token:
                        raise
                    raise ClientException("token refused", http_status=401) from error
        except BaseException:
            connection.close()  # only the network connection; the token is kept
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
            raise keystone.Unauthorized from error  # version 1: credentials were refused, not a token
        if not url:
            raise keystone.EndpointNotFound("the catalog has no object-store endpoint")
        connection.url = self._build_url(url)
        connection.os_options["object_storage_url"] = connection.url
        with self._lock:
            self._url = connection.url

    def _build_url(self, url: str) -> str:
        """The URL of the configured account, made from the URL of the user's own account."""
        if self._storage.account in ("service", "project"):  # data of no project is stored in the service's own account
            return url.rstrip("/")
        return f"{url.rstrip('/').rpartition('/')[0]}/{quote(self._storage.account)}"

    # --- errors

    def _translate(self, error: Exception, key: str) -> StorageError:
        where = f"{key} in {self.display_name}" if key else self.display_name
        if isinstance(error, ClientException):
            return _translate_refusal(error, where)
        if isinstance(error, keystone.Unauthorized) and self._storage.by_token:
            return StorageDenied(
                f"the requesting user's token is no longer valid for {where}",
                remedy=f"Repeat the request with a new token. Jobs that outlast a token need {_SERVICE_USER}",
            )
        if isinstance(error, keystone.Unauthorized):
            return StorageDenied(
                f"{self._storage.auth_url} does not accept the credentials for {where}",
                remedy="Check storage.username, password, project_name and the domains, or the application credential.",
            )
        if isinstance(error, keystone.ClientException) and not _is_certificate_error(error):
            return StorageError(
                f"Keystone at {self._storage.auth_url} gives no usable endpoint of Swift for {where}: {_shorten(error)}",
                remedy="Check storage.auth_url, storage.region and storage.interface, and that Keystone is running.",
            )
        if _is_certificate_error(error):
            return StorageError(
                f"the server's certificate is not trusted for {where}: {_shorten(error)}",
                remedy="Set storage.cacert to a file with the certificates to trust.",
            )
        return StorageError(
            f"Swift does not answer for {where}: {_shorten(error)}",
            remedy="Check Swift and the network; if the network is slow, raise storage.timeout; if unreliable, storage.retries.",
        )


class _GivenToken(BaseIdentityPlugin):
    """The token of the requesting user. Keystone returns its catalog; the token cannot be renewed."""

    def __init__(self, auth_url: str, token: SecretStr | None) -> None:
        super().__init__(auth_url=auth_url)
        self._top = auth_url.rstrip("/")
        self._token = token

    def get_auth_ref(self, session: session.Session, **_: Any) -> access.AccessInfo:
        if self._token is None:
            raise StorageDenied(
                "the requesting user's token is lost: the service keeps tokens only in memory and was restarted",
                remedy=f"Repeat the request. Jobs that must survive a restart need {_SERVICE_USER}",
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


def _open_session(storage: Storage) -> session.Session:
    auth: Any
    url = _require_option(storage, "auth_url", "Set it to the URL of Keystone, such as https://keystone.example.org/v3.")
    if storage.by_token:
        auth = _GivenToken(url, storage.token if isinstance(storage, TokenStorage) else None)
    elif storage.application_credential_id or storage.application_credential_secret:
        auth = v3.ApplicationCredential(
            auth_url=url,
            application_credential_id=_require_option(storage, "application_credential_id"),
            application_credential_secret=_require_option(storage, "application_credential_secret"),
        )
    else:
        auth = v3.Password(
            auth_url=url,
            username=_require_option(storage, "username", "Set the service's user, or an application credential."),
            password=_require_option(storage, "password"),
            project_name=_require_option(storage, "project_name", "Set it to the project of storage.username."),
            user_domain_name=storage.user_domain,
            project_domain_name=storage.project_domain,
        )
    return session.Session(auth=auth, verify=_find_certificates(storage), timeout=storage.timeout)


def _connection_options(storage: Storage, keystone_session: session.Session | None) -> dict[str, Any]:
    """The arguments of every connection. The client itself does not retry, except after a refused token."""
    trusted = _find_certificates(storage)
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
        "authurl": _require_option(storage, "auth_url", "Set it to Swift's own, such as https://swift.example.org/auth/v1.0."),
        "user": _require_option(storage, "username"),
        "key": _require_option(storage, "password"),
    }


def _require_option(storage: Storage, option: str, remedy: str = "See docs/stores.md.") -> str:
    value: str | SecretStr | None = getattr(storage, option)
    if not value:
        raise ConfigurationError(f"storage.{option} is not set, and driver swift needs it", remedy=remedy)
    return value if isinstance(value, str) else value.get_secret_value()


def _find_certificates(storage: Storage) -> bool | str:
    """The argument ``verify`` of ``requests``. Prefers the system's certificates, which workers can read, to its bundled ones."""
    if storage.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the option was set on purpose
        return False
    if storage.cacert:
        return str(storage.cacert)
    system = ssl.get_default_verify_paths().cafile
    return system if system and Path(system).exists() else True


def _is_transient(error: Exception) -> bool:
    if isinstance(error, ClientException):
        return error.http_status in _RETRIED_STATUSES
    if isinstance(error, keystone.ClientException):
        return isinstance(error, _RETRIED_AUTH_ERRORS) and not _is_certificate_error(error)
    return not _is_certificate_error(error)


def _is_certificate_error(error: Exception) -> bool:
    return "certificate verify failed" in str(error)


def _compute_pause(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the server asks for, otherwise doubled each time; random, so that clients do not retry together."""
    asked = (getattr(error, "http_response_headers", None) or {}).get("retry-after", "")
    wanted = float(asked) if asked.isdigit() else _FIRST_WAIT * 2**attempt
    return min(wanted, _LONGEST_WAIT) * random.uniform(0.7, 1.0)  # noqa: S311


def _translate_refusal(error: ClientException, where: str) -> StorageError:
    response = _describe_response(error)
    match error.http_status:
        case 401:
            return StorageDenied(
                f"Swift does not accept the token for {where}",
                remedy="Check that Swift uses the Keystone at storage.auth_url, and see the log of Swift's proxy server.",
            )
        case 403:
            return StorageDenied(
                f"Swift does not allow this user to use {where}",
                remedy="Give the user one of Swift's operator_roles; for accounts of other projects, the reseller role.",
            )
        case 404:
            return StorageNotFound(f"{where} does not exist")
        case 413 | 507:
            return StorageFull(
                f"no space or quota left for {where}: {response}",
                remedy="Raise the quota of the account or of the container, or delete backups.",
            )
    return StorageError(
        f"Swift failed at {where}: {response}",
        remedy="See the log of Swift's proxy server; if Swift is only overloaded, raise storage.retries.",
    )


def _describe_response(error: ClientException) -> str:
    """The server's response in one line, without markup."""
    body = error.http_response_content or b""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    words = " ".join(text.split()) if "<" not in text else ""
    status = f"{error.http_status} {error.http_reason}".strip() if error.http_status else str(error)
    return f"{status}: {words[:300]}" if words else status


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
