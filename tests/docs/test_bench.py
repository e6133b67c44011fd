"""The benchmarks, with very little data: cases are measured, recorded and shown on the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from support import processes

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "tests")])


def bench(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/bench`` without its setup, in separate directories."""
    (place / "work").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks", "--dir", str(place / "work"), "--out", str(place / "out"), *words]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=280)


def test_case_is_measured_recorded_and_shown(place: Path) -> None:
    ran = bench(place, "--scale", "0.001", "--rounds", "1", "mariadb-backup-large", "api", "policies")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list((place / "work").iterdir()) == []
    assert processes.below(place) == {}
    cases = json.loads((place / "out" / "benchmarks.json").read_text())["cases"]
    assert set(cases) == {"mariadb-backup-large", "api", "policies"}
    ours = cases["mariadb-backup-large"]["variants"]["Strongroom"]
    assert len(ours["seconds"]) == 1
    assert ours["cpu"][0] > 0.1, "includes the worker and the tool, which are not children of the benchmark"
    assert ours["memory"][0] > 50 * 2**20, "includes them, too"
    assert ours["stored"][0] > 100_000
    assert set(ours["floor"]) == {"read", "compress", "write"}
    page = (place / "out" / "benchmarks.md").read_text()
    assert "| `mariadb-backup-large` | times faster than gzip | ≥ 15 |" in page
    assert "mariadb-backup --defaults-file=$WORK/bench-table.cnf" in page
    assert "(benchmarks/mariadb-backup-large.svg)" in page
    drawn = ElementTree.parse(place / "out" / "benchmarks" / "mariadb-backup-large.svg").getroot()
    assert len([mark for mark in drawn.iter() if mark.tag.endswith("rect")]) == 5

    shown = page.count("\n### ")
    (place / "out" / "benchmarks.md").unlink()
    ran = bench(place, "--page")
    assert ran.returncode == 0, ran.stderr
    assert (place / "out" / "benchmarks.md").read_text() == page, "the page is written from the record"
    assert shown == len(cases)


def test_unknown_case_is_refused(place: Path) -> None:
    ran = bench(place, "mariadb-bckup")
    assert ran.returncode == 2
    assert "no case begins with mariadb-bckup; the cases are: mariadb-backup-rows" in ran.stderr


def test_page_of_the_project_is_up_to_date(place: Path) -> None:
    (place / "out").mkdir()
    shutil.copy(ROOT / "docs" / "benchmarks.json", place / "out")
    ran = bench(place, "--page")
    assert ran.returncode == 0, ran.stderr
    assert (place / "out" / "benchmarks.md").read_text() == (ROOT / "docs" / "benchmarks.md").read_text(), "scripts/bench --page"
