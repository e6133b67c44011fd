"""Names for the shell's completion. After any error there are none: a shell must neither wait nor print errors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from strongroom.cli.connection.credentials import DEFAULT_URL, Credentials
from strongroom.cli.names import PATTERN

PATIENCE = 1.5
"""Seconds to wait for the service."""


def complete_names(*collections: str) -> Callable[[typer.Context, str], list[str]]:
    """Return a function that completes names of instances, backups, clusters, policies or hosts.

    Names with special characters are left out: a shell would split them, or run commands in ``$()``.
    """

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        try:
            names = {
                name for collection in collections for name in _fetch_names(context, collection) if name.startswith(incomplete)
            }
            return sorted(name for name in names if PATTERN.fullmatch(name))
        except Exception:  # noqa: BLE001 - see above
            return []

    return complete


def _fetch_names(context: typer.Context, collection: str) -> list[str]:
    from strongroom.cli.connection.client import Client

    given: dict[str, Any] = {**context.find_root().params, **{k: v for k, v in context.params.items() if v is not None}}
    password = given.get("auth_password_file") or os.environ.get("STRONGROOM_PASSWORD_FILE")
    user = given.get("username") or os.environ.get("STRONGROOM_USERNAME")
    client = Client(
        given.get("url") or os.environ.get("STRONGROOM_URL") or DEFAULT_URL,
        given.get("project") or os.environ.get("STRONGROOM_PROJECT"),
        Credentials(user, Path(password) if password else None, given.get("os_cloud"), patience=PATIENCE),
        patience=PATIENCE,
    )
    try:
        return [item["name"] for item in client.get(collection)[collection]]
    finally:
        client.close()
