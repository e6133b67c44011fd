"""The commands ``strongroom backup …``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from strongroom.cli import names
from strongroom.cli.commands.backup.listing import Ratio, list_backups
from strongroom.cli.connection.completion import complete_names
from strongroom.cli.filters import Filters, Limit, Since, Sort, Until, require_known
from strongroom.cli.names import AllowSameName, require_free_name
from strongroom.cli.output.columns import Column, When
from strongroom.cli.output.remarks import note
from strongroom.cli.output.values import format_count, format_duration, format_size, format_utc
from strongroom.cli.session import AllProjects, Session, Wait, command
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Backups: create, show, verify, keep, delete.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="BACKUP",
        help="Name or id of the backup, or the first 8 characters of its id.",
        autocompletion=complete_names("backups"),
    ),
]
Instance = Annotated[
    str | None,
    typer.Option("--instance", "-i", help="Instance to back up: name or id.", autocompletion=complete_names("instances")),
]
Container = Annotated[str | None, typer.Option(help="Container for it. Default: the strategy's, or else the service's.")]
Description = Annotated[str | None, typer.Option(help="Description of the backup.")]


class Codec(StrEnum):
    """Compression of the artifact."""

    zstd = "zstd"
    gzip = "gzip"


STATUSES = ("NEW", "BUILDING", "COMPLETED", "FAILED", "DELETING", "DELETE_FAILED", "RESTORED")


class Kind(StrEnum):
    """The kind of a backup."""

    full = "full"
    incremental = "incremental"


class DamagedPages(StrEnum):
    """The effect of damaged pages on a backup."""

    fail = "fail"
    warn = "warn"


HOW = {
    "sizes": "sizes compared",
    "content": "every segment read",
    "prepared": "every segment read, chain prepared, no server started",
    "tables": "every segment read, chain prepared, {tables} tables read by a private server",
}


def _format_verified(value: dict[str, Any] | None) -> str:
    if not value:
        return ""
    how = HOW[value["level"]].format(tables=value.get("tables"))
    if value["links"] > 1:
        how += f", {value['links']} backups of the chain"
    if value["stored_size"]:
        how += f", {format_size(value['stored_size'])}"
    outcome = f"good, {how}" if value["ok"] else f"BAD: {value['message']}"
    said = f"; {value['message']}" if value["ok"] and value["message"] else ""
    return f"{outcome} at {format_utc(value['at'])}{said}"


def _format_pages(value: dict[str, Any] | None) -> str:
    if not value:
        return ""
    named = ", ".join(f"block {page['block']} of {page['path']}" for page in value["named"])
    return f"{value['damaged']} of {value['checked']}: {named}" if value["damaged"] else f"none of {value['checked']}"


def _format_hold(value: dict[str, Any] | None) -> str:
    if not value:
        return ""
    who = f" by {value['held_by']}" if value["held_by"] else ""
    until = f" until {format_utc(value['until'])}" if value["until"] else ""
    return f"{value['reason']} ({who.strip() or 'held'}{until})"


SHOW = [
    Column("ID", "id"),
    Column("Name", "name"),
    Column("Description", "description"),
    Column("Status", "status"),
    Column("Fault", "fault.message"),
    Column("Remedy", "fault.remedy"),
    Column("Kind", "kind"),
    Column("Note", "reason"),
    Column("Parent", "parent_id"),
    Column("Chain", "chain_id"),
    Column("Instance", "instance_name"),
    Column("Instance ID", "instance_id"),
    Column("Datastore", "datastore.type"),
    Column("Version", "datastore.version"),
    Column("Damaged pages", "pages", _format_pages),
    Column("Damaged pages in the chain", "damaged_pages", lambda number: str(number) if number else ""),
    Column("Data", "data_size", format_size),
    Column("Stream", "raw_size", format_size),
    Column("Stored", "stored_size", format_size),
    Ratio("Ratio", "ratio"),
    Column("Time", "seconds", format_duration),
    Column("Codec", "codec"),
    Column("Encrypted", "encrypted"),
    Column("Container", "container"),
    Column("Location", "locationRef"),
    Column("Position", "positions"),
    Column("Restorable", "restorable"),
    Column("Not restorable because", "unrestorable_reason"),
    Column("Protected", "protected"),
    Column("Held", "hold", _format_hold),
    Column("Removed after", "sweep_at", format_utc),
    Column("Removed because", "expired_because"),
    Column("Verified", "verified", _format_verified),
    When("Created", "created"),
    When("Finished", "finished"),
    Column("Job", "job_id"),
]


@command(
    app,
    "create",
    example="strongroom backup create monday --instance mysql1\n"
    "strongroom backup create tuesday --instance mysql1 --incremental\n"
    "strongroom backup create --instance mysql1 --parent monday --container archive\n"
    "strongroom backup create west --restore-from http://swift:8080/v1/AUTH_p/backups/4f1c….xbstream.zst \\\n"
    "    --restore-datastore-version 10.11 --restore-size 3",
)
def create(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Name of the backup. Default: instance, date and time.")] = None,
    instance: Instance = None,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Only changes since the newest backup; a full backup if there is none.")
    ] = False,
    parent: Annotated[str | None, typer.Option(help="Only changes since this backup: name or id.")] = None,
    container: Container = None,
    description: Description = None,
    codec: Annotated[Codec | None, typer.Option(help="Compression. Default: the service's.")] = None,
    damaged_pages: Annotated[
        DamagedPages,
        typer.Option(
            help="If pages of the database have wrong checksums (PostgreSQL): `fail` the backup, or `warn` and mark it."
        ),
    ] = DamagedPages.warn,
    restore_from: Annotated[
        str | None, typer.Option(metavar="URL", help="Do not take a backup; register an existing one from another region by URL.")
    ] = None,
    restore_datastore_version: Annotated[str | None, typer.Option(help="Its datastore version: id or name.")] = None,
    restore_size: Annotated[float | None, typer.Option(help="Its size in GB.")] = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Take a backup of a running instance, or register an existing one in the store."""
    if name is not None:
        require_free_name(session, "backup", name, allow_same_name)
    if restore_from is not None:
        if name is None or restore_datastore_version is None or restore_size is None:
            raise InvalidRequest(
                "--restore-from needs a name, --restore-datastore-version and --restore-size",
                remedy="See `strongroom backup show` in the region where the backup was taken.",
            )
        source = {
            "remote_location": restore_from,
            "local_datastore_version_id": restore_datastore_version,
            "size": restore_size,
        }
        requested = {"name": name, "restore_from": source, **({"description": description} if description else {})}
        session.output.record(session.client.post("backups", json={"backup": requested}).body["backup"], SHOW)
        return
    if instance is None:
        raise InvalidRequest("a backup needs an instance", remedy="Name it with --instance.")
    optional = {
        "parent_id": parent,
        "swift_container": container,
        "description": description,
        "codec": codec.value if codec else None,
        "damaged_pages": damaged_pages.value if damaged_pages is DamagedPages.fail else None,
    }
    body = {
        "name": name or f"{instance}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        "instance": instance,
        "incremental": int(incremental or parent is not None),
        **{key: value for key, value in optional.items() if value is not None},
    }
    reply = session.client.post("backups", json={"backup": body})
    session.finish(reply.job, wait)
    session.output.record(session.client.get("backups", reply.body["backup"]["id"])["backup"], SHOW)


@command(
    app,
    "import",
    example="strongroom backup import my-trove-backups/4f1c….xbstream.gz --name monday\n"
    "strongroom backup import /backup/mysqlbackup-29-08-2025-1756478084.qp.xbc.xbs.gz --name full\n"
    "strongroom backup import /backup/incremental-20-mysqlbackup-30-08-2025-1756510000.qp.xbc.xbs.gz --name inc --parent full",
)
def import_(
    session: Session,
    location: Annotated[
        str, typer.Argument(metavar="LOCATION", help="CONTAINER/OBJECT in the store, its URL, or a path on the service's host.")
    ],
    name: Annotated[str, typer.Option(help="Name of the backup.")],
    parent: Annotated[
        str | None, typer.Option(help="Imported backup that is the parent of an incremental. Default: detected.")
    ] = None,
    datastore: Annotated[str | None, typer.Option(help="Its datastore. Default: the service's.")] = None,
    datastore_version: Annotated[
        str | None, typer.Option(help="Its series, such as 10.11. Default: the newest installed.")
    ] = None,
    description: Description = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Import a backup by OpenStack Trove or Kolla. It is read once, and neither moved nor changed."""
    require_free_name(session, "backup", name, allow_same_name)
    source = {"location": location, "datastore": datastore, "datastore_version": datastore_version}
    body = {
        "name": name,
        "parent_id": parent,
        "description": description,
        "import_from": {key: value for key, value in source.items() if value is not None},
    }
    reply = session.client.post("backups", json={"backup": {key: value for key, value in body.items() if value is not None}})
    session.finish(reply.job, wait)
    session.output.record(session.client.get("backups", reply.body["backup"]["id"])["backup"], SHOW)


@command(
    app,
    "list",
    example="strongroom backup list\nstrongroom backup list --instance mysql1 --since 7d --unverified\n"
    "strongroom backup list --chain monday --tree\nstrongroom backup list --sort -stored_size --limit 10 --format json",
)
def list_(
    session: Session,
    instance: Annotated[
        str | None,
        typer.Option("--instance", "-i", help="Only this instance: name or id.", autocompletion=complete_names("instances")),
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(
            metavar="BACKUP",
            help="Only the chain of this backup: name or id.",
            autocompletion=complete_names("backups"),
        ),
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only this kind.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only with this status, such as COMPLETED; may be repeated.")] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help="Only those without a successful verification.")] = False,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    sort: Sort = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show each chain as a tree: a full backup with its incrementals below it.")
    ] = False,
    all_projects: AllProjects = False,
) -> None:
    """List backups, newest first."""
    require_known("--status", status, STATUSES)
    filters = Filters.given(since, until, limit, sort, status=status, kind=[kind.value] if kind else None)
    list_backups(session, filters, instance=instance, chain=chain, unverified=unverified, tree=tree, all_projects=all_projects)


@command(app, "show", example="strongroom backup show monday\nstrongroom backup show monday -f value -c id")
def show(session: Session, backup: Name) -> None:
    """Show one backup: contents, location, verification."""
    session.output.record(session.client.get("backups", backup, trashed="true")["backup"], SHOW)


@command(
    app,
    "verify",
    example="strongroom backup verify monday\nstrongroom backup verify monday --prepare\nstrongroom backup verify monday --quick",
)
def verify(
    session: Session,
    backup: Name,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Also restore the whole chain to a scratch directory and read every table.")
    ] = False,
    no_start: Annotated[
        bool, typer.Option("--no-start", help="With --prepare: do not start a private server to read every table.")
    ] = False,
    no_chain: Annotated[bool, typer.Option("--no-chain", help="Read only this backup, not its ancestors.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only compare the sizes of all objects in the store.")] = False,
    wait: Wait = True,
) -> None:
    """Read a backup and its ancestors and verify every hash; exits non-zero if anything is wrong.

    The result is stored with each backup. A damaged backup and all its descendants count as not restorable until an equally
    thorough verification succeeds.
    """
    requested = {"prepare": prepare, "start": not no_start}
    if no_chain:
        requested["chain"] = False
    if quick:
        requested["quick"] = True
    reply = session.client.post("backups", backup, "action", json={"verify": requested})
    job = session.finish(reply.job, wait)
    if job is not None:
        note(_describe_coverage(job["output"]))
    session.output.record(session.client.get("backups", backup, trashed="true")["backup"], SHOW)


def _describe_coverage(output: Mapping[str, Any]) -> str:
    what = format_count(output.get("links") or 1, "backup")
    segments = format_count(output.get("segments", 0), "segment")
    how = HOW[output.get("level") or "content"].format(tables=(output.get("prepared") or {}).get("tables"))
    return f"Verified {what} of the chain, {segments}, {format_size(output.get('stored_size', 0))}: {how}."


@command(app, "rename", example="strongroom backup rename monday before-upgrade")
def rename(
    session: Session,
    backup: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    allow_same_name: AllowSameName = False,
) -> None:
    """Rename a backup. The artifact keeps the original name."""
    names.rename(session, "backup", backup, name, allow_same_name)
