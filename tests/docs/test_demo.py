"""The demo with a small data set: it succeeds, checks the data, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import processes

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


def start(place: Path, *options: str) -> subprocess.Popen[str]:
    """Start the demo in a directory below ``place``."""
    command = [sys.executable, str(DEMO), "--size", "2", "--dir", str(place / "demo"), *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_demo_checks_its_restores_and_cleans_up(place: Path) -> None:
    demo = start(place)
    output, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, output
    assert "WRONG" not in output
    assert output.count("correct: ") == 20, "ten results for each of two restores"
    assert "All restored data is correct" in output
    words = (
        "serve",
        "instance create",
        "backup create full1",
        "backup create inc1",
        "restore inc2 --name",
        "restore inc2 --in-place",
    )
    assert [word for word in words if f"$ strongroom {word}" not in output] == []
    assert not (place / "demo").exists()
    assert processes.below(place) == {}


@pytest.mark.parametrize("moment", ["2. Full backup", "5. Restore"])
def test_interrupted_demo_cleans_up(place: Path, moment: str) -> None:
    demo = start(place)
    assert demo.stdout
    before = []
    for line in demo.stdout:
        before.append(line)
        if line.startswith(moment):
            break
    time.sleep(1)
    demo.send_signal(signal.SIGTERM)
    output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 130, "".join(before) + output
    assert not (place / "demo").exists()
    assert processes.below(place) == {}


def test_nonempty_directory_is_refused(place: Path) -> None:
    (place / "demo").mkdir()
    (place / "demo" / "precious").touch()
    demo = start(place)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "is not empty" in output
    assert (place / "demo" / "precious").exists()
