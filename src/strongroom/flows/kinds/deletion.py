"""Delete a backup, and those that are deleted with it, from the store."""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from strongroom.artifact import delete_artifact
from strongroom.catalog import Backup, Job
from strongroom.catalog.find import descendants_of
from strongroom.errors import HasChildren
from strongroom.flows.backups.sources import location_of
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.outcomes import settle_deletion
from strongroom.flows.site import Site
from strongroom.flows.steps import backup_of, load_job


async def delete_stored(site: Site, job_id: str) -> None:
    """Remove every object of the backup and of those that are deleted with it, children first.

    A backup that is only a record of what others wrote keeps its objects. Refused while a backup depends on one of them.
    """

    def remove() -> None:
        _, _, backup = load_job(site, job_id)
        assert backup is not None
        with site.catalog.read() as session:
            chain = [*descendants_of(session, backup.id), backup]
        for link in chain:
            if link.status != "DELETING":
                raise HasChildren(
                    f"backup {backup.name} ({backup.id}) is still the parent of {link.name} ({link.id})",
                    remedy="Delete that one first.",
                )
        for link in chain:
            if link.source is None:
                delete_artifact(site.stores.holding(link), location_of(link))
            if link.id != backup.id:  # the job's own backup is settled with the job
                with site.catalog.write() as session:
                    row = session.get(Backup, link.id)
                    assert row is not None
                    settle_deletion(row, None)

    await asyncio.to_thread(remove)


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    backup = backup_of(session, job)
    for link in [*descendants_of(session, backup.id), backup]:
        if link.status == "DELETING":
            settle_deletion(link, failure)


DELETE_BACKUP = JobKind(
    name="delete_backup", operation="delete backup {backup}", steps=(delete_stored,), lane="stores", settle=_settle
)
