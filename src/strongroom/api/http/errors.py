"""Errors in Trove's format: ``{"badRequest": {"code": 400, "message": …, "remedy": …, "error_code": …}}``."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from difflib import get_close_matches
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
"""How many errors of one request are reported; the rest is only counted."""


def make_fault(status: int, message: str, *, error: str, remedy: str = "") -> JSONResponse:
    """An error reply. ``error`` is the stable code for programs.

    Its key is not ``error``: clients of OpenStack expect an object there.
    """
    key = KEYS.get(status, "serverError" if status >= 500 else "badRequest")
    body = {key: {"code": status, "message": message, "remedy": remedy, "error_code": error}}
    return JSONResponse(_replace_broken(body), status_code=status)


def make_reply(error: StrongroomError, *, challenge: str = "") -> JSONResponse:
    """The reply for an expected error. ``challenge`` tells unauthenticated clients how to authenticate."""
    response = make_fault(error.status, error.message, error=error.code, remedy=error.remedy)
    if error.status == 401 and challenge:
        response.headers["WWW-Authenticate"] = challenge
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def report_defect(error: Exception, path: str) -> JSONResponse:
    """The reply for a defect; it contains only an id that is also logged."""
    reference = str(uuid.uuid4())
    log.error("request broke", id=reference, path=path, exc_info=error)
    return make_fault(
        500,
        f"Unexpected error; the service's log has the details under {reference}.",
        error="InternalError",
        remedy="Please report this defect with the log.",
    )


def _replace_broken(body: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The body with broken Unicode replaced, which messages may quote from the request."""
    return {
        key: {name: value.encode(errors="replace").decode() if isinstance(value, str) else value for name, value in told.items()}
        for key, told in body.items()
    }


def _make_sentence(mistakes: Sequence[dict[str, Any]]) -> str:
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
        elif mistake["type"] == "literal_error":
            what += _suggest(mistake.get("input"), str(mistake["ctx"]["expected"]))
        where = ".".join(str(part)[:64] for part in path)
        if place != "body":
            where = f"{place} parameter {where}"
        told.append(f"{where or 'the body'}: {what[0].lower()}{what[1:]}")
    more = f" (and {len(mistakes) - SHOWN} more)" if len(mistakes) > SHOWN else ""
    return f"Validation error: {'; '.join(told)}{more}"


def _suggest(value: object, expected: str) -> str:
    """``; did you mean …?`` for one of the values that pydantic expected, or nothing."""
    known = {word.lower(): word for word in re.findall(r"'([^']*)'", expected)}
    close = get_close_matches(str(value).lower()[:64], known, n=1)
    return f"; did you mean {known[close[0]]}?" if close else ""


async def _on_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StrongroomError)
    if error.status >= 500 and error.status != 501:
        log.warning("request failed", error=error.code, reason=error.message)
    return make_reply(error)


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return make_fault(
        400, _make_sentence(error.errors()), error="InvalidRequest", remedy="/openapi.json describes every request."
    )


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return make_fault(404, f"{request.url.path[:255]} cannot be found.", error="NotFound", remedy="See /openapi.json.")
        case 405:
            response = make_fault(405, f"{request.method} cannot be used on {request.url.path[:255]}.", error="MethodNotAllowed")
            response.headers.update(error.headers or {})
            if allowed := allowed_methods(request.app, request.scope["path"]):
                response.headers["Allow"] = ", ".join(allowed)
            return response
        case _:
            return make_fault(error.status_code, f"The request cannot be read: {error.detail}.", error="InvalidRequest")


async def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    if request.app.state.control.catalog.is_temporary(error):
        log.warning("the database does not answer", reason=str(error).splitlines()[0])
        away = Unavailable("the database of the service does not answer", remedy="Try again later; running jobs continue.")
        return make_reply(away)
    return report_defect(error, request.url.path)


def register_handlers(app: FastAPI) -> None:
    """Register the error handlers."""
    app.add_exception_handler(StrongroomError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DBAPIError, _on_database_error)
