"""The commands ``strongroom user-file …``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from strongroom.cli.connection.password import read_new_password
from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format, Output
from strongroom.cli.session import Yes, confirm, epilog, handle_errors
from strongroom.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from strongroom.identity import Role, User

app = typer.Typer(no_args_is_help=True, help="Users of a service with basic authentication: the user file on its host.")

File = Annotated[
    Path | None, typer.Option("--file", help="The user file. Default: as configured, which is users.json in data_dir.")
]
Config = Annotated[Path | None, typer.Option(envvar="STRONGROOM_CONFIG", help="Configuration file of the service (TOML).")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")]
Grants = Annotated[
    list[str],
    typer.Argument(metavar="PROJECT=ROLE...", help="Projects with the user's role: reader, member or admin (of all projects)."),
]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")]
PasswordFile = Annotated[Path | None, typer.Option(help="Read the password from this file.")]


@app.command(
    "add",
    epilog=epilog(
        "strongroom user-file add alice shop=member lab=reader\n"
        "strongroom user-file add root ops=admin --password-stdin <password.txt"
    ),
)
def add(
    name: Name,
    grant: Grants,
    password_stdin: PasswordStdin = False,
    password_file: PasswordFile = None,
    file: File = None,
    config: Config = None,
) -> None:
    """Add a user. The password is asked for, or read from stdin or a file. Takes effect without a restart of the service."""
    with handle_errors():
        from strongroom.identity import NAME, User, edit_users, hash_password  # slow to load, and not needed by other commands

        path, projects = _find_path(file, config), _parse_grants(grant)
        if not re.fullmatch(NAME, name):
            raise InvalidRequest(f"{name!r} is not a valid user name", remedy="Use up to 64 letters, digits, and . _ @ + -")
        hashed = hash_password(read_new_password(password_stdin, password_file))
        with edit_users(path) as users:
            if name in users:
                raise AlreadyExists(
                    f"user {name} already exists in {path}", remedy="Use `user-file grant` or `user-file passwd`."
                )
            users[name] = User(password=hashed, projects=projects)
        note(f"User {name} was added to {path}.")


@app.command("list", epilog=epilog("strongroom user-file list"))
def list_(
    file: File = None,
    config: Config = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")] = Format.table,
) -> None:
    """List the users with their roles."""
    with handle_errors():
        from strongroom.identity import UserFile

        users = UserFile(_find_path(file, config)).users()
        rows = [
            {"name": name, "projects": [f"{project}={role}" for project, role in sorted(user.projects.items())]}
            for name, user in sorted(users.items())
        ]
        Output(format, ()).rows(rows, [Column("Name", "name"), Column("Projects", "projects", ", ".join)])


@app.command("grant", epilog=epilog("strongroom user-file grant alice shop=admin"))
def grant(name: Name, grant: Grants, file: File = None, config: Config = None) -> None:
    """Grant a user a role in projects. A new role replaces the previous one in the same project."""
    with handle_errors():
        from strongroom.identity import edit_users

        projects = _parse_grants(grant)
        with edit_users(path := _find_path(file, config)) as users:
            _find_user(users, name, path).projects.update(projects)


@app.command("revoke", epilog=epilog("strongroom user-file revoke alice lab"))
def revoke(
    name: Name,
    project: Annotated[list[str], typer.Argument(metavar="PROJECT...", help="Projects in which to revoke the role.")],
    file: File = None,
    config: Config = None,
) -> None:
    """Revoke a user's roles in projects. Takes effect immediately."""
    with handle_errors():
        from strongroom.identity import edit_users

        with edit_users(path := _find_path(file, config)) as users:
            user = _find_user(users, name, path)
            for wanted in project:
                if user.projects.pop(wanted, None) is None:
                    raise NotFound(f"user {name} has no role in project {wanted}", remedy="See `strongroom user-file list`.")


@app.command("passwd", epilog=epilog("strongroom user-file passwd alice"))
def passwd(
    name: Name,
    password_stdin: PasswordStdin = False,
    password_file: PasswordFile = None,
    file: File = None,
    config: Config = None,
) -> None:
    """Change a user's password. The previous one becomes invalid immediately."""
    with handle_errors():
        from strongroom.identity import UserFile, edit_users, hash_password

        path = _find_path(file, config)
        _find_user(UserFile(path).users(), name, path)
        hashed = hash_password(read_new_password(password_stdin, password_file))
        with edit_users(path) as users:
            _find_user(users, name, path).password = hashed


@app.command("remove", epilog=epilog("strongroom user-file remove alice"))
def remove(name: Name, yes: Yes = False, file: File = None, config: Config = None) -> None:
    """Remove a user. Takes effect immediately; the user's instances and backups remain."""
    with handle_errors():
        from strongroom.identity import UserFile, edit_users

        path = _find_path(file, config)
        projects = _find_user(UserFile(path).users(), name, path).projects
        roles = ", ".join(f"{project}={role}" for project, role in sorted(projects.items()))
        confirm(f"Remove user {name} ({roles or 'no roles'}) from {path}?", yes)
        with edit_users(path) as users:
            _find_user(users, name, path)
            del users[name]


def _find_path(file: Path | None, config: Path | None) -> Path:
    if file is not None:
        return file
    from strongroom.settings import load

    return load(config).user_file


def _parse_grants(words: Sequence[str]) -> dict[str, Role]:
    projects: dict[str, Role] = {}
    for word in words:
        project, equals, role = word.rpartition("=")
        if not equals or not project or role not in ("reader", "member", "admin"):
            raise InvalidRequest(f"{word!r} is not PROJECT=ROLE", remedy="Write PROJECT=ROLE; roles are reader, member, admin.")
        projects[project] = cast("Role", role)
    return projects


def _find_user(users: dict[str, User], name: str, path: Path) -> User:
    try:
        return users[name]
    except KeyError:
        raise NotFound(f"there is no user {name} in {path}", remedy="See `strongroom user-file list`.") from None
