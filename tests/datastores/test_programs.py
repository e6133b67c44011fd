"""Programs are watched, checked and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.datastores import set_stall_timeout
from strongroom.datastores.toolkit import installed, stall, tools
from strongroom.datastores.toolkit.tools import Tool, read_tail
from strongroom.errors import NoSpace, ToolFailed
from strongroom.system.children import tool_environment
from support import processes
from support.agents import until

FOREVER = "read -t 60 <> {fifo}"


def shell(place: Path, script: str, **options: int) -> Tool:
    fifo = place / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    return Tool(["bash", "-c", script.format(fifo=fifo)], place / "log", **options)


def test_success_requires_exit_status_and_message(place: Path) -> None:
    shell(place, "echo all completed OK! >&2").check("completed OK!")
    shell(place, "exit 0").check()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo broken pipe dream >&2; exit 3", "exit status 3: broken pipe dream"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo completed OK! >&2; echo but then >&2", "without the message 'completed OK!'"),
        ("echo completed OK! >&2; exit 1", "exit status 1"),
        ("true", "without the message"),
    ],
)
def test_everything_else_fails(place: Path, script: str, said: str) -> None:
    with pytest.raises(ToolFailed, match=said):
        shell(place, script).check("completed OK!")


def test_a_full_disk_is_reported(place: Path) -> None:
    with pytest.raises(NoSpace, match="No space left") as caught:
        shell(place, "echo 'Error writing file: No space left on device' >&2; exit 1").check()
    assert caught.value.remedy


def test_a_missing_program_fails(place: Path) -> None:
    with pytest.raises(ToolFailed):
        Tool([place / "nothing"], place / "log").check()


def test_abort_interrupts_immediately_and_can_be_repeated(place: Path) -> None:
    tool = shell(place, "trap 'exit 7' INT; " + FOREVER)
    time.sleep(0.3)
    began = time.monotonic()
    tool.abort()
    tool.abort()
    assert time.monotonic() - began < 3
    assert not processes.below(place)


def test_abort_kills_what_ignores_the_interrupt(place: Path) -> None:
    tool = shell(place, "trap '' INT; while :; do " + FOREVER + "; done")
    time.sleep(0.3)
    tool.abort(grace=0.3)
    assert not processes.below(place)


def test_its_environment_contains_nothing_of_strongroom(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_STORAGE__SECRET_ACCESS_KEY", "s3cr3t")
    read, write = os.pipe()
    tool = shell(place, "env", stdout=write)
    os.close(write)
    with os.fdopen(read) as pipe:
        names = {line.partition("=")[0] for line in pipe}
    tool.check()
    assert names - {"_", "SHLVL", "PWD"} == set(tool_environment())


def test_it_dies_with_the_process_that_started_it(place: Path) -> None:
    fifo = place / "fifo"
    os.mkfifo(fifo)
    code = (
        "import os, sys, time; from pathlib import Path; from strongroom.datastores.toolkit.tools import Tool;"
        f"Tool(['bash', '-c', 'while :; do read -t 60 <> {fifo}; done'], Path('{place}/log'));"
        "print('up', flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=place)
    assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
    time.sleep(0.3)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5
    while processes.below(place):
        assert time.monotonic() < deadline, processes.below(place)
        time.sleep(0.02)


def test_tail_is_bounded_and_never_fails(place: Path) -> None:
    log = place / "log"
    log.write_bytes(b"x" * 100_000 + b"\nlast but one\n\nla\xffst\n")
    assert read_tail(log, 2) == ["last but one", "la\N{REPLACEMENT CHARACTER}st"]
    assert sum(map(len, read_tail(log, 100))) < 9000
    assert read_tail(place / "none") == []
    assert read_tail(place) == []


@pytest.fixture
def short_stall() -> Iterator[None]:
    set_stall_timeout(1.5)
    yield
    set_stall_timeout(1800)


@pytest.mark.usefixtures("short_stall")
def test_a_program_without_progress_is_ended_and_reported(place: Path) -> None:
    began = time.monotonic()
    tool = shell(place, "echo waits for a lock >&2; " + FOREVER)
    with pytest.raises(ToolFailed, match=r"bash made no progress for \d+ s \(it waits\) .*waits for a lock") as caught:
        tool.check()
    assert time.monotonic() - began < 20 and "stall_timeout" in caught.value.remedy
    assert caught.value.code == "ToolStopped"  # nothing follows for the backup that it read
    # A program that polls now and then is waiting, too; so is one that was stopped.
    with pytest.raises(ToolFailed, match="made no progress"):
        shell(place, "for n in {{1..300}}; do read -t 0.1 <> {fifo}; done").check()
    stopped = Tool(["bash", "-c", "while :; do :; done"], place / "log")
    os.kill(stopped.pid, signal.SIGSTOP)
    with pytest.raises(ToolFailed, match="stopped by a signal"):
        stopped.check()


@pytest.mark.usefixtures("short_stall")
def test_any_kind_of_work_is_progress(place: Path) -> None:
    shell(place, "for n in {{1..8}}; do echo $n >&2; read -t 0.4 <> {fifo}; done; exit 0").check()
    shell(place, "end=$((SECONDS + 3)); while [ $SECONDS -lt $end ]; do :; done").check()
    servant = subprocess.Popen(["bash", "-c", "while :; do :; done"])
    try:
        waits = Tool(["bash", "-c", "sleep 3"], place / "log", servants=[servant.pid])
        waits.check()
    finally:
        servant.kill()
        servant.wait()


@pytest.mark.usefixtures("short_stall")
def test_a_program_that_waits_for_a_slow_store_is_not_ended(place: Path) -> None:
    """It writes into a pipe that nobody reads just now, or waits for what a pipe brings. One that was fed to the end can hang."""
    read, write = os.pipe()
    writer = Tool(["head", "-c", "300000", "/dev/zero"], place / "log", stdout=write)
    os.close(write)
    time.sleep(4)
    assert writer.running
    left = 300_000
    while piece := os.read(read, left):
        left -= len(piece)
    os.close(read)
    writer.check()
    read, write = os.pipe()
    reader = Tool(["cat"], place / "log", stdin=read, stdout=os.open(place / "out", os.O_WRONLY | os.O_CREAT))
    os.close(read)
    time.sleep(4)
    assert reader.running
    os.close(write)
    reader.check()
    read, write = os.pipe()
    os.close(write)
    hung = Tool(["sleep", "60"], place / "log", stdin=read)
    os.close(read)
    with pytest.raises(ToolFailed, match="made no progress"):
        hung.check()


def test_a_program_that_could_not_be_run_is_run_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("cannot be run")
    program.chmod(0o755)
    since = program.stat().st_mtime_ns
    assert installed.ask_program(program, "--version") is None
    program.write_text("#!/bin/sh\necho 1.2.3\n")
    os.utime(program, ns=(since, since))
    assert installed.ask_program(program, "--version") == "1.2.3\n"


def test_process_whose_name_is_not_text_is_watched(tmp_path: Path) -> None:
    program = os.fsencode(tmp_path) + b"/\xffname"
    shutil.copy(b"/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        until(lambda: b"\xff" in Path(f"/proc/{process.pid}/stat").read_bytes())
        assert stall._cpu(process.pid) >= 0
        assert tools._state(process.pid) in tools._STATES.values()
        process.kill()


def test_a_program_that_cannot_be_watched_does_not_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    before = stall.list_family(os.getpid())
    monkeypatch.setattr(tools, "Watch", refuse)
    with pytest.raises(RuntimeError):
        Tool(["sleep", "60"], place / "log")
    assert stall.list_family(os.getpid()) == before
