"""Secrets that a job needs later, never in a database.

The passwords of users to create are in files (0600) of their own. The tokens of those who ask are in memory alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from strongroom.system.files import write_file


class Secrets:
    """One JSON file a job in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tokens: dict[str, SecretStr] = {}

    def put(self, job_id: str, value: dict[str, Any]) -> None:
        """Keep ``value`` for the job, durably."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        write_file(self._path(job_id), json.dumps(value))

    def get(self, job_id: str) -> dict[str, Any]:
        """What was kept for the job, or an empty dictionary."""
        try:
            value: dict[str, Any] = json.loads(self._path(job_id).read_text())
        except FileNotFoundError:
            return {}
        return value

    def hold(self, job_id: str, token: SecretStr) -> None:
        """Remember the token of whoever asked for the job, until it is over or the process ends."""
        self._tokens[job_id] = token

    def held(self, job_id: str) -> SecretStr | None:
        """That token; none when the process is another than the one that was asked."""
        return self._tokens.get(job_id)

    def drop(self, job_id: str) -> None:
        """Forget it all; no error when there is nothing."""
        self._tokens.pop(job_id, None)
        self._path(job_id).unlink(missing_ok=True)

    def _path(self, job_id: str) -> Path:
        return self._directory / f"{job_id}.json"
