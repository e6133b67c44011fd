"""Secrets that a job needs later. They are never stored in a database.

Passwords of users to be created are in files (mode 0600). Tokens of the requesting users are only in memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from strongroom.system.files import write_file


class Secrets:
    """One JSON file for each job in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tokens: dict[str, SecretStr] = {}

    def put(self, job_id: str, value: dict[str, Any]) -> None:
        """Store ``value`` for the job durably."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        write_file(self._path(job_id), json.dumps(value))

    def get(self, job_id: str) -> dict[str, Any]:
        """What ``put`` stored for the job, or an empty dictionary."""
        try:
            value: dict[str, Any] = json.loads(self._path(job_id).read_text())
        except FileNotFoundError:
            return {}
        return value

    def hold(self, job_id: str, token: SecretStr) -> None:
        """Remember the token of the user who requested the job, until the job or this process ends."""
        self._tokens[job_id] = token

    def held(self, job_id: str) -> SecretStr | None:
        """That token; None after a restart of the service."""
        return self._tokens.get(job_id)

    def drop(self, job_id: str) -> None:
        """Delete the secrets of the job, if there are any."""
        self._tokens.pop(job_id, None)
        self._path(job_id).unlink(missing_ok=True)

    def _path(self, job_id: str) -> Path:
        return self._directory / f"{job_id}.json"
