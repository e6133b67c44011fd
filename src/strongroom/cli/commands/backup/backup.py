"""``strongroom backup``: what can be restored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from strongroom.cli import deletion, names
from strongroom.cli.commands.backup.listing import Ratio, list_backups
from strongroom.cli.connection.completion import names_of
from strongroom.cli.filters import Filters, Limit, Since, Sort, Until, require_known
from strongroom.cli.names import AllowSameName, require_free_name
from strongroom.cli.output.render import Column, When, duration, moment, note, size
from strongroom.cli.session import AllProjects, Session, Wait, Yes, command
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Backups: take, look at, check, delete.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="BACKUP", help="Name or id of the backup; of an id the first 8 characters.", autocompletion=names_of("backups")
    ),
]
Instance = Annotated[
    str | None,
    typer.Option("--instance", "-i", help="What to back up: name or id.", autocompletion=names_of("instances")),
]


class Codec(StrEnum):
    """How the artifact is compressed."""

    zstd = "zstd"
    gzip = "gzip"


STATUSES = ("NEW", "BUILDING", "COMPLETED", "FAILED", "DELETING", "DELETE_FAILED", "RESTORED")


class Kind(StrEnum):
    """What a backup holds."""

    full = "full"
    incremental = "incremental"


class DamagedPages(StrEnum):
    """What damaged pages do to a backup."""

    fail = "fail"
    warn = "warn"


HOW = {
    "sizes": "sizes compared",
    "content": "every segment read",
    "prepared": "every segment read, chain prepared, no server started",
    "tables": "every segment read, chain prepared, {tables} tables read by a private server",
}


def _verified(value: dict[str, Any] | None) -> str:
    if not value:
        return ""
    how = HOW[value["level"]].format(tables=value.get("tables"))
    if value["links"] > 1:
        how += f", {value['links']} backups of the chain"
    if value["stored_size"]:
        how += f", {size(value['stored_size'])}"
    outcome = f"good, {how}" if value["ok"] else f"BAD: {value['message']}"
    said = f"; {value['message']}" if value["ok"] and value["message"] else ""
    return f"{outcome} at {moment(value['at'])}{said}"


def _pages(value: dict[str, Any] | None) -> str:
    if not value:
        return ""
    named = ", ".join(f"block {page['block']} of {page['path']}" for page in value["named"])
    return f"{value['damaged']} of {value['checked']}: {named}" if value["damaged"] else f"none of {value['checked']}"


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
    Column("Damaged pages", "pages", _pages),
    Column("Damaged pages in the chain", "damaged_pages", lambda number: str(number) if number else ""),
    Column("Data", "data_size", size),
    Column("Stream", "raw_size", size),
    Column("Stored", "stored_size", size),
    Ratio("Ratio", "ratio"),
    Column("Time", "seconds", duration),
    Column("Codec", "codec"),
    Column("Encrypted", "encrypted"),
    Column("Container", "container"),
    Column("Location", "locationRef"),
    Column("Position", "positions"),
    Column("Restorable", "restorable"),
    Column("Not restorable because", "unrestorable_reason"),
    Column("Protected", "protected"),
    Column("Verified", "verified", _verified),
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
        bool, typer.Option("--incremental", help="Only what changed since the newest backup; a full, when there is none.")
    ] = False,
    parent: Annotated[str | None, typer.Option(help="Only what changed since this backup: name or id.")] = None,
    container: Annotated[str | None, typer.Option(help="Where to keep it. Default: the strategy's, else the service's.")] = None,
    description: Annotated[str | None, typer.Option(help="A remark to keep with it.")] = None,
    codec: Annotated[Codec | None, typer.Option(help="How to compress. Default: the service's.")] = None,
    damaged_pages: Annotated[
        DamagedPages,
        typer.Option(
            help="What pages of the database with wrong checksums do to the backup (PostgreSQL); `warn` takes it and marks it."
        ),
    ] = DamagedPages.warn,
    restore_from: Annotated[
        str | None, typer.Option(metavar="URL", help="Take none: record one of another region, by its location.")
    ] = None,
    restore_datastore_version: Annotated[str | None, typer.Option(help="Datastore version of that one: id or name.")] = None,
    restore_size: Annotated[float | None, typer.Option(help="Size of that one in GB.")] = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Take a backup of a running instance; or record one that is in the store already."""
    if name is not None:
        require_free_name(session, "backup", name, allow_same_name)
    if restore_from is not None:
        if name is None or restore_datastore_version is None or restore_size is None:
            raise InvalidRequest(
                "--restore-from needs a name, --restore-datastore-version and --restore-size",
                remedy="`strongroom backup show` tells them where the backup was taken.",
            )
        source = {
            "remote_location": restore_from,
            "local_datastore_version_id": restore_datastore_version,
            "size": restore_size,
        }
        wish = {"name": name, "restore_from": source, **({"description": description} if description else {})}
        session.output.record(session.client.post("backups", json={"backup": wish}).body["backup"], SHOW)
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
    parent: Annotated[str | None, typer.Option(help="Imported backup that an incremental stands on. Default: found.")] = None,
    datastore: Annotated[str | None, typer.Option(help="What it is a backup of. Default: the service's.")] = None,
    datastore_version: Annotated[str | None, typer.Option(help="Its series, as 10.11. Default: the newest installed.")] = None,
    description: Annotated[str | None, typer.Option(help="A remark to keep with it.")] = None,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Take in a backup that OpenStack Trove or Kolla wrote. It is read once, and stays where it is."""
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
        typer.Option("--instance", "-i", help="Only of this instance: name or id.", autocompletion=names_of("instances")),
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(
            metavar="BACKUP",
            help="Only of the chain of this backup: name or id.",
            autocompletion=names_of("backups"),
        ),
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only in this status, as COMPLETED; may be repeated.")] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help="Only those that no verification has found good.")] = False,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    sort: Sort = None,
    tree: Annotated[bool, typer.Option("--tree", help="Each chain as a tree: a full, and below it what depends on it.")] = False,
    all_projects: AllProjects = False,
) -> None:
    """List backups, the newest first."""
    require_known("--status", status, STATUSES)
    filters = Filters.given(since, until, limit, sort, status=status, kind=[kind.value] if kind else None)
    list_backups(session, filters, instance=instance, chain=chain, unverified=unverified, tree=tree, all_projects=all_projects)


@command(app, "show", example="strongroom backup show monday\nstrongroom backup show monday -f value -c id")
def show(session: Session, backup: Name) -> None:
    """Show one backup: what it holds, where it is, whether it was checked."""
    session.output.record(session.client.get("backups", backup)["backup"], SHOW)


@command(
    app,
    "verify",
    example="strongroom backup verify monday\nstrongroom backup verify monday --prepare\nstrongroom backup verify monday --quick",
)
def verify(
    session: Session,
    backup: Name,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Also restore the whole chain into a scratch directory, and read every table there.")
    ] = False,
    no_start: Annotated[
        bool, typer.Option("--no-start", help="With --prepare: do not start a private server that reads every table.")
    ] = False,
    no_chain: Annotated[
        bool, typer.Option("--no-chain", help="Read this backup only, not the backups that it is based on.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only compare the sizes of all objects in the store.")] = False,
    wait: Wait = True,
) -> None:
    """Read a backup and all that it is based on, and verify every hash; exits non-zero if anything is wrong.

    The result is kept in the store beside each backup. A backup that was found damaged, and every backup that is based on it,
    counts as not restorable until a verification that looks as closely finds it good.
    """
    wish = {"prepare": prepare, "start": not no_start}
    if no_chain:
        wish["chain"] = False
    if quick:
        wish["quick"] = True
    reply = session.client.post("backups", backup, "action", json={"verify": wish})
    job = session.finish(reply.job, wait)
    if job is not None:
        note(_describe_coverage(job["output"]))
    session.output.record(session.client.get("backups", backup)["backup"], SHOW)


def _describe_coverage(output: Mapping[str, Any]) -> str:
    count = output.get("links") or 1
    what = "1 backup" if count == 1 else f"{count} backups"
    how = HOW[output.get("level") or "content"].format(tables=(output.get("prepared") or {}).get("tables"))
    return f"Verified {what} of the chain, {output.get('segments', 0)} segments, {size(output.get('stored_size', 0))}: {how}."


@command(app, "rename", example="strongroom backup rename monday before-upgrade")
def rename(
    session: Session,
    backup: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    allow_same_name: AllowSameName = False,
) -> None:
    """Give a backup another name. In the store it keeps the one that it was taken with."""
    names.rename(session, "backup", backup, name, allow_same_name)


@command(app, "protect", example="strongroom backup protect monday")
def protect(session: Session, backup: Name) -> None:
    """Protect a backup: neither it nor what it depends on can be deleted until `strongroom backup unprotect`."""
    names.protect(session, "backup", backup, True)


@command(app, "unprotect", example="strongroom backup unprotect monday")
def unprotect(session: Session, backup: Name) -> None:
    """Let a backup be deleted again."""
    names.protect(session, "backup", backup, False)


@command(
    app,
    "delete",
    example="strongroom backup delete monday\nstrongroom backup delete monday --cascade --plan\n"
    "strongroom backup delete monday --cascade --yes",
)
def delete(
    session: Session,
    backup: Name,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also delete the incrementals that depend on it.")] = False,
    plan: deletion.Plan = False,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Delete a backup and its bytes in the store."""
    deletion.delete(session, "backup", backup, plan=plan, yes=yes, wait=wait, cascade="true" if cascade else None)
