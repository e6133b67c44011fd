"""``strongroom instance``: database servers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli import deletion, names
from strongroom.cli.connection.completion import names_of
from strongroom.cli.filters import Filters, Limit, Sort, require_known
from strongroom.cli.names import AllowSameName, require_free_name
from strongroom.cli.output.render import Column, Id, When, moment, note, size
from strongroom.cli.session import AllProjects, Session, Wait, Yes, command, confirm
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Database servers: create, adopt, look at, start, stop, delete.")

STATUSES = (
    *("ACTIVE", "BACKUP", "BLOCKED", "BUILD", "BUILDING", "DELETING", "ERROR", "REBOOT", "RECOVERING", "RESIZE", "RESTARTING"),
    *("RESTORE", "RESTORING", "SHUTDOWN", "STANDBY", "UNKNOWN"),
)
"""Of instances and of nodes of clusters, which show what is done to their cluster."""

Name = Annotated[
    str,
    typer.Argument(
        metavar="INSTANCE",
        help="Name or id of the instance; of an id the first 8 characters.",
        autocompletion=names_of("instances"),
    ),
]
Flavor = Annotated[str | None, typer.Option(help="Size of the server's memory (`strongroom flavor list`).")]
Size = Annotated[int | None, typer.Option(min=1, help="Largest size of the data, in GB.")]
Host = Annotated[str | None, typer.Option(help="Host to put it on (`strongroom host list`). Default: where most is left.")]
Version = Annotated[str | None, typer.Option(help="Series (10.11) or full version (10.11.19).")]


def _old_data(value: list[dict[str, Any]] | None) -> str:
    return "\n".join(f"{old['name']} ({size(old['bytes'])}, since {moment(old['since'])})" for old in value or [])


def _isolated(value: bool | None) -> str:
    """Only worth a line where it is so."""
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
    Column("On disk", "data_bytes", size, right=True, rank=3),
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
    Column("Isolated", "isolated", _isolated),
    Column("Datastore", "datastore.type"),
    Column("Version", "datastore.version_number"),
    Column("Host", "host"),
    Column("Runtime", "runtime"),
    Column("Address", "ip"),
    Column("Port", "port"),
    Column("Socket", "socket"),
    Column("Flavor", "flavor.id"),
    Column("Volume (GB)", "volume.size"),
    Column("On disk", "data_bytes", size),
    Column("Old data", "old_data", _old_data),
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


def make(session: Session, body: dict[str, Any], wait: bool) -> str:
    """POST an instance without the keys that are None, follow its job, print it; its id."""
    reply = session.client.post("instances", json={"instance": {key: value for key, value in body.items() if value is not None}})
    key = reply.body["instance"]["id"]
    session.finish_new("instance", body["name"], key, reply.job, wait)
    show_instance(session, key)
    return str(key)


def datastore_body(datastore: str | None, version: str | None) -> dict[str, str] | None:
    """The ``datastore`` of a request, or None when the defaults will do."""
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
    database: Annotated[list[str] | None, typer.Option(help="Create this database in it; may be repeated.")] = None,
    host: Host = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Create a database server. Only the name is needed."""
    require_free_name(session, "instance", name, allow_same_name)
    body = {
        "name": name,
        "flavorRef": flavor,
        "volume": {"size": size} if size else None,
        "datastore": datastore_body(datastore, version),
        "databases": [{"name": d} for d in database] if database else None,
        "host": host,
    }
    make(session, body, wait)


def words_of(command: str) -> list[str]:
    """A command as a shell would split it; none runs it. Raises InvalidRequest."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise InvalidRequest(f"{command!r} is not a command: {error}", remedy="Close every quotation mark.") from error


@command(
    app,
    "adopt",
    example="strongroom instance adopt shop --socket /run/mysqld/mysqld.sock --data-dir /var/lib/mysql \\\n"
    '    --start-command "systemctl start mariadb" --stop-command "systemctl stop mariadb"',
)
def adopt(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name to give it here.")],
    socket: Annotated[Path | None, typer.Option(help="Socket on which the server answers.")] = None,
    address: Annotated[str | None, typer.Option(help="Address on which it answers, when there is no socket.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port, with --address.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Its data directory. Default: what the server says.")] = None,
    defaults_file: Annotated[Path | None, typer.Option(help="The server's own option file.")] = None,
    credentials_file: Annotated[
        Path | None, typer.Option(help="Option file (mode 0600) with user and password in [client]; on the server's host.")
    ] = None,
    start_command: Annotated[str | None, typer.Option(help="How to start it; needed for a restore in place.")] = None,
    stop_command: Annotated[str | None, typer.Option(help="How to stop it; needed for a restore in place.")] = None,
    user: Annotated[str | None, typer.Option(help="OS user it runs as. Default: the owner of the data directory.")] = None,
    datastore: Annotated[str | None, typer.Option(help="mariadb, … (`strongroom datastore list`).")] = None,
    version: Version = None,
    host: Annotated[str | None, typer.Option(help="Host it runs on; needed when there are several.")] = None,
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
        "start_command": words_of(start_command) if start_command else None,
        "stop_command": words_of(stop_command) if stop_command else None,
    }
    given = {key: value for key, value in terms.items() if value is not None}
    body = {"name": name, "datastore": datastore_body(datastore, version), "host": host, "adopt": given}
    key = make(session, body, wait)
    if wait:
        _note_checks(session, key)


def _note_checks(session: Session, instance: str) -> None:
    """What stops or limits backups and restores of the server, a line each, on stderr."""
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
    status: Annotated[list[str] | None, typer.Option(help="Only in this status, as ACTIVE; may be repeated.")] = None,
    limit: Limit = None,
    sort: Sort = None,
    all_projects: AllProjects = False,
) -> None:
    """List the instances of the project, the newest first."""
    require_known("--status", status, STATUSES)
    filters = Filters.given(limit=limit, sort=sort, status=status)
    path, columns = ["instances"], LIST
    if all_projects:
        path, columns = ["mgmt", "instances"], [Column("Project", "tenant_id"), *LIST]
    found = filters.apply(session.client.items(*path, include_clustered=True, limit=filters.page), columns)
    session.output.rows(found, columns, noun="instances")


@command(app, "show", example="strongroom instance show mysql1\nstrongroom instance show mysql1 -f value -c socket")
def show(session: Session, instance: Name) -> None:
    """Show one instance: where it listens, how it does, what went wrong last."""
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
    """Start the server; from now on it is started again when it dies."""
    _act(session, instance, "start", wait)


@command(app, "stop", example="strongroom instance stop mysql1")
def stop(session: Session, instance: Name, wait: Wait = True) -> None:
    """Stop the server; it stays stopped."""
    _act(session, instance, "stop", wait)


@command(app, "discard-old", example="strongroom instance discard-old mysql1")
def discard_old(session: Session, instance: Name, yes: Yes = False, wait: Wait = True) -> None:
    """Delete the data directories that restores in place have put aside."""
    old = session.client.get("instances", instance)["instance"]["old_data"]
    if old:
        confirm(f"Delete the old data of {instance} for good?\n{_old_data(old)}\n", yes)
    _act(session, instance, "discard_old", wait)


@command(app, "activate", example="strongroom instance activate mysql2")
def activate(session: Session, instance: Name, yes: Yes = False, wait: Wait = True) -> None:
    """Let an isolated copy run what it did at its source: events, replication, subscriptions, workers. Restarts it."""
    found = session.client.get("instances", instance, "activation")["activation"]
    lines = [f"  {enabled['item']}: {enabled['message']}" for enabled in found["enables"]]
    what = "\n".join(lines) or "  nothing that its backup names; the settings that disable such work are taken back"
    if found["isolated"]:
        note(f"An activation enables in {instance}:\n{what}")
        confirm(f"Activate {instance}? It may contact servers that its source works with.", yes)
    _act(session, instance, "activate", wait)


@command(app, "rename", example="strongroom instance rename mysql1 shop")
def rename(
    session: Session,
    instance: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    allow_same_name: AllowSameName = False,
) -> None:
    """Give an instance another name. Its backups keep the name that it had."""
    names.rename(session, "instance", instance, name, allow_same_name)


@command(app, "protect", example="strongroom instance protect mysql1")
def protect(session: Session, instance: Name) -> None:
    """Protect an instance: it cannot be deleted, by anybody, until `strongroom instance unprotect`."""
    names.protect(session, "instance", instance, True)


@command(app, "unprotect", example="strongroom instance unprotect mysql1")
def unprotect(session: Session, instance: Name) -> None:
    """Let an instance be deleted again."""
    names.protect(session, "instance", instance, False)


@command(app, "delete", example="strongroom instance delete mysql1 --plan\nstrongroom instance delete mysql1")
def delete(session: Session, instance: Name, plan: deletion.Plan = False, yes: Yes = False, wait: Wait = True) -> None:
    """Stop the server and delete its data. An adopted server is only forgotten. Its backups stay."""
    deletion.delete(session, "instance", instance, plan=plan, yes=yes, wait=wait)
