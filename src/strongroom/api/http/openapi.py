"""The OpenAPI description (``/openapi.json``), extended by the format of errors and the possible status codes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from strongroom.api.http.caller import JOB_HEADER, PREFIX
from strongroom.api.http.errors import KEYS

EVERYWHERE = (400, 403)
IN_PROJECTS = (400, 401, 403, 404, 409, 413, 422, 501, 503)
WITH_BODY = (413, 415)
JOB = {JOB_HEADER: {"description": "Id of the started job, if any.", "schema": {"type": "string"}}}
FAULT = {
    "type": "object",
    "description": "One key: Trove's name for the kind of error.",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": {
        "type": "object",
        "required": ["code", "message", "remedy", "error_code"],
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status."},
            "message": {"type": "string", "description": "One sentence with the cause."},
            "remedy": {"type": "string", "description": "Extension: how to proceed."},
            "error_code": {"type": "string", "description": "Extension: a stable code for programs."},
        },
    },
}


def describe(app: FastAPI) -> None:
    """Install the extended description in ``app``."""

    def page() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            for path, operations in made["paths"].items():
                for operation in operations.values():
                    _complete(operation, in_project=path.startswith(PREFIX))
            schemas = made["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            schemas["Fault"] = FAULT
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = page  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], *, in_project: bool) -> None:
    responses = operation["responses"]
    for status in ("202", "204"):
        if status in responses and _has_no_body(responses[status]):
            responses[status].pop("content", None)
        if status == "202" and status in responses:
            responses[status]["headers"] = JOB
    responses.pop("422", None)
    for status in (*(IN_PROJECTS if in_project else EVERYWHERE), *(WITH_BODY if "requestBody" in operation else ())):
        responses[str(status)] = {
            "description": f"{HTTPStatus(status).phrase} (`{KEYS[status]}`)",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}},
        }


def _has_no_body(response: dict[str, Any]) -> bool:
    return not response.get("content", {}).get("application/json", {}).get("schema")
