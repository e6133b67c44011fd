"""Turn a job of the catalog into the request that its agent gets. Secrets are added here, on the way out, and kept nowhere."""

from __future__ import annotations

from pydantic import SecretStr
from sqlalchemy.orm import Session

from strongroom.artifact import ForeignChain, Witness
from strongroom.catalog import Backup, Instance, Job
from strongroom.flows._control import Control
from strongroom.flows._placement import GB
from strongroom.flows._source import location_of, source_of, target_of
from strongroom.worker.spec import BackupJob, ImportJob, InitializeJob, JobRequest, RestoreJob, StorageSpec, VerifyJob


def order(control: Control, session: Session, job: Job) -> JobRequest:
    """The request for the agent that ``job`` needs. Raises ConfigurationError when identities cannot be read."""
    control = control.for_job(job.id)
    backup = session.get(Backup, job.backup_id) if job.backup_id else None
    instance = session.get(Instance, job.instance_id) if job.instance_id else None
    if job.kind == "backup":
        assert backup is not None and instance is not None
        return JobRequest(server=instance.id, job=_backup(control, session, job, backup))
    if job.kind == "verify":
        assert backup is not None
        return JobRequest(server=None, job=_verify(control, session, job, backup))
    if job.kind == "import":
        assert backup is not None
        return JobRequest(server=None, job=_import(control, backup))
    assert instance is not None
    if backup is None:
        return JobRequest(server=instance.id, job=InitializeJob())
    return JobRequest(server=instance.id, job=_restore(control, session, job, backup, instance))


def storage_spec(control: Control, project: str) -> StorageSpec:
    """What a worker is let into the store of the project with."""
    storage = control.storage_of(project)
    if storage.driver == "directory":
        storage = storage.model_copy(update={"path": control.settings.store_path.resolve()})
    return StorageSpec(**{name: getattr(storage, name) for name in type(storage).model_fields})


def _backup(control: Control, session: Session, job: Job, backup: Backup) -> BackupJob:
    parent = session.get(Backup, backup.parent_id) if backup.parent_id else None
    return BackupJob(
        location=location_of(backup),
        backup_kind="incremental" if parent else "full",
        name=backup.name,
        description=backup.description,
        project=backup.project,
        instance_id=backup.instance_id or "",
        instance_name=backup.instance_name,
        datastore_version=backup.series,
        parent=location_of(parent) if parent else None,
        parent_sha256=parent.manifest_sha256 if parent else None,
        parent_witness=Witness.model_validate(parent.witness) if parent and parent.witness else None,
        fall_back_to_full=bool(job.params.get("fall_back_to_full")),
        desync=bool(job.params.get("desync")),
        damaged_pages="fail" if job.params.get("damaged_pages") == "fail" else "warn",
        storage=storage_spec(control, backup.project),
        artifact=control.settings.artifact.model_copy(
            update={"codec": backup.codec} | ({"level": None} if backup.codec != control.settings.artifact.codec else {})
        ),
        recipients=control.settings.encryption.recipients,
        owner=control.catalog.service_id,
    )


def _identities(control: Control) -> list[SecretStr]:
    return [SecretStr(identity) for identity in control.identities()]


def _restore(control: Control, session: Session, job: Job, backup: Backup, instance: Instance) -> RestoreJob:
    return RestoreJob(
        location=target_of(session, backup),
        manifest_sha256=backup.manifest_sha256,
        datastore=backup.datastore,
        storage=storage_spec(control, backup.project),
        artifact=control.settings.artifact,
        identities=_identities(control),
        volume_bytes=instance.volume_size * GB if instance.runtime == "process" else None,
        in_place=job.kind == "restore" or bool(job.params.get("in_place")),
        isolated=is_isolated(backup, instance),
        tablespaces=job.params.get("tablespaces") or {},
    )


def is_copy(backup: Backup, instance: Instance) -> bool:
    """Whether the backup, restored to the instance, makes a second server with the data of another."""
    same_cluster = instance.cluster_id is not None and instance.cluster_id == backup.cluster_id
    return backup.instance_id != instance.id and not same_cluster


def is_isolated(backup: Backup, instance: Instance) -> bool:
    """Whether the restored server is isolated: it is a copy, or was one that nobody has activated.

    A backup of an isolated copy holds the replication and the events of its source.
    """
    return is_copy(backup, instance) or (instance.isolated and instance.cluster_id is None)


def _verify(control: Control, session: Session, job: Job, backup: Backup) -> VerifyJob:
    return VerifyJob(
        location=target_of(session, backup),
        manifest_sha256=backup.manifest_sha256,
        datastore=backup.datastore,
        chain=bool(job.params.get("chain", True)),
        quick=bool(job.params.get("quick")),
        prepare=bool(job.params.get("prepare")),
        start=bool(job.params.get("start", True)),
        storage=storage_spec(control, backup.project),
        artifact=control.settings.artifact,
        identities=_identities(control),
    )


def _import(control: Control, backup: Backup) -> ImportJob:
    return ImportJob(
        location=ForeignChain(backups=source_of(backup).foreign),
        datastore=backup.datastore,
        storage=storage_spec(control, backup.project),
    )
