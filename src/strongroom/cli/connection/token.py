"""The token with which a host joins, read from a terminal, stdin or a file, never from arguments."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from strongroom.agent.joining import Token
from strongroom.cli.connection.password import read_secret
from strongroom.errors import InvalidRequest


def read_token(from_stdin: bool, from_file: Path | None, *, wanted: bool) -> Token | None:
    """Read the token. If it is ``wanted`` and not given, ask for it on a terminal. Raises InvalidRequest."""
    if from_stdin and from_file:
        raise InvalidRequest("--token-stdin and --token-file exclude each other")
    if from_file:
        return Token.parse(read_secret(from_file, "token"))
    if from_stdin:
        return Token.parse(sys.stdin.readline())
    if wanted and sys.stdin.isatty():
        return Token.parse(str(typer.prompt("Token", hide_input=True, err=True)))
    return None
