"""Restore a backup to a cluster, and resume an interrupted restore."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Job, Run
from strongroom.catalog.find import find_backup, find_cluster, nodes_of, open_run
from strongroom.errors import Busy, Conflict
from strongroom.flows.backups.sources import require_source
from strongroom.flows.clusters.busy import refuse_if_cut_off, refuse_if_working
from strongroom.flows.clusters.nodes import next_epoch
from strongroom.flows.clusters.phases import is_reversible, make_steps, undo_run
from strongroom.flows.clusters.plan import Method, make_plan
from strongroom.flows.clusters.run import new_run
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import JobKind
from strongroom.flows.site import Site
from strongroom.flows.status import move_cluster


def request_cluster_restore(
    site: Site, project: str, cluster: str, backup: str, *, method: Method | None = None, without: Sequence[str] = ()
) -> Job:
    """Restore ``backup`` to the whole cluster. ``without`` names nodes that are left out and fenced.

    Raises NotFound, Conflict, InvalidRequest, Busy, TooLarge.
    """
    require_source(site, project, backup)
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        source = find_backup(session, project, backup)
        refuse_if_working(session, row, "restore it")
        refuse_if_cut_off(session, row)
        plan = make_plan(session, row, source, method, without)
        nodes = [node for node in nodes_of(session, row.id) if node.id not in plan["left_out"]]
        move_cluster(row, "RESTORING")
        job = new_job(session, project, "cluster_restore", cluster=row, backup=source, chain=plan["chain"])
        new_run(session, job, row, nodes, source, plan["method"], epoch=next_epoch(session, row))
    site.start(job)
    return job


def request_resume(site: Site, project: str, cluster: str) -> Job:
    """Resume an interrupted restore. Raises NotFound, Conflict if there is none, Busy."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_working(session, row, "resume its restore")
        run = open_run(session, row.id)
        if run is None or run.backup_id is None:
            raise Conflict(f"cluster {row.name} ({row.id}) has no restore to resume", remedy="Start one with --backup.")
        move_cluster(row, "RESTORING")
        run.facts = {**run.facts, "attended": None, "away": None, "waits": False}
        job = new_job(session, project, "cluster_restore", cluster=row, backup=session.get(Backup, run.backup_id), run=run.id)
    site.start(job)
    return job


def _refuse_cancel(session: Session, job: Job) -> None:
    run = session.get(Run, job.params.get("run", job.id))
    if run is not None and not is_reversible(run.phase):
        raise Busy(
            f"job {job.id} has passed the point of no return: the cluster serves the new data", remedy="Wait until it has ended."
        )


RESTORE = JobKind(
    name="cluster_restore",
    operation="restore backup {backup}",
    steps=make_steps(),
    lane="clusters",
    clean=undo_run,
    refuse_cancel=_refuse_cancel,
    has_task=True,
)
