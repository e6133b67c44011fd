"""``/metrics``: for a monitoring system with a token, and for administrators."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from strongroom.api.http import errors
from strongroom.api.http.caller import CallerDep, ControlDep, project_router
from strongroom.api.metrics.page import MetricsPage
from strongroom.errors import Forbidden, NotAuthenticated, StrongroomError
from strongroom.identity import Method
from strongroom.sections import Metrics

open_router = APIRouter(tags=["metrics"])
"""The route without a principal: it has a token of its own."""
router = project_router("metrics")

FORMAT = "text/plain; version=0.0.4; charset=utf-8"


@open_router.get("/metrics", response_class=PlainTextResponse, responses={401: {"description": "The token is missing or wrong."}})
async def metrics(request: Request, control: ControlDep) -> Response:
    """Metrics of all projects in Prometheus's text format. It requires the token of the option `metrics.token`."""
    try:
        _check_token(request, control.settings.metrics, request.app.state.method)
    except StrongroomError as error:
        return errors.make_reply(error, challenge="Bearer")
    return await _send(request)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics_for_administrators(request: Request, caller: CallerDep) -> Response:
    """Extension: the same metrics of all projects, for administrators."""
    return await _send(request)


async def _send(request: Request) -> Response:
    page: MetricsPage = request.app.state.metrics
    return Response(await page.read(), media_type=FORMAT)


def _check_token(request: Request, section: Metrics, method: Method) -> None:
    """Raise an error if the request has no right to the metrics."""
    if section.token is None:
        if method.name == "none":
            return  # everyone who can connect is an administrator
        raise Forbidden(
            "/metrics is closed, because no token for it is configured",
            remedy="Set metrics.token in the configuration, or read /v1.0/PROJECT/metrics as an administrator.",
        )
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    expected = section.token.get_secret_value()
    if scheme.lower() != "bearer" or not secrets.compare_digest(sent.strip().encode(), expected.encode()):
        raise NotAuthenticated(
            "the token for the metrics is missing or wrong",
            remedy="Send the value of the option metrics.token in the header `Authorization: Bearer TOKEN`.",
        )
