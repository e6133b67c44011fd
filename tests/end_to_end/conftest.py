"""A service for whole stories."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.keystone import keystone
from support.service import Service
from support.swift import keystone_swift, own_swift, swift

__all__ = ["keystone", "keystone_swift", "own_swift", "swift"]


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve()
