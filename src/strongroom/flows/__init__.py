"""The durable workflows, and requests. Requests that start a job are in the modules of ``kinds``."""

from strongroom.catalog.find import find_backup, find_cluster, find_instance, find_job
from strongroom.catalog.policies import find_policy
from strongroom.flows import kinds as _kinds  # noqa: F401 - registers the kinds of jobs
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
from strongroom.flows.plans.deletion import DeletePlan, plan_delete_backup, plan_delete_cluster, plan_delete_instance
from strongroom.flows.plans.restore import PlannedEffect, RestorePlan, plan_restore
from strongroom.flows.policies.declared import declare_policies
from strongroom.flows.policies.ends import find_database
from strongroom.flows.policies.listing import PastRun, ScheduleState, list_runs, list_schedules, preview_runs
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
from strongroom.flows.recovery.decision import Recovery
from strongroom.flows.recovery.plan import RecoveryPlan, decide_recovery, plan_recovery
from strongroom.flows.recovery.search import SEARCHES, FoundEvent, Search, search_log
from strongroom.flows.recovery.window import RecoveryWindow, show_window
from strongroom.flows.retention.holds import list_holds
from strongroom.flows.retention.marks import find_marks, undelete_backup
from strongroom.flows.retention.outlook import RETENTION, Outlook, Waiting, confirm_retention, find_owner, show_retention
from strongroom.flows.retention.protection import Overview, show_protection
from strongroom.flows.site import Site, open_site

__all__ = [
    "CHORES",
    "RETENTION",
    "SEARCHES",
    "Chore",
    "ChoreRunner",
    "DeletePlan",
    "Engine",
    "FoundEvent",
    "Monitor",
    "Outlook",
    "Overview",
    "PastRun",
    "PlannedEffect",
    "Recovery",
    "RecoveryPlan",
    "RecoveryWindow",
    "RestorePlan",
    "ScheduleState",
    "Search",
    "Site",
    "Waiting",
    "attach_policy",
    "change_cluster",
    "change_record",
    "check_hosts",
    "check_request",
    "confirm_retention",
    "connect_hosts",
    "create_policy",
    "decide_recovery",
    "declare_policies",
    "delete_policy",
    "describe_type",
    "detach_policy",
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
    "host_problem",
    "is_reversible",
    "is_synced",
    "join_host",
    "level_of",
    "list_holds",
    "list_runs",
    "list_schedules",
    "open_site",
    "pause_policy",
    "plan_cluster_restore",
    "plan_delete_backup",
    "plan_delete_cluster",
    "plan_delete_instance",
    "plan_recovery",
    "plan_restore",
    "preview_runs",
    "refresh_instance",
    "request_cancel",
    "request_cluster_backup",
    "request_host",
    "request_reclaim",
    "request_remove_host",
    "resume_policy",
    "run_policy",
    "search_log",
    "show_protection",
    "show_retention",
    "show_window",
    "stop_unknown_server",
    "undelete_backup",
    "unknown_servers",
    "update_policy",
    "version_id",
    "wait_job",
]
