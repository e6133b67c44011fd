"""The application that serves the routes of the agent's API."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Mount

from strongroom.agent.connection import NOT_UNDERSTOOD
from strongroom.agent.routes import ROUTES, Route
from strongroom.errors import InvalidRequest, StrongroomError

log = structlog.get_logger()

Handler = Callable[..., Any]
"""Gets the ids of the path, then the body and the query if its route has them. Runs in a thread unless it is a coroutine."""
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def make_application(handlers: Mapping[Route[Any], Handler], lifespan: Lifespan) -> Starlette:
    """An application with a handler for each route."""
    assert set(handlers) == set(ROUTES)
    return Starlette(
        routes=[Mount(route.path, _make_endpoint(route, handlers[route]), methods=[route.method]) for route in ROUTES],
        exception_handlers={StrongroomError: _answer_refusal, Exception: _answer_defect},
        lifespan=lifespan,
    )


def _make_endpoint(route: Route[Any], handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    body = TypeAdapter(route.body) if route.body is not None else None
    query = TypeAdapter(route.query) if route.query is not None else None
    reply = TypeAdapter(route.reply)

    async def endpoint(request: Request) -> Response:
        arguments: list[Any] = list(request.path_params.values())
        try:
            if body is not None:
                arguments.append(body.validate_json(await request.body() or b"{}"))
        except ValidationError as error:
            raise _describe_misunderstanding("body", error) from None
        try:
            if query is not None:
                arguments.append(query.validate_strings(dict(request.query_params)))
        except ValidationError as error:
            raise _describe_misunderstanding("query", error) from None
        if inspect.iscoroutinefunction(handler):
            answer = await handler(*arguments)
        else:
            answer = await run_in_threadpool(handler, *arguments)
        if route.reply is type(None):
            return Response(status_code=204)
        return Response(reply.dump_json(answer), media_type="application/json")

    return endpoint


def _describe_misunderstanding(where: str, error: ValidationError) -> InvalidRequest:
    """Names the fields and never repeats their values: a body may hold secrets."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    what = "; ".join(f"{'.'.join((where, *map(str, each['loc'])))}: {each['msg']}" for each in found)
    return InvalidRequest(f"{NOT_UNDERSTOOD}: {what}")


def _answer_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StrongroomError)
    return JSONResponse({"error": error.to_dict()}, status_code=error.status)


def _answer_defect(request: Request, error: Exception) -> PlainTextResponse:
    """A defect: written to the log of this host, which the caller's error refers to."""
    log.error("request broke", method=request.method, path=request.url.path, exc_info=error)
    return PlainTextResponse("unexpected error", status_code=500)
