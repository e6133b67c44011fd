"""Where the archive of a PostgreSQL server continues."""

from __future__ import annotations

import pytest

from strongroom.archive import Head, LogSegment, Seam, Series
from strongroom.datastores.postgresql.archive.continuation import (
    Begin,
    Continue,
    Follow,
    SeriesDetails,
    history_of,
    plan_continuation,
)
from strongroom.datastores.postgresql.archive.replication import Identity
from strongroom.datastores.postgresql.files.wal import History
from strongroom.errors import ArtifactCorrupt, ServerFailed
from support.archives import LOG

MIB = 1 << 20
TEXT = "1\t0/300100\tno recovery target specified\n\n2\t0/500000\tno recovery target specified\n"
HISTORY = History.parse(3, TEXT)


def head(position: str, timeline: int = 1, history: str = "") -> Head:
    series = Series(
        location=LOG.series(4),
        datastore="postgresql",
        identity="9",
        began="first",
        begin="0/100000",
        started=0,
        details=SeriesDetails(system=9, timeline=timeline, file_size=MIB, history=history).model_dump_json(),
    )
    segment = LogSegment(
        series=LOG.series(4),
        number=0,
        begin="0/100000",
        end=position,
        raw=1,
        stored=1,
        sha256="0" * 64,
        previous="0" * 64,
        codec="zstd",
        written=0,
    )
    return Head(series, segment, "0" * 64)


def identity(position: int, timeline: int = 1, system: int = 9, *, is_standby: bool = False) -> Identity:
    return Identity(system, timeline, position, is_standby)


def test_an_empty_archive_begins() -> None:
    plan = plan_continuation(None, identity(MIB), History(1), "")
    assert isinstance(plan, Begin) and plan.began == "first"


def test_the_same_timeline_continues() -> None:
    assert plan_continuation(head("0/200000"), identity(2 * MIB), History(1), "") == Continue(1)
    assert plan_continuation(head("0/500100", 3, TEXT), identity(9 * MIB, 3), HISTORY, TEXT) == Continue(3)


def test_a_timeline_is_archived_to_its_end_before_the_next_one() -> None:
    assert plan_continuation(head("0/3000F8"), identity(9 * MIB, 3), HISTORY, TEXT) == Continue(1)
    for position in ("0/300100", "0/300200"):  # the old server wrote more, which the new one does not have
        plan = plan_continuation(head(position), identity(9 * MIB, 3), HISTORY, TEXT)
        assert plan == Follow(2, 0x300100, Seam(series=4, position="0/300100"))


@pytest.mark.parametrize(
    ("position", "timeline", "text", "server", "began"),
    [
        ("0/200000", 1, "", identity(9 * MIB, system=10), "identity"),
        ("0/200008", 1, "", identity(2 * MIB), "restore"),
        ("0/500100", 3, TEXT + "# another\n", identity(9 * MIB, 3), "restore"),
        ("0/500100", 7, TEXT, identity(9 * MIB, 3), "restore"),
    ],
)
def test_other_data_begins_another_series(position: str, timeline: int, text: str, server: Identity, began: str) -> None:
    history = HISTORY if server.timeline == 3 else History(1)
    plan = plan_continuation(head(position, timeline, text), server, history, TEXT if server.timeline == 3 else "")
    assert isinstance(plan, Begin) and plan.began == began and plan.reason


def test_a_standby_that_lags_is_waited_for() -> None:
    with pytest.raises(ServerFailed, match="the standby is at 0/200000"):
        plan_continuation(head("0/200008"), identity(2 * MIB, is_standby=True), History(1), "")


def test_a_series_of_another_database_is_an_error() -> None:
    other = head("0/200000")
    for details in ("", "{}", '{"system": -1, "timeline": 1, "file_size": 1048576}'):
        with pytest.raises(ArtifactCorrupt):
            changed = Head(other.series.model_copy(update={"details": details}), other.segment, other.sha256)
            plan_continuation(changed, identity(2 * MIB), History(1), "")


def test_the_history_of_an_ancestor_is_a_part_of_its_descendants() -> None:
    assert history_of(HISTORY, 3) == HISTORY
    assert history_of(HISTORY, 2) == History(2, ((1, 0x300100),))
    assert history_of(HISTORY, 1) == History(1)
