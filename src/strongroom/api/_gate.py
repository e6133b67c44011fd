"""What every request passes before it is routed: an id, the look at who may come in at all, and the type of its body."""

from __future__ import annotations

import uuid

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.api import _errors
from strongroom.errors import StrongroomError
from strongroom.identity import Method


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
        if _has_body(connection) and not _is_json(connection):
            response = _errors.fault(
                415,
                "The body of the request must be JSON.",
                error="UnsupportedMediaType",
                remedy="Send it with the header `Content-Type: application/json`.",
            )
            await response(scope, receive, tell)
            return
        try:
            await self._app(scope, receive, tell)
        except Exception as error:
            if answering:
                raise
            await _errors.unexpected(error, scope["path"])(scope, receive, tell)


def _has_body(connection: HTTPConnection) -> bool:
    return connection.headers.get("content-length", "0") != "0" or "transfer-encoding" in connection.headers


def _is_json(connection: HTTPConnection) -> bool:
    return connection.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
