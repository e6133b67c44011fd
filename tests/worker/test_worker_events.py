"""Events: their number, order and atomicity."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from strongroom.worker._events import EventLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_phases_are_written_immediately_and_progress_at_intervals(place: Path) -> None:
    path = place / "events.jsonl"
    events = EventLog(path)
    events.phase("copy", total=1000, message="because")
    began = time.monotonic()
    for done in range(1000):
        events.advance("copy", done, done // 2)
        time.sleep(0.0005)
    took = time.monotonic() - began
    events.phase("finish")
    written = lines(path)
    assert len(written) <= took / 0.25 + 3
    assert written[0]["phase"] == "copy" and written[0]["message"] == "because" and written[0]["total"] == 1000
    assert (written[-2]["phase"], written[-2]["done"], written[-2]["stored"]) == ("copy", 999, 499)
    assert written[-1]["phase"] == "finish" and written[-1]["total"] is None
    events.close()
    assert set(events.seconds) == {"copy", "finish"}
    assert abs(events.seconds["copy"] - took) < 0.2


def test_progress_before_a_phase_is_written_when_it_begins(place: Path) -> None:
    path = place / "events.jsonl"
    events = EventLog(path)
    events.expect("later", 50)
    events.phase("now")
    events.advance("later", 50, 20)
    events.phase("later")
    events.close()
    assert [line["phase"] for line in lines(path)] == ["now", "later"]
    assert (lines(path)[1]["done"], lines(path)[1]["stored"], lines(path)[1]["total"]) == (50, 20, 50)


def test_lines_of_many_threads_are_not_mixed(place: Path) -> None:
    path = place / "events.jsonl"
    events = EventLog(path)

    def work(name: str) -> None:
        for done in range(200):
            events.phase(f"{name} {done}")
            events.advance(f"{name} {done}", done, done)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line["phase"] for line in lines(path)} == {f"{name} {done}" for name in range(4) for done in range(200)}
