"""What a restore to a moment does, as its job keeps it: decided when it was requested, by positions and not by times."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from strongroom.archive import LogLocation, Piece
from strongroom.catalog import Job
from strongroom.datastores.protocol.logs import Cut, Start
from strongroom.errors import ArtifactError, StrongroomError
from strongroom.worker.spec import LogReplay, StorageSpec

PARAMETER = "recovery"
"""The parameter of the job."""
REPLAY = "replay"
"""The phase in which a worker applies the log."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecoveryBase(_Part):
    """A backup, and the log that is applied to it."""

    backup: str
    name: str
    start: Start
    pieces: tuple[Piece, ...] = Field(
        min_length=1,
        description="Also if the backup ends at the target: only a replay ends there, since its data may be a little later.",
    )
    raw_size: int
    stored_size: int
    segments: int


class Recovery(_Part):
    """The decision. ``bases``: the best one first; the others are used if it proves to be damaged."""

    instance: str = Field(description="Id of the instance whose log is applied.")
    target: str
    log: LogLocation
    cut: Cut
    bases: tuple[RecoveryBase, ...] = Field(min_length=1)
    warnings: tuple[str, ...] = Field((), description="For the result: newer log that is left out, bases that proved damaged.")


def recovery_of(job: Job) -> Recovery | None:
    """The decision of the job; None if it restores a backup, or nothing."""
    stored = job.params.get(PARAMETER)
    return Recovery.model_validate(stored) if stored else None


def dump_recovery(recovery: Recovery) -> dict[str, Any]:
    """The decision as a parameter of a job."""
    return recovery.model_dump(mode="json")


def make_replay(job: Job, storage: StorageSpec) -> LogReplay | None:
    """What the worker applies to the backup of the job; None if it restores a backup, or nothing."""
    recovery = recovery_of(job)
    if recovery is None:
        return None
    base = _base_of(recovery, job)
    return LogReplay(
        storage=storage,
        log=recovery.log,
        pieces=base.pieces,
        start=base.start,
        end=recovery.cut.position,
        raw_size=base.raw_size,
    )


def take_older_base(session: Session, job: Job, error: StrongroomError) -> bool:
    """Let the job begin again with the next older base, if its present one proved to be damaged. False if it cannot."""
    recovery = recovery_of(job)
    if recovery is None or not isinstance(error, ArtifactError) or job.phase == REPLAY:
        return False
    number = recovery.bases.index(_base_of(recovery, job))
    if number + 1 == len(recovery.bases):
        return False
    bad, following = recovery.bases[number : number + 2]
    message = f"backup {bad.name} ({bad.backup}) cannot be used, so {following.name} is restored with more log: {error.message}"
    job.params = {**job.params, PARAMETER: dump_recovery(recovery.model_copy(update={"warnings": (*recovery.warnings, message)}))}
    job.backup_id, job.message = following.backup, message
    job.attempts += 1
    job.events += 1
    return True


def record_recovery(_session: Session, job: Job, failure: dict[str, str] | None) -> None:
    """Add to the output of the job what was restored."""
    recovery = recovery_of(job)
    if recovery is None or failure is not None:
        return
    cut = recovery.model_dump(mode="json", include={"cut"}, exclude_none=True)["cut"]
    warnings = [*job.output.get("warnings", []), *recovery.warnings]
    job.output = {**job.output, "target": recovery.target, "base": job.backup_id, "cut": cut, "warnings": warnings}


def _base_of(recovery: Recovery, job: Job) -> RecoveryBase:
    return next(base for base in recovery.bases if base.backup == job.backup_id)
