"""What every request passes before it is routed: an id, the look at who may come in at all, and its body."""

from __future__ import annotations

import uuid
from urllib.parse import unquote

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.api import _errors
from strongroom.api._fields import SLASH
from strongroom.errors import StrongroomError
from strongroom.identity import Method

MAX_BODY = 1024**2


class Gate:
    """ASGI middleware. Also the place where an exception that nobody expected becomes a reply."""

    def __init__(self, app: ASGIApp, method: Method) -> None:
        self._app = app
        self._method = method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{uuid.uuid4()}"
        answering = False

        async def tell(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                MutableHeaders(scope=message)["x-openstack-request-id"] = request_id
            await send(message)

        connection = HTTPConnection(scope)
        try:
            self._method.admit(connection)
        except StrongroomError as error:
            await _errors.of(error)(scope, receive, tell)
            return
        if scope["path"].startswith("/v1.0/") and _has_body(connection) and not _is_json(connection):
            response = _errors.fault(
                415,
                "The body of the request must be JSON.",
                error="UnsupportedMediaType",
                remedy="Send it with the header `Content-Type: application/json`.",
            )
            await response(scope, receive, tell)
            return
        body = await _read(receive) if _has_body(connection) else b""
        if body is None:
            await _errors.fault(413, "The body of the request is larger than 1 MiB.", error="BodyTooLarge")(scope, receive, tell)
            return
        try:
            await self._app({**scope, "path": _path(scope)}, _replay(body, receive), tell)
        except Exception as error:
            if answering:
                raise
            await _errors.unexpected(error, scope["path"])(scope, receive, tell)


def _path(scope: Scope) -> str:
    """The path, decoded segment by segment: an encoded slash belongs to a name and separates nothing."""
    return "/".join(unquote(segment).replace("/", SLASH) for segment in scope["raw_path"].decode("latin-1").split("/"))


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when it is larger than it may be."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body at once, then what comes after it: the end of the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _has_body(connection: HTTPConnection) -> bool:
    return connection.headers.get("content-length", "0") != "0" or "transfer-encoding" in connection.headers


def _is_json(connection: HTTPConnection) -> bool:
    return connection.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
