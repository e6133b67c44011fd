"""The user that Strongroom connects as: its own, or on an adopted server the one that the owner provided."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.datastores.postgresql.server.config import get_host, get_port
from strongroom.datastores.postgresql.server.superuser import find_superuser
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.peer import acting_as
from strongroom.errors import ConfigurationError
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner, find_user_by_id

_REMEDY = (
    "Give a password file (host:port:database:user:password) or a service file ([name], user=…, password=…) "
    "that only the OS user of the server can read."
)


@dataclass(frozen=True, slots=True)
class Account:
    """A role of the server. Without a password, the server authenticates it by the OS user or trusts it."""

    user: str
    password: str | None = field(default=None, repr=False)


def find_account(server: Server) -> Account:
    """The user for this server. Raises ConfigurationError if the credentials file is missing or contains none for it."""
    if server.credentials_file is not None:
        return _read(server.credentials_file, get_host(server), str(get_port(server)))
    if not server.is_adopted:
        return Account(find_superuser(server.data_dir))
    return Account(find_user_by_id(_find_owner(server)).name)


@contextmanager
def acting_as_owner(server: Server) -> Iterator[None]:
    """Connect inside this context: root acts as the owner of the socket, for servers that check the OS user."""
    if not server.is_adopted or server.credentials_file is not None or server.socket is None:
        yield
        return
    with acting_as(_find_owner(server)):
        yield


def connection_options(server: Server, work_dir: Path) -> list[str]:
    """Options for the server's own programs. A password is written to a file in ``work_dir``, never into a command."""
    us = find_account(server)
    options = [f"--host={get_host(server)}", f"--port={get_port(server)}", f"--username={us.user}", "--no-password"]
    if us.password is not None:
        path = work_dir / "pgpass"
        write_file(path, ":".join(("*", "*", "*", _escape(us.user), _escape(us.password))) + "\n", find_owner(work_dir))
        quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
        options.append(f"--dbname=passfile='{quoted}'")
    return options


def _find_owner(server: Server) -> int:
    """The OS user of the server if it can be determined; otherwise that of this process."""
    if server.socket is not None and os.geteuid() == 0:
        try:
            return (Path(get_host(server)) / f".s.PGSQL.{get_port(server)}").stat().st_uid
        except OSError:
            pass  # the connection itself reports a better error
    return os.geteuid()


# --- files that owners of servers already have


def _read(path: Path, host: str, port: str) -> Account:
    text = read_text(path)
    if text is None:
        raise ConfigurationError(f"credentials file {path} does not exist", remedy=_REMEDY)
    lines = [line for raw in text.splitlines() if (line := raw.rstrip("\r")) and not line.lstrip().startswith("#")]
    found = _parse_services(lines) if lines and lines[0].lstrip().startswith("[") else _parse_passwords(lines, host, port)
    if found is None:
        raise ConfigurationError(f"{path} names no account for {host}, port {port}", remedy=_REMEDY)
    return found


def _parse_services(lines: Sequence[str]) -> Account | None:
    """The first service of the file."""
    options: dict[str, str] = {}
    for line in lines[1:]:
        if line.lstrip().startswith("["):
            break
        name, _, value = line.partition("=")
        options[name.strip()] = value.strip()
    return Account(options["user"], options.get("password")) if options.get("user") else None


def _parse_passwords(lines: Sequence[str], host: str, port: str) -> Account | None:
    """The first matching line, by libpq's rules; it has to name the user."""
    hosts = {"*", host} | ({"localhost"} if host.startswith("/") else set())
    for line in lines:
        fields = _split_fields(line)
        if len(fields) == 5 and fields[0] in hosts and fields[1] in ("*", port) and fields[3] not in ("", "*"):
            return Account(fields[3], fields[4])
    return None


def _split_fields(line: str) -> list[str]:
    """Split a line at colons; a backslash escapes the next character."""
    fields, escaped = [""], False
    for char in line:
        if escaped or char not in "\\:":
            fields[-1] += char
            escaped = False
        elif char == ":":
            fields.append("")
        else:
            escaped = True
    return fields


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")
