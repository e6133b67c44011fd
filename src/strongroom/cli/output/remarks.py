"""Remarks, warnings and questions, on stderr."""

from __future__ import annotations

import sys

from strongroom.cli.output.values import safe


class Remarks:
    """Whether remarks and progress are left out; one for the whole program."""

    quiet = False


def note(text: str) -> None:
    """A remark for the person, on stderr, so that stdout holds the result alone."""
    if not Remarks.quiet:
        warn(text)


def warn(text: str) -> None:
    """An error, a warning or a question: on stderr, and also shown to those who want no remarks."""
    print(safe(text), file=sys.stderr, flush=True)
