"""``strongroom restore``: a backup becomes a running database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from strongroom.cli._session import Session, Wait, Yes, command, confirm
from strongroom.cli.instance import Flavor, Host, Size, make, show_instance
from strongroom.errors import InvalidRequest

app = typer.Typer()


@command(
    app,
    "restore",
    example="strongroom restore tuesday --name mysql2\nstrongroom restore tuesday --in-place mysql1",
)
def restore(
    session: Session,
    backup: Annotated[
        str, typer.Argument(metavar="BACKUP", help="Name or id of the backup; an incremental brings its chain along.")
    ],
    name: Annotated[str | None, typer.Option(help="Restore to a new instance with this name.")] = None,
    in_place: Annotated[
        str | None, typer.Option(metavar="INSTANCE", help="Replace the data of this instance; the old data is kept aside.")
    ] = None,
    flavor: Flavor = None,
    size: Size = None,
    host: Host = None,
    tablespace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="PostgreSQL, new instance: put tablespace OLD (its name, or its directory at the source) into the empty or "
            "missing directory NEW; may be repeated. Default: into the data directory.",
        ),
    ] = None,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Restore a backup to a new instance, or in place.

    In place, the old data directory is put aside when the new one is ready, and put back if the new one does not come up.
    `strongroom instance discard-old` deletes it.
    """
    if (name is None) == (in_place is None):
        raise InvalidRequest("a restore needs one target", remedy="Give either --name NEW or --in-place INSTANCE.")
    found = session.client.get("backups", backup)["backup"]
    if name is not None:
        body = {
            "name": name,
            "flavorRef": flavor,
            "volume": {"size": size} if size else None,
            "restorePoint": {"backupRef": found["id"]} | ({"tablespaces": _directories(tablespace)} if tablespace else {}),
            "host": host,
        }
        make(session, body, wait)
    elif in_place is not None:
        if flavor or size or host or tablespace:
            raise InvalidRequest(
                "--flavor, --size, --host and --tablespace are for a new instance", remedy="Leave them out with --in-place."
            )
        when = f"{found['name']}, taken {found['created']} UTC from {found['instance_name']}"
        confirm(f"Replace the data of {in_place} by backup {when}?", yes, required=True)
        reply = session.client.post("instances", in_place, "action", json={"restore": {"backupRef": found["id"]}})
        session.finish(reply.job, wait)
        show_instance(session, in_place)


def _directories(tablespaces: Sequence[str]) -> dict[str, str]:
    """Of OLD=NEW each. A directory may have a = in its name when it stands before the last one."""
    found = {}
    for text in tablespaces:
        old, _, new = text.rpartition("=")
        if not old or not new.startswith("/"):
            raise InvalidRequest(
                f"--tablespace {text!r} is not OLD=NEW", remedy="NEW is an absolute path: --tablespace data=/srv/data"
            )
        if old in found:
            raise InvalidRequest(f"--tablespace names {old!r} twice", remedy="Name each tablespace once.")
        found[old] = new
    return found
