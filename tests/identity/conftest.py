"""Fixtures that call an authentication method as a client does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.requests import HTTPConnection

from support.keystone import keystone

__all__ = ["keystone"]

Connect = Callable[..., HTTPConnection]


@pytest.fixture
def connect() -> Connect:
    """Makes connections with the given address and headers."""

    def make(address: str = "127.0.0.1", **headers: str) -> HTTPConnection:
        raw = [(name.lower().replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        return HTTPConnection({"type": "http", "headers": raw, "client": (address, 1), "server": ("127.0.0.1", 8779)})

    return make
