"""The processes of ``strongroom serve`` and ``strongroom agent``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import structlog
import uvloop

from strongroom.agent.joining import Token
from strongroom.agent.service import serve_agent
from strongroom.api import serve
from strongroom.errors import InvalidRequest
from strongroom.settings import Settings, load


def run(config: Path | None, *, data_dir: Path | None, host: str | None, port: int | None, database: str | None) -> None:
    """Load the settings (options override the environment, which overrides the file), then serve until SIGTERM. Raises
    ConfigurationError."""
    if database is not None:
        _refuse_password(database)
    settings = load_settings(config, service={"data_dir": data_dir, "host": host, "port": port, "database_url": database})
    uvloop.run(serve(settings))  # 50 % more requests per core, together with httptools, which uvicorn selects automatically


def run_agent(
    config: Path | None,
    *,
    data_dir: Path | None,
    address: str | None,
    port: int | None,
    control_plane: str | None,
    token: Token | None,
) -> None:
    """Load the settings, then run the agent of a host. Raises the errors of ``serve_agent``."""
    settings = load_settings(config, service={"data_dir": data_dir}, agent={"address": address, "port": port})
    uvloop.run(serve_agent(settings, control_plane=control_plane, token=token))


def load_settings(config: Path | None, **flags: dict[str, Any]) -> Settings:
    """Load the settings and set up logging. ``flags`` are options of the command; None means not given."""
    given = {section: {k: v for k, v in options.items() if v is not None} for section, options in flags.items()}
    settings = load(config, **{section: options for section, options in given.items() if options})
    settings.service.data_dir = settings.service.data_dir.absolute()
    configure_logging(settings)
    return settings


def _refuse_password(database: str) -> None:
    """Arguments are visible to all users of the machine."""
    if "password" in database or ("@" in database and ":" in database.partition("://")[2].rpartition("@")[0]):
        raise InvalidRequest(
            "a password must not be given on the command line",
            remedy="Remove it from --database and put it into ~/.pgpass (or the file in PGPASSFILE), or set "
            "service.database_url in the configuration file.",
        )


def configure_logging(settings: Settings) -> None:
    """Set up logging to stderr, as text or JSON."""
    as_json = settings.service.log_format == "json"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.service.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
