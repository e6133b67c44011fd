"""The base of all sections, and values that several of them use."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

DEFAULT_PORT = 8779
AGENT_PORT = 8780
HOST_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
CONTAINER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9@%_+=:,.-]{0,254}$"


class Section(BaseModel):
    """A table of the TOML file. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True)
