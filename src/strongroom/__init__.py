"""Strongroom: database backup and restore that people can trust with everything they have."""

import sys

__version__ = "0.1.0"

# The command line of httpx, which nobody here calls, would bring click and pygments in: a tenth of a second for every command.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
