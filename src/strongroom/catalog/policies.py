"""Which policy applies to a database, and to which databases a policy applies."""

from __future__ import annotations

from collections.abc import Collection
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


class Attachments:
    """The policies of many databases, read with three queries."""

    def __init__(self, session: Session, databases: Collection[Database]) -> None:
        """Read those that may apply to the databases."""
        keys = {"", *(key for row in databases for key in (row.id, owner_id(row)))}
        projects = {row.project for row in databases}
        rows = select(Attachment).where(Attachment.project.in_(projects), Attachment.database_id.in_(keys))
        self._rows = {(row.project, row.database_id): row for row in session.scalars(rows)}
        facts = select(Fact).where(Fact.key.in_({f"{_DETACHED}{key}" for key in keys if key}))
        self._detached = {fact.key.removeprefix(_DETACHED): datetime.fromisoformat(fact.value) for fact in session.scalars(facts)}
        used = select(Policy).where(Policy.id.in_({row.policy_id for row in self._rows.values()}))
        self._policies = {policy.id: policy for policy in session.scalars(used)}

    def find(self, project: str, database_id: str) -> Attachment | None:
        """The attachment of the database or, if it has none, of its project."""
        return self._rows.get((project, database_id)) or self._rows.get((project, ""))

    def policy_of(self, database: Database) -> Policy | None:
        """The policy that applies, as ``policy_of`` finds it."""
        attachment = self.find(database.project, owner_id(database))
        return self._policies.get(attachment.policy_id) if attachment is not None else None

    def since(self, database: Database) -> datetime | None:
        """Since when this policy applies; None: none does. The project's, only since the database has none of its own."""
        owner = owner_id(database)
        attachment = self.find(database.project, owner)
        if attachment is None:
            return None
        detached = self._detached.get(owner) if not attachment.database_id else None
        return max(attachment.created, detached) if detached else attachment.created


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
