"""A service for whole stories."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.service import Service


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve()
