"""What is known of a log archive: from the reports of its duty, into its row in the catalog."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from strongroom.agent.models import DutyView
from strongroom.catalog import Instance, LogArchive
from strongroom.errors import StrongroomError
from strongroom.flows.site import Site
from strongroom.worker.duty import DutyReport
from strongroom.worker.spec import LogArchiveFacts

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = 1000
_MISSED = 2
"""So many intervals without a new report are late."""
_REPORTS = 5
"""Seconds, more than between two reports of a duty."""
_RESTARTS = 3
"""A duty that died so often without a report does not work."""


def find_loss(site: Site, row: LogArchive, at: datetime) -> timedelta:
    """How much could be lost now, at most: since when not everything that the server wrote is known to be stored.

    It is measured by the clock of the host, and what has passed since then by that of the service, so that they may differ.
    While the duty reports regularly, its last report counts as the present state.
    """
    if row.loss is None or row.seen is None:
        return max(at - row.wanted_since, timedelta(0))
    since = at - row.seen
    is_late = since > timedelta(seconds=_MISSED * site.settings.hosts.duties_interval + _REPORTS)
    return timedelta(seconds=row.loss) + (since if is_late else timedelta(0))


def note_view(row: LogArchive, view: DutyView, at: datetime) -> LogArchiveFacts | None:
    """Write down the state of the duty, and its last report if it is new. Returns what that reports of the archive."""
    row.state = view.state
    report = view.report
    if report is None or (row.reported is not None and report.at == row.reported):
        if view.state == "running" or (view.state == "starting" and view.restarts < _RESTARTS):
            return None
        note_trouble(row, at, view.detail or "it does not run")
        return None
    row.reported = report.at
    row.has_failed = report.failure is not None
    if report.failure is not None:
        note_trouble(row, at, report.failure.message, report.failure.remedy)
        return None
    facts = _read_facts(report)
    if facts is None:
        note_trouble(row, at, "the agent reports something that this service does not understand", "Install the same version.")
        return None
    if facts.trouble is not None:
        note_trouble(row, at, facts.trouble.message, facts.trouble.remedy)
    else:
        row.trouble = row.trouble_remedy = ""
        row.trouble_since = None
    _note_facts(row, facts, report.at, at)
    return facts


def note_error(row: LogArchive, error: StrongroomError, at: datetime) -> None:
    """The host did not answer, or refused the duty."""
    row.state = ""
    note_trouble(row, at, error.message, error.remedy)


def note_trouble(row: LogArchive, at: datetime, message: str, remedy: str = "") -> None:
    """Write down why the archive does not advance."""
    row.trouble, row.trouble_remedy = message[:_LONGEST], remedy[:_LONGEST]
    row.trouble_since = row.trouble_since or at


def want(row: LogArchive, instance: Instance, at: datetime) -> None:
    """A policy wants the archive: for the first time, again, or still."""
    if not row.wanted:
        row.wanted, row.wanted_since = True, at
        row.seen = row.loss = row.reported = row.trouble_since = None
        row.trouble = row.trouble_remedy = ""
        row.has_failed = False
    row.released = False
    row.host, row.project = instance.host, instance.project


def _read_facts(report: DutyReport) -> LogArchiveFacts | None:
    try:
        return LogArchiveFacts.model_validate(report.facts)
    except ValidationError:
        return None


def _note_facts(row: LogArchive, facts: LogArchiveFacts, reported: datetime, at: datetime) -> None:
    row.position, row.warnings = facts.position[:_LONGEST], list(facts.warnings)
    row.last_time = _read_time(facts.last_time) or row.last_time
    complete = _read_time(facts.complete_until)
    if complete is not None:
        row.complete_until = complete
        row.loss, row.seen = max((reported - complete).total_seconds(), 0.0), at


def _read_time(microseconds: int | None) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=microseconds) if microseconds is not None else None
    except OverflowError:
        return None
