"""Stand-ins for programs: the real one, but late, so that a test can meet it; or one that tells another version."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.datastores import Server, Version

_LATE = """#!/bin/bash
case " $* " in *{word}*) read -t {seconds} <> {fifo} ;; esac
exec {program} "$@"
"""
_OTHER_VERSION = """#!/bin/bash
case " $* " in *--version*) echo "based on MariaDB server {number}-MariaDB" ;; *) exec {program} "$@" ;; esac
"""


def _script(path: Path, text: str) -> Path:
    path.parent.chmod(0o755)
    path.write_text(text)
    path.chmod(0o755)
    return path


def late(server: Server, place: Path, role: str, word: str, seconds: float = 20) -> Server:
    """The server with a program that waits first when ``word`` is in its command line."""
    fifo = place / f"{role}.fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    program = server.version.programs[role]
    text = _LATE.format(word=word, seconds=seconds, fifo=fifo, program=program)
    return with_program(server, role, _script(place / program.name, text))


def other_version(server: Server, place: Path, number: str) -> Server:
    """The server with a backup tool that says that it is ``number``."""
    program = server.version.programs["backup"]
    return with_program(server, "backup", _script(place / program.name, _OTHER_VERSION.format(number=number, program=program)))


def with_program(server: Server, role: str, program: Path) -> Server:
    """The server with another program."""
    return server.model_copy(update={"version": replace(server.version, role, program)})


def replace(version: Version, role: str, program: Path) -> Version:
    """The version with another program."""
    return version.model_copy(update={"programs": {**version.programs, role: program}})
