"""The processes of ``strongroom serve`` and ``strongroom agent``: they run without what the command line loads."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strongroom.system.imports import defer_modules, defer_names, hide_packages

with hide_packages("rich", "cryptography"):
    import pymysql  # noqa: F401 - loads cryptography, 7 MB, for logins over TCP; `connect` of MariaDB loads it for them
    import structlog  # loads Rich, 4 MB, for tracebacks, which have another form in the log
with defer_names("uvicorn.main", "Server", "main", "run"):
    import uvicorn  # noqa: F401 - loads its command line, and Click for it: 2 MB
import uvloop
from pydantic import BaseModel
from pydantic.warnings import UnsupportedFieldAttributeWarning

from strongroom.errors import InvalidRequest, StrongroomError
from strongroom.settings import Settings, load


def run(
    *,
    config: str | None = None,
    data_dir: str | None = None,
    host: str | None = None,
    port: str | None = None,
    database: str | None = None,
) -> None:
    """Load the settings (options override the environment, which overrides the file), then serve until SIGTERM. Raises
    ConfigurationError."""
    gc.disable()  # until it serves: all objects created now are permanent, and scanning them takes a tenth of the time
    from strongroom.api import serve  # an agent does not need it

    if database is not None:
        _refuse_password(database)
    settings = load_settings(config, service={"data_dir": data_dir, "host": host, "port": port, "database_url": database})
    uvloop.run(serve(settings))  # 50 % more requests per core, together with httptools, which uvicorn selects automatically


def run_agent(
    *,
    config: str | None = None,
    data_dir: str | None = None,
    address: str | None = None,
    port: str | None = None,
    control_plane: str | None = None,
    token_stdin: str | None = None,
    token_file: str | None = None,
) -> None:
    """Load the settings, then run the agent of a host. Raises the errors of ``serve_agent``."""
    from strongroom.agent.service import serve_agent

    token = None
    if control_plane is not None or token_stdin is not None or token_file is not None:
        from strongroom.cli.connection.token import read_token  # loads the command line, to ask on a terminal

        token = read_token(token_stdin is not None, Path(token_file) if token_file else None, wanted=control_plane is not None)
    settings = load_settings(config, service={"data_dir": data_dir}, agent={"address": address, "port": port})
    uvloop.run(serve_agent(settings, control_plane=control_plane, token=token))


def load_settings(config: str | None, **flags: dict[str, Any]) -> Settings:
    """Load the settings and set up logging. ``flags`` are options of the command; None means not given."""
    given = {section: {k: v for k, v in options.items() if v is not None} for section, options in flags.items()}
    settings = load(Path(config) if config else None, **{section: options for section, options in given.items() if options})
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


def _share_heap() -> None:
    """Let all threads use the same heap, and large pieces none. Otherwise glibc keeps a heap with gaps for each thread: 3 MB."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_THRESHOLD, 128 * 1024)


_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Of ``malloc.h``."""


def main() -> None:
    """Run the command with the options that ``replace_process`` gives."""
    _share_heap()
    command, *words = sys.argv[1:]
    options = dict(word.split("=", 1) for word in words)
    Path("/proc/self/comm").write_text("strongroom")  # as `ps` and `pgrep` show it
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    BaseModel.model_config["defer_build"] = True  # most models are not used while a service is idle: 6 MB
    warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)  # as FastAPI does when it builds them at once
    commands: dict[str, Callable[..., None]] = {"serve": run, "agent": run_agent}
    try:
        # FastAPI would load the first to find models of it, and the second for the page of its debugger: 2 MB
        with hide_packages("pydantic.v1"), defer_modules("html"):
            commands[command](**options)
    except StrongroomError as error:
        from strongroom.cli.session import print_error  # loads the command line

        sys.exit(print_error(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
