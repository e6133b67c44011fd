"""The commands ``strongroom instance …``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli import deletion, names
from strongroom.cli.connection.completion import complete_names
from strongroom.cli.filters import Filters, Limit, Sort, require_known
from strongroom.cli.names import AllowSameName, require_free_name
from strongroom.cli.output.columns import Column, Id, When
from strongroom.cli.output.remarks import note
from strongroom.cli.output.values import format_size, format_utc
from strongroom.cli.session import AllProjects, Session, Wait, Yes, command, confirm
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Database servers: create, adopt, show, start, stop, delete.")

STATUSES = (
    *("ACTIVE", "BACKUP", "BLOCKED", "BUILD", "BUILDING", "DELETING", "ERROR", "REBOOT", "RECOVERING", "RESIZE", "RESTARTING"),
    *("RESTORE", "RESTORING", "SHUTDOWN", "STANDBY", "UNKNOWN"),
)
"""Of instances and of nodes of clusters, which show what is done to their cluster."""

Name = Annotated[
    str,
    typer.Argument(
        metavar="INSTANCE",
        help="Name or id of the instance, or the first 8 characters of its id.",
        autocompletion=complete_names("instances"),
    ),
]
Flavor = Annotated[str | None, typer.Option(help="Size of the server's memory (`strongroom flavor list`).")]
Size = Annotated[int | None, typer.Option(min=1, help="Maximum size of the data in GB.")]
Host = Annotated[
    str | None, typer.Option(help="Host for it (`strongroom host list`). Default: the host with the most free capacity.")
]
Version = Annotated[str | None, typer.Option(help="Series (10.11) or full version (10.11.19).")]


def _describe_previous_data(value: list[dict[str, Any]] | None) -> str:
    return "\n".join(f"{old['name']} ({format_size(old['bytes'])}, since {format_utc(old['since'])})" for old in value or [])


def _describe_isolation(value: bool | None) -> str:
    """Shown only if true."""
    return "yes" if value else ""


LIST = [
    Column("Name", "name"),
    Column("Status", "status"),
    Column("Health", "operating_status"),
    Column("Datastore", "datastore.type", rank=2),
    Column("Version", "datastore.version", rank=2),
    Column("Address", "ip", rank=1),
    Column("Host", "host", rank=4),
    Column("Flavor", "flavor.id", rank=5),
    Column("On disk", "data_bytes", format_size, right=True, rank=3),
    Column("Protected", "protected", rank=6),
    When("Created", "created", rank=4),
    Id("ID", "id"),
]
SHOW = [
    Column("ID", "id"),
    Column("Name", "name"),
    Column("Status", "status"),
    Column("Health", "operating_status"),
    Column("Detail", "detail"),
    Column("Isolated", "isolated", _describe_isolation),
    Column("Datastore", "datastore.type"),
    Column("Version", "datastore.version_number"),
    Column("Host", "host"),
    Column("Runtime", "runtime"),
    Column("Address", "ip"),
    Column("Port", "port"),
    Column("Socket", "socket"),
    Column("Flavor", "flavor.id"),
    Column("Volume (GB)", "volume.size"),
    Column("On disk", "data_bytes", format_size),
    Column("Previous data", "old_data", _describe_previous_data),
    Column("Protected", "protected"),
    Column("Fault", "fault.message"),
    When("Fault at", "fault.created"),
    When("Created", "created"),
    When("Updated", "updated"),
    Column("Job", "job_id"),
]


def show_instance(session: Session, ref: str) -> None:
    """Print one instance."""
    session.output.record(session.client.get("instances", ref)["instance"], SHOW)


def create_instance(session: Session, body: dict[str, Any], wait: bool) -> str:
    """Create an instance (keys that are None are left out), follow its job, print it, and return its id."""
    reply = session.client.post("instances", json={"instance": {key: value for key, value in body.items() if value is not None}})
    key = reply.body["instance"]["id"]
    session.finish_new("instance", body["name"], key, reply.job, wait)
    show_instance(session, key)
    return str(key)


def make_datastore_body(datastore: str | None, version: str | None) -> dict[str, str] | None:
    """The ``datastore`` of a request, or None for the defaults."""
    body = {"type": datastore, "version": version}
    return {key: value for key, value in body.items() if value is not None} or None


@command(app, "create", example="strongroom instance create mysql1 --database db1 --database db2")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new instance.")],
    flavor: Flavor = None,
    size: Size = None,
    datastore: Annotated[str | None, typer.Option(help="mariadb, … (`strongroom datastore list`).")] = None,
    version: Version = None,
    database: Annotated[list[str] | None, typer.Option(help="Database to create in it; may be repeated.")] = None,
    host: Host = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Create a database server. Only the name is required."""
    require_free_name(session, "instance", name, allow_same_name)
    body = {
        "name": name,
        "flavorRef": flavor,
        "volume": {"size": size} if size else None,
        "datastore": make_datastore_body(datastore, version),
        "databases": [{"name": d} for d in database] if database else None,
        "host": host,
    }
    create_instance(session, body, wait)


def split_command(command: str) -> list[str]:
    """Split a command like a shell, which is not run. Raises InvalidRequest."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise InvalidRequest(f"{command!r} is not a valid command: {error}", remedy="Close every quotation mark.") from error


@command(
    app,
    "adopt",
    example="strongroom instance adopt shop --socket /run/mysqld/mysqld.sock --data-dir /var/lib/mysql \\\n"
    '    --start-command "systemctl start mariadb" --stop-command "systemctl stop mariadb"',
)
def adopt(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster or instance in Strongroom.")],
    socket: Annotated[Path | None, typer.Option(help="Unix socket of the server.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of the server, if it has no socket.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port, with --address.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Its data directory. Default: as reported by the server.")] = None,
    defaults_file: Annotated[Path | None, typer.Option(help="The server's own option file.")] = None,
    credentials_file: Annotated[
        Path | None, typer.Option(help="Option file (mode 0600) with user and password in [client]; on the server's host.")
    ] = None,
    start_command: Annotated[str | None, typer.Option(help="Command that starts it; required for a restore in place.")] = None,
    stop_command: Annotated[str | None, typer.Option(help="Command that stops it; required for a restore in place.")] = None,
    user: Annotated[str | None, typer.Option(help="OS user it runs as. Default: the owner of the data directory.")] = None,
    datastore: Annotated[str | None, typer.Option(help="mariadb, … (`strongroom datastore list`).")] = None,
    version: Version = None,
    host: Annotated[str | None, typer.Option(help="Host it runs on; required if there are several.")] = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Manage an existing server: back it up and restore it in place.

    This changes nothing on the server, except that it creates a marker file in the data directory.
    """
    require_free_name(session, "instance", name, allow_same_name)
    paths = {"socket": socket, "data_dir": data_dir, "defaults_file": defaults_file, "credentials_file": credentials_file}
    terms: dict[str, Any] = {
        **{key: str(path.absolute()) for key, path in paths.items() if path},
        "address": address,
        "port": port,
        "user": user,
        "start_command": split_command(start_command) if start_command else None,
        "stop_command": split_command(stop_command) if stop_command else None,
    }
    given = {key: value for key, value in terms.items() if value is not None}
    body = {"name": name, "datastore": make_datastore_body(datastore, version), "host": host, "adopt": given}
    key = create_instance(session, body, wait)
    if wait:
        _note_checks(session, key)


def _note_checks(session: Session, instance: str) -> None:
    """Print problems that prevent or limit backups and restores of the server, on stderr."""
    found = session.client.get("instances", instance, "checks")["checks"]
    for check in found:
        if check["level"] != "ok":
            remedy = f" {check['remedy']}" if check["remedy"] else ""
            note(f"{check['level'].capitalize()}: {check['message'].rstrip('.')}.{remedy}")


@command(
    app,
    "list",
    example="strongroom instance list\nstrongroom instance list --status error\n"
    "strongroom instance list -f value -c name -c status",
)
def list_(
    session: Session,
    status: Annotated[list[str] | None, typer.Option(help="Only with this status, such as ACTIVE; may be repeated.")] = None,
    limit: Limit = None,
    sort: Sort = None,
    all_projects: AllProjects = False,
) -> None:
    """List the instances of the project, newest first."""
    require_known("--status", status, STATUSES)
    filters = Filters.given(limit=limit, sort=sort, status=status)
    path, columns = ["instances"], LIST
    if all_projects:
        path, columns = ["mgmt", "instances"], [Column("Project", "tenant_id"), *LIST]
    found = filters.apply(session.client.items(*path, include_clustered=True, limit=filters.page), columns)
    session.output.rows(found, columns, noun="instances")


@command(app, "show", example="strongroom instance show mysql1\nstrongroom instance show mysql1 -f value -c socket")
def show(session: Session, instance: Name) -> None:
    """Show one instance: address, health, last error."""
    show_instance(session, instance)


def _act(session: Session, instance: str, action: str, wait: bool) -> None:
    reply = session.client.post("instances", instance, "action", json={action: {}})
    session.finish(reply.job, wait)
    show_instance(session, instance)


@command(app, "restart", example="strongroom instance restart mysql1")
def restart(session: Session, instance: Name, wait: Wait = True) -> None:
    """Stop the server and start it again."""
    _act(session, instance, "restart", wait)


@command(app, "start", example="strongroom instance start mysql1")
def start(session: Session, instance: Name, wait: Wait = True) -> None:
    """Start the server. If it crashes, it is restarted."""
    _act(session, instance, "start", wait)


@command(app, "stop", example="strongroom instance stop mysql1")
def stop(session: Session, instance: Name, wait: Wait = True) -> None:
    """Stop the server; it stays stopped."""
    _act(session, instance, "stop", wait)


@command(app, "discard-old", example="strongroom instance discard-old mysql1")
def discard_old(session: Session, instance: Name, yes: Yes = False, wait: Wait = True) -> None:
    """Delete the previous data that restores in place kept."""
    old = session.client.get("instances", instance)["instance"]["old_data"]
    if old:
        confirm(f"Delete the previous data of {instance} permanently?\n{_describe_previous_data(old)}\n", yes)
    _act(session, instance, "discard_old", wait)


@command(app, "activate", example="strongroom instance activate mysql2")
def activate(session: Session, instance: Name, yes: Yes = False, wait: Wait = True) -> None:
    """Enable events, replication, subscriptions and workers of an isolated copy. Restarts it."""
    found = session.client.get("instances", instance, "activation")["activation"]
    lines = [f"  {enabled['item']}: {enabled['message']}" for enabled in found["enables"]]
    what = "\n".join(lines) or "  nothing listed in its backup; the settings that disable such work are removed"
    if found["isolated"]:
        note(f"Activation enables in {instance}:\n{what}")
        confirm(f"Activate {instance}? It may contact other servers that its source uses.", yes)
    _act(session, instance, "activate", wait)


@command(app, "rename", example="strongroom instance rename mysql1 shop")
def rename(
    session: Session,
    instance: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    allow_same_name: AllowSameName = False,
) -> None:
    """Rename an instance. Its backups keep the previous name."""
    names.rename(session, "instance", instance, name, allow_same_name)


@command(app, "protect", example="strongroom instance protect mysql1")
def protect(session: Session, instance: Name) -> None:
    """Protect an instance: nobody can delete it until `strongroom instance unprotect`."""
    names.protect(session, "instance", instance, True)


@command(app, "unprotect", example="strongroom instance unprotect mysql1")
def unprotect(session: Session, instance: Name) -> None:
    """Remove the protection of an instance."""
    names.protect(session, "instance", instance, False)


@command(app, "delete", example="strongroom instance delete mysql1 --plan\nstrongroom instance delete mysql1 --final-backup")
def delete(
    session: Session,
    instance: Name,
    plan: deletion.Plan = False,
    final_backup: deletion.FinalBackup = False,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Stop the server and delete its data. Of an adopted server, only the record is deleted. Backups remain."""
    query = {"final_backup": "true"} if final_backup else {}
    deletion.delete(session, "instance", instance, plan=plan, yes=yes, wait=wait, **query)
