"""Swaps of several directories, cut off before every step, and once more while they are finished: all new or all old."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.agent.registry import Registry, ServerRecord
from strongroom.agent.swap import outside, swap
from strongroom.agent.swap.outside import Outside
from strongroom.agent.swap.swap import Swapper, beside
from strongroom.errors import ServerFailed
from strongroom.system.users import find_user_by_id
from support.agents import definition

JOB = "j"
STEPS = ("_make", "_rename", "_rename_entry", "_remove")


class _Crash(BaseException):
    """As if by kill -9: nobody catches it."""


class Stub:
    """The server of a swap: whether it serves is said by the test."""

    def __init__(self, comes_up: bool, registry: Registry) -> None:
        self._comes_up = comes_up
        self.registry = registry
        self.served: list[str] = []

    def __getattr__(self, _name: str) -> Stub:
        return self

    def __call__(self, *_args: object, **_kwargs: object) -> Stub:
        return self

    def wait_ready(self, record: ServerRecord, _launched: object) -> None:
        state = (record.data_dir / "state").read_text()
        self.served.append(state)
        if state == "new" and not self._comes_up:
            raise ServerFailed("it does not come up")


class Files:
    """A server with data, a log directory that is its own and one that is shared and cannot have siblings."""

    def __init__(self, top: Path) -> None:
        self.data, self.own, self.shared = top / "data", top / "redo", top / "shared"
        self.outside = [
            Outside(directory=self.own, entries=[r"log\d"]),
            Outside(directory=self.shared, entries=[r"bin\.\d", r"bin\.index"], inside=True),
        ]
        for directory in (self.data, self.own, self.shared):
            directory.mkdir(parents=True)
        self._fill(self.data, "old", "state")
        self._fill(self.own, "old", "log0", "log1")
        self._fill(self.shared, "old", "bin.1", "bin.2", "bin.index")
        self._fill(self.shared, "stays", "error.log")
        new = [beside(self.data, "new", JOB), *(each.at("new", JOB) for each in self.outside)]
        for directory in new:
            directory.mkdir()
        self._fill(new[0], "new", "state")
        self._fill(new[1], "new", "log0")

    def _fill(self, directory: Path, text: str, *names: str) -> None:
        for name in names:
            (directory / name).write_text(text)

    def serving(self) -> set[str]:
        """What a server that is started now would read; nothing when there is no data directory."""
        if not self.data.exists():
            return set()
        paths = [self.data / "state", *self.own.glob("log*"), *self.shared.glob("bin.*")]
        return {path.read_text() for path in paths}

    def check(self, state: str) -> None:
        assert self.serving() == {state}
        assert {p.name for p in self.own.iterdir()} == ({"log0", "log1"} if state == "old" else {"log0"})
        assert (self.shared / "error.log").read_text() == "stays"
        other = "failed" if state == "old" else "old"
        aside = [beside(self.data, other, JOB), *(each.at(other, JOB) for each in self.outside)]
        assert all(path.is_dir() for path in aside)
        assert {p.read_text() for path in aside for p in path.iterdir()} == {"old" if state == "new" else "new"}
        names = {p.name for p in self.data.parent.iterdir()} | {p.name for p in self.shared.iterdir()}
        assert not [name for name in names if any(what in name for what in (".new-", ".taken-", ".leaving-"))]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Crash before a step; a negative number never does."""
    left = [-1]

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                raise _Crash
            left[0] -= 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    for name in STEPS:
        wrap(outside, name)
    wrap(swap, "_rename")
    wrap(swap.Swapper, "_save")
    wrap(Registry, "save")
    yield lambda step: left.__setitem__(0, step)


def _world(top: Path, comes_up: bool) -> tuple[Files, Swapper, ServerRecord, Stub]:
    files = Files(top)
    registry = Registry(top / "agent")
    registry.load()
    stub = Stub(comes_up, registry)
    record = ServerRecord(
        id="s1", definition=definition("s1"), user=find_user_by_id(os.geteuid()).name, data_dir=files.data, wanted="running"
    )
    registry.save(record)
    swapper = Swapper(stub, stub, lambda *_args, **_kwargs: files.outside)  # type: ignore[arg-type]
    return files, swapper, record, stub


def _run(swapper: Swapper, record: ServerRecord, *, first: bool) -> bool:
    """False when it was cut off."""
    try:
        journal = None if first else swapper.journal(record)
        if journal is None:
            swapper.swap(record, JOB)
        else:
            swapper.finish(record, journal)
    except ServerFailed:
        return True
    except _Crash:
        return False
    return True


@pytest.mark.parametrize("comes_up", [True, False])
def test_swap_is_finished_after_two_interruptions_at_any_step(cut: Callable[[int], None], place: Path, comes_up: bool) -> None:
    for step in range(200):
        second = 0
        while True:
            top = place / f"{comes_up}-{step}-{second}"
            cut(-1)
            files, swapper, record, stub = _world(top, comes_up)
            cut(step)
            whole = _run(swapper, record, first=True)
            assert len(files.serving()) < 2, "a server could be started on a mix of old and new files"
            cut(second if not whole else -1)
            again = _run(swapper, record, first=False)
            assert len(files.serving()) < 2
            cut(-1)
            _run(swapper, record, first=False)
            files.check("new" if comes_up else "old")
            assert stub.served[-1] == ("new" if comes_up else "old")
            second += 3
            if whole or again:
                break
        if whole:
            break
    else:
        raise AssertionError("a swap has more than 200 steps?")
    assert step > 15


def test_unexpected_error_rolls_the_swap_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a driver's library, when the restored server is asked what it has: no swap stays in the middle."""
    files, swapper, record, _ = _world(place / "files", True)
    monkeypatch.setattr(Swapper, "_check", lambda *_: {}["nothing"])
    with pytest.raises(ServerFailed, match="the previous data is back and serves"):
        swapper.swap(record, JOB)
    files.check("old")
    journal = swapper.journal(record)
    assert journal is not None and journal.phase == "undone"
