"""The durable workflows, and the requests that start them."""

from strongroom.catalog.find import find_backup, find_cluster, find_instance, find_job
from strongroom.flows import kinds as _kinds  # noqa: F401 - they register themselves
from strongroom.flows._backups import request_backup, request_delete_backup, request_verify
from strongroom.flows._cluster_backups import is_synced, request_cluster_backup
from strongroom.flows._clusters import (
    plan_cluster_restore,
    request_adopt_cluster,
    request_cluster,
    request_cluster_action,
    request_cluster_restore,
    request_delete_cluster,
    request_recover,
    request_reset_cluster,
    request_resume,
)
from strongroom.flows._control import Control
from strongroom.flows._delete_plan import DeletePlan, plan_delete_backup, plan_delete_cluster, plan_delete_instance
from strongroom.flows._engine import Engine
from strongroom.flows._host_checks import check_hosts, check_request, host_problem, unknown_servers
from strongroom.flows._hosts import (
    connect_hosts,
    join_host,
    request_host,
    request_reclaim,
    request_remove_host,
    stop_unknown_server,
)
from strongroom.flows._import import request_import, request_restore_from
from strongroom.flows._instances import (
    request_action,
    request_delete_instance,
    request_instance,
    request_reset,
    request_restore,
)
from strongroom.flows._jobs import request_cancel, wait_job
from strongroom.flows._monitor import Monitor
from strongroom.flows._rebuild import request_rebuild
from strongroom.flows._records import change_backup, change_cluster, change_record
from strongroom.flows._resize import request_resize_flavor, request_resize_volume
from strongroom.flows._restore_plan import PlannedEffect, RestorePlan, plan_restore
from strongroom.flows._verification import explain_broken, level_of
from strongroom.flows._versions import version_id

__all__ = [
    "Control",
    "DeletePlan",
    "Engine",
    "Monitor",
    "PlannedEffect",
    "RestorePlan",
    "change_backup",
    "change_cluster",
    "change_record",
    "check_hosts",
    "check_request",
    "connect_hosts",
    "explain_broken",
    "find_backup",
    "find_cluster",
    "find_instance",
    "find_job",
    "host_problem",
    "is_synced",
    "join_host",
    "level_of",
    "plan_cluster_restore",
    "plan_delete_backup",
    "plan_delete_cluster",
    "plan_delete_instance",
    "plan_restore",
    "request_action",
    "request_adopt_cluster",
    "request_backup",
    "request_cancel",
    "request_cluster",
    "request_cluster_action",
    "request_cluster_backup",
    "request_cluster_restore",
    "request_delete_backup",
    "request_delete_cluster",
    "request_delete_instance",
    "request_host",
    "request_import",
    "request_instance",
    "request_rebuild",
    "request_reclaim",
    "request_recover",
    "request_remove_host",
    "request_reset",
    "request_reset_cluster",
    "request_resize_flavor",
    "request_resize_volume",
    "request_restore",
    "request_restore_from",
    "request_resume",
    "request_verify",
    "stop_unknown_server",
    "unknown_servers",
    "version_id",
    "wait_job",
]
