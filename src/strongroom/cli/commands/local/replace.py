"""Replaces the command line by the process of a service."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def replace_process(command: str, **options: object) -> NoReturn:
    """Continue as ``processes.py`` with the options that are not None. The process id stays the same.

    A service that kept the modules of the command line would use 12 MB more as long as it runs. The columns in which the parts of
    each line begin, which tracebacks underline, would take another 1 MB.
    """
    words = [f"{name}={value}" for name, value in options.items() if value is not None]
    python = [sys.executable, "-P", "-X", "no_debug_ranges"]
    os.execv(sys.executable, [*python, "-m", "strongroom.cli.commands.local.processes", command, *words])  # noqa: S606
