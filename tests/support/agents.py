"""Agents of tests: a worker that does as the test says, small servers, and ways to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from strongroom.agent import Agent
from strongroom.agent.models import ServerDefinition, ServerView
from strongroom.artifact import Location
from strongroom.settings import load
from strongroom.worker.spec import InitializeJob, JobRequest, JobView, StorageSpec, VerifyJob

AgentMaker = Callable[..., Agent]

SCRIPT = '''
"""A worker for tests: does what the id of the backup says."""
import json, os, pathlib, signal, socket, subprocess, sys, time
line = socket.socket(fileno=0)
data, held, *_ = socket.recv_fds(line, 1, 8)
if not data:
    raise SystemExit
while piece := line.recv(65536):
    data += piece
spec = json.loads(data)
job = pathlib.Path(spec["work_dir"]).parent
operation = spec["job"]["location"]["id"]
now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

def event(phase):
    with (job / "events.jsonl").open("a") as file:
        file.write(json.dumps({"phase": phase}) + "\\n")

def end(status):
    (job / "r.new").write_text(json.dumps({"status": status, "started": now, "finished": now, "output": {"pid": os.getpid()}}))
    (job / "r.new").rename(job / "result.json")
    raise SystemExit

signal.signal(signal.SIGINT, (lambda *_: None) if operation == "stubborn" else lambda *_: end("cancelled"))
event("begin")
if operation == "orphan":
    child = subprocess.Popen(["sleep", "600"])
    (job / "child").write_text(str(child.pid))
    event("tool runs")
if operation == "two":
    time.sleep(0.5)
    event("second")
if operation == "link":
    (job / "result.json").symlink_to("/etc/passwd")
    raise SystemExit
if operation in ("quick", "two"):
    end("succeeded")
if operation == "until":
    while not (job / "go").exists():
        time.sleep(0.02)
    end("succeeded")
deadline = time.monotonic() + 100
while time.monotonic() < deadline:
    time.sleep(0.05)
'''


def request(operation: str, *, server: str | None = None) -> JobRequest:
    """A job for the scripted worker. Carries secrets that must show up nowhere."""
    storage = StorageSpec(driver="directory", path=Path("/nonexistent/store"), secret_access_key="hush-storage")  # type: ignore[arg-type]
    job = VerifyJob(
        location=Location(container="c", id=operation),
        datastore="mariadb",
        storage=storage,
        artifact=load().artifact,
        identities=["AGE-SECRET-KEY-hush"],  # type: ignore[list-item]
    )
    return JobRequest(server=server, job=job)


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def finish(agent: Agent, job_id: str, seconds: float = 30) -> JobView:
    """Wait for the end of a job."""
    until(lambda: agent.jobs.view(job_id).status != "running", seconds)
    return agent.jobs.view(job_id)


def definition(name: str = "s", **fields: object) -> ServerDefinition:
    """A small MariaDB."""
    return ServerDefinition(name=name, datastore="mariadb", series="10.11", ram_mb=64, **fields)  # type: ignore[arg-type]


def serve(agent: Agent, server_id: str) -> ServerView:
    """A new, empty, running MariaDB."""
    agent.servers.define(server_id, definition(server_id))
    agent.jobs.put(f"init-{server_id}", JobRequest(server=server_id, job=InitializeJob()))
    view = finish(agent, f"init-{server_id}")
    assert view.status == "succeeded", view
    return agent.servers.swap(server_id, f"init-{server_id}")
