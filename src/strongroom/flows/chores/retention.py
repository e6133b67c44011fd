"""Marks the backups that no rule keeps, removes what was marked long enough, and reads what the stores contain."""

from __future__ import annotations

import structlog
from sqlalchemy.exc import DBAPIError

from strongroom.catalog import now
from strongroom.errors import JobError, StrongroomError
from strongroom.flows.chores.chore import Chore
from strongroom.flows.retention.clocks import Reading, count_served, find_jump, keep_reading, load_readings, read_clocks
from strongroom.flows.retention.facts import refresh_facts
from strongroom.flows.retention.protection import note_incidents
from strongroom.flows.retention.turn import apply_rules, report_failure, select_databases, sweep_imported
from strongroom.flows.retention.watch import EVERYTHING, list_databases, record_check
from strongroom.flows.site import Site

log = structlog.get_logger()

INTERVAL = 300.0


def retain(site: Site) -> float:
    """Check the databases that changed; an error affects only one database. Returns the seconds until the next check."""
    jump = _count_time(site, read_clocks())
    watch, at = site.watch, now()
    with site.catalog.read() as session:
        databases = list_databases(session, watch, at)
        everything = watch.everything is None or at > watch.everything + EVERYTHING
    for database_id in select_databases(site, databases):
        try:
            apply_rules(site, database_id, jump=jump)
        except DBAPIError:
            raise
        except StrongroomError as error:
            log.warning("retention of a database failed", database=database_id, error=error.code, reason=error.message)
            report_failure(site, database_id, error)
        except Exception:
            log.exception("retention of a database failed", database=database_id)
            defect = JobError("unexpected error; see the log of the service", remedy="This is a defect: report it with the log.")
            report_failure(site, database_id, defect)
    if not jump:
        sweep_imported(site)
    record_check(watch, at, everything=everything)
    return site.settings.retention.interval


def read_stores(site: Site) -> float:
    """Read what the stores contain, for the status of databases. Impossible if stores require the token of a user."""
    if not site.settings.storage.by_token:
        refresh_facts(site)
    note_incidents(site)
    return site.settings.retention.interval


def _count_time(site: Site, reading: Reading) -> str:
    """Add the time since the last check. Returns why the clock cannot be trusted; empty if it can be."""
    last = site.watch.ticked
    site.watch.ticked = reading
    with site.catalog.write() as session:
        count_served(session, last, reading)
        jump = find_jump(load_readings(session), reading)
        if not jump:
            keep_reading(session, reading)
    site.watch.jump = jump
    if jump:
        log.warning("retention removes nothing", reason=jump)
    return jump


RETENTION = Chore(name="retention", interval=INTERVAL, run=retain)
STORES = Chore(name="stores", interval=INTERVAL, run=read_stores)
