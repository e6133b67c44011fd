"""The bodies of requests about backups."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

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
    """A backup that is in the store already."""

    remote_location: Location = Field(description="`locationRef` of it where it was taken; only container and object count.")
    local_datastore_version_id: Ref = Field(description="Id (or name) of the datastore version that it is of.")
    size: float = Field(strict=True, gt=0, lt=10**9, allow_inf_nan=False, description="GB, as it shall be told.")


class ImportFrom(OwnBody):
    """A backup of Trove or Kolla. It stays where and as it is, and is read once."""

    location: Location = Field(description="`container/object`, a URL of this store, or, for the operator, a path of the host.")
    datastore: Ref = Field("", description="Id or name. Default: that of the service.")
    datastore_version: Ref = Field("", description="Id, series (10.11) or full version. Default: the newest there is.")


class BackupWish(Body):
    """A backup to take."""

    name: Name
    instance: Ref = Field("", description="Id or unique name.")
    description: Name = ""
    parent_id: Ref = Field("", description="Take an incremental on this backup: id or unique name.")
    incremental: Flag = Field(0, description="1: an incremental on the newest usable backup; when there is none, a full.")
    swift_container: Container = ""
    storage_driver: Any = None
    restore_from: RestoreFrom | None = Field(None, description="Record a backup of another region; nothing else is looked at.")
    import_from: ImportFrom | None = Field(None, description="Extension: take in a backup of Trove or Kolla.")
    codec: Literal["zstd", "gzip"] | None = Field(None, description="Extension: how segments are compressed.")
    damaged_pages: Literal["fail", "warn"] = Field(
        "warn", description="Extension: whether pages of the database with wrong checksums fail the backup (PostgreSQL)."
    )


class CreateBackup(Body):
    """Body of a create."""

    backup: BackupWish


class Verify(OwnBody):
    """How far to go. By default all backups of the chain are read, up to the one that is named."""

    chain: bool = Field(True, description="Also read the backups that it is based on.")
    quick: bool = Field(False, description="Only compare the sizes of all objects; nothing is read.")
    prepare: bool = Field(False, description="Also restore the chain into a scratch directory.")
    start: bool = Field(True, description="With `prepare`: start a private server there that reads every table.")


class BackupAction(Body):
    """Exactly one of these."""

    model_config = ConfigDict(extra="allow")

    verify: Verify | None = Field(None, description="Extension: read every segment and check every hash.")
