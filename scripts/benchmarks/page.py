"""Writes ``benchmarks.md`` and its charts from the record."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.case import Case
from benchmarks.chart import bars
from benchmarks.outcome import judge, number, spread
from benchmarks.record import CaseResult, Record, Variant

CHARTS = "benchmarks"
"""The folder of the charts, next to the page."""
_HEAD = """\
# Benchmarks

<!-- Made by scripts/bench from benchmarks.json; do not edit. -->

This page compares Strongroom with the tools in common use, on the same machine, with the same data, in the same run.
`scripts/bench` measures everything again, `scripts/bench mariadb-backup` the cases whose names begin with that, and
`scripts/bench --quick` most cases with little data in five minutes. `scripts/bench --page` writes this page from the
[raw results](benchmarks.json).

Machines differ, so only the ratios are meaningful. A ratio is the median of the rounds, followed by the minimum and the maximum.
In each round all variants run one after the other. Times are what a user waits: for pipelines, from the first command to a
synced file system; for Strongroom, from the command to COMPLETED or ACTIVE, unless a row says otherwise. *Worker only* is the
part of Strongroom's worker, from its start to the last sync, without the start of the database. The data is in the page cache.

*CPU* is the processor time of all processes, including the database. *Memory* is the peak resident memory that all processes
except database servers use in addition (shared memory counts more than once). The *floor* is the minimum time on this machine.
For a backup, it is the longest of three times: reading the data, compressing it with zstd level 1 on all cores, and writing the
stored bytes to synced files; for a restore: reading the stored bytes, decompressing, and writing the data. Each rate is measured
in the same run. The floor contains no start of a program, no hashes, no checks and no sync of many files. In the charts it is
the line across a bar.
"""


def write(cases: Sequence[Case], record: Record, folder: Path) -> Path:
    """Write the page and its charts. Returns the page."""
    charts = folder / CHARTS
    charts.mkdir(parents=True, exist_ok=True)
    for chart in charts.glob("*.svg"):
        chart.unlink()
    measured = [(case, record.cases[case.name]) for case in cases if case.name in record.cases]
    lines = [_HEAD, *_summary(measured)]
    for chapter, members in groupby(measured, lambda pair: pair[0].chapter):
        lines.append(f"## {chapter}\n")
        for case, result in members:
            lines += _case(case, result, charts)
    page = folder / "benchmarks.md"
    page.write_text("\n".join(lines).rstrip() + "\n")
    return page


def _summary(measured: Sequence[tuple[Case, CaseResult]]) -> Iterator[str]:
    if not measured:
        yield "Nothing has been measured yet.\n"
        return
    yield "## Goals\n"
    yield from _head("case", "goal", "target", "measured", "met")
    for case, result in measured:
        for judged in judge(case, result):
            if judged.reached is not None:
                measured = judged.measured + _describe_scale(result)
                yield _row(f"`{case.name}`", judged.text, judged.wanted, measured, "yes" if judged.reached else "**no**")
    yield ""


def _case(case: Case, result: CaseResult, charts: Path) -> Iterator[str]:
    yield f"### {case.title[0].upper()}{case.title[1:]}\n"
    if case.text:
        yield f"{case.text}\n"
    if result.data:
        yield f"Data: {result.data}.\n"
    if result.rates:
        rates = ", ".join(f"{name} {rate / 1e6:,.0f} MB/s" for name, rate in result.rates.items())
        yield f"Rates of this machine with this data: {rates}.\n"
    times = {name: variant.seconds for name, variant in result.variants.items() if variant.seconds and name[0] != "("}
    if len(times) > 1:
        floors = {name: max(variant.floor.values()) for name, variant in result.variants.items() if variant.floor}
        chart = charts / f"{case.name}.svg"
        chart.write_text(bars(f"{case.chapter}: {case.title}, seconds", times, floors))
        yield f"![{case.chapter}: {case.title}]({CHARTS}/{chart.name})\n"
    if result.variants:
        yield from _variants(result)
    if result.figures:
        yield from _head("figure", "measured")
        for name, figure in result.figures.items():
            yield _row(name, f"{number(figure.value)} {figure.unit}".strip())
        yield ""
    judged = judge(case, result)
    if judged:
        yield from _head("goal", "target", "measured", "met")
        for goal in judged:
            yield _row(goal.text, goal.wanted, goal.measured, {True: "yes", False: "**no**", None: ""}[goal.reached])
        yield ""
    if case.bound and any(goal.reached is False for goal in judged):
        yield f"Why some goals were missed: {case.bound}\n"
    commands = {name: variant.command for name, variant in result.variants.items() if variant.command}
    if commands:
        yield "<details><summary>Command lines</summary>\n"
        for name, command in commands.items():
            yield f"{name}:\n\n```sh\n{command}\n```\n"
        yield "</details>\n"
    machine = "; ".join(f"{name}: {value}" for name, value in result.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in result.versions.items())
    run = f"`scripts/bench {case.name}`, {result.when}, {result.commit}{_describe_scale(result)}, {result.seconds:.0f} s"
    yield f"<sub>{run}. {machine}. {versions}.</sub>\n"


def _describe_scale(result: CaseResult) -> str:
    return "" if result.scale == 1 else f", at {result.scale:g} of the full size"


def _variants(result: CaseResult) -> Iterator[str]:
    yield from _head("variant", "seconds", "CPU s", "memory MB", "stored MB", "floor s", "times the floor")
    for name, variant in result.variants.items():
        yield _row(
            name,
            spread(variant.seconds) if variant.seconds else "",
            number(statistics.median(variant.cpu)) if variant.cpu else "",
            f"{max(variant.memory) / 2**20:.0f}" if variant.memory else "",
            f"{statistics.median(variant.stored) / 1e6:.1f}" if variant.stored else "",
            *_floor(variant),
        )
    yield ""


def _floor(variant: Variant) -> tuple[str, str]:
    if not variant.floor:
        return "", ""
    name, seconds = max(variant.floor.items(), key=lambda term: term[1])
    return f"{number(seconds)} ({name})", number(statistics.median(variant.seconds) / seconds)


def _head(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield _row(*("---" for _ in titles))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
