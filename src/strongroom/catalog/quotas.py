"""Limits and usage of a project: instances, MB of memory, GB of volumes, backups."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from strongroom.catalog._tables import Backup, Instance, Quota
from strongroom.errors import QuotaExceeded
from strongroom.settings import Settings

RESOURCES = ("instances", "ram", "volumes", "backups")
UNLIMITED = -1


def limits(session: Session, project: str, settings: Settings) -> dict[str, int]:
    """The limit of each resource: that of the project, otherwise that of the configuration; -1 is no limit."""
    own = {row.resource: row.hard_limit for row in session.scalars(select(Quota).where(Quota.project == project))}
    return {resource: own.get(resource, getattr(settings.quotas, resource)) for resource in RESOURCES}


def in_use(session: Session, project: str, settings: Settings) -> dict[str, int]:
    """The project's usage of each resource. Memory and disks of adopted servers and deleted backups do not count."""
    sizes = session.execute(
        select(Instance.runtime, Instance.flavor, func.count(), func.sum(Instance.volume_size))
        .where(Instance.project == project, Instance.deleted.is_(None))
        .group_by(Instance.runtime, Instance.flavor)
    ).all()
    ram = {name: flavor.ram for name, flavor in settings.flavors.items()}
    managed = [row for row in sizes if row[0] == "process"]
    existing = select(func.count()).where(Backup.project == project, Backup.deleted.is_(None), Backup.trashed.is_(False))
    backups = session.scalar(existing)
    return {
        "instances": sum(count for _, _, count, _ in sizes),
        "ram": sum(ram.get(flavor, 0) * count for _, flavor, count, _ in managed),
        "volumes": sum(int(volumes) for *_, volumes in managed),
        "backups": backups or 0,
    }


def require(session: Session, project: str, settings: Settings, wanted: Mapping[str, int]) -> None:
    """Raise QuotaExceeded if ``wanted`` more of each resource exceeds a limit. Call it in the transaction that adds them."""
    limit = {name: most for name, most in limits(session, project, settings).items() if most != UNLIMITED}
    asked = {name: more for name, more in wanted.items() if more > 0 and name in limit}
    if not asked:
        return
    used = in_use(session, project, settings)
    over = sorted(name for name, more in asked.items() if used[name] + more > limit[name])
    if over:
        usage = "; ".join(f"{name}: {used[name]} of {limit[name]} in use, {asked[name]} more requested" for name in over)
        raise QuotaExceeded(
            f"Quota exceeded for resources: {over}.",
            remedy=f"{usage}. Delete some, or ask an administrator to raise the limit of project {project}.",
        )
