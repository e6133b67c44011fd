"""Begins and ends jobs without their flows."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Job
from strongroom.flows import outcomes
from strongroom.flows.status import move_job


def begin(session: Session, job: Job) -> None:
    """Take a job from the queue."""
    move_job(job, "running")
    outcomes.begin(session, job)


def settle(session: Session, job: Job, failure: dict[str, str] | None) -> None:
    """End a job, queued or running."""
    if job.status == "queued":
        move_job(job, "running")
    outcomes.settle(session, job, failure)
