"""The durable workflows, and requests. Requests that start a job are in the modules of ``kinds``."""

from strongroom.catalog.find import find_backup, find_cluster, find_instance, find_job
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
from strongroom.flows.records import change_cluster, change_record
from strongroom.flows.site import Site, open_site

__all__ = [
    "CHORES",
    "Chore",
    "ChoreRunner",
    "DeletePlan",
    "Engine",
    "Monitor",
    "PlannedEffect",
    "RestorePlan",
    "Site",
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
    "is_reversible",
    "is_synced",
    "join_host",
    "level_of",
    "open_site",
    "plan_cluster_restore",
    "plan_delete_backup",
    "plan_delete_cluster",
    "plan_delete_instance",
    "plan_restore",
    "refresh_instance",
    "request_cancel",
    "request_cluster_backup",
    "request_host",
    "request_reclaim",
    "request_remove_host",
    "stop_unknown_server",
    "unknown_servers",
    "version_id",
    "wait_job",
]
