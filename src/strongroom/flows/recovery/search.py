"""Searches the log of an instance, by the indexes of its segments: when a table was dropped, truncated, or deleted from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from strongroom import datastores
from strongroom.archive import Event, LogSegment, SegmentIndex
from strongroom.errors import InvalidRequest
from strongroom.flows.recovery.past import Past, load_past
from strongroom.flows.recovery.times import SECOND, format_time
from strongroom.flows.site import Site

Search = Literal["drop", "truncate", "delete", "restore-point"]
"""What can be found."""
_OWN_POINT = "strongroom "
"""The beginning of the names of restore points that backups create."""
SEARCHES: tuple[Search, ...] = get_args(Search)


class FoundEvent(BaseModel):
    """Something in the log. Deletions of rows are known by segment: they happened between ``first_time`` and ``time``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    first_time: str | None
    time: str | None
    tables: list[str] = Field(description="PostgreSQL: files of tables; its log has no names of tables.")
    text: str = Field(description="The statement, the name of the restore point, or how much was deleted.")
    begin: str = Field(description="The last position without it.")
    end: str = Field(description="The first position with it.")
    before: str | None = Field(description="The target of a restore to the moment before it.")


def search_log(
    site: Site,
    project: str,
    instance: str,
    *,
    kinds: Collection[Search] = SEARCHES,
    table: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
) -> list[FoundEvent]:
    """What the log of the instance contains of these kinds, newest first. Not on the event loop.

    ``table``: with or without the name of its database.

    Raises NotFound, Conflict (there is no log archive), InvalidRequest (the log does not name tables), Unsupported,
    ArtifactError (as CannotDecrypt), StorageError.
    """
    past = load_past(site, project, instance)
    if table is not None and not datastores.get(past.instance.datastore).capabilities.log_names_tables:
        raise InvalidRequest(
            f"the log of {past.instance.datastore} has no names of tables", remedy="Leave the table out, and compare the times."
        )
    first, last = (round(moment.timestamp() * SECOND) if moment else None for moment in (since, until))
    found: list[FoundEvent] = []
    for segment, index in _list_segments(past, first, last):
        found += reversed(list(_search(segment, index, kinds, table, first, last)))
        if len(found) >= limit:
            break
    return found[:limit]


def _list_segments(past: Past, first: int | None, last: int | None) -> Iterator[tuple[LogSegment, SegmentIndex]]:
    """The segments with transactions in this time, newest first."""
    for number, contents in sorted(past.contents.items(), reverse=True):
        reader = past.stretch(()).open(number)
        for _, stored in sorted(contents.segments.items(), reverse=True):
            segment = stored.record
            if not segment.index or (segment.last_time is not None and first is not None and segment.last_time < first):
                continue
            if segment.first_time is not None and last is not None and segment.first_time > last:
                continue
            yield segment, reader.index(segment)


def _search(
    segment: LogSegment,
    index: SegmentIndex,
    kinds: Collection[Search],
    table: str | None,
    first: int | None,
    last: int | None,
) -> Iterator[FoundEvent]:
    if "delete" in kinds:
        for activity in index.activity:
            if activity.kind == "delete" and _is_table(activity.table, table):
                yield FoundEvent(
                    kind="delete",
                    first_time=format_time(segment.first_time) if segment.first_time is not None else None,
                    time=format_time(segment.last_time) if segment.last_time is not None else None,
                    tables=[activity.table],
                    text=f"rows deleted, {activity.bytes} bytes of log",
                    begin=segment.begin,
                    end=segment.end,
                    before=_before(segment.first_time),
                )
    for event in index.events:
        if event.kind not in kinds or not _is_in(event, first, last) or event.text.startswith(_OWN_POINT):
            continue
        if table is None or any(_is_table(name, table) for name in event.objects):
            moment = format_time(event.time) if event.time is not None else None
            yield FoundEvent(
                kind=event.kind,
                first_time=moment,
                time=moment,
                tables=list(event.objects),
                text=event.text,
                begin=event.begin,
                end=event.end,
                before=_before(event.time),
            )


def _is_table(name: str, table: str | None) -> bool:
    return table is None or name == table or name.rpartition(".")[2] == table


def _is_in(event: Event, first: int | None, last: int | None) -> bool:
    return event.time is None or ((first is None or event.time >= first) and (last is None or event.time <= last))


def _before(time: int | None) -> str | None:
    return format_time(time - 1) if time is not None else None
