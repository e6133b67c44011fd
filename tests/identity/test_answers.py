"""Answers are asked for once, kept for their time, and lost by nobody's going away."""

from __future__ import annotations

import asyncio
import time

import pytest

from strongroom.errors import Unavailable
from strongroom.identity._answers import Answers


class Oracle:
    """Counts how often it is asked."""

    def __init__(self, *, seconds: float = 0.02, good: float = 60) -> None:
        self.asked = 0
        self.seconds = seconds
        self.good = good
        self.broken = False

    async def __call__(self) -> tuple[int, float]:
        self.asked += 1
        until = time.monotonic() + self.good
        await asyncio.sleep(self.seconds)
        if self.broken:
            raise Unavailable("away")
        return self.asked, until


def test_many_who_ask_the_same_at_the_same_time_cost_one_question() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(10)
        oracle = Oracle()
        assert await asyncio.gather(*(answers.get(b"a", oracle) for _ in range(20))) == [1] * 20
        assert await answers.get(b"b", oracle) == 2
        assert await answers.get(b"a", oracle) == 1

    asyncio.run(ask())


def test_an_answer_is_good_for_its_time_only() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(10)
        oracle = Oracle(seconds=0, good=0.1)
        assert [await answers.get(b"a", oracle) for _ in range(3)] == [1, 1, 1]
        await asyncio.sleep(0.12)
        assert await answers.get(b"a", oracle) == 2

    asyncio.run(ask())


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(10)
        oracle = Oracle()
        oracle.broken = True
        outcomes = await asyncio.gather(*(answers.get(b"a", oracle) for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 5
        assert oracle.asked == 1
        oracle.broken = False
        assert await answers.get(b"a", oracle) == 2

    asyncio.run(ask())


def test_who_goes_away_takes_nothing_from_the_others() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(10)
        oracle = Oracle(seconds=0.1)
        first = asyncio.create_task(answers.get(b"a", oracle))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(answers.get(b"a", oracle))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == 1
        assert oracle.asked == 1

    asyncio.run(ask())


def test_the_least_used_are_forgotten_first() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(2)
        oracle = Oracle(seconds=0)
        for key in (b"a", b"b", b"a", b"c"):
            await answers.get(key, oracle)
        assert await answers.get(b"a", oracle) == 1
        assert await answers.get(b"b", oracle) == 4

    asyncio.run(ask())
