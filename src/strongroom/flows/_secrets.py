"""Secrets that a job needs later, such as the passwords of users to create: in files (0600) of their own, never in a database."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Secrets:
    """One JSON file a job in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, job_id: str, value: dict[str, Any]) -> None:
        """Keep ``value`` for the job, durably."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._path(job_id)
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)

    def get(self, job_id: str) -> dict[str, Any]:
        """What was kept for the job, or an empty dictionary."""
        try:
            value: dict[str, Any] = json.loads(self._path(job_id).read_text())
        except FileNotFoundError:
            return {}
        return value

    def drop(self, job_id: str) -> None:
        """Forget it; no error when there is nothing."""
        self._path(job_id).unlink(missing_ok=True)

    def _path(self, job_id: str) -> Path:
        return self._directory / f"{job_id}.json"
