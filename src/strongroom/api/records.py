"""Extensions: rename and protect backups and clusters; plans of deletions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import Field

from strongroom.api.http.caller import CallerDep, ControlDep, accepted, project_router
from strongroom.api.http.fields import FinalBackup, Name, OwnBody, Segment, View
from strongroom.flows import DeletePlan, change_cluster, plan_delete_backup, plan_delete_cluster, plan_delete_instance
from strongroom.flows.kinds.label import change_backup

router = project_router("records")


class RecordChanges(OwnBody):
    """Changes; missing fields are not changed."""

    name: Name | None = None
    protected: bool | None = Field(None, description="Whether it is protected from deletion.")


class UpdateBackup(OwnBody):
    """Body of an update."""

    backup: RecordChanges


class UpdateCluster(OwnBody):
    """Body of an update."""

    cluster: RecordChanges


class OneDeletePlan(View):
    """Reply with a plan."""

    plan: DeletePlan


@router.patch("/backups/{backup}", status_code=202)
def update_backup(backup: Segment, body: UpdateBackup, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: rename a backup, or protect it from deletion. The artifact does not change."""
    change_backup(control, caller.project, backup, name=body.backup.name, protected=body.backup.protected)
    return accepted()


@router.patch("/clusters/{cluster}", status_code=202)
def update_cluster(cluster: Segment, body: UpdateCluster, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: rename a cluster, or protect it from deletion."""
    change_cluster(control, caller.project, cluster, name=body.cluster.name, protected=body.cluster.protected)
    return accepted()


@router.get("/instances/{instance}/delete-plan")
def instance_plan(
    instance: Segment,
    caller: CallerDep,
    control: ControlDep,
    final_backup: FinalBackup = False,
) -> OneDeletePlan:
    """Extension: plan the deletion of an instance; changes nothing."""
    return OneDeletePlan(plan=plan_delete_instance(control, caller.project, instance, final_backup=final_backup))


@router.get("/clusters/{cluster}/delete-plan")
def cluster_plan(
    cluster: Segment,
    caller: CallerDep,
    control: ControlDep,
    final_backup: FinalBackup = False,
) -> OneDeletePlan:
    """Extension: plan the deletion of a cluster; changes nothing."""
    return OneDeletePlan(plan=plan_delete_cluster(control, caller.project, cluster, final_backup=final_backup))


@router.get("/backups/{backup}/delete-plan")
def backup_plan(
    backup: Segment,
    caller: CallerDep,
    control: ControlDep,
    cascade: Annotated[bool, Query(description="Also delete the backups that depend on it.")] = False,
    now: Annotated[bool, Query(description="Remove it from the store at once, without the grace period.")] = False,
) -> OneDeletePlan:
    """Extension: plan the deletion of a backup; changes nothing."""
    return OneDeletePlan(plan=plan_delete_backup(control, caller.project, backup, cascade=cascade, at_once=now))
