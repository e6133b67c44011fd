"""One attempt of a run: a backup of an instance or a cluster, with a job whose id is derived from the run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Job, Policy, PolicyRun
from strongroom.catalog.policies import Database
from strongroom.flows.backups.chains import ChainLimit, newest_parent
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.clusters.backup import add_cluster_backup, newest_backup
from strongroom.flows.jobs import Scheduled
from strongroom.flows.kinds.backup import add_backup
from strongroom.flows.site import Site
from strongroom.protection.durations import format_duration
from strongroom.protection.policy import PolicySpec
from strongroom.protection.runs import make_job_id

_LONGEST_NAME = 200


def begin_attempt(
    session: Session, site: Site, run: PolicyRun, database: Database, policy: Policy, at: datetime, *, why: str = ""
) -> tuple[Backup, Job]:
    """Add the backup and job of the run's next attempt, in the caller's transaction. Raises the errors of such a request.

    ``why``: why it begins although no schedule demands it.
    """
    incremental = run.kind == "incremental"
    is_first = incremental and isinstance(database, Cluster) and newest_backup(session, database) is None
    options = BackupOptions(
        name=_name_backup(database, run),
        description=f"policy {policy.name}: {why}" if why else f"policy {policy.name}",
        incremental=incremental and not is_first,
        limit=limit_chain(policy.spec, at),
        scheduled=Scheduled(run.id, make_job_id(run.id, run.attempts + 1), policy.name),
    )
    if isinstance(database, Cluster):
        backup, job = add_cluster_backup(session, site, database, options)
        if is_first:
            backup.reason = "a full was taken: the cluster has no completed backup"
    else:
        backup, job = add_backup(session, site, database, options)
    run.attempts += 1
    run.job_id, run.backup_id = job.id, backup.id
    return backup, job


def has_usable_backup(session: Session, database: Database) -> bool:
    """Whether an incremental could be based on a backup of the database."""
    if isinstance(database, Cluster):
        return newest_backup(session, database) is not None
    return newest_parent(session, database)[0] is not None


def limit_chain(spec: PolicySpec, at: datetime) -> ChainLimit:
    """A function that explains why a chain must not grow under the policy: it is too long or too old."""

    def limit(chain: Sequence[Backup]) -> str | None:
        if spec.max_chain and len(chain) >= spec.max_chain:
            return f"the chain has {len(chain)} backups, and the policy allows {spec.max_chain}"
        age = at - (chain[0].started or chain[0].created)
        if spec.max_chain_age and age >= spec.max_chain_age:
            return f"the chain is older than {format_duration(spec.max_chain_age)}, which the policy allows"
        return None

    return limit


def _name_backup(database: Database, run: PolicyRun) -> str:
    again = f"-{run.attempts + 1}" if run.attempts else ""
    return f"{database.name[:_LONGEST_NAME]}-{run.nominal:%Y%m%dT%H%M%SZ}{again}"
