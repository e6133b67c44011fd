"""The plan of a restore: what would be carried over, placed, disabled, refused and missing. Planning changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from strongroom import datastores
from strongroom.agent.models import PlanRequest
from strongroom.artifact import Notice, Pages, Profile
from strongroom.catalog import Backup, Instance, quotas
from strongroom.catalog.find import chain_of, find_backup, find_instance
from strongroom.errors import Conflict
from strongroom.flows.backups.chains import refuse_unless_restorable
from strongroom.flows.backups.sources import require_source
from strongroom.flows.hosts.placement import INITIAL_DISK, Need, place, volume_for, with_fresh_facts
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.jobs import refuse_if_node
from strongroom.flows.kinds.restore import is_copy, is_isolated, require_same_version
from strongroom.flows.site import Site

Effect = Literal["refused", "warned", "disabled", "placed", "carried", "kept", "absent"]
"""In the order in which they are shown: what stops the restore first."""
ORDER: Sequence[Effect] = ("refused", "warned", "disabled", "placed", "carried", "kept", "absent")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedBackup(_Model):
    """A backup of the chain."""

    id: str
    name: str
    kind: str
    raw_size: int | None
    stored_size: int | None


class PlannedEffect(_Model):
    """Something that the restore does, needs or cannot do. ``item`` names a row of the table in docs/adopt.md."""

    effect: Effect
    item: str
    message: str
    remedy: str = ""


class RestorePlan(_Model):
    """What the restore of a backup would do."""

    backup: PlannedBackup
    datastore: str
    series: str
    host: str | None = Field(description="Only shown to administrators, otherwise null.")
    instance: str | None = Field(description="The instance whose data is replaced; null for a new instance.")
    in_place: bool
    isolated: bool = Field(description="The restored server is a copy, which contacts no other system until a user activates it.")
    allowed: bool = Field(description="False: the restore would be refused.")
    chain: list[PlannedBackup]
    raw_size: int = Field(description="Bytes of the uncompressed streams that are read.")
    stored_size: int = Field(description="Bytes that are fetched from the store.")
    data_size: int | None = Field(description="Bytes of the restored data directory.")
    effects: list[PlannedEffect]


async def plan_restore(
    site: Site,
    project: str,
    backup: str,
    *,
    instance: str | None = None,
    host: str | None = None,
    flavor: str | None = None,
    size: int | None = None,
    tablespaces: Sequence[str] = (),
) -> RestorePlan:
    """The plan of a restore in place of ``instance``, or to a new instance, on ``host`` if it is named.

    ``flavor`` and ``size`` (GB) are those of the new instance.

    Raises NotFound, Conflict, InvalidRequest, TooLarge and QuotaExceeded as the restore itself would; Unavailable if the host
    is unreachable.
    """
    base, profile, request = await asyncio.to_thread(_read_catalog, site, project, backup, instance, host, flavor, size)
    notices: list[Notice] = []
    if profile is not None:
        assert base.host is not None
        async with site.agents.client(base.host) as agent:
            request = request.model_copy(update={"tablespaces": [*tablespaces]})
            notices = [*profile.notices, *await agent.compare_profile(request)]
    effects = sorted(_effects(base, profile, notices), key=lambda found: ORDER.index(found.effect))
    allowed = all(found.effect != "refused" for found in effects)
    return base.model_copy(update={"effects": effects, "allowed": allowed})


@with_fresh_facts
def _read_catalog(
    site: Site,
    project: str,
    backup: str,
    instance: str | None,
    host: str | None,
    flavor: str | None,
    size: int | None,
) -> tuple[RestorePlan, Profile | None, PlanRequest]:
    """The plan as far as the catalog knows it, the profile of the backup, and the request for the agent."""
    require_source(site, project, backup)
    with site.catalog.read() as session:
        source = find_backup(session, project, backup)
        refuse_unless_restorable(session, source)
        target, adopted = None, False
        if instance is not None:
            target = find_instance(session, project, instance)
            refuse_if_node(target, "restore")
            require_same_version(source, target)
            adopted = target.is_adopted
            if not adopted:
                volume_for(source, target.volume_size)
            host = target.host
        else:
            settings = site.settings
            ram = settings.flavors[settings.find_flavor(flavor or settings.default_flavor)].ram
            volume = volume_for(source, size)
            quotas.require(session, project, settings, {"instances": 1, "ram": ram, "volumes": volume})
            need = Need(
                source.datastore,
                [version_id(source.datastore, source.series)],
                ram=ram,
                disk=source.data_size or INITIAL_DISK,
                hosts=[host] if host else [],
            )
            host, found = place(session, site, need)
            if found["series"] != source.series:
                raise Conflict(f"host {host} has no {source.datastore} {source.series}", remedy="Specify another host.")
        profile = Profile.model_validate(source.profile) if source.profile is not None else None
        links = chain_of(session, source)
        chain = [_planned(link) for link in links]
        plan = RestorePlan(
            backup=chain[-1],
            datastore=source.datastore,
            series=source.series,
            host=host,
            instance=target.name if target is not None else None,
            in_place=target is not None,
            isolated=target is None or is_isolated(source, target),
            allowed=True,
            chain=chain,
            raw_size=sum(link.raw_size or 0 for link in chain),
            stored_size=sum(link.stored_size or 0 for link in chain),
            data_size=source.data_size,
            effects=[*_damaged(links), *_damaged_pages(links), *(_kept(target, source, adopted) if target is not None else ())],
        )
        request = PlanRequest(
            profile=profile or Profile(),
            datastore=source.datastore,
            series=source.series,
            server=target.id if target is not None else None,
            in_place=target is not None,
        )
        return plan, profile, request


def _planned(backup: Backup) -> PlannedBackup:
    return PlannedBackup(
        id=backup.id, name=backup.name, kind=backup.kind, raw_size=backup.raw_size, stored_size=backup.stored_size
    )


def _damaged(links: Sequence[Backup]) -> Iterator[PlannedEffect]:
    """Warnings only: perhaps there is no other backup, and the restore detects damaged data when it reads it."""
    for link in links:
        if link.is_damaged and link.verified is not None:
            yield PlannedEffect(
                effect="warned",
                item="verification",
                message=f"a verification found backup {link.name} ({link.id}) damaged: {link.verified['message']}",
                remedy="Choose a backup that is restorable (`strongroom backup list`).",
            )


def _damaged_pages(links: Sequence[Backup]) -> Iterator[PlannedEffect]:
    for link in links:
        pages = Pages.model_validate(link.pages) if link.pages else None
        if pages is not None and pages.damaged:
            yield PlannedEffect(
                effect="warned",
                item="damaged pages",
                message=f"the database was damaged when backup {link.name} was taken: {pages.damage}",
                remedy="Restore an older backup, or recover the content of these pages from one.",
            )


def _kept(target: Instance, source: Backup, adopted: bool) -> Iterator[PlannedEffect]:
    yield PlannedEffect(
        effect="kept",
        item="previous data",
        message="the current data is renamed and kept, and put back if the server does not start with the restored data",
        remedy=f"To delete it: `strongroom instance discard-old {target.name}`.",
    )
    if adopted:
        yield PlannedEffect(effect="kept", item="configuration", message="the current option files and settings are not changed")
    if adopted and is_copy(source, target):
        yield PlannedEffect(
            effect="warned",
            item="another instance",
            message=f"the backup is of {source.instance_name}; the configuration of {target.name} decides whether its events, "
            "replication and scheduled work run there",
            remedy="Disable them in its option files first, or restore to a new instance, which is isolated.",
        )


def _effects(base: RestorePlan, profile: Profile | None, notices: Sequence[Notice]) -> Iterator[PlannedEffect]:
    yield from base.effects
    if profile is None:
        yield PlannedEffect(
            effect="warned",
            item="profile",
            message="the backup has no server profile: the requirements of its server are unknown",
            remedy="Compare settings, plugins and engines of both servers; `backup verify --prepare` reads every table.",
        )
        return
    policies = {
        item.name: (item.new if base.isolated else item.in_place) for item in datastores.get(base.datastore).profiles.items
    }
    stopping = ("refuse", "refuse_in_place" if base.in_place else "refuse_new")
    for notice in notices:
        if notice.effect in stopping:
            effect: Effect = "refused"
        elif notice.effect != "warn":
            continue  # refuses only a restore of the other kind
        else:
            effect = "disabled" if policies.get(notice.item) == "disabled" else "warned"
        yield PlannedEffect(effect=effect, item=notice.item, message=notice.message, remedy=notice.remedy)
    for item, directory in profile.outside.items():
        where = "restored there, and the current files are kept" if base.in_place else "restored to the data directory"
        yield PlannedEffect(effect="placed", item=item, message=f"files of {directory} are {where}")
    if not any(found.item == "configuration" for found in base.effects):
        for name, value in profile.settings.items():
            yield PlannedEffect(effect="carried", item=name, message=f"{name} = {value}")
    for sentence in profile.absent:
        yield PlannedEffect(effect="absent", item="not in the backup", message=sentence)
    if profile.left_behind:
        shown = ", ".join(profile.left_behind[:20]) + (", …" if len(profile.left_behind) > 20 else "")
        yield PlannedEffect(effect="absent", item="files of the data directory", message=f"not in the backup: {shown}")
