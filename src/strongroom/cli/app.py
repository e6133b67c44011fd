"""The tree of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom import __version__
from strongroom.cli.commands import (
    catalog,
    check,
    db,
    host,
    info,
    instance,
    job,
    retention,
    schedule,
    strategy,
    user,
)
from strongroom.cli.commands.backup import keeping
from strongroom.cli.commands.cluster import cluster
from strongroom.cli.commands.local import config, key, userfile
from strongroom.cli.commands.local.replace import replace_process
from strongroom.cli.commands.policy import policy
from strongroom.cli.commands.recovery import log, point, restore, window
from strongroom.cli.connection.credentials import DEFAULT_URL
from strongroom.cli.session import EXIT_CODES, Cloud, PasswordFile, Project, Url, Username, epilog

_CODES = "\n".join(
    f"  {code:<4} {meaning}"
    for code, meaning in [
        (0, "done"),
        (1, "a job or an operation failed"),
        *((code, meaning) for code, meaning, _ in EXIT_CODES),
        (130, "interrupted"),
    ]
)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=f"Exit codes:\n\n\b\n{_CODES}\n\n{epilog('strongroom serve --data-dir /var/lib/strongroom')}",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"strongroom {__version__}")
        raise typer.Exit


@app.callback()
def strongroom(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    url: Url = DEFAULT_URL,
    project: Project = None,
    username: Username = None,
    auth_password_file: PasswordFile = None,
    os_cloud: Cloud = None,
) -> None:
    """Database backup and restore.

    `serve` runs the service. All other commands connect to it: at --url, STRONGROOM_URL, or http://127.0.0.1:8779.
    The options below may be written before or after the command.
    """


@app.command("serve", epilog=epilog("strongroom serve\nstrongroom serve --data-dir /srv/strongroom --port 8780"))
def serve(
    config: Annotated[Path | None, typer.Option(envvar="STRONGROOM_CONFIG", help="Configuration file (TOML).")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="State, instances and artifacts. Default: /var/lib/strongroom.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on. Default: 8779.")] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="PostgreSQL for state: postgresql://USER@HOST/NAME; its password is in ~/.pgpass. Default: files.",
        ),
    ] = None,
) -> None:
    """Run the service: API, jobs and database servers, until SIGTERM.

    Database servers and running jobs outlive it; the next start finds them again.
    """
    replace_process("serve", config=config, data_dir=data_dir, host=host, port=port, database=database)


@app.command(
    "agent",
    epilog=epilog("strongroom agent --control-plane https://backup.example.org:8779 --token-file token.txt\nstrongroom agent"),
)
def agent(
    config: Annotated[Path | None, typer.Option(envvar="STRONGROOM_CONFIG", help="Configuration file (TOML).")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="State and instances. Default: /var/lib/strongroom.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: the local address of connections to the control plane.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on. Default: 8780.")] = None,
    control_plane: Annotated[str | None, typer.Option(metavar="URL", help="The service to join.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token of `strongroom host add`. A token that was already used is ignored.")
    ] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read the token from the first line of stdin.")] = False,
) -> None:
    """Run the agent of a database host, until SIGTERM. On the first start, it joins a control plane with a token.

    Database servers and running jobs outlive it; the next start finds them again.
    """
    replace_process(
        "agent",
        config=config,
        data_dir=data_dir,
        address=address,
        port=port,
        control_plane=control_plane,
        token_file=token_file,
        token_stdin="yes" if token_stdin else None,
    )


app.add_typer(instance.app, name="instance")
app.add_typer(keeping.app, name="backup")
app.add_typer(cluster.app, name="cluster")
app.add_typer(restore.app)
app.add_typer(window.app)
app.add_typer(log.app, name="log")
app.add_typer(point.app, name="restore-point")
app.add_typer(catalog.app, name="catalog")
app.add_typer(db.app, name="db")
app.add_typer(user.app, name="user")
app.add_typer(strategy.app, name="strategy")
app.add_typer(retention.app, name="retention")
app.add_typer(retention.status_app)
app.add_typer(policy.app, name="policy")
app.add_typer(schedule.app, name="schedule")
app.add_typer(job.app, name="job")
app.add_typer(info.datastore, name="datastore")
app.add_typer(info.flavor, name="flavor")
app.add_typer(host.app, name="host")
app.add_typer(check.app)
app.add_typer(config.app, name="config")
app.add_typer(key.app, name="key")
app.add_typer(userfile.app, name="user-file")
