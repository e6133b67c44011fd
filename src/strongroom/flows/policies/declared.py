"""Policies of the configuration file, which are copied to the catalog at each start."""

from __future__ import annotations

import uuid

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Attachment, Policy, now
from strongroom.catalog.policies import detach_all
from strongroom.errors import InvalidRequest
from strongroom.flows.policies.requests import change_settings, list_attached, require_store
from strongroom.flows.records import check_name
from strongroom.flows.site import Site
from strongroom.sections.policies import DeclaredPolicy

log = structlog.get_logger()

FILE = "configuration file"
"""Who created and changed a declared policy."""


def declare_policies(site: Site) -> None:
    """Add and change policies to match the file. Those that are no longer declared become policies of users.

    Raises Unsupported if the store allows no schedules; InvalidRequest for a wrong name or two policies of one whole project.
    """
    declared = {(policy.project, name): policy for name, policy in site.settings.policies.items()}
    whole: dict[str, str] = {}
    for (project, name), policy in declared.items():
        check_name(name, "policy")
        require_store(site, policy.spec)
        if policy.whole_project and (other := whole.setdefault(project, name)) != name:
            raise InvalidRequest(
                f"the configuration file attaches two policies to the whole project {project}: {other} and {name}",
                remedy="Leave whole_project out of one of them.",
            )
    with site.catalog.read() as session:
        is_known = session.scalars(select(Policy.id).where(Policy.declared)).first() is not None
    if not declared and not is_known:
        return
    with site.catalog.write() as session:
        rows = {(row.project, row.name): row for row in session.scalars(select(Policy))}
        for key, policy in declared.items():
            _declare(session, rows.get(key), key[1], policy)
        for key, row in rows.items():
            if row.declared and key not in declared:
                _release(session, row)


def _declare(session: Session, row: Policy | None, name: str, policy: DeclaredPolicy) -> None:
    if row is None:
        row = Policy(id=str(uuid.uuid4()), project=policy.project, name=name, document={}, anchor=now())
        row.document = policy.spec.model_dump(mode="json")
        row.created_by = row.updated_by = FILE
        row.paused_by = row.paused_reason = ""
        session.add(row)
        session.flush()
    elif row.spec != policy.spec:  # an older version stored fewer settings; that is no change
        change_settings(session, row, policy.spec)
        row.updated, row.updated_by = now(), FILE
    row.declared = True
    attachment = session.get(Attachment, (policy.project, ""))
    is_attached = attachment is not None and attachment.policy_id == row.id
    if policy.whole_project and not is_attached:
        session.merge(Attachment(project=policy.project, database_id="", policy_id=row.id, created=now(), created_by=FILE))
    elif attachment is not None and is_attached and not policy.whole_project and attachment.created_by == FILE:
        session.delete(attachment)
    session.flush()


def _release(session: Session, row: Policy) -> None:
    """Delete a policy that is no longer declared, unless databases depend on it."""
    attached = list_attached(session, row)
    if attached:
        row.declared = False
        log.warning("a policy is not declared any more, but attached: it stays", policy=row.name, attached=", ".join(attached))
    else:
        detach_all(session, row)
        session.delete(row)
