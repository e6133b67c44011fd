"""The commands ``strongroom cluster …``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from strongroom.cli import deletion, names
from strongroom.cli.commands.backup import backup as backups
from strongroom.cli.commands.cluster.plan import describe_place, note_plan, print_plan
from strongroom.cli.commands.instance import Flavor, Size, Version, make_datastore_body, split_command
from strongroom.cli.commands.recovery.restore import BACKUP
from strongroom.cli.connection.completion import complete_names
from strongroom.cli.names import AllowSameName, require_free_name
from strongroom.cli.output.columns import Column, Id, When
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import format_size
from strongroom.cli.session import Session, Wait, Yes, command, confirm
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Galera clusters: create, adopt, back up, restore, recover.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="CLUSTER",
        help="Name or id of the cluster, or the first 8 characters of its id.",
        autocompletion=complete_names("clusters"),
    ),
]


class Method(StrEnum):
    """How a backup is restored to the nodes of a cluster."""

    seed = "seed"
    sst = "sst"


LIST = [
    Column("Name", "name"),
    Column("Status", "status"),
    Column("Nodes", "nodes"),
    Column("Datastore", "datastore.type", rank=2),
    Column("Version", "datastore.version", rank=2),
    Column("Addresses", "ip", rank=1),
    Column("Protected", "protected", rank=4),
    When("Created", "created", rank=3),
    Id("ID", "id"),
]
SHOW = [
    Column("ID", "id"),
    Column("Name", "name"),
    Column("Status", "status"),
    Column("Datastore", "datastore.type"),
    Column("Version", "datastore.version"),
    Column("Runtime", "runtime"),
    Column("History", "uuid"),
    Column("Epoch", "epoch"),
    Column("Restore", "unfinished"),
    Column("Protected", "protected"),
    Column("Fault", "fault.message"),
    Column("Remedy", "fault.details"),
    When("Fault at", "fault.created"),
    When("Created", "created"),
    Column("Job", "job_id"),
]
NODES = [
    Column("Node", "node"),
    Column("Host", "host"),
    Column("Address", "ip", rank=2),
    Column("Health", "operating_status"),
    Column("State", "state"),
    Column("Position", "position", rank=3),
    Column("Newest backup", "last_backup", rank=1),
    Column("On disk", "data_bytes", format_size, right=True, rank=4),
    Column("Previous data", "old_bytes", lambda value: format_size(value) if value else "", right=True, rank=5),
    Column("Instance", "name", rank=6),
]


def _show(session: Session, ref: str) -> None:
    view = session.client.get("clusters", ref)["cluster"]
    run = view.get("restore")
    if run and run["phase"] not in ("done", "undone"):
        end = "can be undone" if run["reversible"] else f"continue with: strongroom cluster restore {view['name']} --resume"
        view["unfinished"] = f"interrupted or running in phase {run['phase']}; {end}"
        if run["facts"].get("waits"):
            view["unfinished"] = (
                f"prepared, waiting for the outage: start it with `strongroom cluster restore {view['name']} --resume`, "
                f"or abort with `strongroom cluster recover {view['name']}`"
            )
    session.output.record(view, SHOW)
    if session.output.format is Format.table and not session.output.columns:
        print()
        session.output.rows(view["instances"], NODES)
    if any(node["isolated"] for node in view["instances"]):
        note(f"{view['name']} is isolated: it contacts no other server until `strongroom cluster activate {view['name']}`.")


def _act(session: Session, cluster: str, what: str, body: dict[str, Any], wait: bool) -> None:
    reply = session.client.post("clusters", cluster, what, json=body)
    session.finish(reply.job, wait)
    _show(session, cluster)


@command(
    app,
    "create",
    example="strongroom cluster create shop\nstrongroom cluster create shop2 --nodes 2 --backup monday\n"
    "strongroom cluster create shop3 --host db1 --host db2 --host db3",
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new cluster.")],
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes.")] = 3,
    flavor: Flavor = None,
    size: Size = None,
    version: Version = None,
    host: Annotated[list[str] | None, typer.Option(help="Host for nodes; may be repeated. Default: any.")] = None,
    backup: Annotated[str | None, typer.Option(help="Restore this backup to it: name or id.")] = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Create a cluster with its nodes spread over the hosts. Only the name is required."""
    require_free_name(session, "cluster", name, allow_same_name)
    one = {"flavorRef": flavor, "volume": {"size": size} if size else None}
    body: dict[str, Any] = {
        "name": name,
        "instances": [{key: value for key, value in one.items() if value is not None}] * nodes,
        "datastore": make_datastore_body("mariadb" if version else None, version),
        "hosts": host,
        "restorePoint": {"backupRef": backup} if backup else None,
    }
    _create_cluster(session, body, wait)


def _create_cluster(session: Session, body: dict[str, Any], wait: bool) -> None:
    given = {key: value for key, value in body.items() if value is not None}
    reply = session.client.post("clusters", json={"cluster": given})
    key = reply.body["cluster"]["id"]
    session.finish_new("cluster", body["name"], key, reply.job, wait)
    _show(session, key)


@command(
    app,
    "adopt",
    example="strongroom cluster adopt shop \\\n"
    "    --node host=db1,socket=/run/mysqld/mysqld.sock --node host=db2,socket=/run/mysqld/mysqld.sock \\\n"
    '    --start-command "systemctl start mariadb" --stop-command "systemctl stop mariadb" \\\n'
    "    --bootstrap-command galera_new_cluster",
)
def adopt(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster or instance in Strongroom.")],
    node: Annotated[
        list[str],
        typer.Option(
            help="A node as KEY=VALUE,…: host, socket, address, port, data_dir, defaults_file, credentials_file, user, "
            "start_command, stop_command, bootstrap_command; once for each node."
        ),
    ],
    start_command: Annotated[str | None, typer.Option(help="Command that starts a node; required for a restore.")] = None,
    stop_command: Annotated[str | None, typer.Option(help="Command that stops a node; required for a restore.")] = None,
    bootstrap_command: Annotated[
        str | None, typer.Option(help="Command that bootstraps the first node; required for a restore.")
    ] = None,
    version: Version = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Manage an existing cluster with all its nodes.

    This changes nothing on the nodes, except that it creates a marker file in each data directory.
    """
    require_free_name(session, "cluster", name, allow_same_name)
    commands = {"start_command": start_command, "stop_command": stop_command, "bootstrap_command": bootstrap_command}
    shared = {key: split_command(value) for key, value in commands.items() if value}
    body = {
        "name": name,
        "datastore": make_datastore_body("mariadb" if version else None, version),
        "adopt": [{**shared, **_parse_node(text)} for text in node],
    }
    _create_cluster(session, body, wait)


def _parse_node(text: str) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    for part in text.split(","):
        key, separator, value = part.partition("=")
        if not separator or not value:
            raise InvalidRequest(
                f"{part!r} is not KEY=VALUE", remedy="Write a node like host=db1,socket=/run/mysqld/mysqld.sock."
            )
        key = key.strip().replace("-", "_")
        terms[key] = (
            split_command(value) if key.endswith("_command") else int(value) if key == "port" and value.isdigit() else value
        )
    return terms


@command(app, "list", example="strongroom cluster list\nstrongroom cluster list -f value -c name -c status")
def list_(session: Session) -> None:
    """List the clusters of the project."""
    found = session.client.pages("clusters")
    session.output.rows([{**view, "nodes": len(view["instances"])} for view in found], LIST, noun="clusters")


@command(app, "show", example="strongroom cluster show shop\nstrongroom cluster show shop --format json")
def show(session: Session, cluster: Name) -> None:
    """Show one cluster and its nodes: state, position, newest backup."""
    _show(session, cluster)


@command(
    app,
    "backup",
    example="strongroom cluster backup shop\nstrongroom cluster backup shop --incremental\n"
    "strongroom cluster backup shop --name monday --node node3",
)
def backup(
    session: Session,
    cluster: Name,
    name: Annotated[str | None, typer.Option(help="Name of the backup. Default: cluster, date and time.")] = None,
    incremental: Annotated[bool, typer.Option("--incremental", help="Only changes since the newest backup.")] = False,
    node: Annotated[str | None, typer.Option(help="Back up this node. Default: a healthy one that serves few writes.")] = None,
    desync: Annotated[bool, typer.Option("--desync", help="Exclude the node from flow control during the backup.")] = False,
    container: backups.Container = None,
    description: backups.Description = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Take a backup of the cluster, from one of its nodes. No earlier backup is overwritten.

    An incremental is taken on the node of its chain. If that is impossible, a full backup is taken, and the reason is shown.
    """
    if name is not None:
        require_free_name(session, "backup", name, allow_same_name)
    requested = {
        "name": name,
        "incremental": incremental or None,
        "node": node,
        "desync": desync or None,
        "swift_container": container,
        "description": description,
    }
    body = {"backup": {key: value for key, value in requested.items() if value is not None}}
    reply = session.client.post("clusters", cluster, "backup", json=body)
    assert reply.job is not None
    job = session.client.get("jobs", reply.job)["job"]
    taken = session.client.get("backups", job["backup_id"])["backup"]
    note(f"A{'n' if taken['kind'] == 'incremental' else ''} {taken['kind']} backup of {job['instance_name']}.")
    session.finish(reply.job, wait)
    session.output.record(session.client.get("backups", job["backup_id"])["backup"], backups.SHOW)


@command(
    app,
    "restore",
    example="strongroom cluster restore shop --backup monday --plan\nstrongroom cluster restore shop --backup monday --yes\n"
    "strongroom cluster restore shop --resume",
)
def restore(
    session: Session,
    cluster: Name,
    backup: Annotated[str | None, typer.Option(help=BACKUP, autocompletion=complete_names("backups"))] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the restore that failed.")] = False,
    method: Annotated[
        Method | None,
        typer.Option(help="seed: restore the backup to all nodes; sst: to one node, which transfers it to the others."),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="NODE", help="Leave this node out and fence it.")] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Only show what the restore would do.")] = False,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Restore a backup to the whole cluster.

    The new data is prepared and verified while the cluster still serves. Then all nodes are stopped, their data is replaced, the
    first node starts a new history, and the others join. If the restore fails before the first node serves, the previous state is
    restored automatically; after that, use --resume. The previous data is kept until `strongroom cluster discard-old`.
    """
    if resume == (backup is not None):
        raise InvalidRequest("a restore needs a backup", remedy="Pass --backup BACKUP, or --resume to continue one.")
    if resume:
        if only_plan:
            raise InvalidRequest("--plan is for a new restore", remedy="See `strongroom cluster show` for the state of this one.")
        _act(session, cluster, "restore", {"restore": {"resume": True}}, wait)
        return
    found = session.client.get(
        "clusters", cluster, "restore", backup or "", method=method.value if method else None, without=without or None
    )["plan"]
    if only_plan:
        print_plan(session, found)
        return
    note_plan(cluster, found)
    confirm(f"Replace the data of cluster {cluster}?", yes)
    requested: dict[str, Any] = {"backupRef": found["backup"], "without": without or []}
    if method:
        requested["method"] = method.value
    _act(session, cluster, "restore", {"restore": requested}, wait)


@command(
    app,
    "recover",
    example="strongroom cluster recover shop\nstrongroom cluster recover shop --node node2 --force --yes",
)
def recover(
    session: Session,
    cluster: Name,
    node: Annotated[str | None, typer.Option(help="Node to bootstrap from. Default: the most advanced one.")] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Proceed even if some nodes are unreachable or have newer transactions (those are lost), and kill a server that"
            " hangs, unless it was adopted.",
        ),
    ] = False,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Recover a cluster that is down, without a backup: bootstrap the most advanced node; the others join."""
    if force:
        confirm(f"Recover {cluster} although transactions may be lost, and kill servers that hang?", yes)
    body: dict[str, Any] = {"force": force, **({"node": node} if node else {})}
    reply = session.client.post("clusters", cluster, "recover", json={"recover": body})
    session.finish(reply.job, wait)
    if wait and reply.job:
        output = session.client.get("jobs", reply.job)["job"]["output"]
        for name, position in output.get("positions", {}).items():
            note(f"{name}: {position}")
        note(f"{output.get('how', '')}.")
    _show(session, cluster)


@command(app, "restart", example="strongroom cluster restart shop")
def restart(session: Session, cluster: Name, wait: Wait = True) -> None:
    """Restart the nodes one by one; each has joined again before the next one stops."""
    _act(session, cluster, "restart", {}, wait)


@command(app, "activate", example="strongroom cluster activate shop")
def activate(session: Session, cluster: Name, yes: Yes = False, wait: Wait = True) -> None:
    """Enable events and replication on the nodes of an isolated copy. Restarts them one by one."""
    confirm(f"Activate the copy {cluster}? This enables events and replication on its nodes.", yes)
    _act(session, cluster, "activate", {}, wait)


@command(app, "discard-old", example="strongroom cluster discard-old shop")
def discard_old(session: Session, cluster: Name, yes: Yes = False, wait: Wait = True) -> None:
    """Delete the previous data that restores kept on the nodes."""
    if not yes:
        nodes = session.client.get("clusters", cluster)["cluster"]["instances"]
        kept = "\n".join(f"  {describe_place(node)}: {format_size(node['old_bytes'])}" for node in nodes)
        confirm(f"Delete the previous data of cluster {cluster} permanently?\n{kept}\n", yes)
    _act(session, cluster, "discard_old", {}, wait)


@command(app, "rename", example="strongroom cluster rename shop store")
def rename(
    session: Session,
    cluster: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    allow_same_name: AllowSameName = False,
) -> None:
    """Rename a cluster. Its nodes and wsrep_cluster_name are not changed."""
    names.rename(session, "cluster", cluster, name, allow_same_name)


@command(app, "protect", example="strongroom cluster protect shop")
def protect(session: Session, cluster: Name) -> None:
    """Protect a cluster: nobody can delete it until `strongroom cluster unprotect`."""
    names.protect(session, "cluster", cluster, True)


@command(app, "unprotect", example="strongroom cluster unprotect shop")
def unprotect(session: Session, cluster: Name) -> None:
    """Remove the protection of a cluster."""
    names.protect(session, "cluster", cluster, False)


@command(app, "delete", example="strongroom cluster delete shop --plan\nstrongroom cluster delete shop --final-backup")
def delete(
    session: Session,
    cluster: Name,
    plan: deletion.Plan = False,
    final_backup: deletion.FinalBackup = False,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Stop all nodes and delete their data. Of an adopted cluster, only the record is deleted. Backups remain."""
    query = {"final_backup": "true"} if final_backup else {}
    deletion.delete(session, "cluster", cluster, plan=plan, yes=yes, wait=wait, **query)
