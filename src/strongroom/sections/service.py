"""The section ``[service]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from strongroom.sections.section import DEFAULT_PORT, Section


class Service(Section):
    """Where the service listens and keeps its state."""

    data_dir: Path = Field(Path("/var/lib/strongroom"), description="Directory of state, instances and, by default, artifacts.")
    host: str = Field("127.0.0.1", description="Address to listen on. Without authentication, only loopback is allowed.")
    port: int = Field(
        DEFAULT_PORT, ge=0, le=65535, description="Port to listen on. The default is Trove's; 0 selects a free one."
    )
    proxies: list[str] = Field(
        default_factory=list,
        description="Addresses of trusted reverse proxies, whose headers `X-Forwarded-For` and `X-Forwarded-Proto` are honoured.",
    )
    region: str = Field("RegionOne", description="Region that is shown for instances.")
    database_url: SecretStr | None = Field(
        None, description="URL of a PostgreSQL database for the catalog. Default: SQLite in data_dir."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Minimum severity of log messages.")
    log_format: Literal["console", "json"] = Field("console", description="Format of log messages.")
