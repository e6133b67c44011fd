"""What keeps looking after servers, whatever other processes of the host are called."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from strongroom.agent.duties import Duties
from strongroom.agent.jobs import Jobs
from strongroom.agent.servers import Servers
from strongroom.agent.supervisor import Supervisor
from strongroom.system.processes import identify_process, list_processes_in
from support.agents import until

RENAME = "open('/proc/self/comm', 'wb').write(b'\\xff) Z 1'); print('renamed', flush=True); input()"


def test_processes_are_found_beside_one_with_an_unusual_name(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", RENAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"renamed\n"
            assert list_processes_in(tmp_path.resolve()) == [child.pid]
            found = identify_process(child.pid)
            assert found is not None
            assert found.is_working_in(tmp_path.resolve())
        finally:
            child.kill()


class BrokenServers:
    """Servers of which it cannot be told which run."""

    def __init__(self) -> None:
        self.looks = 0

    def ids(self) -> list[str]:
        return ["s1"]

    def is_due(self, _server_id: str) -> bool:
        return False

    def next_check(self) -> float:
        return 0.0

    def pids(self, _watched: object) -> set[int]:
        raise ValueError("a defect")

    def supervise(self, _server_id: str) -> None:
        self.looks += 1


class NoJobs:
    """A host without jobs."""

    running = 0

    def tick(self) -> None:
        pass


class NoDuties:
    """A host without duties."""

    is_busy = False

    def tick(self) -> None:
        pass

    def pids(self) -> set[int]:
        return set()


def test_defect_does_not_end_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.agent.supervisor.PACE", 0.01)
    servers = BrokenServers()
    supervisor = Supervisor(cast(Servers, servers), cast(Jobs, NoJobs()), cast(Duties, NoDuties()))
    supervisor.start()
    try:
        until(lambda: servers.looks > 3)
    finally:
        began = time.monotonic()
        supervisor.stop()
    assert time.monotonic() - began < 1
