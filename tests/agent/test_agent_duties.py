"""A long-lived duty of a server, as a real process that does nothing: started, kept alive, found again, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from strongroom.agent import Agent, AgentClient
from strongroom.agent.models import DutyRequest, DutyView
from strongroom.datastores import Server
from strongroom.errors import Conflict, InvalidRequest, NotFound, ServerFailed
from strongroom.settings import Settings
from strongroom.system.processes import identify_process
from strongroom.worker import duty
from support.agents import definition, until

PROGRAM = '''
"""The empty duty: reports that it is up, and waits. With ``fail`` it ends with an error, with ``deaf`` it ignores SIGTERM."""
import signal, subprocess, sys
from strongroom.errors import ServerFailed
from strongroom.worker import duty

def run(duty):
    helper = subprocess.Popen(["sleep", "600"])
    if "fail" in duty.spec.options:
        raise ServerFailed("the log of the server is missing", remedy="Enable it.")
    if "deaf" in duty.spec.options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    duty.report("up", helper=helper.pid, word=duty.spec.options.get("word", ""))
    duty.stopped.wait()
    helper.kill()

sys.modules["empty_duty"] = sys.modules["__main__"]
duty.KINDS["empty"] = "empty_duty:run"
sys.exit(duty.main())
'''


@pytest.fixture
def restart(place: Path, settings_for: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Agent]]:
    """Stop the agent, if it runs, and start it again on the same directory."""
    monkeypatch.setitem(duty.KINDS, "empty", "empty_duty:run")
    script = place / "duty.py"
    script.write_text(PROGRAM)
    running: list[Agent] = []

    def make() -> Agent:
        for agent in running:
            agent.stop()
        agent = Agent(settings_for(), duty=[sys.executable, "-P", str(script)])
        agent.start()
        running[:] = [agent]
        return agent

    yield make
    running[0].duties.delete_all("s1")
    running[0].stop()


def _request(**options: object) -> DutyRequest:
    return DutyRequest(kind="empty", server="s1", options=options)


def _await_running(agent: Agent, *, other_than: int | None = None) -> DutyView:
    until(lambda: (view := agent.duties.view("d")).report is not None and view.state == "running" and view.pid != other_than)
    until(lambda: _is_up(agent.duties.view("d")))
    return agent.duties.view("d")


def _is_up(view: DutyView) -> bool:
    """The report is of this process: its helper runs in its session."""
    found = identify_process(view.pid) if view.pid is not None else None
    return view.report is not None and found is not None and view.report.facts.get("helper") in found.list_session()


def test_duty_is_kept_alive_and_outlives_the_agent(restart: Callable[[], Agent]) -> None:
    agent = restart()
    agent.servers.define("s1", definition("s1"))
    agent.put_duty("d", _request(word="hush"))
    first = _await_running(agent)
    assert (first.detail, first.wanted, first.restarts) == ("up", "running", 0)
    assert first.pid is not None and first.report is not None
    helper = identify_process(first.report.facts["helper"])
    os.kill(first.pid, signal.SIGKILL)
    second = _await_running(agent, other_than=first.pid)
    assert second.restarts == 1 and helper is not None and not helper.is_alive()

    agent = restart()
    assert _await_running(agent).pid == second.pid
    assert "hush" not in "".join(path.read_text() for path in (agent.root / "agent/duties").glob("*.json"))
    assert agent.put_duty("d", _request(word="hush")).pid == second.pid
    assert second.pid is not None
    os.kill(second.pid, signal.SIGKILL)
    third = _await_running(agent, other_than=second.pid)

    agent.put_duty("d", _request(word="other"))
    fourth = _await_running(agent, other_than=third.pid)
    assert fourth.report is not None and fourth.report.facts["word"] == "other"

    assert agent.put_duty("d", _request(word="other").model_copy(update={"wanted": "stopped"})).state == "stopping"
    until(lambda: agent.duties.view("d").state == "stopped")
    assert agent.duties.view("d").pid is None and not agent.duties.is_busy


def test_a_duty_that_died_with_the_agent_waits_for_its_options(restart: Callable[[], Agent]) -> None:
    agent = restart()
    agent.servers.define("s1", definition("s1"))
    agent.put_duty("d", _request())
    pid = _await_running(agent).pid
    agent.stop()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    agent = restart()
    until(lambda: agent.duties.view("d").state == "waiting")
    agent.put_duty("d", _request())
    assert _await_running(agent).pid != pid


def test_failed_duty_reports_the_cause_and_is_retried(restart: Callable[[], Agent]) -> None:
    agent = restart()
    agent.servers.define("s1", definition("s1"))
    agent.put_duty("d", _request(fail=True))
    until(lambda: agent.duties.view("d").restarts >= 2)
    report = agent.duties.view("d").report
    assert report is not None and report.failure is not None
    assert (report.failure.code, report.failure.remedy) == ("ServerFailed", "Enable it.")


def test_a_duty_that_ignores_the_signal_is_killed_and_its_server_is_removed(restart: Callable[[], Agent]) -> None:
    agent = restart()
    client = AgentClient(transport=httpx.ASGITransport(app=agent.app))

    async def live() -> None:
        await client.put_server("s1", definition("s1"))
        with pytest.raises(InvalidRequest, match="does not know"):
            await client.put_duty("d", DutyRequest(kind="unknown", server="s1"))
        with pytest.raises(NotFound):
            await client.put_duty("d", DutyRequest(kind="empty", server="s2"))
        await client.put_duty("d", _request(deaf=True))
        with pytest.raises(Conflict):
            await client.put_server("s2", definition("s2"))
            await client.put_duty("d", DutyRequest(kind="empty", server="s2"))
        view = await asyncio.to_thread(_await_running, agent)
        process = identify_process(view.pid or 0)
        assert process is not None and [each.id for each in await client.duties()] == ["d"]
        await client.delete_server("s1")
        assert not process.list_session() and await client.duties() == []
        with pytest.raises(NotFound):
            await client.duty("d")
        await client.delete_duty("d")

    asyncio.run(live())


def test_options_that_changed_while_the_agent_had_forgotten_them_are_applied(restart: Callable[[], Agent]) -> None:
    agent = restart()
    agent.servers.define("s1", definition("s1"))
    agent.put_duty("d", _request(word="one"))
    first = _await_running(agent)
    assert (first.has_options, first.digest) == (True, _request(word="one").digest)

    agent = restart()
    view = agent.duties.view("d")
    assert (view.pid, view.has_options, view.digest) == (first.pid, False, first.digest)
    agent.put_duty("d", _request(word="two"))
    second = _await_running(agent, other_than=first.pid)
    assert second.report is not None and second.report.facts["word"] == "two"
    assert second.digest == _request(word="two").digest != first.digest


def test_a_duty_stays_until_what_it_left_on_its_server_is_removed(
    restart: Callable[[], Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = restart()
    agent.servers.define("s1", definition("s1"))
    agent.put_duty("d", _request())
    pid = _await_running(agent).pid
    released: list[str] = []

    def release(server: Server) -> None:
        released.append(server.id)
        if len(released) == 1:
            raise ServerFailed("the server does not answer")

    monkeypatch.setitem(duty.RELEASES, "empty", "empty_release:release")
    monkeypatch.setitem(sys.modules, "empty_release", SimpleNamespace(release=release))
    with pytest.raises(ServerFailed):
        agent.duties.delete("d")
    view = agent.duties.view("d")
    assert (view.state, view.pid) == ("stopped", None)
    assert pid is not None and not Path(f"/proc/{pid}/cwd").exists()
    agent.duties.delete("d")
    assert (released, agent.duties.views()) == (["s1", "s1"], [])


def test_a_duty_that_is_removed_twice_at_the_same_time_can_be_put_again(
    restart: Callable[[], Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = restart()
    agent.servers.define("s1", definition("s1"))
    agent.put_duty("d", _request())
    _await_running(agent)
    inside, first, second = threading.Semaphore(0), threading.Event(), threading.Event()
    gates = [first, second]

    def release(_server: Server) -> None:
        gate = gates.pop(0)
        inside.release()
        assert gate.wait(30)

    monkeypatch.setitem(duty.RELEASES, "empty", "empty_release:release")
    monkeypatch.setitem(sys.modules, "empty_release", SimpleNamespace(release=release))
    with ThreadPoolExecutor(2) as threads:
        removals = [threads.submit(agent.duties.delete, "d") for _ in range(2)]
        assert inside.acquire(timeout=30)
        assert inside.acquire(timeout=30)
        first.set()
        until(lambda: not agent.duties.views())
        agent.put_duty("d", _request(word="again"))
        view = _await_running(agent)
        second.set()
        for removal in removals:
            removal.result(30)
    assert agent.duties.view("d").pid == view.pid
    monkeypatch.delitem(duty.RELEASES, "empty")
