"""One connection to an agent: sends a request of a route, and raises what the agent refuses as the same error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar, cast

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from strongroom import __version__
from strongroom.agent.routes import Route
from strongroom.errors import (
    AgentBroken,
    AgentMismatch,
    HostSilent,
    HostTimeout,
    HostUntrusted,
    InvalidRequest,
    StrongroomError,
    Unavailable,
    from_dict,
)

Reply = TypeVar("Reply")
PATIENCE = 900.0
"""Seconds for an answer, unless the route is slow. A broken connection is noticed without it."""
LOOK = 1.0
"""Seconds between two calls of ``require`` during a slow request."""
VERSION_HEADER = "Strongroom-Version"
"""In every answer of an agent that is a process of its own."""
LONGEST = 16 * 1024**2
"""Bytes of an answer. A compromised agent must not fill the memory of its caller."""
NOT_UNDERSTOOD = "request not understood"
"""How an agent refuses a body that its API does not have."""


class Connection:
    """``host`` is for messages. ``require`` raises HostSilent if the host is lost; it is called during slow requests."""

    def __init__(
        self,
        base_url: str,
        *,
        host: str,
        transport: httpx.AsyncBaseTransport | None,
        connect: float,
        require: Callable[[], None] | None,
    ) -> None:
        self._where = f"the agent of host {host} at {base_url}" if host else f"the agent at {base_url}"
        self._host = host
        self._connect = connect
        self._require = require
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        self._http = httpx.AsyncClient(base_url=base_url, transport=transport, headers=headers, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, route: Route[Reply], *ids: str, body: Any = None, query: BaseModel | None = None) -> Reply:
        """Send a request. Raises what the agent answers, or HostSilent, of which each cause has its own class."""
        if not route.is_slow or self._require is None:
            return await self._ask(route, ids, body, query)
        work = asyncio.ensure_future(self._ask(route, ids, body, query))
        try:
            while not (await asyncio.wait({work}, timeout=LOOK))[0]:
                self._require()
            return work.result()
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await work

    async def _ask(self, route: Route[Reply], ids: tuple[str, ...], body: Any, query: BaseModel | None) -> Reply:
        content = _adapter(route.body).dump_json(body) if route.body is not None else None
        limits = httpx.Timeout(None if route.is_slow else PATIENCE, connect=self._connect)
        params = query.model_dump() if query is not None else None
        try:
            async with self._http.stream(
                route.method, route.url(*ids), content=content, params=params, timeout=limits
            ) as response:
                answer = bytearray()
                async for piece in response.aiter_raw():
                    answer += piece
                    if len(answer) > LONGEST:
                        raise Unavailable(f"{self._where} answers with more than {LONGEST} bytes")
        except httpx.HTTPError as error:
            raise self._describe_silence(error) from error
        version = response.headers.get(VERSION_HEADER, __version__)
        try:
            if not response.is_error:
                reply: Reply = _adapter(cast(Hashable, route.reply)).validate_json(bytes(answer) or b"null")
                return reply
            refusal = json.loads(answer)["error"]
            assert isinstance(refusal, dict)
        except (ValidationError, ValueError, KeyError, TypeError, AssertionError):
            if version != __version__:
                raise self._mismatch(version) from None
            raise AgentBroken(
                f"unexpected response (HTTP {response.status_code}) from {self._where}",
                remedy=f"Look into the log of the agent{f' on {self._host}' if self._host else ''}.",
            ) from None
        refused = from_dict(refusal)
        if isinstance(refused, InvalidRequest) and NOT_UNDERSTOOD in refused.message and version != __version__:
            raise self._mismatch(version)
        raise refused

    def _describe_silence(self, error: httpx.HTTPError) -> StrongroomError:
        """Why there is no answer: one cause, and what helps."""
        text = str(error) or type(error).__name__
        reason = _tls_reason(error)
        if reason == "CERTIFICATE_VERIFY_FAILED":
            return HostUntrusted(
                f"what answers for {self._where} does not have the certificate that the host joined with",
                remedy=f"Is another machine or another agent at this address? {self._rejoin()}",
            )
        if reason:
            return HostUntrusted(
                f"{self._where} refuses the certificate of this control plane ({reason})",
                remedy=f"The control plane has other keys than when the host joined. {self._rejoin()}",
            )
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            return HostTimeout(
                f"{self._where} was reached and did not answer in time",
                remedy="The request may continue there: look at the load and the log of the host.",
            )
        if isinstance(error, httpx.ReadError | httpx.RemoteProtocolError):
            return HostSilent(
                f"{self._where} cannot be reached: it ended the connection",
                remedy="Did its agent just stop? Or does it refuse this control plane, which has other keys than when the host "
                f"joined? {self._rejoin()}",
            )
        if isinstance(error, httpx.TimeoutException):
            text = "no connection in time"
        return HostSilent(
            f"{self._where} cannot be reached: {text}",
            remedy="Is the machine up, does `strongroom agent` run there, does the network work?",
        )

    def _mismatch(self, version: str) -> AgentMismatch:
        return AgentMismatch(
            f"{self._where} is of version {version}, and does not understand this service of version {__version__}",
            remedy="Install the same version of Strongroom on the host and restart its agent.",
        )

    def _rejoin(self) -> str:
        return f"`strongroom host add {self._host or 'NAME'}` lets the host join again."


def _tls_reason(error: BaseException | None) -> str:
    """The reason of a TLS error; empty for any other error."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and error.reason and ("CERT" in error.reason or "UNKNOWN_CA" in error.reason):
            return error.reason
        error = error.__cause__ or error.__context__
    return ""


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))
