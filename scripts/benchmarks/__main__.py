"""The command line of the benchmarks: selects cases, measures them one after the other, and writes the page."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest
from rich.table import Table

from benchmarks import machine, page, processes
from benchmarks.bench import Bench, console
from benchmarks.case import Case
from benchmarks.cases import CASES, chosen
from benchmarks.outcome import judge
from benchmarks.record import CaseResult, Record
from benchmarks.site import Site

ROOT = Path(__file__).resolve().parents[2]
QUICK = 0.03
RECORD = "benchmarks.json"
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    """Run the command. Returns the exit status: 0 if every case could be measured, even if goals were missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Compare Strongroom with the tools in common use.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="beginnings of names of cases (default: all)")
    parser.add_argument("--list", action="store_true", help="list the cases and exit")
    parser.add_argument("--page", action="store_true", help="measure nothing, only write the page from the record")
    parser.add_argument(
        "--quick", action="store_true", help=f"--scale {QUICK:g} --rounds 1, without the largest cases: five minutes"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full size (default: %(default)g)")
    parser.add_argument("--rounds", type=int, help="how often each variant runs (default: depends on the case)")
    parser.add_argument("--resume", action="store_true", help="skip cases that the record has for this commit and scale")
    parser.add_argument("--out", type=Path, help="directory of page, charts and record (default: docs, or below --dir if scaled)")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TMPDIR", "/var/tmp")), help="working directory")
    options = parser.parse_args()
    try:
        cases = chosen(options.cases)
    except ValueError as error:
        parser.error(str(error))
    if options.quick:
        options.scale, options.rounds = QUICK, 1
        cases = [case for case in cases if case.quick]
    if options.list:
        for case in cases:
            print(f"{case.name:<26} {case.chapter}: {case.title}")
        return 0
    folder = options.out or (ROOT / "docs" if options.scale == 1 else options.dir / "strongroom-benchmarks")
    record = Record.load(folder / RECORD)
    if options.page:
        print(page.write(CASES, record, folder))
        return 0
    commit = _commit()
    if options.resume:
        done = {name for name, result in record.cases.items() if (result.commit, result.scale) == (commit, options.scale)}
        cases = [case for case in cases if case.name not in done]
    processes.keep()
    for number in _ENDS:
        signal.signal(number, _end)
    failed = _measure(cases, record, folder, options, commit)
    print(page.write(CASES, record, folder))
    if failed:
        print(f"These cases could not be measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(cases: Sequence[Case], record: Record, folder: Path, options: argparse.Namespace, commit: str) -> list[str]:
    failed = []
    place = Path(tempfile.mkdtemp(prefix="strongroom-bench-", dir=options.dir))
    place.chmod(0o711)
    site = Site(place)
    try:
        for case in cases:
            console.print(f"{case.name}: {case.chapter}, {case.title}", style="bold")
            result = CaseResult(
                when=f"{datetime.now(UTC):%Y-%m-%d}",
                commit=commit,
                scale=options.scale,
                machine=machine.describe(),
                versions=machine.versions(),
            )
            began = time.monotonic()
            try:
                case.run(Bench(site, result, scale=options.scale, rounds=options.rounds or case.rounds))
                site.forget_backups()
            except (Exception, pytest.skip.Exception):  # noqa: BLE001 - the other cases can still be measured
                traceback.print_exc()
                failed.append(case.name)
                site.close()
                shutil.rmtree(place)
                place.mkdir(mode=0o711)
                site = Site(place)
                continue
            result.seconds = round(time.monotonic() - began, 1)
            record.add(folder / RECORD, case.name, result)
            _show(case, result)
    finally:
        site.close()
        shutil.rmtree(place, ignore_errors=True)
    return failed


def _show(case: Case, result: CaseResult) -> None:
    goals = judge(case, result)
    if goals:
        table = Table("goal", "target", "measured", "met")
        for goal in goals:
            table.add_row(goal.text, goal.wanted, goal.measured, {True: "yes", False: "NO", None: ""}[goal.reached])
        console.print(table)


def _end(*_: object) -> NoReturn:
    """Clean up and exit. Further signals are ignored, because the keeper may send one, too."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(130)


def _commit() -> str:
    """The last commit of the measured code, regardless of changes of the record."""

    def git(*words: str) -> str:
        ran = subprocess.run(
            ["git", "-C", str(ROOT), *words, "--", "src", "scripts"], capture_output=True, text=True, check=False
        )
        return ran.stdout.strip()

    return (git("log", "-1", "--format=%h") or "?") + ("-dirty" if git("status", "--porcelain") else "")


if __name__ == "__main__":
    sys.exit(main())
