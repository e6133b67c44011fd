"""One command run: the client, the output, and the declaration of commands that need both."""

from __future__ import annotations

import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli._credentials import DEFAULT_PROJECT, DEFAULT_URL, Credentials
from strongroom.cli._progress import follow
from strongroom.cli._render import Format, Output, note
from strongroom.errors import Busy, Conflict, InvalidRequest, NotAuthenticated, NotFound, StrongroomError, Unavailable

if TYPE_CHECKING:
    from strongroom.cli._client import Client

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end, or return as soon as it has begun.")]
AllProjects = Annotated[bool, typer.Option("--all-projects", help="Of all projects; for administrators.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

EXIT_CODES: list[tuple[int, str, tuple[type[StrongroomError], ...]]] = [
    (2, "the request makes no sense: a wrong option or value", (InvalidRequest,)),
    (3, "no such thing", (NotFound,)),
    (4, "in a state that does not allow it, or busy", (Conflict, Busy)),
    (5, "no service answers", (Unavailable,)),
    (6, "credentials are missing or wrong", (NotAuthenticated,)),
]


def exit_code(error: StrongroomError) -> int:
    """The exit code that tells a script what kind of error it was; 1 for a job or an operation that failed."""
    return next((code for code, _, kinds in EXIT_CODES if isinstance(error, kinds)), 1)


@dataclass
class Session:
    """What a command works with."""

    client: Client
    output: Output

    def finish(self, job: str | None, wait: bool) -> dict[str, Any] | None:
        """Follow the job that a request started, if it is wanted, and return its last view; else name it.

        Raises JobError when it does not succeed.
        """
        if job is None:
            return None
        if wait:
            return follow(self.client, job)
        note(f"Job {job} has begun; `strongroom job follow {job}` follows it.")
        return None


def confirm(question: str, yes: bool, *, required: bool = False) -> None:
    """Ask on a terminal before something is lost. Without one, ``required`` means that --yes must have been given."""
    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(question, abort=True, err=True)
    elif required:
        raise InvalidRequest("confirmation required, and there is no terminal to ask on", remedy="Pass --yes.")


def command(app: typer.Typer, name: str, *, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare ``function(session, …)`` as a command of ``app``: it gets the common options, and errors become exit codes."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(function, include_extras=True)

        def run(
            *,
            url: Annotated[str, typer.Option("--url", envvar="STRONGROOM_URL", help="Where the service listens.")] = DEFAULT_URL,
            project: Annotated[
                str | None,
                typer.Option(
                    envvar="STRONGROOM_PROJECT",
                    help=f"Project to work in. Default: {DEFAULT_PROJECT}, or that of the Keystone token.",
                ),
            ] = None,
            username: Annotated[
                str | None,
                typer.Option(envvar="STRONGROOM_USERNAME", help="Who you are, where the service has users of its own."),
            ] = None,
            auth_password_file: Annotated[
                Path | None,
                typer.Option(envvar="STRONGROOM_PASSWORD_FILE", help="File with your password. Default: it is asked for."),
            ] = None,
            os_cloud: Annotated[
                str | None,
                typer.Option(help="Cloud of clouds.yaml, where the service has users of OpenStack. Default: the variables OS_*."),
            ] = None,
            format: Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")] = Format.table,
            column: Annotated[list[str] | None, typer.Option("--column", "-c", help="Print only this; may be repeated.")] = None,
            **arguments: Any,
        ) -> None:
            from strongroom.cli._client import Client  # HTTP takes as long to load as all that --help needs

            with guarded():
                client = Client(url, project, Credentials(username, auth_password_file, os_cloud))
                try:
                    function(Session(client, Output(format, tuple(column or ()))), **arguments)
                finally:
                    client.close()

        own = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in _parameters(function)[1:]]
        common_hints = typing.get_type_hints(run, include_extras=True)
        common = [p.replace(annotation=common_hints[p.name]) for p in _parameters(run) if p.kind is p.KEYWORD_ONLY]
        run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *common]}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, epilog=epilog(example))(run)
        return function

    return declare


def epilog(example: str) -> str:
    """The end of a help page: examples, one a line, not to be wrapped."""
    return "Example:\n\n\b\n" + "\n".join(f"  {line}" for line in example.splitlines())


def _parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


@contextmanager
def guarded() -> Iterator[None]:
    """Turn an error into one clear line on stderr, its remedy below, and an exit code."""
    try:
        yield
    except StrongroomError as error:
        note(f"Error: {error.message}")
        if error.remedy:
            note(error.remedy)
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit is quiet
        raise typer.Exit(1) from None
