"""Renders docs/man/*.1 from the command line: one page for strongroom and one for each command or group of commands."""

from __future__ import annotations

import re
from typing import Any

import typer

Command = typer.core.TyperCommand | typer.core.TyperGroup

_KINDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "path": "PATH"}


def render_man(root: typer.core.TyperGroup, common: tuple[str, ...]) -> dict[str, str]:
    """File names and texts. ``common``: options that most commands have, which only the page of strongroom explains."""
    pages = {"strongroom.1": _render_overview(root, common)}
    for name, command in root.commands.items():
        assert isinstance(command, Command)
        pages[f"strongroom-{name}.1"] = _render_command(name, command, common)
    return pages


def _render_overview(root: typer.core.TyperGroup, common: tuple[str, ...]) -> str:
    text = [*_head("strongroom", "back up databases, prove that the backups restore, and restore them")]
    text += [".SH SYNOPSIS", ".B strongroom", r"\fICOMMAND\fR [\fIOPTIONS\fR]", ".SH COMMANDS"]
    for name, command in root.commands.items():
        text += [".TP", rf"\fBstrongroom\-{_escape(name)}\fR(1)", _escape(_first_sentence(command.help or ""))]
    group = root.commands["instance"]
    assert isinstance(group, typer.core.TyperGroup)
    text += [".SH OPTIONS", "Every command that calls the service has these options."]
    text += _render_parameters([p for p in group.commands["list"].params if p.name in common])
    text += [".SH EXIT STATUS"]
    for code, meaning in re.findall(r"^ +(\d+) +(.+)$", root.epilog or "", re.MULTILINE):
        text += [".TP", rf"\fB{code}\fR", _escape(meaning)]
    return "\n".join([*text, ""])


def _render_command(name: str, command: Command, common: tuple[str, ...]) -> str:
    title = f"strongroom-{name}"
    text = [*_head(title, _first_sentence(command.help or "")), ".SH SYNOPSIS"]
    if isinstance(command, typer.core.TyperGroup):
        below = [(f"strongroom {name} {last}", each) for last, each in command.commands.items()]
        for number, (path, each) in enumerate(below):
            text += [*([".br"] if number else []), *_render_usage(path, each)]
        text.append(".SH COMMANDS")
        for path, each in below:
            assert isinstance(each, typer.core.TyperCommand)
            text += [f".SS {_escape(path)}", *_render_body(each, common)]
    else:
        text += [*_render_usage(f"strongroom {name}", command), ".SH DESCRIPTION", *_render_body(command, common)]
    text += [".SH SEE ALSO", r"\fBstrongroom\fR(1)"]
    return "\n".join([*text, ""])


def _render_usage(path: str, command: Any) -> list[str]:
    words = [rf"\fI{_escape(_name_argument(p))}\fR" for p in command.params if p.param_type_name == "argument"]
    return [f".B {_escape(path)}", " ".join([*words, r"[\fIOPTIONS\fR]"])]


def _name_argument(parameter: Any) -> str:
    name = (
        f"{(parameter.metavar or parameter.name.upper()).strip('[]').removesuffix('...')}{'...' if parameter.nargs < 0 else ''}"
    )
    return name if parameter.required else f"[{name}]"


def _render_body(command: Any, common: tuple[str, ...]) -> list[str]:
    parts = (_escape(" ".join(part.split())) for part in (command.help or "").strip().split("\n\n"))
    text = [line for part in parts for line in (".PP", part)][1:]
    text += _render_parameters([p for p in command.params if p.name not in (*common, "help")])
    if examples := (command.epilog or "").partition("\b\n")[2].splitlines():
        text += [".PP", "Examples:", ".PP", ".RS 4", ".nf", *(_escape(line.strip()) for line in examples), ".fi", ".RE"]
    return text


def _render_parameters(given: list[Any]) -> list[str]:
    text: list[str] = []
    for parameter in given:
        if parameter.param_type_name == "argument":
            text += [".TP", rf"\fI{_escape(parameter.metavar or parameter.name.upper())}\fR"]
        else:
            names = ", ".join(rf"\fB{_escape(name)}\fR" for name in (*parameter.opts, *parameter.secondary_opts))
            text += [".TP", names if parameter.is_flag else rf"{names} \fI{_escape(_name_value(parameter))}\fR"]
        text.append(_escape(" ".join((parameter.help or "").split())) or r"\&")
    return text


def _name_value(parameter: Any) -> str:
    """A word for the value of an option."""
    kind = parameter.display_type(typer.Context(typer.core.TyperCommand("strongroom"))).strip("<>")
    return str(parameter.metavar or _KINDS.get(kind.removeprefix("list[").removesuffix("]").removesuffix(" range"), kind))


def _head(title: str, purpose: str) -> list[str]:
    name = rf"{_escape(title)} \- {_escape(purpose.rstrip('.'))}"
    return [f'.TH "{_escape(title.upper())}" 1 "" "Strongroom"', ".SH NAME", name]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.strip().partition("\n\n")[0].split()))[0]


def _escape(text: str) -> str:
    """Text without a meaning for roff; hyphens can be copied from the page."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    text = re.sub(r"[^\x00-\x7f]", lambda sign: f"\\[u{ord(sign[0]):04X}]", text)
    return rf"\&{text}" if text.startswith((".", "'")) else text
