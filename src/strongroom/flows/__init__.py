"""The durable workflows, and the requests that start them."""

from strongroom.catalog.find import find_backup, find_cluster, find_instance, find_job
from strongroom.catalog.policies import find_policy
from strongroom.flows import kinds as _kinds  # noqa: F401 - they register themselves
from strongroom.flows.backups.verification import explain_broken, level_of
from strongroom.flows.chores import CHORES, Chore, ChoreRunner
from strongroom.flows.clusters.backup import is_synced, request_cluster_backup
from strongroom.flows.clusters.phases import is_reversible
from strongroom.flows.clusters.plan import plan_cluster_restore
from strongroom.flows.engine import Engine
from strongroom.flows.hosts.checks import check_hosts, check_request, host_problem, unknown_servers
from strongroom.flows.hosts.fresh import refresh_instance
from strongroom.flows.hosts.join import (
    connect_hosts,
    join_host,
    request_host,
    request_reclaim,
    request_remove_host,
    stop_unknown_server,
)
from strongroom.flows.hosts.monitor import Monitor
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.jobs import request_cancel, wait_job
from strongroom.flows.kinds.backup import request_backup
from strongroom.flows.kinds.cluster_actions import request_cluster_action, request_recover
from strongroom.flows.kinds.cluster_create import request_adopt_cluster, request_cluster
from strongroom.flows.kinds.cluster_deletion import request_delete_cluster, request_reset_cluster
from strongroom.flows.kinds.cluster_restore import request_cluster_restore, request_resume
from strongroom.flows.kinds.create import request_instance
from strongroom.flows.kinds.deletion import discard_backup, request_delete_backup
from strongroom.flows.kinds.foreign import request_import, request_restore_from
from strongroom.flows.kinds.label import change_backup
from strongroom.flows.kinds.lifecycle import request_action, request_delete_instance, request_reset
from strongroom.flows.kinds.rebuild import request_rebuild
from strongroom.flows.kinds.resize import request_resize_flavor, request_resize_volume
from strongroom.flows.kinds.restore import request_restore
from strongroom.flows.kinds.verify import request_verify
from strongroom.flows.plans.deletion import DeletePlan, plan_delete_backup, plan_delete_cluster, plan_delete_instance
from strongroom.flows.plans.restore import PlannedEffect, RestorePlan, plan_restore
from strongroom.flows.policies.declared import declare_policies
from strongroom.flows.policies.ends import find_database
from strongroom.flows.policies.listing import ScheduleState, list_schedules, preview_runs
from strongroom.flows.policies.requests import (
    attach_policy,
    create_policy,
    delete_policy,
    describe_type,
    detach_policy,
    find_attachable,
    pause_policy,
    resume_policy,
    run_policy,
    update_policy,
)
from strongroom.flows.records import change_cluster, change_record
from strongroom.flows.retention.holds import hold_backup, list_holds, release_backup
from strongroom.flows.retention.marks import find_marks, undelete_backup
from strongroom.flows.retention.outlook import RETENTION, Outlook, Waiting, confirm_retention, find_owner, show_retention
from strongroom.flows.retention.protection import Overview, show_protection
from strongroom.flows.site import Site, open_site

__all__ = [
    "CHORES",
    "RETENTION",
    "Chore",
    "ChoreRunner",
    "DeletePlan",
    "Engine",
    "Monitor",
    "Outlook",
    "Overview",
    "PlannedEffect",
    "RestorePlan",
    "ScheduleState",
    "Site",
    "Waiting",
    "attach_policy",
    "change_backup",
    "change_cluster",
    "change_record",
    "check_hosts",
    "check_request",
    "confirm_retention",
    "connect_hosts",
    "create_policy",
    "declare_policies",
    "delete_policy",
    "describe_type",
    "detach_policy",
    "discard_backup",
    "explain_broken",
    "find_attachable",
    "find_backup",
    "find_cluster",
    "find_database",
    "find_instance",
    "find_job",
    "find_marks",
    "find_owner",
    "find_policy",
    "hold_backup",
    "host_problem",
    "is_reversible",
    "is_synced",
    "join_host",
    "level_of",
    "list_holds",
    "list_schedules",
    "open_site",
    "pause_policy",
    "plan_cluster_restore",
    "plan_delete_backup",
    "plan_delete_cluster",
    "plan_delete_instance",
    "plan_restore",
    "preview_runs",
    "refresh_instance",
    "release_backup",
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
    "resume_policy",
    "run_policy",
    "show_protection",
    "show_retention",
    "stop_unknown_server",
    "undelete_backup",
    "unknown_servers",
    "update_policy",
    "version_id",
    "wait_job",
]
