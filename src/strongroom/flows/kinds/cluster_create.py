"""Create a Galera cluster, empty or from a backup, or adopt a running one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from strongroom.agent.models import ServerDefinition
from strongroom.catalog import Backup, Cluster, Instance, Job, quotas
from strongroom.catalog.find import find_backup, nodes_of
from strongroom.errors import Conflict, InvalidRequest, Unsupported
from strongroom.flows.backups.chains import refuse_unless_restorable
from strongroom.flows.backups.sources import require_source
from strongroom.flows.clusters import actions, restore
from strongroom.flows.clusters.phases import make_steps
from strongroom.flows.clusters.run import new_run
from strongroom.flows.hosts.placement import DEFAULT_VOLUME, INITIAL_DISK, Need, place, volume_for, with_fresh_facts
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.records import check_name
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance

MOST_NODES = 9
"""More nodes make commits slower, but not safer."""


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
    """Create a cluster, empty or from a backup, with its nodes on different hosts if possible. Only the name is required.

    Raises InvalidRequest, NotFound, Conflict, TooLarge, QuotaExceeded.
    """
    check_name(name, "cluster")
    settings = site.settings
    flavor = settings.find_flavor(flavor or settings.default_flavor)
    if not 1 <= nodes <= MOST_NODES:
        raise InvalidRequest(f"a cluster has 1 to {MOST_NODES} nodes, not {nodes}", remedy="Most clusters have three.")
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
        ram, disk = settings.flavors[flavor].ram, (source.data_size or 0 if source else 0) or INITIAL_DISK
        places: list[tuple[str, dict[str, Any]]] = []
        for _ in range(nodes):
            beside = [host for host, _ in places]
            need = Need(datastore, [version] if version else [], ram=ram, disk=disk, hosts=hosts, beside=beside, node=True)
            places.append(place(session, site, need))
        if source is not None and (source.datastore, source.series) != (datastore, places[0][1]["series"]):
            raise Conflict(
                f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; it cannot be restored to a "
                f"cluster of {datastore} {places[0][1]['series']}"
            )
        cluster = _new_cluster(session, project, name, "process", datastore, places[0][1]["series"])
        rows = [
            _new_node(session, cluster, number, host, found["number"], flavor, volume_size)
            for number, (host, found) in enumerate(places, start=1)
        ]
        job = new_job(session, project, "cluster_create", cluster=cluster, backup=source)
        new_run(session, job, cluster, rows, source, "seed" if len({row.version_number for row in rows}) == 1 else "sst")
    site.start(job)
    return cluster, job


def request_adopt_cluster(
    site: Site, project: str, *, name: str, nodes: Sequence[tuple[str | None, ServerDefinition]]
) -> tuple[Cluster, Job]:
    """Adopt a running cluster with all its nodes, each with its host (default: the only one) and its socket or address.

    Raises InvalidRequest, NotFound, QuotaExceeded.
    """
    check_name(name, "cluster")
    if not nodes:
        raise InvalidRequest("no nodes are named to adopt", remedy="Name the socket or the address of every node.")
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
        raise Unsupported(f"clusters of datastore {datastore} are not supported", remedy="Use mariadb.")
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


def settle_nodes(session: Session, job: Job, failure: Failure | None) -> None:
    """Give the nodes the task of their cluster, whose creation, adoption or deletion has ended."""
    cluster = session.get(Cluster, job.cluster_id)
    assert cluster is not None
    for node in nodes_of(session, cluster.id):
        move_instance(node, cluster.task)


CREATE = JobKind(
    name="cluster_create",
    operation="create cluster",
    steps=(restore.define, *make_steps(without=["stop"])),
    lane="clusters",
    settle=settle_nodes,
    has_task=True,
    failed_task="ERROR",
)
ADOPT = JobKind(
    name="cluster_adopt",
    operation="adopt cluster",
    steps=(actions.adopt,),
    lane="clusters",
    settle=settle_nodes,
    has_task=True,
    failed_task="ERROR",
)
