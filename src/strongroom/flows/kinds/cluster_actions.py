"""Recover a cluster, restart or activate its nodes one at a time, discard its previous data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from strongroom.catalog import Job
from strongroom.catalog.find import find_cluster, nodes_of
from strongroom.errors import Conflict
from strongroom.flows.clusters import actions
from strongroom.flows.clusters.busy import refuse_if_cut_off, refuse_if_working
from strongroom.flows.clusters.nodes import nodes_named
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import JobKind, Step
from strongroom.flows.site import Site
from strongroom.flows.status import move_cluster


def request_recover(site: Site, project: str, cluster: str, *, node: str | None = None, force: bool = False) -> Job:
    """Recover a cluster that is down. Raises NotFound, Busy, Conflict."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_working(session, row, "recover it")
        first = nodes_named(session, row, [node])[0].id if node else None
        move_cluster(row, "RECOVERING")
        job = new_job(session, project, "cluster_recover", cluster=row, first=first, force=force)
    site.start(job)
    return job


Action = Literal["restart", "activate", "discard_old"]


TASK: Mapping[Action, str | None] = {"restart": "RESTARTING", "activate": "RESTARTING", "discard_old": None}


def request_cluster_action(site: Site, project: str, cluster: str, kind: Action) -> Job:
    """Restart or activate the nodes one at a time, or discard their previous data. Raises NotFound, Busy, Conflict."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_working(session, row, kind.replace("_", " "))
        refuse_if_cut_off(session, row)
        if kind == "activate" and not any(node.isolated for node in nodes_of(session, row.id)):
            raise Conflict(f"cluster {row.name} ({row.id}) is not isolated; nothing to activate")
        move_cluster(row, TASK[kind] or row.task)
        job = new_job(session, project, f"cluster_{kind}", cluster=row)
    site.start(job)
    return job


def _make_kind(name: str, step: Step) -> JobKind:
    """The kind of an operation with one step that neither creates nor deletes the cluster."""
    operation = name.removeprefix("cluster_").replace("_", " ")
    return JobKind(name=name, operation=f"{operation} cluster", steps=(step,), lane="clusters", has_task=True)


KINDS = (
    _make_kind("cluster_recover", actions.recover),
    _make_kind("cluster_restart", actions.restart),
    _make_kind("cluster_activate", actions.activate),
    _make_kind("cluster_discard_old", actions.discard_old),
)
