"""Base of everything in a manifest."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Immutable. Unknown keys are ignored, so that a later minor format can add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)
