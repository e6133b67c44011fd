"""Requests about Galera clusters: create, adopt, restore, recover, restart, discard old data, reset, delete."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy.orm import Session

from strongroom.agent.models import ServerDefinition
from strongroom.catalog import Backup, Cluster, Instance, Job, Run, quotas
from strongroom.catalog.find import chain_of, find_backup, find_cluster, nodes_of, open_run, unfinished_jobs
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import Busy, Cancelled, Conflict, InvalidRequest, Unsupported
from strongroom.flows import outcomes
from strongroom.flows.backups.chains import check_name, refuse_unless_restorable
from strongroom.flows.backups.sources import require_source
from strongroom.flows.clusters.nodes import name as node_name
from strongroom.flows.clusters.nodes import next_epoch, nodes_named
from strongroom.flows.hosts.placement import Need, place, with_fresh_facts
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.jobs import cancel_job, new_job
from strongroom.flows.kinds.create import DEFAULT_VOLUME, ROOM, volume_for
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.site import Site
from strongroom.flows.status import move_cluster

MOST_NODES = 9
"""More make every commit slower and nothing safer."""
Method = Literal["seed", "sst"]


@with_fresh_facts
def request_cluster(
    site: Site,
    project: str,
    *,
    name: str,
    nodes: int = 3,
    flavor: str | None = None,
    volume_size: int | None = None,
    datastore: str | None = None,
    version: str | None = None,
    hosts: Sequence[str] = (),
    backup: str | None = None,
) -> tuple[Cluster, Job]:
    """Create a cluster, empty or from a backup; its nodes are spread over the hosts. Everything but the name has a default.

    Raises InvalidRequest, NotFound, Conflict, TooLarge, QuotaExceeded.
    """
    check_name(name, "cluster")
    settings = site.settings
    flavor = settings.find_flavor(flavor or settings.default_flavor)
    if not 1 <= nodes <= MOST_NODES:
        raise InvalidRequest(f"a cluster has 1 to {MOST_NODES} nodes, not {nodes}", remedy="Three is what most have.")
    if backup is not None:
        require_source(site, project, backup)
    with site.catalog.write() as session:
        source: Backup | None = None
        if backup is not None:
            source = find_backup(session, project, backup)
            refuse_unless_restorable(session, source)
            version, volume_size = version or source.series, volume_for(source, volume_size)
        datastore = _galera(datastore)
        volume_size = volume_size or DEFAULT_VOLUME
        quotas.require(
            session,
            project,
            settings,
            {"instances": nodes, "ram": nodes * settings.flavors[flavor].ram, "volumes": nodes * volume_size},
        )
        ram, room = settings.flavors[flavor].ram, (source.data_size or 0 if source else 0) or ROOM
        places: list[tuple[str, dict[str, Any]]] = []
        for _ in range(nodes):
            beside = [host for host, _ in places]
            need = Need(datastore, [version] if version else [], ram=ram, room=room, hosts=hosts, beside=beside, node=True)
            places.append(place(session, site, need))
        if source is not None and (source.datastore, source.series) != (datastore, places[0][1]["series"]):
            raise Conflict(
                f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; it cannot be restored here"
            )
        cluster = _new_cluster(session, project, name, "process", datastore, places[0][1]["series"])
        rows = [
            _new_node(session, cluster, number, host, found["number"], flavor, volume_size)
            for number, (host, found) in enumerate(places, start=1)
        ]
        job = new_job(session, project, "cluster_create", cluster=cluster, backup=source)
        _new_run(session, job, cluster, rows, source, "seed" if len({row.version_number for row in rows}) == 1 else "sst")
    site.start(job)
    return cluster, job


def request_adopt_cluster(
    site: Site, project: str, *, name: str, nodes: Sequence[tuple[str | None, ServerDefinition]]
) -> tuple[Cluster, Job]:
    """Take a cluster in that runs already: all its nodes, each with its host (default: the only one) and how to reach it.

    Raises InvalidRequest, NotFound, QuotaExceeded.
    """
    check_name(name, "cluster")
    if not nodes:
        raise InvalidRequest("a cluster to adopt needs its nodes", remedy="Name how each is reached: its socket, or its address.")
    with site.catalog.write() as session:
        quotas.require(session, project, site.settings, {"instances": len(nodes)})
        datastore = _galera(nodes[0][1].datastore)
        places = [
            place(session, site, Need(datastore, [d.series] if d.series else [], hosts=[host] if host else []))
            for host, d in nodes
        ]
        cluster = _new_cluster(session, project, name, "adopted", datastore, places[0][1]["series"])
        adopt = {}
        for number, ((host, found), (_, definition)) in enumerate(zip(places, nodes, strict=True), start=1):
            node = _new_node(session, cluster, number, host, found["number"], site.settings.default_flavor, DEFAULT_VOLUME)
            adopt[node.id] = definition.model_copy(update={"series": found["series"], "name": node.name}).model_dump(mode="json")
        job = new_job(session, project, "cluster_adopt", cluster=cluster, adopt=adopt)
    site.start(job)
    return cluster, job


def _galera(datastore: str | None) -> str:
    if datastore not in (None, "mariadb", version_id("mariadb")):
        raise Unsupported(f"there are no clusters of datastore {datastore}", remedy="Clusters are of mariadb.")
    return "mariadb"


def _new_cluster(session: Session, project: str, name: str, runtime: str, datastore: str, series: str) -> Cluster:
    key = str(uuid.uuid4())
    cluster = Cluster(
        id=key,
        project=project,
        name=name,
        runtime=runtime,
        datastore=datastore,
        series=series,
        wsrep_name=f"sr-{key[:18]}",
        epoch=1,
        task="BUILDING",
    )
    session.add(cluster)
    return cluster


def _new_node(
    session: Session, cluster: Cluster, number: int, host: str, version_number: str, flavor: str, volume_size: int
) -> Instance:
    node = Instance(
        id=str(uuid.uuid4()),
        project=cluster.project,
        name=f"{cluster.name}-{number}",
        cluster_id=cluster.id,
        node=f"node{number}",
        host=host,
        runtime=cluster.runtime,
        datastore=cluster.datastore,
        series=cluster.series,
        version_number=version_number,
        flavor=flavor,
        volume_size=volume_size,
        task="BUILD",
    )
    session.add(node)
    session.flush()
    return node


def _new_run(
    session: Session, job: Job, cluster: Cluster, nodes: Sequence[Instance], backup: Backup | None, method: Method, **facts: Any
) -> Run:
    run = Run(
        id=job.id,
        cluster_id=cluster.id,
        backup_id=backup.id if backup else None,
        phase="prepare",
        method=method,
        nodes={node.id: {"node": node_name(node)} for node in nodes},
        facts={
            "uuid": str(uuid.uuid4()),
            "first": nodes[0].id,
            "epoch": cluster.epoch,
            "epoch_before": cluster.epoch,
            "taken": backup.finished.isoformat() if backup and backup.finished else None,
            **facts,
        },
    )
    session.add(run)
    return run


def plan_cluster_restore(
    site: Site, project: str, cluster: str, backup: str, *, method: Method | None = None, without: Sequence[str] = ()
) -> dict[str, Any]:
    """What a restore would do; nothing is begun. Raises what the restore itself would."""
    require_source(site, project, backup)
    with site.catalog.read() as session:
        row = find_cluster(session, project, cluster)
        source = find_backup(session, project, backup)
        return _plan(session, row, source, method, without)


def _plan(session: Session, cluster: Cluster, source: Backup, method: Method | None, without: Sequence[str]) -> dict[str, Any]:
    refuse_unless_restorable(session, source)
    if (source.datastore, source.series) != (cluster.datastore, cluster.series):
        raise InvalidRequest(
            f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; cluster {cluster.name} is "
            f"{cluster.datastore} {cluster.series}",
            remedy="Restore it where its own version is.",
        )
    left_out = {node.id for node in nodes_named(session, cluster, list(without))}
    nodes = [node for node in nodes_of(session, cluster.id) if node.id not in left_out]
    if not nodes:
        raise InvalidRequest("no node is left to restore to", remedy="Leave fewer out.")
    _refuse_silent(session, cluster, nodes)
    if not cluster.is_adopted:
        for node in nodes:
            volume_for(source, node.volume_size)
    chosen, why = _method(nodes, method)
    return {
        "backup": source.id,
        "backup_name": source.name,
        "chain": [link.id for link in chain_of(session, source)],
        "taken": source.finished.isoformat(timespec="seconds") if source.finished else None,
        "data_bytes": source.data_size,
        "method": chosen,
        "why": why,
        "nodes": [
            {
                "id": node.id,
                "node": node_name(node),
                "host": node.host,
                "does": "bootstraps" if number == 0 else "joins",
                "data": "from the backup" if chosen == "seed" or number == 0 else "from the other nodes",
            }
            for number, node in enumerate(nodes)
        ],
        "left_out": sorted(left_out),
        "old_data": "is put aside on every node, until `cluster discard-old`",
    }


def _refuse_silent(session: Session, cluster: Cluster, nodes: Sequence[Instance]) -> None:
    silent = silent_hosts(session)
    away = [node for node in nodes if node.host in silent]
    if away:
        said = ", ".join(f"{node_name(node)} on host {node.host}" for node in away)
        leave_out = " ".join(f"--without {node_name(node)}" for node in away)
        raise Conflict(
            f"cluster {cluster.name} ({cluster.id}) cannot be restored as a whole: {said}, which is silent",
            remedy=f"Bring the host back; or restore the other nodes: {leave_out}. What is left out never serves its old data.",
        )


def _method(nodes: Sequence[Instance], asked: Method | None) -> tuple[Method, str]:
    numbers = sorted({node.version_number for node in nodes})
    if asked == "sst":
        return "sst", "as asked: one node gets the backup, the others have it sent one after the other"
    if asked is None and len(numbers) > 1:
        return "sst", f"one node gets the backup and sends it to the others, for their versions differ: {', '.join(numbers)}"
    return "seed", "every node gets the backup at the same time, and joins without a transfer"


def request_cluster_restore(
    site: Site, project: str, cluster: str, backup: str, *, method: Method | None = None, without: Sequence[str] = ()
) -> Job:
    """Restore ``backup`` to the whole cluster. ``without`` names nodes that are left out, and fenced.

    Raises NotFound, Conflict, InvalidRequest, Busy, TooLarge.
    """
    require_source(site, project, backup)
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        source = find_backup(session, project, backup)
        refuse_if_working(session, row, "restore it")
        refuse_if_cut_off(session, row)
        plan = _plan(session, row, source, method, without)
        nodes = [node for node in nodes_of(session, row.id) if node.id not in plan["left_out"]]
        move_cluster(row, "RESTORING")
        job = new_job(session, project, "cluster_restore", cluster=row, backup=source, chain=plan["chain"])
        _new_run(session, job, row, nodes, source, plan["method"], epoch=next_epoch(session, row))
    site.start(job)
    return job


def refuse_if_cut_off(session: Session, cluster: Cluster, *, unless_waiting: bool = False) -> None:
    """Raise Conflict when a creation or a restore of the cluster has not come to its end.

    ``unless_waiting`` allows what a restore that waits for its outage does not mind: it has stopped and changed nothing yet.
    """
    run = open_run(session, cluster.id)
    if run is None or (unless_waiting and run.facts.get("waits")):
        return
    job = session.get(Job, run.id)
    if run.backup_id is None and job is not None and job.kind == "cluster_create":
        raise Conflict(
            f"the creation of cluster {cluster.name} ({cluster.id}) failed in phase {run.phase}",
            remedy=f"Delete it, then create it again: `strongroom cluster delete {cluster.name}`.",
        )
    if run.facts.get("waits"):
        raise Conflict(
            f"a restore of cluster {cluster.name} ({cluster.id}) is prepared and waits for its outage to begin",
            remedy=f"Begin it: `strongroom cluster restore {cluster.name} --resume`; or give it up: "
            f"`strongroom cluster recover {cluster.name}`.",
        )
    raise Conflict(
        f"a restore of cluster {cluster.name} ({cluster.id}) was cut off in phase {run.phase}",
        remedy=f"Go on with it first: `strongroom cluster restore {cluster.name} --resume`.",
    )


def request_resume(site: Site, project: str, cluster: str) -> Job:
    """Go on with a restore that failed on its way. Raises NotFound, Conflict when there is none, Busy."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_working(session, row, "go on with its restore")
        run = open_run(session, row.id)
        if run is None or run.backup_id is None:
            raise Conflict(f"no restore of cluster {row.name} ({row.id}) was cut off", remedy="Begin one with --backup.")
        move_cluster(row, "RESTORING")
        run.facts = {**run.facts, "attended": None, "away": None, "waits": False}
        job = new_job(session, project, "cluster_restore", cluster=row, backup=session.get(Backup, run.backup_id), run=run.id)
    site.start(job)
    return job


def request_recover(site: Site, project: str, cluster: str, *, node: str | None = None, force: bool = False) -> Job:
    """Bring a cluster back that is down. Raises NotFound, Busy, Conflict while a restore waits to be resumed."""
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
    """Restart or activate node after node, or drop the data that restores have put aside. Raises NotFound, Busy, Conflict."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_working(session, row, kind.replace("_", " "))
        refuse_if_cut_off(session, row)
        if kind == "activate" and not any(node.isolated for node in nodes_of(session, row.id)):
            raise Conflict(f"cluster {row.name} ({row.id}) is not isolated; there is nothing to activate")
        move_cluster(row, TASK[kind] or row.task)
        job = new_job(session, project, f"cluster_{kind}", cluster=row)
    site.start(job)
    return job


def request_delete_cluster(site: Site, project: str, cluster: str) -> Job:
    """Stop and remove all nodes with their data; what runs on them is cancelled; backups stay. Raises NotFound, Protected."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_protected([row, *nodes_of(session, row.id)])
        for job in _unfinished(session, row):
            if job.kind == "cluster_delete":
                return job
            cancel_job(session, job)
        move_cluster(row, "DELETING")
        job = new_job(session, project, "cluster_delete", cluster=row)
    site.start(job)
    return job


def request_reset_cluster(site: Site, project: str, cluster: str) -> None:
    """Give up whatever is being done to the cluster and its nodes, so that it can be used, or deleted, again. Raises NotFound."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        for job in _unfinished(session, row):
            job.cancel = True
            why = Cancelled(f"{job.kind} job {job.id} was given up: the status of cluster {row.name} ({row.id}) was reset")
            outcomes.settle(session, job, why.to_dict())
        move_cluster(row, None)


def _unfinished(session: Session, cluster: Cluster) -> list[Job]:
    jobs = unfinished_jobs(session, cluster_id=cluster.id)
    known = {job.id for job in jobs}
    for node in nodes_of(session, cluster.id):
        jobs += [job for job in unfinished_jobs(session, instance_id=node.id) if job.id not in known]
    return jobs


def refuse_if_working(session: Session, cluster: Cluster, wish: str) -> None:
    """Raise Busy when a job is queued or running on the cluster or one of its nodes: one at a time."""
    for job in _unfinished(session, cluster):
        raise Busy(
            f"cluster {cluster.name} ({cluster.id}) is busy: {job.kind} job {job.id} is {job.status}; cannot {wish} now",
            remedy=f"Wait for it (`strongroom job follow {job.id}`) or cancel it (`strongroom job cancel {job.id}`).",
        )
