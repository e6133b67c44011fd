"""The bodies of requests about backups."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from strongroom.api.http.fields import (
    Body,
    Container,
    Flag,
    Location,
    Name,
    OwnBody,
    Ref,
)


class RestoreFrom(Body):
    """An existing backup in the store."""

    remote_location: Location = Field(
        description="Its `locationRef` in the region where it was taken; only container and object are used."
    )
    local_datastore_version_id: Ref = Field(description="Id or name of its datastore version.")
    size: float = Field(strict=True, gt=0, lt=10**9, allow_inf_nan=False, description="Size in GB to display.")


class ImportFrom(OwnBody):
    """A backup by Trove or Kolla. It is read once, and neither moved nor changed."""

    location: Location = Field(description="`container/object`, a URL in this store, or a path on the host (operators only).")
    datastore: Ref = Field("", description="Id or name. Default: the service's default datastore.")
    datastore_version: Ref = Field("", description="Id, series (10.11) or full version. Default: the newest installed.")


class NewBackup(Body):
    """A backup to take."""

    name: Name
    instance: Ref = Field("", description="Id or unique name.")
    description: Name = ""
    parent_id: Ref = Field("", description="Parent of an incremental backup: id or unique name.")
    incremental: Flag = Field(
        0, description="1: an incremental based on the newest usable backup, or a full backup if there is none."
    )
    swift_container: Container = ""
    storage_driver: Any = None
    restore_from: RestoreFrom | None = Field(
        None, description="Register a backup from another region; all other fields are ignored."
    )
    import_from: ImportFrom | None = Field(None, description="Extension: import a backup by Trove or Kolla.")
    codec: Literal["zstd", "gzip"] | None = Field(None, description="Extension: compression of the segments.")
    damaged_pages: Literal["fail", "warn"] = Field(
        "warn", description="Extension: whether pages of the database with wrong checksums fail the backup (PostgreSQL)."
    )


class CreateBackup(Body):
    """Body of a create."""

    backup: NewBackup


class Verify(OwnBody):
    """What to verify. By default, all backups of the chain up to this one are read."""

    chain: bool = Field(True, description="Also read the backups that it is based on.")
    quick: bool = Field(False, description="Only compare the sizes of all objects; nothing is read.")
    prepare: bool = Field(False, description="Also restore the chain into a scratch directory.")
    start: bool = Field(True, description="With `prepare`: start a private server there that reads every table.")


class Hold(OwnBody):
    """Keep a backup and all that it is based on."""

    reason: Location = Field(description="Why it is kept.")
    until: AwareDatetime | None = Field(None, description="The hold ends at this time. Default: when it is released.")


class Nothing(OwnBody):
    """An action without parameters."""


class BackupAction(Body):
    """Exactly one action."""

    model_config = ConfigDict(extra="allow")

    verify: Verify | None = Field(None, description="Extension: read every segment and check every hash.")
    hold: Hold | None = Field(None, description="Extension: keep it, whatever its policy or a user wants.")
    release: Nothing | None = Field(None, description="Extension: end the hold.")
    undelete: Nothing | None = Field(None, description="Extension: take its deletion back, within the grace period.")
