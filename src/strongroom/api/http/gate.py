"""Processing of every request before routing: request id, admission, authentication, body."""

from __future__ import annotations

import uuid
from urllib.parse import unquote

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.api.http import errors
from strongroom.api.http.fields import SLASH
from strongroom.api.http.methods import allowed_methods
from strongroom.api.http.privacy import Privacy
from strongroom.errors import InvalidRequest, StrongroomError
from strongroom.identity import Method, Principal, asker

MAX_BODY = 1024**2
PRINCIPAL = "strongroom.principal"
"""Key of the scope that contains the authenticated principal."""


class Gate:
    """ASGI middleware. It also turns unexpected exceptions into replies."""

    def __init__(self, app: ASGIApp, method: Method) -> None:
        self._app = app
        self._method = method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{uuid.uuid4()}".encode()
        answering = False

        async def send_message(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                message["headers"] = [*message.get("headers", ()), (b"x-openstack-request-id", request_id)]
            elif scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        connection = HTTPConnection(scope)
        path = _path(scope)
        try:
            self._method.admit(connection)
            if scope["method"] == "OPTIONS" and (allowed := allowed_methods(scope["app"], path)):
                await Response(headers={"Allow": ", ".join(allowed)})(scope, receive, send_message)
                return
            principal = await self._principal(connection, path)
            asker.set(principal.user if principal else "")
        except StrongroomError as error:
            await errors.make_reply(error, challenge=self._method.challenge)(scope, receive, send_message)
            return
        if principal is not None and _has_body(connection) and not _is_json(connection):
            response = errors.make_fault(
                415,
                "The body of the request must be JSON.",
                error="UnsupportedMediaType",
                remedy="Send it with the header `Content-Type: application/json`.",
            )
            await response(scope, receive, send_message)
            return
        body = await _read(receive) if _has_body(connection) else b""
        if body is None:
            await errors.make_fault(413, "The body of the request is larger than 1 MiB.", error="BodyTooLarge")(
                scope, receive, send_message
            )
            return
        if principal is not None and not principal.is_admin:
            send_message = Privacy(scope["app"].state.control, send_message).send
        try:
            inner = {**scope, "path": path, "method": _method(scope), "query_string": _query(scope), PRINCIPAL: principal}
            await self._app(inner, _replay(body, receive), send_message)
        except Exception as error:
            if answering:
                raise
            await errors.report_defect(error, scope["path"])(scope, receive, send_message)

    async def _principal(self, connection: HTTPConnection, path: str) -> Principal | None:
        """The principal; None outside projects. Raises StrongroomError, even if the route does not exist."""
        match path.split("/"):
            case ["", "v1.0", project, _, *_] if project:
                project = project.replace(SLASH, "/")
                if len(project) > 255 or any(ord(c) < 32 or ord(c) == 127 for c in project):
                    raise InvalidRequest("the project id is longer than 255 characters or contains control characters")
                if "\0" in path or b"%00" in connection.scope["query_string"]:
                    raise InvalidRequest("the URL of the request contains a NUL character")
                return await self._method.authenticate(connection, project)
        return None


def _path(scope: Scope) -> str:
    """The path, decoded segment by segment: an encoded slash is part of a name."""
    return "/".join(unquote(segment).replace("/", SLASH) for segment in scope["raw_path"].decode("latin-1").split("/"))


def _method(scope: Scope) -> str:
    """HEAD is handled as GET without a body; load balancers use it."""
    return "GET" if scope["method"] == "HEAD" else str(scope["method"])


def _query(scope: Scope) -> bytes:
    """The query without empty parameters: clients send ``limit=`` for no limit."""
    return b"&".join(part for part in scope["query_string"].split(b"&") if not part.endswith(b"=") or part.count(b"=") > 1)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that returns the body first, then waits for the end of the connection."""
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
