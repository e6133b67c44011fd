"""What a check of a host says."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from strongroom.worker.spec import StorageSpec

Level = Literal["ok", "warning", "error"]
GB = 1024**3
LITTLE_SPACE = GB
"""Bytes; with fewer free a check warns."""


class Check(BaseModel):
    """One thing that was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    level: Level
    message: str
    remedy: str = ""


class CheckRequest(BaseModel):
    """Body of ``POST /checks``: what the control plane sends to workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    storage: StorageSpec | None = Field(None, description="None: used with the tokens of its users, so not tested.")
    embedded: bool = Field(False, description="The agent is part of the service and has its configuration.")
