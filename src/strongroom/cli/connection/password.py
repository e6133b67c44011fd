"""Passwords, from where others cannot see them: never from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from strongroom.errors import InvalidRequest


def new_password(from_stdin: bool, from_file: Path | None) -> str:
    """A password to set. Asked for twice on a terminal."""
    if from_stdin and from_file:
        raise InvalidRequest("--password-stdin and --password-file exclude each other")
    if from_file:
        password = password_in(from_file)
    elif from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise InvalidRequest("a password is needed", remedy="Give it by --password-stdin or --password-file.")
    if not password:
        raise InvalidRequest("the password is empty")
    return password


def password_in(file: Path, what: str = "password") -> str:
    """The password, or what else the file holds. Raises InvalidRequest that names the file."""
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidRequest(
            f"cannot read the {what} from {file}: {reason}", remedy="Check the name and the mode of the file."
        ) from error
