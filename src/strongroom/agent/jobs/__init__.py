"""Jobs: each has a directory and a worker process of its own."""

from strongroom.agent.jobs.directory import JobRecord
from strongroom.agent.jobs.jobs import WORKER, Jobs

__all__ = ["WORKER", "JobRecord", "Jobs"]
