"""Strongroom: self-hosted backup and restore of databases."""

import sys

__version__ = "0.1.0"

# The command line of httpx, which Strongroom does not use, imports click and pygments: a tenth of a second for every command.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
