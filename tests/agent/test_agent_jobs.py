"""Jobs: one directory and one process each, whatever happens to the agent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from strongroom.agent.models import JobQuery
from strongroom.errors import Busy, InvalidRequest, NotFound
from strongroom.worker.spec import InitializeJob, JobRequest
from support.agents import AgentMaker, definition, finish, request, until


def _pid(place: Path, job: str) -> int:
    return int(json.loads((place / f"d/agent/jobs/{job}.json").read_text())["process"]["pid"])


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_job_runs_once(agents: AgentMaker) -> None:
    agent = agents(scripted=True)
    first = agent.jobs.put("j", request("quick"))
    assert first.status in ("running", "succeeded")
    done = finish(agent, "j")
    assert done.status == "succeeded" and done.events == 1 and done.event is not None and done.event.phase == "begin"
    again = agent.jobs.put("j", request("sleep"))
    assert again.result is not None and done.result is not None
    assert again.status == "succeeded" and again.result.output == done.result.output


def test_secrets_stay_on_the_pipe(agents: AgentMaker, place: Path) -> None:
    agent = agents(scripted=True)
    agent.jobs.put("j", request("sleep"))
    until(lambda: agent.jobs.view("j").events)
    pid = _pid(place, "j")
    seen = b"".join(p.read_bytes() for p in (place / "d").rglob("*") if p.is_file())
    seen += Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"scripted_worker" in seen and b"hush" not in seen
    modes = {p.name: stat.S_IMODE(p.lstat().st_mode) for p in (place / "d/agent/jobs/j").iterdir()}
    assert modes["request.json"] == modes["lock"] == modes["worker.log"] == 0o600 and modes["work"] == 0o700
    assert stat.S_IMODE((place / "d/agent/jobs/j").stat().st_mode) == 0o700
    agent.jobs.cancel("j")
    finish(agent, "j")


def test_long_poll_answers_with_the_next_event(agents: AgentMaker) -> None:
    agent = agents(scripted=True)
    agent.jobs.put("j", request("two"))

    async def follow() -> list[int]:
        seen = [(await agent.wait_job("j", JobQuery(wait=10, after=0))).events]
        seen.append((await agent.wait_job("j", JobQuery(wait=10, after=1))).events)
        return seen

    assert asyncio.run(follow()) == [1, 2]
    started = time.monotonic()
    agent.jobs.put("k", request("sleep"))
    assert asyncio.run(agent.wait_job("k", JobQuery(wait=0.3, after=5))).status == "running"
    assert 0.3 <= time.monotonic() - started < 5
    agent.jobs.cancel("k")
    assert asyncio.run(agent.wait_job("k", JobQuery(wait=10, after=5))).status == "cancelled"


def test_killed_worker_is_lost_together_with_its_programs(agents: AgentMaker, place: Path) -> None:
    agent = agents(scripted=True)
    agent.jobs.put("j", request("orphan"))
    until(lambda: agent.jobs.view("j").events == 2)
    tool = int((place / "d/agent/jobs/j/child").read_text())
    os.kill(_pid(place, "j"), signal.SIGKILL)
    view = finish(agent, "j")
    assert view.status == "lost" and view.result is None
    assert _gone(tool)
    until(lambda: not (place / "d/agent/jobs/j/work").exists())
    assert agent.jobs.cancel("j").status == "lost"


def test_running_job_is_found_again(agents: AgentMaker, place: Path) -> None:
    first = agents(scripted=True)
    first.jobs.put("j", request("until"))
    until(lambda: first.jobs.view("j").events)
    first.stop()
    second = agents(scripted=True)
    assert second.jobs.view("j").status == "running"
    assert second.jobs.put("j", request("until")).status == "running"
    (place / "d/agent/jobs/j/go").touch()
    view = finish(second, "j")
    assert view.status == "succeeded" and view.result is not None and view.result.output == {"pid": _pid(place, "j")}


def test_jobs_that_ended_while_the_agent_was_down_are_reported_later(agents: AgentMaker, place: Path) -> None:
    first = agents(scripted=True)
    first.jobs.put("good", request("until"))
    first.jobs.put("bad", request("orphan"))
    until(lambda: first.jobs.view("good").events and first.jobs.view("bad").events == 2)
    first.stop()
    tool = int((place / "d/agent/jobs/bad/child").read_text())
    (place / "d/agent/jobs/good/go").touch()
    os.kill(_pid(place, "bad"), signal.SIGKILL)
    second = agents(scripted=True)
    assert finish(second, "good").status == "succeeded"
    assert finish(second, "bad").status == "lost"
    assert _gone(tool)


def test_cancel_sends_sigterm_first(agents: AgentMaker) -> None:
    agent = agents(scripted=True, cancel_grace=30)
    agent.jobs.put("j", request("sleep"))
    until(lambda: agent.jobs.view("j").events)
    agent.jobs.cancel("j")
    view = finish(agent, "j", 10)
    assert view.status == "cancelled" and view.result is not None and "pid" in view.result.output
    assert agent.jobs.cancel("j").status == "cancelled"


def test_cancel_kills_a_worker_that_ignores_sigterm(agents: AgentMaker, place: Path) -> None:
    agent = agents(scripted=True, cancel_grace=0.5)
    agent.jobs.put("j", request("stubborn"))
    until(lambda: agent.jobs.view("j").events)
    agent.jobs.cancel("j")
    assert agent.jobs.view("j").status == "running"
    view = finish(agent, "j", 10)
    assert view.status == "cancelled" and view.result is not None and view.result.failure is not None
    assert view.result.failure.code == "Cancelled" and _gone(_pid(place, "j"))


def test_one_job_per_server(agents: AgentMaker) -> None:
    agent = agents(scripted=True)
    for server in ("s1", "s2"):
        agent.servers.define(server, definition(server))
    agent.jobs.put("a", request("sleep", server="s1"))
    assert agent.servers.view("s1").job == "a"
    with pytest.raises(Busy, match="busy with job a"):
        agent.jobs.put("b", request("quick", server="s1"))
    with pytest.raises(NotFound):
        agent.jobs.view("b")
    agent.jobs.put("c", request("quick", server="s2"))
    assert finish(agent, "c").status == "succeeded"
    agent.jobs.cancel("a")
    finish(agent, "a")
    agent.jobs.put("b", request("quick", server="s1"))
    assert finish(agent, "b").status == "succeeded" and agent.servers.view("s1").job is None


def test_next_job_does_not_wait_for_programs_of_a_dead_worker(agents: AgentMaker, place: Path) -> None:
    agent = agents(scripted=True)
    agent.servers.define("s1", definition())
    agent.jobs.put("a", request("orphan", server="s1"))
    until(lambda: agent.jobs.view("a").events == 2)
    tool = int((place / "d/agent/jobs/a/child").read_text())
    worker = _pid(place, "a")
    os.kill(worker, signal.SIGKILL)
    until(lambda: _gone(worker))
    agent.jobs.put("b", request("quick", server="s1"))
    assert _gone(tool)
    assert agent.jobs.view("a").status == "lost" and finish(agent, "b").status == "succeeded"


def test_a_result_that_is_a_link_is_not_followed(agents: AgentMaker) -> None:
    agent = agents(scripted=True)
    agent.jobs.put("j", request("link"))
    view = finish(agent, "j")
    assert view.status == "failed" and view.result is not None and view.result.failure is not None
    assert view.result.failure.code == "JobLost"


def test_a_worker_that_cannot_start_fails_the_job(agents: AgentMaker, place: Path) -> None:
    agent = agents(scripted=True)
    agent.jobs._spare.command = ("/nonexistent/worker",)
    agent.jobs.put("j", request("quick"))
    view = agent.jobs.view("j")
    assert view.status == "failed" and view.result is not None and view.result.failure is not None
    assert "cannot start" in view.result.failure.message


def test_worker_without_a_spec_does_nothing() -> None:
    """The agent may die between the start of a worker and its order: end of file on stdin ends it."""
    done = subprocess.run(
        [sys.executable, "-m", "strongroom.worker"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, cwd="/"
    )
    assert done.returncode == 2


def test_invalid_requests_are_refused(agents: AgentMaker) -> None:
    agent = agents(scripted=True)
    with pytest.raises(InvalidRequest):
        agent.jobs.put("../j", request("quick"))
    with pytest.raises(NotFound):
        agent.jobs.put("j", request("quick", server="unknown"))
    with pytest.raises(InvalidRequest, match="needs a server"):
        agent.jobs.put("j", JobRequest(job=InitializeJob()))
    with pytest.raises(NotFound):
        agent.jobs.view("j")


def test_old_jobs_are_swept(agents: AgentMaker, place: Path) -> None:
    agent = agents(scripted=True, keep_jobs=1)
    for job in ("old", "new"):
        agent.jobs.put(job, request("quick"))
        finish(agent, job)
    agent.jobs._jobs["old"].record.finished = datetime.now(UTC) - timedelta(days=2)
    agent.jobs.sweep()
    assert [view.id for view in agent.jobs.views()] == ["new"]
    assert sorted(p.name for p in (place / "d/agent/jobs").iterdir()) == ["new", "new.json"]
