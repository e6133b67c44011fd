"""Refuses requests that a browser sends for a page of another site."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from strongroom.errors import Forbidden


def refuse_foreign_origin(connection: HTTPConnection) -> None:
    """Raise Forbidden for a request from a page of another site. Programs other than browsers send no origin."""
    host = connection.headers.get("host", "")
    origin = connection.headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise Forbidden(
            f"requests from pages of {origin[:100]!r} are not allowed", remedy="Use the service from its own pages or a program."
        )
