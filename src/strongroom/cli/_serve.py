"""``strongroom serve``: the whole service in one process."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import structlog
import uvloop

from strongroom.api import serve
from strongroom.settings import Settings, load


def run(config: Path | None, *, data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Load the settings (flags over environment over file), then serve until SIGTERM. Raises ConfigurationError."""
    flags: dict[str, Any] = {
        name: value for name, value in (("data_dir", data_dir), ("host", host), ("port", port)) if value is not None
    }
    settings = load(config, service=flags) if flags else load(config)
    settings.service.data_dir = settings.service.data_dir.absolute()
    configure_logging(settings)
    uvloop.run(serve(settings))  # half as much work again for the same core, with httptools, which uvicorn finds by itself


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
