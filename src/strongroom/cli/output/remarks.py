"""Remarks, warnings and questions, on stderr."""

from __future__ import annotations

import sys

from strongroom.cli.output.values import escape


class Remarks:
    """Whether remarks and progress are suppressed, in the whole program."""

    quiet = False


def note(text: str) -> None:
    """Print a remark on stderr; stdout contains only the result."""
    if not Remarks.quiet:
        warn(text)


def warn(text: str) -> None:
    """Print an error, a warning or a question on stderr, even if remarks are suppressed."""
    print(escape(text), file=sys.stderr, flush=True)
