"""What every command shares: client, output, common options, exit codes."""

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
from typer.core import TyperCommand

from strongroom.cli.connection.credentials import DEFAULT_PROJECT, DEFAULT_URL, Credentials
from strongroom.cli.output.columns import Times
from strongroom.cli.output.progress import follow
from strongroom.cli.output.remarks import Remarks, note, warn
from strongroom.cli.output.tables import Format, Output
from strongroom.cli.output.values import escape
from strongroom.errors import (
    Busy,
    Conflict,
    InvalidRequest,
    JobError,
    NotAuthenticated,
    NotFound,
    SettingsInvalid,
    StrongroomError,
    Unavailable,
    UnknownValue,
)

if TYPE_CHECKING:
    from strongroom.cli.connection.client import Client

Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the end of the job and show its progress, or return immediately.")
]
AllProjects = Annotated[bool, typer.Option("--all-projects", help="Include all projects; administrators only.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation. Required without a terminal.")]

# Options for the service and the user. They may also be written before the command.
Url = Annotated[str, typer.Option("--url", envvar="STRONGROOM_URL", help="URL of the service.")]
Project = Annotated[
    str | None,
    typer.Option(
        envvar="STRONGROOM_PROJECT", help=f"Project to work in. Default: {DEFAULT_PROJECT}, or the project of the Keystone token."
    ),
]
Username = Annotated[
    str | None, typer.Option(envvar="STRONGROOM_USERNAME", help="Your user name, if the service has a user file.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(envvar="STRONGROOM_PASSWORD_FILE", help="File with your password. Default: ask for it."),
]
Cloud = Annotated[
    str | None,
    typer.Option(help="Cloud in clouds.yaml, if the service uses Keystone. Default: the variables OS_*."),
]

_CRITICAL, _UNKNOWN = 2, 3
"""Exit codes of a check, for monitoring systems."""

EXIT_CODES: list[tuple[int, str, tuple[type[StrongroomError], ...]]] = [
    (2, "wrong option, value or configuration, or a confirmation (--yes) is missing", (InvalidRequest, SettingsInvalid)),
    (3, "not found", (NotFound, UnknownValue)),
    (4, "not allowed in its current state, or busy", (Conflict, Busy)),
    (5, "the service is unreachable", (Unavailable,)),
    (6, "credentials are missing or wrong", (NotAuthenticated,)),
]


def exit_code(error: StrongroomError) -> int:
    """The exit code for a kind of error; 1 if a job or an operation failed."""
    codes = {kind: code for code, _, kinds in EXIT_CODES for kind in kinds}
    return next((codes[kind] for kind in type(error).__mro__ if kind in codes), 1)


@dataclass
class Session:
    """The client and the output of a command."""

    client: Client
    output: Output
    named_project: str | None = None
    """The project, if it is named on the command line."""

    def finish(self, job: str | None, wait: bool) -> dict[str, Any] | None:
        """With ``wait``, follow the job of a request and return its last view; otherwise print its id.

        Raises JobError if it fails.
        """
        if job is None:
            return None
        if wait:
            return follow(self.client, job)
        note(f"Job {job} started; `strongroom job follow {job}` follows it.")
        return None

    def finish_new(self, noun: str, name: str, key: str, job: str | None, wait: bool) -> None:
        """Follow the job that creates a resource. After a failure, explain how to remove the rest."""
        try:
            self.finish(job, wait)
        except JobError as error:
            if not self.client.exists(f"{noun}s", key):
                raise
            left = f"{noun.capitalize()} {name} ({key[:8]}) remains in ERROR; `strongroom {noun} delete {key}` removes it."
            raise type(error)(error.message, remedy=f"{error.remedy}\n{left}".strip()) from error


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation. Raises InvalidRequest if there is neither --yes nor a terminal."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidRequest("confirmation required, and there is no terminal", remedy="Pass --yes to confirm.")
    typer.confirm(escape(question), abort=True, err=True)


class MonitoringCommand(TyperCommand):
    """A command with the option --check. Wrong arguments are then the state unknown, not critical as exit code 2 would be."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Exits for wrong ones."""
        is_check = "--check" in args
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            describe = getattr(error, "format_message", None)  # of wrong arguments; versions of typer have several classes
            if not is_check or describe is None:
                raise
            typer.echo(f"UNKNOWN: {escape(describe())}")
            raise typer.Exit(_UNKNOWN) from None


def command(
    app: typer.Typer, name: str, *, example: str, monitoring: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare ``function(session, …)`` as a command of ``app``, with the common options and exit codes.

    ``**options: Unpack[Fields]`` declares an option for each field of a TypedDict.
    ``monitoring``: the option that makes the command a check, whose errors are states for a monitoring system.
    """

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(function, include_extras=True)

        def run(
            *,
            context: typer.Context,
            url: Url = DEFAULT_URL,
            project: Project = None,
            username: Username = None,
            auth_password_file: PasswordFile = None,
            os_cloud: Cloud = None,
            format: Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")] = Format.table,
            column: Annotated[
                list[str] | None, typer.Option("--column", "-c", help="Print only this column; may be repeated.")
            ] = None,
            wide: Annotated[
                bool, typer.Option("--wide", help="Tables with all columns and complete ids, as without a terminal.")
            ] = False,
            time: Annotated[
                Times | None, typer.Option(help="Format of times in tables. Default: age in lists on a terminal, otherwise utc.")
            ] = None,
            quiet: Annotated[
                bool, typer.Option("--quiet", "-q", help="No progress and no remarks; warnings and errors are still shown.")
            ] = False,
            **arguments: Any,
        ) -> None:
            from strongroom.cli.connection.client import Client  # loading HTTP takes as long as --help

            Remarks.quiet = quiet
            who: dict[str, Any] = {"url": url, "project": project, "username": username, "os_cloud": os_cloud}
            who |= {"auth_password_file": auth_password_file} | _find_given_before(context)
            with handle_errors() if not (monitoring and arguments[monitoring]) else report_errors():
                client = Client(
                    who["url"], who["project"], Credentials(who["username"], who["auth_password_file"], who["os_cloud"])
                )
                try:
                    is_named = _is_given(context, "project") or _is_given(context.find_root(), "project")
                    output = Output(format, tuple(column or ()), wide, time)
                    function(Session(client, output, who["project"] if is_named else None), **arguments)
                finally:
                    client.close()

        own = [part for p in _make_parameters(function)[1:] for part in _list_options(p, hints[p.name])]
        common_hints = typing.get_type_hints(run, include_extras=True)
        common = [p.replace(annotation=common_hints[p.name]) for p in _make_parameters(run) if p.kind is p.KEYWORD_ONLY]
        run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *common]}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, epilog=epilog(example), cls=MonitoringCommand if monitoring else None)(run)
        return function

    return declare


def _find_given_before(context: typer.Context) -> dict[str, Any]:
    """Options before the command that are not repeated after it."""
    root = context.find_root()
    return {name: value for name, value in root.params.items() if _is_given(root, name) and not _is_given(context, name)}


def _is_given(context: Any, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def epilog(example: str) -> str:
    """The end of a help page: examples, one per line, not wrapped."""
    return "Example:\n\n\b\n" + "\n".join(f"  {line}" for line in example.splitlines())


def _make_parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _list_options(parameter: inspect.Parameter, hint: Any) -> Iterator[inspect.Parameter]:
    """The parameter as an option; or, if it is ``**name: Unpack[Fields]``, an option for each of the fields."""
    if parameter.kind is not parameter.VAR_KEYWORD:
        yield parameter.replace(annotation=hint, kind=parameter.KEYWORD_ONLY)
        return
    (fields,) = typing.get_args(hint)
    for name, annotation in typing.get_type_hints(fields, include_extras=True).items():
        yield inspect.Parameter(name, parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def print_error(error: StrongroomError) -> int:
    """Print an error and its remedy on stderr. Returns its exit code."""
    warn(f"Error: {error.message}")
    if error.remedy:
        warn(error.remedy)
    return exit_code(error)


@contextmanager
def report_errors() -> Iterator[None]:
    """Print an error as one line for a monitoring system: critical if the service is unreachable, otherwise unknown."""
    with handle_errors():
        try:
            yield
        except Unavailable as error:
            typer.echo(f"CRITICAL: {escape(error.message)}")
            raise typer.Exit(_CRITICAL) from None
        except StrongroomError as error:
            typer.echo(f"UNKNOWN: {escape(error.message)}")
            raise typer.Exit(_UNKNOWN) from None


@contextmanager
def handle_errors() -> Iterator[None]:
    """Print errors and their remedies on stderr, and exit with their codes."""
    try:
        yield
    except StrongroomError as error:
        raise typer.Exit(print_error(error)) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit is quiet
        raise typer.Exit(1) from None
