"""``strongroom backup``: what can be restored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from strongroom.cli._render import Column, duration, moment, note, size, times
from strongroom.cli._session import AllProjects, Session, Wait, Yes, command, confirm
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Backups: take, look at, check, delete.")

Name = Annotated[str, typer.Argument(metavar="BACKUP", help="Name or id of the backup.")]


class Codec(StrEnum):
    """How the artifact is compressed."""

    zstd = "zstd"
    gzip = "gzip"


class DamagedPages(StrEnum):
    """What damaged pages do to a backup."""

    fail = "fail"
    warn = "warn"


class Ratio(Column):
    """The whole view gives two numbers, the column their quotient."""

    def raw(self, item: Mapping[str, Any]) -> Any:
        raw, stored = item.get("raw_size"), item.get("stored_size")
        return round(raw / stored, 2) if raw and stored else None

    def text(self, item: Mapping[str, Any]) -> str:
        return times(item.get("raw_size"), item.get("stored_size"))


class State(Column):
    """How closely a backup was verified, or that it cannot be restored."""

    def raw(self, item: Mapping[str, Any]) -> Any:
        if item.get("unrestorable_reason"):
            return "not restorable"
        verified = item.get("verified")
        return verified["level"] if verified else None

    def text(self, item: Mapping[str, Any]) -> str:
        return self.raw(item) or ""


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


LIST = [
    Column("Name", "name"),
    Column("Instance", "instance_name"),
    Column("Kind", "kind"),
    Column("Status", "status"),
    Column("Data", "data_size", size, right=True),
    Column("Stored", "stored_size", size, right=True),
    Ratio("Ratio", "ratio", right=True),
    Column("Time", "seconds", duration, right=True),
    Column("Created (UTC)", "created", moment),
    State("Verified", "state"),
    Column("ID", "id"),
]
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
    Column("Verified", "verified", _verified),
    Column("Created (UTC)", "created", moment),
    Column("Finished (UTC)", "finished", moment),
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
    instance: Annotated[str | None, typer.Option("--instance", "-i", help="What to back up: name or id.")] = None,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Only what changed since the newest backup; a full, when there is none.")
    ] = False,
    parent: Annotated[str | None, typer.Option(help="Only what changed since this backup: name or id.")] = None,
    container: Annotated[str | None, typer.Option(help="Where to keep it. Default: the strategy's, else the service's.")] = None,
    description: Annotated[str | None, typer.Option(help="A remark to keep with it.")] = None,
    codec: Annotated[Codec | None, typer.Option(help="How to compress. Default: the service's.")] = None,
    damaged_pages: Annotated[
        DamagedPages, typer.Option(help="What pages of the database with wrong checksums do to the backup (PostgreSQL).")
    ] = DamagedPages.warn,
    restore_from: Annotated[
        str | None, typer.Option(metavar="URL", help="Take none: record one of another region, by its location.")
    ] = None,
    restore_datastore_version: Annotated[str | None, typer.Option(help="Datastore version of that one: id or name.")] = None,
    restore_size: Annotated[float | None, typer.Option(help="Size of that one in GB.")] = None,
    wait: Wait = True,
) -> None:
    """Take a backup of a running instance; or record one that is in the store already."""
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
    wait: Wait = True,
) -> None:
    """Take in a backup that OpenStack Trove or Kolla wrote. It is read once, and stays where it is."""
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


@command(app, "list", example="strongroom backup list\nstrongroom backup list --instance mysql1 --format json")
def list_(
    session: Session,
    instance: Annotated[str | None, typer.Option("--instance", "-i", help="Only of this instance: name or id.")] = None,
    all_projects: AllProjects = False,
) -> None:
    """List backups, the newest first."""
    if all_projects:
        found = session.client.pages("backups", instance_id=instance, all_projects=True)
        session.output.rows(found, [Column("Project", "project_id"), *LIST])
    else:
        session.output.rows(session.client.pages("backups", instance_id=instance), LIST)


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


@command(app, "delete", example="strongroom backup delete monday\nstrongroom backup delete monday --cascade --yes")
def delete(
    session: Session,
    backup: Name,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also delete the incrementals that stand on it.")] = False,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Delete a backup and its bytes in the store."""
    confirm(f"Delete backup {backup}{' and all that stand on it' if cascade else ''} for good?", yes)
    session.finish(session.client.delete("backups", backup, cascade="true" if cascade else None).job, wait)
