"""Passwords and other secrets, read from a terminal, stdin or a file, never from arguments."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from strongroom.errors import InvalidRequest


def read_new_password(from_stdin: bool, from_file: Path | None) -> str:
    """Read a new password. On a terminal, it must be typed twice."""
    if from_stdin and from_file:
        raise InvalidRequest("--password-stdin and --password-file exclude each other")
    if from_file:
        password = read_secret(from_file)
    elif from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise InvalidRequest("a password is required", remedy="Pass --password-stdin or --password-file.")
    if not password:
        raise InvalidRequest("the password is empty")
    return password


def read_secret(file: Path, what: str = "password") -> str:
    """Read a secret from a file. Raises InvalidRequest."""
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidRequest(
            f"cannot read the {what} from {file}: {reason}", remedy="Check the name and the permissions of the file."
        ) from error
