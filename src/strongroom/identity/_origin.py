"""Requests that a browser sends for a page of somebody else: never meant by the person in front of it."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from strongroom.errors import Forbidden


def refuse_foreign_origin(connection: HTTPConnection) -> None:
    """Raise Forbidden for what a page of another site sends. Programs that are no browsers send no origin."""
    host = connection.headers.get("host", "")
    origin = connection.headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise Forbidden(f"a page of {origin[:100]!r} may not use this service", remedy="Use it from its own pages or a program.")
