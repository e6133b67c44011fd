"""The cache: one lookup for concurrent callers, expiry, errors, and cancelled callers."""

from __future__ import annotations

import asyncio
import time

import pytest

from strongroom.errors import Unavailable
from strongroom.identity._answers import Answers


class Oracle:
    """Counts lookups."""

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
            raise Unavailable("unreachable")
        return self.asked, until


def test_concurrent_callers_cause_one_lookup() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(10)
        oracle = Oracle()
        assert await asyncio.gather(*(answers.get(b"a", oracle) for _ in range(20))) == [1] * 20
        assert await answers.get(b"b", oracle) == 2
        assert await answers.get(b"a", oracle) == 1

    asyncio.run(ask())


def test_result_expires() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(10)
        oracle = Oracle(seconds=0, good=0.1)
        assert [await answers.get(b"a", oracle) for _ in range(3)] == [1, 1, 1]
        await asyncio.sleep(0.12)
        assert await answers.get(b"a", oracle) == 2

    asyncio.run(ask())


def test_error_is_raised_for_all_callers_and_not_cached() -> None:
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


def test_cancelled_caller_does_not_affect_others() -> None:
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


def test_least_recently_used_is_dropped_first() -> None:
    async def ask() -> None:
        answers: Answers[int] = Answers(2)
        oracle = Oracle(seconds=0)
        for key in (b"a", b"b", b"a", b"c"):
            await answers.get(key, oracle)
        assert await answers.get(b"a", oracle) == 1
        assert await answers.get(b"b", oracle) == 4

    asyncio.run(ask())
