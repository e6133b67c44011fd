"""What goes wrong, in Trove's shape: ``{"badRequest": {"code": 400, "message": …, "remedy": …, "error_code": …}}``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from strongroom.api.http.fields import NULL
from strongroom.api.http.methods import allowed_methods
from strongroom.errors import StrongroomError, TooManyRequests, Unavailable

log = structlog.get_logger()

KEYS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflict",
    413: "overLimit",
    415: "badMediaType",
    422: "unprocessableEntity",
    500: "instanceFault",
    501: "notImplemented",
    503: "serviceUnavailable",
}
SHOWN = 3
"""Mistakes of one request that are told; the rest is only counted."""


def fault(status: int, message: str, *, error: str, remedy: str = "") -> JSONResponse:
    """A reply that says what went wrong. ``error`` is the stable word for programs.

    Its key is not ``error``: clients of OpenStack expect an object there.
    """
    key = KEYS.get(status, "serverError" if status >= 500 else "badRequest")
    body = {key: {"code": status, "message": message, "remedy": remedy, "error_code": error}}
    return JSONResponse(_encodable(body), status_code=status)


def of(error: StrongroomError, *, challenge: str = "") -> JSONResponse:
    """The reply for an error that was raised on purpose. ``challenge`` says how to come in, to those who may not."""
    response = fault(error.status, error.message, error=error.code, remedy=error.remedy)
    if error.status == 401 and challenge:
        response.headers["WWW-Authenticate"] = challenge
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def unexpected(error: Exception, path: str) -> JSONResponse:
    """The reply for a defect: an id that the log has too, and nothing else."""
    reference = str(uuid.uuid4())
    log.error("request broke", id=reference, path=path, exc_info=error)
    return fault(
        500,
        f"The service met an unexpected error; its log has it under {reference}.",
        error="InternalError",
        remedy="This is a defect: report it with the log.",
    )


def _encodable(body: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a caller sent comes back in messages: let no broken Unicode of theirs break the reply."""
    return {
        key: {name: value.encode(errors="replace").decode() if isinstance(value, str) else value for name, value in told.items()}
        for key, told in body.items()
    }


def _sentence(mistakes: Sequence[dict[str, Any]]) -> str:
    told = []
    for mistake in mistakes[:SHOWN]:
        if mistake["type"] == "json_invalid":
            return f"The body is not JSON: {mistake.get('ctx', {}).get('error', 'it cannot be read')}."
        place, *path = mistake["loc"]
        what = str(mistake["msg"]).removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            what = "is not a parameter of this request"
        elif mistake["type"] == NULL:
            path, what = [*path, mistake["ctx"]["key"]], "must not be null; leave it out"
        where = ".".join(str(part)[:64] for part in path)
        if place != "body":
            where = f"{place} parameter {where}"
        told.append(f"{where or 'the body'}: {what[0].lower()}{what[1:]}")
    more = f" (and {len(mistakes) - SHOWN} more)" if len(mistakes) > SHOWN else ""
    return f"Validation error: {'; '.join(told)}{more}"


async def _on_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StrongroomError)
    if error.status >= 500 and error.status != 501:
        log.warning("request failed", error=error.code, reason=error.message)
    return of(error)


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return fault(400, _sentence(error.errors()), error="InvalidRequest", remedy="/openapi.json describes every request.")


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return fault(404, f"There is nothing at {request.url.path[:255]}.", error="NotFound", remedy="See /openapi.json.")
        case 405:
            response = fault(405, f"{request.method} cannot be used on {request.url.path[:255]}.", error="MethodNotAllowed")
            response.headers.update(error.headers or {})
            if allowed := allowed_methods(request.app, request.scope["path"]):
                response.headers["Allow"] = ", ".join(allowed)
            return response
        case _:
            return fault(error.status_code, f"The request cannot be read: {error.detail}.", error="InvalidRequest")


async def _on_away(request: Request, error: Exception) -> JSONResponse:
    if request.app.state.control.catalog.is_temporary(error):
        log.warning("the database does not answer", reason=str(error).splitlines()[0])
        away = Unavailable("the database of the service does not answer", remedy="Try again; jobs that run go on.")
        return of(away)
    return unexpected(error, request.url.path)


def install(app: FastAPI) -> None:
    """Make the app answer every error in this shape."""
    app.add_exception_handler(StrongroomError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DBAPIError, _on_away)
