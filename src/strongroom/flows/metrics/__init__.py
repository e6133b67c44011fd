"""What a monitoring system reads, as typed values and with few queries. ``api/metrics`` gives them names."""

from strongroom.flows.metrics.archives import list_log_archives
from strongroom.flows.metrics.databases import DatabaseRow, list_failures, list_rows
from strongroom.flows.metrics.jobs import DURATIONS, FinishedJobs, list_waiting
from strongroom.flows.metrics.service import list_hosts, list_incidents, list_last_runs, list_missed, list_schedules, list_stores

__all__ = [
    "DURATIONS",
    "DatabaseRow",
    "FinishedJobs",
    "list_failures",
    "list_hosts",
    "list_incidents",
    "list_last_runs",
    "list_log_archives",
    "list_missed",
    "list_rows",
    "list_schedules",
    "list_stores",
    "list_waiting",
]
