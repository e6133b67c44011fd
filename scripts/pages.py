"""Generates parts of docs/ from the code: options, commands, items of profiles, states. Started by ``scripts/docs``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from man import render_man
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from strongroom import datastores
from strongroom.cli.app import app
from strongroom.flows import status
from strongroom.protection.durations import format_duration
from strongroom.settings import Settings

DOCS = Path(__file__).resolve().parent.parent / "docs"
PRODUCTS = {"mariadb": "MariaDB", "mysql": "MySQL", "postgresql": "PostgreSQL"}
COMMON = ("url", "project", "username", "auth_password_file", "os_cloud", "format", "column", "wide", "time", "quiet")


def render_configuration() -> str:
    """docs/configuration.md."""
    text = [
        "# Configuration",
        "",
        "Nothing needs to be configured: every option has a default. An option can be set, highest precedence first,",
        "",
        "1. by a flag of `strongroom serve` (`--data-dir`, `--host`, `--port`),",
        "2. in the environment: `STRONGROOM_<SECTION>__<OPTION>`, such as `STRONGROOM_SERVICE__PORT=8780`; lists as JSON,",
        "3. in a TOML file that `--config` or `STRONGROOM_CONFIG` names,",
        "4. by its default.",
        "",
        "`strongroom check` checks that the configuration works. Unknown sections and options are errors.",
        "",
        "```toml",
        "[service]",
        'data_dir = "/srv/strongroom"',
        "",
        "[storage]",
        'driver = "s3"',
        'bucket = "backups"',
        'endpoint = "https://s3.example.org"',
        'access_key_id = "…"',
        'secret_access_key = "…"',
        "",
        "[encryption]",
        'recipients = ["age1…"]',
        "```",
    ]
    simple = []
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            text += ["", f"## [{name}]", "", (model.__doc__ or "").strip(), "", *render_options(model)]
        elif name == "policies":
            policy = get_args(field.annotation)[1]
            text += ["", "## [policies.NAME]", "", policy.__doc__.strip(), "[Policies](policies.md) explains the settings.", ""]
            text += render_options(policy)
        elif name == "flavors":
            flavor = get_args(field.annotation)[1]
            rows = [
                f"| `{key}` | {value.ram} | {value.vcpus} |"
                for key, value in field.get_default(call_default_factory=True).items()
            ]
            text += ["", "## [flavors.NAME]", "", f"{flavor.__doc__.strip()} A configured table replaces the default ones:", ""]
            text += ["| flavor | ram | vcpus |", "|---|---|---|", *rows, "", *render_options(flavor)]
        else:
            simple.append((name, field))
    text += ["", "## Top level", "", *HEADING, *(render_option(name, field) for name, field in simple)]
    return "\n".join([*text, ""])


HEADING = ["| option | type | default | meaning |", "|---|---|---|---|"]


def render_options(model: type[BaseModel]) -> list[str]:
    """The table of a section."""
    return [*HEADING, *(render_option(name, field) for name, field in model.model_fields.items())]


def render_option(name: str, field: FieldInfo) -> str:
    """A row of the table."""
    cells = [f"`{name}`", describe_type(field.annotation), render_default(field), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def describe_type(annotation: Any) -> str:
    """The type of an option in words."""
    if get_origin(annotation) is Annotated:
        return describe_type(get_args(annotation)[0])
    words = {
        str: "text",
        SecretStr: "secret",
        int: "integer",
        float: "number",
        bool: "true or false",
        Path: "path",
        timedelta: "duration",
    }
    if annotation in words:
        return words[annotation]
    inner = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{a}`" for a in inner)
    if get_origin(annotation) in (list, tuple):
        inner = [a for a in inner if a is not ...]
        return f"list of {describe_type(inner[0])}s"
    return " or ".join(describe_type(a) for a in inner)


def render_default(field: FieldInfo) -> str:
    """The default in the syntax of TOML."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    match value:
        case None:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return f"`{value}`"
        case list() | tuple():
            return f"`{[*value]}`"
        case timedelta():
            return f'`"{format_duration(value)}"`'
        case _:
            return f'`"{value}"`' if str(value) else '`""`'


def render_cli() -> str:
    """docs/cli.md."""
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    first = next(command for path, command in walk_commands(root) if path == ("instance", "list"))
    codes = re.findall(r"^ +(\d+) +(.+)$", root.epilog or "", re.MULTILINE)
    text = [
        "# Command line",
        "",
        "`strongroom serve` is the service. Every other command is a client of its API, at `--url`, `STRONGROOM_URL` or",
        "`http://127.0.0.1:8779`. Refer to instances, backups and clusters by name or id; the first 8 characters of an id are",
        "enough (for a job, the last 8). Results are written to stdout, progress and remarks to stderr. On a terminal, a list",
        "shows only the columns that fit; `--wide`, or output to a file or pipe, shows all. `strongroom --install-completion`",
        "sets up the completion of commands and names.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in codes),
        "",
        "Every command that calls the service also has these options:",
        "",
        *render_parameters([p for p in first.params if p.name in COMMON]),
    ]
    for path, command in walk_commands(root):
        own = [p for p in command.params if p.name not in (*COMMON, "help")]
        text += ["", f"## strongroom {' '.join(path)}", "", (command.help or "").strip(), ""]
        if own:
            text += [*render_parameters(own), ""]
        text += ["```sh", *(line[2:] for line in (command.epilog or "").partition("\b\n")[2].splitlines()), "```"]
    return "\n".join([*text, ""])


def walk_commands(
    group: typer.core.TyperGroup, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], typer.core.TyperCommand]]:
    """Every command with its path."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from walk_commands(command, (*path, name))
        else:
            assert isinstance(command, typer.core.TyperCommand)
            yield (*path, name), command


def render_parameters(given: list[Any]) -> list[str]:
    """A table of arguments and options."""
    rows = ["| | meaning |", "|---|---|"]
    for parameter in given:
        if parameter.param_type_name == "argument":
            word = parameter.metavar or parameter.name.upper()
            name = f"`{word}`" if parameter.required else f"`[{word}]`"
        else:
            name = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
            name += render_choices(parameter.type_descriptor.annotation)
        text = parameter.help or ""
        if parameter.required and parameter.param_type_name == "option":
            text += " Required."
        elif isinstance(parameter.default, (str, int)) and not isinstance(parameter.default, bool) and "Default" not in text:
            text += f" Default: {getattr(parameter.default, 'value', parameter.default)}."
        rows.append(f"| {name} | {text} |".replace("\n", " "))
    return rows


def render_choices(annotation: Any) -> str:
    """The allowed values of an option, if they are listed."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return " " + ", ".join(f"`{choice.value}`" for choice in kind)
    return ""


def insert_profiles(page: str) -> str:
    """docs/adopt.md with the tables of all drivers."""
    begin, end = "<!-- profile: begin -->\n", "<!-- profile: end -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    tables: list[str] = []
    for name in datastores.list_names():
        items = datastores.get(name).profiles.items
        rows = [f"| {escape_cell(item.name)} | {item.new} | {item.in_place} | {escape_cell(item.otherwise)} |" for item in items]
        if rows:
            title = PRODUCTS[name]
            tables += [f"### {title}", "", "| item | new | in place | if it were ignored |", "|---|---|---|---|", *rows, ""]
    return before + begin + "\n".join(["", *tables, ""])[: -1 if tables else None] + end + after


def insert_states(page: str) -> str:
    """docs/architecture.md with the states of every entity."""
    begin, end = "<!-- states: begin -->\n", "<!-- states: end -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    text: list[str] = []
    for machine in status.MACHINES:
        text += [f"### {machine.noun.capitalize()}", "", "```text", *status.draw(machine), "```", ""]
    return before + begin + "\n".join(["", *text, ""])[:-1] + end + after


def escape_cell(text: str) -> str:
    """Text in a cell of a table."""
    return text.replace("|", "\\|")


def main() -> int:
    adopt, architecture = DOCS / "adopt.md", DOCS / "architecture.md"
    pages = {
        DOCS / "configuration.md": render_configuration(),
        DOCS / "cli.md": render_cli(),
        adopt: insert_profiles(adopt.read_text()),
        architecture: insert_states(architecture.read_text()),
    }
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    pages |= {DOCS / "man" / name: text for name, text in render_man(root, COMMON).items()}
    gone = set((DOCS / "man").glob("*.1")) - set(pages)
    if "--check" in sys.argv[1:]:
        old = [path for path, text in pages.items() if not path.is_file() or path.read_text() != text]
        for name in sorted(str(path.relative_to(DOCS)) for path in {*old, *gone}):
            print(f"docs/{name} is not up to date: run scripts/docs", file=sys.stderr)
        return 1 if old or gone else 0
    (DOCS / "man").mkdir(exist_ok=True)
    for path in gone:
        path.unlink()
    for path, text in pages.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
