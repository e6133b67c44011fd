"""The client of the HTTP API. Error replies are raised as errors of ``strongroom.errors``."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx

from strongroom.cli.connection.credentials import DEFAULT_PROJECT, DEFAULT_URL, Credentials
from strongroom.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    JobError,
    NotAuthenticated,
    NotFound,
    StrongroomError,
    Unavailable,
    from_dict,
)

POLL = 20.0
"""Seconds of a long poll."""
PATIENCE = 120.0
"""Seconds to wait for a service that restarts while a job is followed."""

_BY_STATUS: dict[int, type[StrongroomError]] = {
    400: InvalidRequest,
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    503: Unavailable,
}


class Reply:
    """A successful reply: the JSON ``body`` (or an empty one), and the ``job`` that the request started, if any."""

    def __init__(self, response: httpx.Response) -> None:
        self.body: dict[str, Any] = response.json() if response.content else {}
        self.job: str | None = response.headers.get("Strongroom-Job")


class Client:
    """The API of a service, for one project. Calls raise StrongroomError: Unavailable if the service is unreachable."""

    def __init__(self, url: str, project: str | None, credentials: Credentials, *, patience: float = POLL + 15) -> None:
        """``project``: default is that of the credentials, or else ``default``. ``patience``: seconds to wait for a reply."""
        self.url = url.rstrip("/")
        self._project = project
        self._credentials = credentials
        self._patience = patience
        try:
            parsed = httpx.URL(self.url)
            host = parsed.host
            if parsed.scheme not in ("http", "https") or not host:
                raise httpx.InvalidURL("it must begin with http:// or https:// and name a host")
        except httpx.InvalidURL as error:
            raise InvalidRequest(f"the URL {url} is not valid: {error}", remedy=f"Give one like {DEFAULT_URL}.") from error
        self._http = httpx.Client(
            timeout=httpx.Timeout(patience, connect=min(5, patience)),
            trust_env=not _is_loopback(host),
            verify=parsed.scheme == "https",  # loading certificates takes as long as a request; no redirect is followed
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def get(self, *path: str, **query: Any) -> dict[str, Any]:
        """GET; returns the body. Parts of ``path`` are quoted; query parameters that are None are left out."""
        return self._send("GET", path, query=query).body

    def post(self, *path: str, json: dict[str, Any]) -> Reply:
        """POST ``json``."""
        return self._send("POST", path, json=json)

    def put(self, *path: str, json: dict[str, Any]) -> Reply:
        """PUT ``json``."""
        return self._send("PUT", path, json=json)

    def patch(self, *path: str, json: dict[str, Any]) -> Reply:
        """PATCH ``json``."""
        return self._send("PATCH", path, json=json)

    def delete(self, *path: str, **query: Any) -> Reply:
        """DELETE."""
        return self._send("DELETE", path, query=query)

    def items(self, *path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a list; pages are fetched as needed."""
        while True:
            body = self.get(*path, **query)
            yield from body[path[-1]]
            following = next((link["href"] for link in body.get("links", []) if link["rel"] == "next"), None)
            if following is None:
                return
            query["marker"] = httpx.URL(following).params["marker"]

    def pages(self, *path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list, from all pages."""
        return list(self.items(*path, **query))

    def exists(self, *path: str) -> bool:
        """Whether the path names one or more resources."""
        try:
            self.get(*path)
        except NotFound:
            return False
        except Conflict:
            return True
        return True

    def watch(self, job: str, lost: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
        """Yield views of the job until it has ended. If the service is unreachable, wait for it.

        ``lost`` is called whenever the service becomes unreachable.
        """
        view = self.get("jobs", job)["job"]
        job = view["id"]
        yield view
        lost_at: float | None = None
        while view["finished"] is None:
            try:
                view = self.get("jobs", job, wait=POLL, after=view["events"])["job"]
            except Unavailable:
                if lost_at is None:
                    lost_at = time.monotonic()
                    lost()
                if time.monotonic() - lost_at > PATIENCE:
                    raise
                time.sleep(1)
                continue
            lost_at = None
            yield view

    def _send(
        self, method: str, path: tuple[str, ...], *, query: dict[str, Any] | None = None, json: dict[str, Any] | None = None
    ) -> Reply:
        if any(part in ("", ".", "..") for part in path):
            raise InvalidRequest(f"{path[-1]!r} is not a valid name", remedy="Use the id; `list` shows it.")
        params = {key: value for key, value in (query or {}).items() if value is not None}
        try:
            response = self._http.request(method, self._at(path), params=params or None, json=json)
            if response.status_code == 401 and (challenge := response.headers.get("WWW-Authenticate")):
                answer = self._credentials.answer(challenge)
                self._http.headers.update(answer.headers)
                self._project = self._project or answer.project
                response = self._http.request(method, self._at(path), params=params or None, json=json)
            if response.is_success:
                return Reply(response)
        except httpx.ReadTimeout as error:
            raise Unavailable(
                f"the service at {self.url} accepted the connection but did not reply within {self._patience:.0f} s",
                remedy="The operation may still be running: see `strongroom job list` before you try again.",
            ) from error
        except httpx.TransportError as error:
            raise Unavailable(
                f"the service at {self.url} is unreachable: {str(error) or type(error).__name__}",
                remedy="Start it with `strongroom serve`, or set --url or STRONGROOM_URL.",
            ) from error
        except ValueError as error:
            raise Unavailable(f"unexpected reply from {self.url}: not JSON", remedy="Check --url.") from error
        raise _error(response)

    def _at(self, path: tuple[str, ...]) -> str:
        parts = ("v1.0", self._project or DEFAULT_PROJECT, *path)
        return "/".join([self.url, *(quote(part, safe="") for part in parts)])


def _error(response: httpx.Response) -> StrongroomError:
    """The error in a reply: Trove's ``{"itemNotFound": {"code", "message"}}``, and our ``error_code`` and ``remedy``."""
    try:
        body = response.json()
        fault = next(iter(body.values()))
        message = str(fault["message"])
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return Unavailable(
            f"unexpected reply from {response.request.url.host}: HTTP {response.status_code} {response.reason_phrase}",
            remedy="Check --url.",
        )
    if fault.get("error_code"):
        return from_dict({"code": fault["error_code"], "message": message, "remedy": fault.get("remedy")})
    return _BY_STATUS.get(response.status_code, JobError)(message, remedy=str(fault.get("remedy") or ""))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
