"""Which policy applies to a database, and to which databases a policy applies."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog._policies import Attachment, Incident, Policy
from strongroom.catalog._tables import Cluster, Fact, Instance, now
from strongroom.errors import NotFound

Database = Instance | Cluster
REOPENED_WITHIN = timedelta(hours=1)
"""A condition that comes back so soon is the same incident."""
_DETACHED = "detached "


def policy_of(session: Session, database: Database) -> Policy | None:
    """The policy that applies: the attached one, of a node its cluster's, otherwise the project's. Also of deleted databases."""
    return policy_of_id(session, database.project, owner_id(database))


def owner_id(database: Database) -> str:
    """Id of what its policy is attached to: of a node, its cluster."""
    return (database.cluster_id if isinstance(database, Instance) else None) or database.id


def policy_of_id(session: Session, project: str, database_id: str) -> Policy | None:
    """The same, if only the id of the instance or cluster is known."""
    for key in (database_id, ""):
        attachment = session.get(Attachment, (project, key))
        if attachment is not None:
            return session.get(Policy, attachment.policy_id)
    return None


def detach(session: Session, attachment: Attachment) -> None:
    """Remove the attachment, and remember when: from then on the database has the policy of its project."""
    session.merge(Fact(key=f"{_DETACHED}{attachment.database_id}", value=now().isoformat()))
    session.delete(attachment)


def detach_all(session: Session, policy: Policy) -> None:
    """Remove all attachments of the policy, also those of deleted databases."""
    for attachment in session.scalars(select(Attachment).where(Attachment.policy_id == policy.id)).all():
        detach(session, attachment)


def read_detached(session: Session, database_id: str) -> datetime | None:
    """When a policy of its own was last detached from the database; None: never."""
    fact = session.get(Fact, f"{_DETACHED}{database_id}")
    return datetime.fromisoformat(fact.value) if fact else None


def find_policy(session: Session, project: str, ref: str) -> Policy:
    """The policy of the project with this name or id. Raises NotFound."""
    own = select(Policy).where(Policy.project == project)
    for column in (Policy.name, Policy.id):
        if found := session.scalars(own.where(column == ref)).one_or_none():
            return found
    raise NotFound(f"policy {ref} cannot be found", remedy="See `strongroom policy list`.")


def open_incident(session: Session, database: Database, condition: str, detail: str, remedy: str = "") -> Incident:
    """Open the incident of this condition, or refresh the open one, or the one that was closed a moment ago."""
    moment = now()
    incident = _newest_incident(session, database.id, condition, moment)
    if incident is None:
        incident = Incident(
            id=str(uuid4()), project=database.project, database_id=database.id, condition=condition, opened=moment
        )
        session.add(incident)
    incident.database_name, incident.detail, incident.remedy = database.name, detail, remedy
    incident.updated, incident.closed = moment, None
    session.flush()
    return incident


def close_incident(session: Session, database_id: str, condition: str) -> bool:
    """The condition is over. False: there was no open incident."""
    query = select(Incident).where(
        Incident.database_id == database_id, Incident.condition == condition, Incident.closed.is_(None)
    )
    incident = session.scalars(query).one_or_none()
    if incident is not None:
        incident.closed = incident.updated = now()
    return incident is not None


def _newest_incident(session: Session, database_id: str, condition: str, moment: datetime) -> Incident | None:
    query = select(Incident).where(Incident.database_id == database_id, Incident.condition == condition)
    found = list(session.scalars(query.order_by(Incident.opened.desc()).limit(10)))
    is_open = next((incident for incident in found if incident.closed is None), None)
    if is_open is not None:
        return is_open
    return next((i for i in found if i.closed is not None and moment - i.closed < REOPENED_WITHIN), None)
