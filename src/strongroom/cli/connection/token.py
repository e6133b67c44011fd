"""The token with which a host joins, from where others cannot see it: never from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from strongroom.agent.joining import Token
from strongroom.cli.connection.password import password_in
from strongroom.errors import InvalidRequest


def token_given(from_stdin: bool, from_file: Path | None, *, wanted: bool) -> Token | None:
    """The token; asked for on a terminal when it is ``wanted`` and not given. Raises InvalidRequest."""
    if from_stdin and from_file:
        raise InvalidRequest("--token-stdin and --token-file exclude each other")
    if from_file:
        return Token.parse(password_in(from_file, "token"))
    if from_stdin:
        return Token.parse(sys.stdin.readline())
    if wanted and sys.stdin.isatty():
        return Token.parse(str(typer.prompt("Token", hide_input=True, err=True)))
    return None
