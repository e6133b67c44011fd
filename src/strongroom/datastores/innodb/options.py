"""Option files: the format of my.cnf, written and read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from strongroom.errors import ConfigurationError
from strongroom.system.files import read_text

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "s": " ", "\\": "\\", '"': '"', "'": "'"}


def format_options(group: str, options: Mapping[str, str | int | Path | None]) -> str:
    """A group of an option file. An option whose value is none is a flag without a value."""
    lines = [f"[{group}]"]
    for name, value in options.items():
        lines.append(name if value is None else f"{name}={_quote(value)}")
    return "\n".join(lines) + "\n"


def _quote(value: str | int | Path) -> str:
    text = str(value)
    if re.fullmatch(r"[A-Za-z0-9_./:*-]*", text):
        return text
    if "\n" in text or "\0" in text:
        raise ConfigurationError("an option of an option file cannot hold a line break")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read_options(path: Path, groups: Iterable[str] = ("client", "client-server", "client-mariadb")) -> dict[str, str]:
    """Options of ``groups`` in the file; later ones win. Raises ConfigurationError if it cannot be read."""
    text = read_text(path)
    if text is None:
        raise ConfigurationError(f"option file {path} does not exist", remedy="Name a file with a [client] group.")
    wanted = set(groups)
    options: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            inside = line.partition("]")[0][1:].strip() in wanted
        elif inside and line and line[0] not in "#;!":
            name, _, value = line.partition("=")
            options[name.strip().replace("_", "-")] = _unquote(value.strip())
    return options


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] in "\"'" and value.rfind(value[0]) > 0:
        value = value[1 : value.rfind(value[0])]
    else:
        value = value.partition(" #")[0].rstrip()
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), value)
