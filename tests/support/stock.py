"""The stock OpenStack clients, unmodified from the package index, in an environment of their own, and what they print."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.venvs import interpreter

REQUIREMENTS = ("python-openstackclient==10.5.0", "python-troveclient==8.11.0", "python-swiftclient==4.11.0")
SHELL = Path(__file__).with_name("stock_shell.py")


@dataclass(frozen=True)
class Said:
    """What a command has said."""

    command: str
    status: int
    stdout: str
    stderr: str

    def table(self) -> list[dict[str, str]]:
        """The rows of a list by column."""
        (header, *rows) = _cells(self.stdout)
        names = [cell.strip() for cell in header]
        return [dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in rows]

    def columns(self) -> list[str]:
        """The columns of a list."""
        return [cell.strip() for cell in _cells(self.stdout)[0]]

    def fields(self) -> dict[str, str]:
        """The rows of a table of fields and values, in their order."""
        (header, *rows) = _cells(self.stdout)
        assert header == ["Field", "Value"], header
        fields: dict[str, str] = {}
        last = ""
        for name, value in rows:
            if name:
                fields[name] = value
                last = name
            else:
                fields[last] += f"\n{value}"
        return fields


def _cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines, f"no table in {text!r}"
    edges = [place for place, sign in enumerate(text.splitlines()[0]) if sign == "+"]
    return [[line[a + 2 : b].rstrip() for a, b in itertools.pairwise(edges)] for line in lines]


class Stock:
    """``openstack`` as its users run it, in one environment."""

    def __init__(self, shell: subprocess.Popen[str], home: Path, environment: Mapping[str, str]) -> None:
        self._shell = shell
        self._home = home
        self.environment = dict(environment)

    def with_environment(self, **environment: str) -> Stock:
        """The same client with other settings."""
        return Stock(self._shell, self._home, {**self.environment, **environment})

    def with_only(self, **environment: str) -> Stock:
        """The same client with these settings and no others."""
        return Stock(self._shell, self._home, environment)

    def tried(self, command: str, *arguments: str) -> Said:
        """Run ``openstack <command> <arguments>``; ``command`` is split at spaces."""
        argv = [*command.split(), *arguments]
        basics = {"PATH": os.environ["PATH"], "HOME": str(self._home), "LANG": "C.UTF-8", "COLUMNS": "400"}
        asked = {"argv": argv, "environment": {**basics, **self.environment}}
        assert self._shell.stdin and self._shell.stdout
        self._shell.stdin.write(json.dumps(asked) + "\n")
        self._shell.stdin.flush()
        told: dict[str, Any] = json.loads(self._shell.stdout.readline())
        return Said(" ".join(argv), **told)

    def __call__(self, command: str, *arguments: str) -> Said:
        """The same, and it must succeed."""
        said = self.tried(command, *arguments)
        assert said.status == 0, f"openstack {said.command} → {said.status}\n{said.stdout}\n{said.stderr}"
        return said

    def value(self, column: str, command: str, *arguments: str) -> str:
        """One value of one thing, as scripts take it."""
        return self(command, *arguments, "-f", "value", "-c", column).stdout.rstrip("\n")

    def refused(self, status: int, says: str, command: str, *arguments: str) -> Said:
        """It must fail with this HTTP status and a sentence that has ``says`` in it."""
        said = self.tried(command, *arguments)
        assert said.status != 0, f"openstack {said.command} succeeded\n{said.stdout}"
        told = said.stdout + said.stderr
        assert says in told, told
        assert f"(HTTP {status})" in told, told
        assert "Traceback" not in told, told
        return said


def install() -> Path:
    """The interpreter of the clients' environment, made on first use."""
    return interpreter("openstack-clients", *REQUIREMENTS)


@pytest.fixture(scope="session")
def stock() -> Iterator[Stock]:
    """The client without settings: ``with_environment`` gives it some."""
    try:
        python = install()
    except (OSError, RuntimeError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the stock clients cannot be installed: {error}")
    home = Path(tempfile.mkdtemp(prefix="sr-stock-"))
    argv = [str(python), "-P", "-W", "ignore", str(SHELL)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    shell = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, cwd="/", start_new_session=True
    )
    assert shell.stdin
    try:
        yield Stock(shell, home, {})
    finally:
        shell.stdin.close()
        shell.wait(10)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    print(install())
