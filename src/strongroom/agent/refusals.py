"""Answers to requests that the agent refuses, does not understand, or fails at."""

from __future__ import annotations

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse

from strongroom.agent.client import NOT_UNDERSTOOD
from strongroom.errors import InvalidRequest, StrongroomError

log = structlog.get_logger()


def answer_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StrongroomError)
    return JSONResponse({"error": error.to_dict()}, status_code=error.status)


def answer_misunderstanding(_request: Request, error: Exception) -> JSONResponse:
    """Names the fields and never repeats their values: a body may hold secrets."""
    assert isinstance(error, RequestValidationError)
    what = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
    return answer_refusal(_request, InvalidRequest(f"{NOT_UNDERSTOOD}: {what}"))


def answer_defect(request: Request, error: Exception) -> PlainTextResponse:
    """A defect: told to the log of this host, which callers are sent to."""
    log.error("request broke", method=request.method, path=request.url.path, exc_info=error)
    return PlainTextResponse("unexpected error", status_code=500)
