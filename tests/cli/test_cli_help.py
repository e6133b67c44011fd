"""The help pages: every command has one, with examples that are right; and the client starts without the service's weight."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import Result

from strongroom.cli.app import app

Run = Callable[..., Result]


def commands(
    group: typer.core.TyperGroup, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], typer.core.TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))  # type: ignore[arg-type]


def examples(command: typer.core.TyperCommand) -> list[str]:
    lines = (command.epilog or "").partition("\b\n")[2].replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_that_parse(run: Run, path: tuple[str, ...]) -> None:
    shown = run(*path, "--help")
    assert shown.exit_code == 0
    assert COMMANDS[path].help
    assert examples(COMMANDS[path]), "no example"
    for example in examples(COMMANDS[path]):
        program, *words = shlex.split(example.partition(" <")[0])
        assert program == "strongroom"
        assert tuple(words[: len(path)]) == path
        if path in {("serve",), ("agent",), ("key", "new")} or path[0] in {"user-file", "config"} or "--local" in words:
            continue
        asks = any(parameter.name == "yes" for parameter in COMMANDS[path].params)
        result = run(*words, *(["--yes"] if asks else []), stdin="secret\n")
        assert result.exit_code != 2 or "password" in result.stderr, f"{example}: {result.stderr}"
        assert result.exit_code == 3 or "password" in result.stderr, "the canned service knows nothing"


def test_the_first_page_lists_the_exit_codes(run: Run) -> None:
    shown = run("--help").stdout
    for words in ("5    the service is unreachable", "130  interrupted", "STRONGROOM_URL"):
        assert words in shown


def test_the_version(run: Run) -> None:
    from strongroom import __version__

    assert run("--version").stdout == f"strongroom {__version__}\n"


def test_client_imports_nothing_of_the_service() -> None:
    heavy = [
        "fastapi",
        "sqlalchemy",
        "dbos",
        "uvicorn",
        "obstore",
        "pyrage",
        "pydantic",
        "strongroom.agent",
        "strongroom.settings",
    ]
    program = f"import sys, strongroom.cli.app; print(*(m for m in {heavy} if m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_a_closed_pipe_causes_no_traceback() -> None:
    program = "from strongroom.cli import main; main()"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} --help | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr


class TestKey:
    def test_new_writes_a_private_file_and_prints_the_recipient(self, run: Run, tmp_path: Path) -> None:
        from strongroom.artifact import load_identities

        result = run("key", "new", "--output", str(tmp_path / "id"))
        assert result.exit_code == 0
        assert result.stdout.startswith("age1")
        assert (tmp_path / "id").stat().st_mode & 0o777 == 0o600
        assert len(load_identities([tmp_path / "id"])) == 1

    def test_new_never_overwrites(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "id").write_text("precious")
        result = run("key", "new", "--output", str(tmp_path / "id"))
        assert result.exit_code == 4
        assert (tmp_path / "id").read_text() == "precious"

    def test_new_reports_where_it_cannot_write(self, run: Run, tmp_path: Path) -> None:
        result = run("key", "new", "--output", str(tmp_path / "no" / "id"))
        assert result.exit_code == 1
        assert str(tmp_path / "no" / "id") in result.stderr
