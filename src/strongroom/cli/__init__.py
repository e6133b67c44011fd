"""The ``strongroom`` command: ``serve`` runs the service, everything else is a client of its API."""

import sys


def main() -> None:
    """Entry point of the ``strongroom`` command."""
    from strongroom.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app(prog_name="strongroom")


__all__ = ["main"]
