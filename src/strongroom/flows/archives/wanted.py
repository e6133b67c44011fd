"""Which instances have a log archive, and with which options their duties run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom import datastores
from strongroom.agent.models import DutyRequest
from strongroom.catalog import Attachment, Instance, Policy
from strongroom.catalog.policies import Attachments
from strongroom.flows.recovery.location import log_of
from strongroom.flows.site import Site
from strongroom.worker.spec import LogArchiveOptions

KIND = "log-archive"
_GOING = ("BUILD", "SHUTDOWN")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance whose log is archived."""

    instance: Instance
    policy: Policy
    request: DutyRequest


def name_duty(instance_id: str) -> str:
    """The id of the duty of an instance, the same at any time."""
    return f"{instance_id}-log"


def list_wanted(session: Session, site: Site) -> list[Wanted]:
    """The instances whose policy demands a log archive, if there can be one now."""
    return [
        Wanted(instance, policy, _make_request(site, instance, policy))
        for instance, policy in list_demanded(session)
        if instance.task not in _GOING and not explain_absence(site, instance)
    ]


def list_demanded(session: Session) -> Iterator[tuple[Instance, Policy]]:
    """The existing instances whose policy demands a log archive."""
    used = select(Policy.id, Policy.document).where(Policy.id.in_(select(Attachment.policy_id)))
    if not any(document.get("log_archive") for _, document in session.execute(used)):
        return
    existing = select(Instance).where(Instance.deleted.is_(None), Instance.cluster_id.is_(None))
    instances = list(session.scalars(existing.where(Instance.project.in_(select(Attachment.project)))))
    attachments = Attachments(session, instances)
    for instance in instances:
        policy = attachments.policy_of(instance)
        if policy is not None and policy.document.get("log_archive"):
            yield instance, policy


def explain_absence(site: Site, instance: Instance) -> str:
    """Why the log of the instance cannot be archived although a policy demands it; empty if it can be."""
    if site.settings.storage.by_token:
        return "the service can use the store only on behalf of a user"
    if instance.isolated:
        return "it is an isolated copy: its log is archived after `strongroom instance activate`"
    if datastores.get(instance.datastore).logs is None:
        return f"the log of {instance.datastore} cannot be archived yet"
    return ""


def _make_request(site: Site, instance: Instance, policy: Policy) -> DutyRequest:
    storage, log = log_of(site, instance)
    options = LogArchiveOptions(
        log=log,
        storage=storage,
        artifact=site.settings.artifact,
        recipients=site.settings.encryption.recipients,
        lineage=instance.lineage or "",
        max_age=policy.spec.segment_age,
    )
    return DutyRequest(kind=KIND, server=instance.id, options=options.model_dump(mode="json"))
