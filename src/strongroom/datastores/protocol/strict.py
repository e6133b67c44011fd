"""Base of the models that cross a process boundary."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys are mistakes, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
