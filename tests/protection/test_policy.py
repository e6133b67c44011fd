"""The settings of a policy: what is refused, what JSON looks like, how long its chains become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from strongroom.errors import InvalidRequest
from strongroom.protection.policy import MOST_LINKS, STORED, PolicySpec


@pytest.mark.parametrize("name", ["localtime", "posixrules", "Factory", "posix/Europe/Vienna", "right/UTC", "Mars/Base", ""])
def test_only_iana_names_of_time_zones_are_accepted(name: str) -> None:
    with pytest.raises(InvalidRequest, match="time zone") as refused:
        PolicySpec(keep_last=1, time_zone=name)
    assert "IANA name" in refused.value.remedy
    stored = PolicySpec.model_validate({"keep_last": 1, "time_zone": name}, context=STORED)
    assert stored.time_zone == name


@pytest.mark.parametrize("nothing", [0, "0", "0s", "0d"])
def test_every_rule_can_be_turned_off_with_0(nothing: Any) -> None:
    spec = PolicySpec.model_validate({"keep_daily": 3, "keep_within": nothing, "max_age": nothing, "keep_hourly": 0})
    assert (spec.keep_within, spec.max_age, spec.rules.hourly) == (timedelta(0), timedelta(0), 0)
    with pytest.raises(InvalidRequest, match="the policy keeps nothing"):
        PolicySpec.model_validate({"keep_daily": 0, "keep_within": nothing})


def test_json_accepts_the_text_that_users_write() -> None:
    given = {"full": "sun 02:00", "time_zone": "Europe/Vienna", "keep_within": "7d", "keep_daily": 14, "max_age": "26h"}
    spec = PolicySpec.model_validate(given)
    assert spec.keep_within == timedelta(days=7)
    assert (spec.rules.within, spec.rules.daily) == (timedelta(days=7), 14)
    dumped = spec.model_dump(mode="json")
    assert (dumped["keep_within"], dumped["max_age"], dumped["spread"]) == ("7d", "1d2h", "5m")
    assert PolicySpec.model_validate(dumped) == spec


def test_intervals_count_from_the_anchor() -> None:
    anchor = datetime(2026, 5, 1, 3, 17, tzinfo=UTC)
    plan = PolicySpec(incremental="every 6h", keep_last=1).plan(anchor)
    assert plan.next_after(anchor) == (anchor + timedelta(hours=6), "incremental")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"full": "often"}, "not a schedule"),
        ({"full": "daily", "time_zone": "Mars/Base"}, "no time zone"),
        ({"not_between": ["8-18"]}, "time of day range"),
        ({"not_between": ["00:00-24:00"]}, "cover the whole day"),
        ({"not_between": ["12:00-00:00", "22:00-12:00"]}, "cover the whole day"),
        ({"max_age": "soon"}, "not a duration"),
        ({"spread": "13h"}, "longer than 12 hours"),
        ({"max_loss": "9s"}, "shorter than 10s"),
        ({"keep_last": 0}, "keeps nothing"),
    ],
)
def test_wrong_settings_are_refused_with_a_remedy(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        PolicySpec.model_validate({"keep_last": 3, **given})
    assert caught.value.remedy


@pytest.mark.parametrize(("max_loss", "seconds"), [("10s", 10 / 6), ("30s", 5), ("5m", 30), ("1d", 30)])
def test_log_is_stored_long_before_too_much_would_be_lost(max_loss: str, seconds: float) -> None:
    assert PolicySpec.model_validate({"keep_last": 1, "max_loss": max_loss}).segment_age == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("given", "links"),
    [
        ({"full": "sun 02:00", "incremental": "daily 02:00"}, 7),
        ({"full": "daily 02:00"}, 1),
        ({"full": "sun 02:00", "incremental": "daily 02:00", "max_chain": 4}, 4),
        ({"incremental": "hourly"}, MOST_LINKS),
    ],
)
def test_the_length_of_chains_is_derived_from_the_schedules(given: dict[str, Any], links: int) -> None:
    assert PolicySpec(keep_last=1, **given).chain_length == links
