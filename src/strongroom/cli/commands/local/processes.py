"""``strongroom serve`` and ``strongroom agent``: the processes that stay."""

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
    """Load the settings (flags over environment over file), then serve until SIGTERM. Raises ConfigurationError."""
    if database is not None:
        _refuse_password(database)
    settings = settings_of(config, service={"data_dir": data_dir, "host": host, "port": port, "database_url": database})
    uvloop.run(serve(settings))  # half as much work again for the same core, with httptools, which uvicorn finds by itself


def run_agent(
    config: Path | None,
    *,
    data_dir: Path | None,
    address: str | None,
    port: int | None,
    control_plane: str | None,
    token: Token | None,
) -> None:
    """The same for the agent of a host. Raises what ``serve_agent`` does."""
    settings = settings_of(config, service={"data_dir": data_dir}, agent={"address": address, "port": port})
    uvloop.run(serve_agent(settings, control_plane=control_plane, token=token))


def settings_of(config: Path | None, **flags: dict[str, Any]) -> Settings:
    """The settings of a process that serves, its logging set up; flags that are None were not given."""
    given = {section: {k: v for k, v in options.items() if v is not None} for section, options in flags.items()}
    settings = load(config, **{section: options for section, options in given.items() if options})
    settings.service.data_dir = settings.service.data_dir.absolute()
    configure_logging(settings)
    return settings


def _refuse_password(database: str) -> None:
    """Whoever looks at the processes of the machine sees our arguments."""
    if "password" in database or ("@" in database and ":" in database.partition("://")[2].rpartition("@")[0]):
        raise InvalidRequest(
            "a password does not belong into the command line",
            remedy="Leave it out of --database: put it into ~/.pgpass (or the file that PGPASSFILE names), or set "
            "service.database_url in the configuration file.",
        )


def configure_logging(settings: Settings) -> None:
    """Log lines to stderr, as text or as JSON."""
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
