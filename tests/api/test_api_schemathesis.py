"""What the page that describes the API promises, asked of the API by a machine: no defect, no status and no reply that the page
does not have, whatever is sent."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from strongroom.api import create_app
from strongroom.datastores import UserSpec
from support.site import Site

EXAMPLES = 20
"""Requests to each route."""
KNOWN = {
    "project": ("p",),
    "instance": ("mysql1", "mysql2"),
    "backup": ("full", "child"),
    "policy": ("gold",),
    "user": ("user1", "user1@%"),
    "name": ("db1",),
    "database": ("db1",),
    "flavor": ("d1",),
    "datastore": ("mariadb",),
    "version": ("10.11",),
    "owner": ("p",),
}
"""Things that there are, by the parameter of a path."""


def no_defect(_context: CheckContext, response: schemathesis.Response, _case: schemathesis.Case) -> None:
    """501 is Trove's status for unsupported requests; everything else above 499 is a defect."""
    assert response.status_code < 500 or response.status_code == 501, response.text


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of two requests one is about things that there are."""
    if not path_parameters:
        return path_parameters
    known = {name: KNOWN[name][len(str(value)) % len(KNOWN[name])] for name, value in path_parameters.items() if name in KNOWN}
    there = sum(len(str(value)) for value in path_parameters.values()) % 2
    return {**path_parameters, **known} if there else {**path_parameters, "project": "p"}


PAGE = schemathesis.openapi.from_dict(create_app(None).openapi())  # type: ignore[arg-type]  # what is behind it is not on it
OPERATIONS = [found.ok() for found in PAGE.get_all_operations()]


@pytest.fixture
def served(site: Site) -> None:
    """The operations go to an API that knows what ``KNOWN`` names."""
    for name in KNOWN["instance"]:
        site.instance(name)
    full = site.backup("mysql1", "full")
    site.backup("mysql1", "child", parent_id=full)
    site.ask("POST", "/policies", {"policy": {"name": "gold", "full": "daily", "keep_last": 3}})
    site.ask("POST", "/instances/mysql1/databases", {"databases": [{"name": "db1"}]})
    site.agent.users_["user1", "%"] = UserSpec(name="user1")

    async def at_loopback(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(b"host", b"127.0.0.1"), *((name, value) for name, value in scope["headers"] if name != b"host")]
            scope = {**scope, "headers": headers}
        await site.app(scope, receive, send)

    for operation in OPERATIONS:
        operation.app = at_loopback


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_the_api_matches_its_description(served: None, operation: Any) -> None:
    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        case.validate_response(
            case.call(), checks=[no_defect, status_code_conformance, content_type_conformance, response_schema_conformance]
        )

    ask()
