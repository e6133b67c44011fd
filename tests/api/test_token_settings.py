"""Stores that are used with the tokens of callers: what else must be set, and what cannot be tried without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.agent.checks import run_checks
from strongroom.api.service import check_tokens
from strongroom.errors import ConfigurationError
from strongroom.settings import load

KEYSTONE = {"method": "keystone", "auth_url": "http://k/v3"}
SWIFT = {"driver": "swift", "auth": "user", "auth_url": "http://k/v3"}


@pytest.mark.parametrize(
    ("identity", "storage", "says"),
    [
        ({}, SWIFT, "authentication by Keystone"),
        ({"method": "basic"}, SWIFT, "authentication by Keystone"),
        (KEYSTONE, {**SWIFT, "driver": "directory"}, "authentication by Keystone"),
        (KEYSTONE, {**SWIFT, "auth_version": "1"}, "a Swift that accepts its tokens"),
        (KEYSTONE, {**SWIFT, "account": "AUTH_backups"}, "not in AUTH_backups"),
    ],
)
def test_incompatible_parameters(identity: dict[str, Any], storage: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_tokens(load(identity=identity, storage=storage))


@pytest.mark.parametrize("account", ["service", "project"])
def test_what_does(account: str) -> None:
    check_tokens(load(identity=KEYSTONE, storage={**SWIFT, "account": account}))
    check_tokens(load())


def test_store_is_not_tested(place: Path) -> None:
    settings = load(service={"data_dir": place}, identity=KEYSTONE, storage=SWIFT)
    (check,) = [check for check in run_checks(settings) if check.name == "store"]
    assert (check.level, "tokens of its users" in check.message) == ("ok", True)
