"""Swaps: the new data or the old, never both, never neither, wherever it is cut off."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.agent import Agent
from strongroom.agent.swap.swap import beside
from strongroom.datastores import DatabaseSpec
from strongroom.errors import NotFound, ServerFailed
from support.agents import AgentMaker, serve, until

CRASH = Path(__file__).with_name("crash_swap.py")


class Stage:
    """A server with database ``old``; ``prepare`` puts restored data beside it, with ``fresh`` in place of ``old``."""

    def __init__(self, agent: Agent, place: Path) -> None:
        self.lineage = serve(agent, "s1").lineage
        sql, server = agent.servers.serving("s1")
        sql.databases.create(server, [DatabaseSpec(name="old")])
        self.data = server.data_dir
        agent.servers.stop("s1")
        self._template = place / "template"
        shutil.copytree(self.data, self._template)
        agent.servers.start("s1")

    def prepare(self, job: str, *, broken: bool = False) -> None:
        target = beside(self.data, "new", job)
        shutil.copytree(self._template, target)
        (target / "strongroom_lineage").unlink(missing_ok=True)
        (target / "old").rename(target / "fresh")
        if broken:
            (target / "ibdata1").write_bytes(b"\0" * (target / "ibdata1").stat().st_size)
        self._own(target)

    def reset(self) -> None:
        """The old data in place, and nothing beside it. The server must be stopped."""
        for path in self.data.parent.glob("data*"):
            shutil.rmtree(path)
        shutil.copytree(self._template, self.data)
        self._own(self.data)

    def _own(self, top: Path) -> None:
        owner = self.data.parent
        for path in [top, *top.rglob("*")]:
            shutil.chown(path, owner.owner(), owner.group())

    def beside(self) -> list[str]:
        return sorted(path.name for path in self.data.parent.glob("data*"))


@pytest.fixture
def stage(agents: AgentMaker, place: Path) -> tuple[Agent, Stage]:
    agent = agents(start_timeout=30)
    return agent, Stage(agent, place)


def _databases(agent: Agent) -> list[str]:
    sql, server = agent.servers.serving("s1")
    return [database.name for database in sql.databases.list_all(server)]


def test_swap(stage: tuple[Agent, Stage]) -> None:
    agent, there = stage
    there.prepare("j")
    view = agent.servers.swap("s1", "j")
    assert view.state == "running" and view.healthy and _databases(agent) == ["fresh"]
    assert view.lineage not in (None, there.lineage)
    assert [(old.name, old.bytes > 1_000_000) for old in view.old_data] == [("data.old-j", True)]
    assert there.beside() == ["data", "data.old-j"]
    again = agent.servers.swap("s1", "j")
    assert (again.pid, again.lineage) == (view.pid, view.lineage)
    with pytest.raises(NotFound):
        agent.servers.swap("s1", "unknown")
    assert agent.servers.view("s1").pid == view.pid
    assert agent.servers.discard_old("s1").old_data == [] and there.beside() == ["data"]


def test_previous_data_is_put_back_if_the_new_data_does_not_start(stage: tuple[Agent, Stage]) -> None:
    agent, there = stage
    there.prepare("j", broken=True)
    with pytest.raises(ServerFailed, match=r"(?s)ended right after its start.*InnoDB.*the previous data is back and serves"):
        agent.servers.swap("s1", "j")
    view = agent.servers.view("s1")
    assert view.healthy and view.lineage == there.lineage and _databases(agent) == ["old"]
    assert there.beside() == ["data", "data.failed-j"]
    with pytest.raises(ServerFailed, match="the previous data is back"):
        agent.servers.swap("s1", "j")
    assert agent.servers.view("s1").pid == view.pid


def test_unprepared_data_is_refused_before_the_server_stops(stage: tuple[Agent, Stage]) -> None:
    agent, there = stage
    there.prepare("j")
    (beside(there.data, "new", "j") / "xtrabackup_checkpoints").write_text(
        "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\n"
    )
    before = agent.servers.view("s1").pid
    with pytest.raises(ServerFailed, match="not prepared"):
        agent.servers.swap("s1", "j")
    assert agent.servers.view("s1").pid == before and _databases(agent) == ["old"]


def _crash_everywhere(
    agent: Agent, there: Stage, agents: AgentMaker, arguments: list[str], *, broken: bool, check: Callable[[Agent, str], None]
) -> list[str]:
    """Swap again and again, killed one step later each time, until one ends by itself; where each was killed."""
    died: list[str] = []
    for step in range(100):
        job = f"j{step}"
        there.prepare(job, broken=broken)
        agent.stop()
        command = [sys.executable, str(CRASH), *arguments, "s1", job, str(step), "back" if broken else "forward"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert run.returncode in (0, 9), run.stderr
        agent = agents(start_timeout=30)
        until(lambda agent=agent: agent.servers.view("s1").state != "swapping", 60)
        check(agent, job)
        until(lambda agent=agent: agent.servers.view("s1").healthy, 60)
        died.append(next(line for line in run.stdout.splitlines() if line.startswith(("died", "went"))))
        if run.returncode == 0:
            return died
        agent.servers.stop("s1")
        there.reset()
        agent.servers.start("s1")
    raise AssertionError("a swap has more than a hundred steps?")


def test_swap_is_finished_after_a_kill_at_any_step(
    stage: tuple[Agent, Stage], agents: AgentMaker, place: Path, pool: str
) -> None:
    agent, there = stage

    def check(agent: Agent, job: str) -> None:
        if beside(there.data, "new", job).exists():
            # Died before the journal was written: nothing has begun, and the old server was never touched.
            assert there.beside() == ["data", f"data.new-{job}"] and _databases(agent) == ["old"]
        view = agent.servers.swap("s1", job)
        assert view.healthy and view.lineage is not None and _databases(agent) == ["fresh"]
        assert there.beside() == ["data", f"data.old-{job}"]
        assert (beside(there.data, "old", job) / "old").is_dir()

    died = _crash_everywhere(agent, there, agents, [str(place / "d"), pool], broken=False, check=check)
    assert died.count("died before _rename") == 2 and died.count("died before _save") == 2 and died[-1] == "went forward"


def test_failing_swap_is_rolled_back_after_a_kill_at_any_step(
    stage: tuple[Agent, Stage], agents: AgentMaker, place: Path, pool: str
) -> None:
    agent, there = stage

    def check(agent: Agent, job: str) -> None:
        with pytest.raises(ServerFailed, match="ended right after its start"):
            agent.servers.swap("s1", job)
        assert there.beside() == ["data", f"data.failed-{job}"]
        assert (beside(there.data, "failed", job) / "fresh").is_dir()
        until(lambda: agent.servers.view("s1").healthy)
        assert _databases(agent) == ["old"]

    died = _crash_everywhere(agent, there, agents, [str(place / "d"), pool], broken=True, check=check)
    assert died.count("died before _rename") == 2 and died[-1].startswith("went back")
