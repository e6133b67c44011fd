"""One round over all log archives: what is wanted, the duties of the hosts, their reports, incidents, and backups after gaps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Instance, Job, LogArchive, now
from strongroom.catalog.policies import close_incident, open_incident
from strongroom.errors import StrongroomError
from strongroom.flows.archives.bases import GAP, begin_base, has_base, note_gap
from strongroom.flows.archives.beginning import Beginning, find_beginning
from strongroom.flows.archives.duties import Answer, Orders, carry_out
from strongroom.flows.archives.state import find_loss, note_error, note_view, want
from strongroom.flows.archives.wanted import Wanted, list_wanted, name_duty
from strongroom.flows.recovery.location import open_log
from strongroom.flows.site import Site
from strongroom.protection.durations import format_duration
from strongroom.worker.spec import LogArchiveFacts

log = structlog.get_logger()

LOSS = "loss"
"""Condition of an incident: more could be lost than the policy allows."""
FAILED = "log archive"
"""Condition of an incident: the duty does not work."""
PATIENCE = timedelta(minutes=1)
"""An error that ends within this time opens no incident: servers restart, networks are cut."""


def follow_archives(site: Site) -> float | None:
    """Do a round. Returns the seconds until the next one; None while no log is archived."""
    at = now()
    with site.catalog.read() as session:
        wanted = {one.instance.id: one for one in list_wanted(session, site)}
        known = {row.instance_id: row.released for row in session.scalars(select(LogArchive))}
    if not wanted and all(known.values()):
        return None
    with site.catalog.write() as session:
        orders = _give_orders(session, wanted, at)
    answers = carry_out(site, orders)
    at = now()
    with site.catalog.write() as session:
        unknown = _note_answers(session, wanted, answers, at)
    beginnings = {key: found for key, series in unknown.items() if (found := _read_beginning(site, wanted[key].instance, series))}
    with site.catalog.write() as session:
        jobs = _conclude(session, site, wanted, beginnings, unknown, at)
    for job in jobs:
        site.start(job)
    return site.settings.hosts.duties_interval


def _give_orders(session: Session, wanted: dict[str, Wanted], at: datetime) -> dict[str, Orders]:
    """Note which archives are wanted, and what each host has to do."""
    rows = {row.instance_id: row for row in session.scalars(select(LogArchive))}
    for key, one in wanted.items():
        if key not in rows:
            instance = one.instance
            rows[key] = LogArchive(
                instance_id=key, project=instance.project, database_id=key, host=instance.host, wanted=False, wanted_since=at
            )
            session.add(rows[key])
        want(rows[key], one.instance, at)
    for key, row in rows.items():
        row.wanted = key in wanted
    hosts = {row.host for row in rows.values() if not row.released}
    return {
        host: Orders(
            {name_duty(key): one.request for key, one in wanted.items() if one.instance.host == host},
            [name_duty(key) for key, row in rows.items() if row.host == host and not row.wanted and not row.released],
        )
        for host in hosts
    }


def _note_answers(session: Session, wanted: dict[str, Wanted], answers: dict[str, Answer], at: datetime) -> dict[str, int]:
    """Write down what the hosts answered. Returns the series, by instance, of which it is not known where their part begins."""
    unknown: dict[str, int] = {}
    for row in session.scalars(select(LogArchive).where(LogArchive.released.is_(False))):
        answer = answers.get(row.host)
        if answer is None:
            continue
        duty_id = name_duty(row.instance_id)
        if not row.wanted or row.instance_id not in wanted:
            _note_removal(session, row, answer)
            continue
        view, error = answer.duties.get(duty_id), answer.refused.get(duty_id) or answer.error
        facts: LogArchiveFacts | None = None
        if view is not None:
            facts = note_view(row, view, at)
        elif error is not None:
            note_error(row, error, at)
        if facts is not None and facts.series is not None and (facts.series.number != row.series or row.began_at is None):
            unknown[row.instance_id] = facts.series.number
    return unknown


def _note_removal(session: Session, row: LogArchive, answer: Answer) -> None:
    duty_id = name_duty(row.instance_id)
    row.state = "stopping"
    if duty_id in answer.removed:
        row.released, row.state = True, ""
        row.trouble = row.trouble_remedy = ""
        row.trouble_since = None
    elif (error := answer.refused.get(duty_id) or answer.error) is not None:
        if row.trouble != error.message:  # a server may be stopped for months
            log.info("the duty of a log archive cannot be removed yet", instance=row.instance_id, reason=error.message)
        row.trouble = error.message
    for condition in (LOSS, FAILED, GAP):
        close_incident(session, row.database_id, condition)


def _read_beginning(site: Site, instance: Instance, series: int) -> Beginning | None:
    try:
        store, where = open_log(site, instance)
        return find_beginning(store, where, series)
    except StrongroomError as error:
        log.warning("cannot read the log archive", instance=instance.name, error=error.code, reason=error.message)
        return None


def _conclude(
    session: Session,
    site: Site,
    wanted: dict[str, Wanted],
    beginnings: dict[str, Beginning],
    series: dict[str, int],
    at: datetime,
) -> Sequence[Job]:
    """Open and close incidents, and begin the backups that archives need. Returns the jobs to start."""
    jobs = []
    for key, one in wanted.items():
        row, instance = session.get(LogArchive, key), session.get(Instance, key)
        if row is None or instance is None or instance.deleted is not None:
            continue
        if key in beginnings:
            found = beginnings[key]
            row.series, row.began, row.began_reason = series[key], found.began, found.reason
            began_at = datetime.fromtimestamp(found.started / 1_000_000, UTC)
            if began_at != row.began_at:
                row.began_at, row.backup_at = began_at, None
        _note_incidents(session, site, row, instance, one.policy.spec.max_loss, at)
        is_based = has_base(session, row)
        note_gap(session, row, instance, is_based=is_based)
        if not is_based and (job := begin_base(session, site, row, instance, one.policy, at)) is not None:
            jobs.append(job)
    return jobs


def _note_incidents(session: Session, site: Site, row: LogArchive, instance: Instance, allowed: timedelta, at: datetime) -> None:
    if instance.state != "running":  # it writes nothing, so nothing more can be lost; the instance has its own status
        return
    loss, remedy = (
        find_loss(site, row, at),
        row.trouble_remedy or "See `strongroom status`, and the log of the agent on its host.",
    )
    if loss > allowed:
        detail = f"the log archive is {format_duration(loss)} behind, {format_duration(allowed)} are allowed"
        open_incident(session, instance, LOSS, f"{detail}: {row.trouble}" if row.trouble else detail, remedy)
    else:
        close_incident(session, instance.id, LOSS)
    if row.has_failed or (row.trouble_since is not None and at - row.trouble_since >= PATIENCE):
        open_incident(session, instance, FAILED, f"the log is not archived: {row.trouble}", remedy)
    elif not row.trouble:
        close_incident(session, instance.id, FAILED)
