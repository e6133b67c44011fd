"""Where the bytes of a backup are: our own artifact, or one that was written elsewhere and is only pointed to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from strongroom.artifact import ForeignBackup, ForeignChain, ForeignReader, Location, load_chain, read_manifest, require_container
from strongroom.catalog import Backup
from strongroom.catalog.find import chain_of, find_backup
from strongroom.errors import ArtifactError, ArtifactMissing, Conflict, NotFound
from strongroom.flows.site import Site


class Source(BaseModel):
    """What a RESTORED backup points to: an ``artifact`` of another service, or the ``foreign`` chain of another program.

    ``foreign`` ends with the backup itself; what is before it are parents that have no row of their own.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    artifact: Location | None = None
    manifest_sha256: str = ""
    foreign: list[ForeignBackup] = []


def source_of(backup: Backup) -> Source:
    """What the backup points to; nothing when it is our own."""
    return Source.model_validate(backup.source or {})


def location_of(backup: Backup) -> Location:
    """Where the artifact of a backup of our own is, or will be."""
    return Location(container=backup.container, id=backup.id)


def target_of(session: Session, backup: Backup) -> Location | ForeignChain:
    """What a job has to restore or verify: the artifact, or the whole foreign chain. Raises InvalidRequest for a broken chain."""
    source = source_of(backup)
    if source.foreign:
        return ForeignChain(backups=[part for link in chain_of(session, backup) for part in source_of(link).foreign])
    return source.artifact or location_of(backup)


def require_source(site: Site, project: str | None, ref: str) -> None:
    """See that what a RESTORED backup points to is still there, and the same: nobody keeps it for us.

    Raises NotFound when the backup or what it points to is gone, Conflict when that was changed, StorageError.
    """
    with site.catalog.read() as session:
        backup = find_backup(session, project, ref)
        if backup.source is None:
            return
        source, target = source_of(backup), target_of(session, backup)
    store = site.stores.holding(backup)
    try:
        if isinstance(target, ForeignChain):
            for link in target.backups:
                if link.directory is None:
                    ForeignReader(store, link).check()
        else:
            load_chain(store, target)
            if read_manifest(store, target)[1] != source.manifest_sha256:
                raise Conflict("its manifest is another one now")
    except ArtifactMissing as error:
        require_container(store, target)
        raise NotFound(
            f"backup {backup.name} ({backup.id}) points to {backup.location}, which is gone: {error.message}",
            remedy="It cannot be restored any more; delete this record, and choose another backup.",
        ) from error
    except (ArtifactError, Conflict) as error:
        raise Conflict(
            f"backup {backup.name} ({backup.id}) points to {backup.location}, which was changed: {error.message}",
            remedy="Delete this record; make a new one if what is there now is what you want.",
        ) from error
