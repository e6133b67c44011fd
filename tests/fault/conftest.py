"""A service whose segments are small, so that a job can be hit between many of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.service import Service
from support.swift import own_swift

__all__ = ["own_swift"]


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve(config="[artifact]\nsegment_size = 1048576\n")
