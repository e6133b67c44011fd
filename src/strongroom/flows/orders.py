"""What the requests for an agent share. Secrets are added here, on the way out, and kept nowhere."""

from __future__ import annotations

from pydantic import SecretStr
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Instance, Job
from strongroom.flows.kind import kind_of
from strongroom.flows.site import Control
from strongroom.worker.spec import JobRequest, StorageSpec


def order(control: Control, session: Session, job: Job) -> JobRequest:
    """The request for the agent that ``job`` needs. Raises ConfigurationError when identities cannot be read."""
    make = kind_of(job.kind).order
    assert make is not None, f"{job.kind} jobs run no worker"
    return make(control.for_job(job.id), session, job)


def storage_spec(control: Control, project: str) -> StorageSpec:
    """What a worker is let into the store of the project with."""
    storage = control.storage_of(project)
    if storage.driver == "directory":
        storage = storage.model_copy(update={"path": control.settings.store_path.resolve()})
    return StorageSpec(**{name: getattr(storage, name) for name in type(storage).model_fields})


def identities(control: Control) -> list[SecretStr]:
    """What encrypted backups are opened with. Raises ConfigurationError."""
    return [SecretStr(identity) for identity in control.identities()]


def is_copy(backup: Backup, instance: Instance) -> bool:
    """Whether the backup, restored to the instance, makes a second server with the data of another."""
    same_cluster = instance.cluster_id is not None and instance.cluster_id == backup.cluster_id
    return backup.instance_id != instance.id and not same_cluster


def is_isolated(backup: Backup, instance: Instance) -> bool:
    """Whether the restored server is isolated: it is a copy, or was one that nobody has activated.

    A backup of an isolated copy holds the replication and the events of its source.
    """
    return is_copy(backup, instance) or (instance.isolated and instance.cluster_id is None)
