"""The methods of a path, for OPTIONS and the header ``Allow`` of a 405."""

from __future__ import annotations

import re

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

Pattern = tuple[re.Pattern[str], set[str]]


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods of the path, sorted; empty if there is no such route."""
    found: set[str] = set()
    for pattern, methods in _patterns(app):
        if pattern.match(path):
            found |= methods
    return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())) if found else []


def _patterns(app: FastAPI) -> list[Pattern]:
    """The patterns of all routes, compiled once per application."""
    patterns: list[Pattern] | None = getattr(app.state, "patterns", None)
    if patterns is None:
        contexts = iter_route_contexts(app.routes)
        patterns = [(compile_path(c.path_format)[0], set(c.methods or ())) for c in contexts if c.path_format]
        app.state.patterns = patterns
    return patterns
