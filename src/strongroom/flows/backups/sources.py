"""Where the data of a backup is: in its own artifact, or in that of another service or program to which it refers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.artifact import ForeignBackup, ForeignChain, ForeignReader, Location, load_chain, read_manifest, require_container
from strongroom.catalog import Backup
from strongroom.catalog.find import chain_of, find_backup
from strongroom.errors import ArtifactError, ArtifactMissing, Conflict, NotFound
from strongroom.flows.site import Site


class Source(BaseModel):
    """What a RESTORED backup refers to: an ``artifact`` of another service, or the ``foreign`` chain of another program.

    The last item of ``foreign`` is the backup itself; the others are parents without a row of their own.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    artifact: Location | None = None
    manifest_sha256: str = ""
    foreign: list[ForeignBackup] = []


def source_of(backup: Backup) -> Source:
    """What the backup refers to; empty if it has its own artifact."""
    return Source.model_validate(backup.source or {})


def location_of(backup: Backup) -> Location:
    """The location of a backup's own artifact, which may not exist yet."""
    return Location(container=backup.container, id=backup.id)


def find_registered(session: Session) -> dict[str, str]:
    """Registered backups, which refer to the artifact of a backup: their ids, with the id of that backup."""
    rows = session.execute(select(Backup.id, Backup.source).where(Backup.status == "RESTORED", Backup.deleted.is_(None)))
    sources = {key: Source.model_validate(source or {}) for key, source in rows}
    return {key: source.artifact.id for key, source in sources.items() if source.artifact is not None}


def target_of(session: Session, backup: Backup) -> Location | ForeignChain:
    """What a job must restore or verify: an artifact or a whole foreign chain. Raises InvalidRequest for a broken chain."""
    source = source_of(backup)
    if source.foreign:
        return ForeignChain(backups=[part for link in chain_of(session, backup) for part in source_of(link).foreign])
    return source.artifact or location_of(backup)


def require_source(site: Site, project: str | None, ref: str) -> None:
    """Check that the source of a RESTORED backup still exists and is unchanged: this service does not control it.

    Raises NotFound if the backup or its source does not exist, Conflict if the source was changed, StorageError.
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
                raise Conflict("its manifest was replaced")
    except ArtifactMissing as error:
        require_container(store, target)
        raise NotFound(
            f"backup {backup.name} ({backup.id}) refers to {backup.location}, which no longer exists: {error.message}",
            remedy="It can no longer be restored; delete it, and choose another backup.",
        ) from error
    except (ArtifactError, Conflict) as error:
        raise Conflict(
            f"backup {backup.name} ({backup.id}) refers to {backup.location}, which was changed: {error.message}",
            remedy="Delete this backup; to use the changed one, import or register it again.",
        ) from error
