"""Create an instance: empty, from a backup, or by adopting a running server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from strongroom import datastores
from strongroom.agent.models import ServerDefinition
from strongroom.catalog import Backup, Instance, Job, quotas
from strongroom.catalog.find import find_backup
from strongroom.datastores import DatabaseSpec, UserSpec
from strongroom.errors import AlreadyExists, Conflict, InvalidRequest
from strongroom.flows.backups.chains import refuse_unless_restorable
from strongroom.flows.backups.sources import require_source
from strongroom.flows.hosts.placement import DEFAULT_VOLUME, INITIAL_DISK, Need, place, volume_for, with_fresh_facts
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import JobKind
from strongroom.flows.kinds.restore import describe_use, order_restore, swap
from strongroom.flows.records import check_name
from strongroom.flows.recovery.decision import Recovery, record_recovery, take_older_base
from strongroom.flows.site import Site
from strongroom.flows.steps import define, load_instance, work


@with_fresh_facts
def request_instance(
    site: Site,
    project: str,
    *,
    name: str,
    flavor: str | None = None,
    volume_size: int | None = None,
    datastore: str | None = None,
    version: str | None = None,
    version_number: str | None = None,
    backup: str | None = None,
    recovery: Recovery | None = None,
    databases: Sequence[DatabaseSpec] = (),
    users: Sequence[UserSpec] = (),
    adopt: ServerDefinition | None = None,
    host: str | None = None,
    tablespaces: Mapping[str, str] | None = None,
    echo: dict[str, Any] | None = None,
) -> tuple[Instance, Job]:
    """Create an instance: empty, from a backup, or by adopting a running server. Only the name is required.

    ``host``: by default the host with the most free capacity. ``tablespaces``: directories for the tablespaces of the backup.
    ``recovery``: to which moment after ``backup``, its first base, the instance is restored.

    Raises InvalidRequest, NotFound, Conflict, TooLarge, QuotaExceeded.
    """
    check_name(name, "instance")
    settings = site.settings
    flavor = settings.find_flavor(flavor or settings.default_flavor)
    if volume_size is not None and volume_size < 1:
        raise InvalidRequest(f"the volume size is {volume_size} GB; it must be at least 1 GB")
    if backup is not None:
        require_source(site, project, backup)
    with site.catalog.write() as session:
        source: Backup | None = None
        if backup is not None:
            source = find_backup(session, project, backup)
            refuse_unless_restorable(session, source)
            if datastore is not None and datastore not in (source.datastore, version_id(source.datastore)):
                raise InvalidRequest(
                    f"backup {source.name} ({source.id}) is of datastore {source.datastore}; it cannot be restored to {datastore}"
                )
            datastore = source.datastore
            if version is None and version_number is None:
                version = source.series
            volume_size = volume_for(source, volume_size)
        where = _require_host(site, host) if adopt else host
        need = Need(
            datastore or (adopt.datastore if adopt else settings.datastores.default),
            [named for named in (version, version_number, adopt.series if adopt else None) if named],
            ram=0 if adopt else settings.flavors[flavor].ram,
            disk=0 if adopt else (source.data_size or 0 if source else 0) or INITIAL_DISK,
            hosts=[where] if where else [],
        )
        host, found = place(session, site, need)
        if source is not None and found["series"] != source.series:
            raise Conflict(
                f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; "
                f"it cannot be restored to {found['datastore']} {found['series']}",
                remedy=f"Specify --datastore-version {source.series}.",
            )
        if databases or users:
            administration = datastores.get(found["datastore"]).require_administration()
            administration.databases.check(databases)
            administration.users.check(users)
        volume_size = volume_size or DEFAULT_VOLUME
        resources = {} if adopt else {"ram": settings.flavors[flavor].ram, "volumes": volume_size}
        quotas.require(session, project, settings, {"instances": 1, **resources})
        instance = Instance(
            id=str(uuid.uuid4()),
            project=project,
            name=name,
            host=host,
            runtime="adopted" if adopt else "process",
            datastore=found["datastore"],
            series=found["series"],
            version_number=found["number"],
            flavor=flavor,
            volume_size=volume_size,
            task="BUILD",
            request=echo or {},
        )
        session.add(instance)
        job = new_job(
            session,
            project,
            "adopt" if adopt else "create",
            instance=instance,
            backup=source,
            adopt=adopt.model_dump(mode="json") if adopt else None,
            tablespaces=dict(tablespaces) if tablespaces else None,
            **(describe_use(session, source, recovery) if source is not None else {}),
        )
        if databases or users:
            site.secrets.put(
                job.id,
                {
                    "databases": [d.model_dump(mode="json") for d in databases],
                    "users": [u.model_dump(mode="json") for u in users],
                },
            )
    site.start(job)
    return instance, job


def _require_host(site: Site, host: str | None) -> str | None:
    """The host of the server to adopt. Raises InvalidRequest if none is named and there are several."""
    if host is None and len(site.agents.names) > 1:
        raise InvalidRequest(
            "the host of the server is not specified", remedy="Specify it with --host (`strongroom host list` shows the hosts)."
        )
    return host


async def populate(site: Site, job_id: str) -> None:
    """Create the databases and users of the request. Those that already exist (from the backup) are not changed."""
    _, instance = await load_instance(site, job_id)
    wanted: dict[str, Any] = await asyncio.to_thread(site.secrets.get, job_id)
    agent = site.agents.client(instance.host)
    for data in wanted.get("databases", []):
        try:
            await agent.create_databases(instance.id, [DatabaseSpec.model_validate(data)])
        except AlreadyExists:
            continue
    for data in wanted.get("users", []):
        try:
            await agent.create_users(instance.id, [UserSpec.model_validate(data)])
        except AlreadyExists:
            continue


CREATE = JobKind(
    name="create",
    operation="create instance",
    steps=(define, work, swap, populate),
    lane="heavy",
    order=order_restore,
    has_task=True,
    failed_task="ERROR",
    clears_fault=True,
    retry=take_older_base,
    settle=record_recovery,
)
