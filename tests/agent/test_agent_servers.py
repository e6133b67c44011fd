"""Servers: started, stopped, watched, found again, removed. Real MariaDB."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strongroom.agent import Agent
from strongroom.agent.checks import check_server
from strongroom.agent.swap.swap import beside
from strongroom.datastores import DatabaseSpec, UserSpec, get
from strongroom.errors import Busy, ConfigurationError, Conflict, NotFound, ServerFailed, VersionMismatch
from strongroom.worker.spec import InitializeJob, JobRequest
from support.agents import AgentMaker, definition, finish, request, serve, until


def _databases(agent: Agent, server_id: str) -> list[str]:
    sql, server = agent.servers.serving(server_id)
    return [database.name for database in sql.databases.list_all(server)]


def _create(agent: Agent, server_id: str, name: str) -> None:
    sql, server = agent.servers.serving(server_id)
    sql.databases.create(server, [DatabaseSpec(name=name)])


def _require_cheap_watch(agent: Agent, server_id: str, pid: int) -> None:
    """A server whose end would be signalled is not looked for, and its size is not measured each time."""
    servers, watch = agent.servers, agent.servers.watch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers._lifecycle, "find_pid", lambda _record: pytest.fail("it was looked for"))
        assert servers.pids([pid]) == {pid}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(watch._next_sizes, server_id, math.inf)
        patch.setattr(get("mariadb").servers, "measure", lambda _data_dir: pytest.fail("its size was measured"))
        before = watch.health(server_id)
        after = watch.refresh(servers._home.registry.get(server_id))
        assert after is not before and after.healthy and after.sizes == before.sizes
        watch.expire(server_id)
        assert server_id not in watch._next_sizes


def test_life(agents: AgentMaker, place: Path, pool: str) -> None:
    agent = agents()
    view = agent.servers.define("s1", definition())
    assert (view.state, view.wanted, view.lineage, view.port) == ("new", "stopped", None, 3306)
    assert view.address == pool.replace(".0/24", ".1")
    with pytest.raises(Conflict, match="no data yet"):
        agent.servers.start("s1")
    with pytest.raises(Busy):
        agent.servers.serving("s1")
    running = serve(agent, "s1")
    assert running.state == "running" and running.healthy and running.version_number.startswith("10.11.")
    assert running.data_bytes > 1_000_000 and running.lineage and running.old_data == []
    _require_cheap_watch(agent, "s1", running.pid or 0)
    _create(agent, "s1", "kept")
    with socket.create_connection((running.address or "", 3306), timeout=5):
        pass
    stopped = agent.servers.stop("s1")
    assert (stopped.state, stopped.wanted, stopped.pid, stopped.healthy) == ("stopped", "stopped", None, False)
    assert agent.servers.stop("s1").state == "stopped"
    started = agent.servers.start("s1")
    assert started.state == "running" and started.pid != running.pid and started.lineage == running.lineage
    assert agent.servers.start("s1").pid == started.pid
    assert agent.servers.restart("s1").pid not in (started.pid, None)
    assert _databases(agent, "s1") == ["kept"]
    base = place / "d/instances/s1"
    assert stat.S_IMODE(base.stat().st_mode) == stat.S_IMODE((base / "data").stat().st_mode) == 0o700
    agent.delete_server("s1")
    assert not base.exists() and list((place / "d/instances").iterdir()) == []
    with pytest.raises(NotFound):
        agent.servers.view("s1")
    agent.delete_server("s1")


@pytest.mark.root
def test_as_root_servers_run_as_mysql(agents: AgentMaker, place: Path) -> None:
    agent = agents()
    view = serve(agent, "s1")
    owners = {p.owner() for top in (place / "d/instances/s1", place / "d/agent/jobs/init-s1") for p in [top, *top.rglob("*")]}
    assert owners - {"root"} == {"mysql"} and (place / "d/instances/s1/data").owner() == "mysql"
    assert Path(f"/proc/{view.pid}").owner() == "mysql"
    status = Path(f"/proc/{view.pid}/status").read_text()
    assert "\nGroups:\t \n" in status or "\nGroups:\t\n" in status
    environment = Path(f"/proc/{view.pid}/environ").read_bytes().split(b"\0")
    assert {entry.split(b"=")[0] for entry in environment if entry} <= {b"PATH", b"LANG", b"HOME", b"USER", b"LOGNAME"}


@pytest.mark.root
def test_everything_belongs_to_an_unprivileged_user(place: Path, pool: str) -> None:
    home = place / "n"
    home.mkdir()
    shutil.chown(home, "nobody")
    script = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from strongroom.agent import Agent, store_gid
from strongroom.settings import load
from support.agents import serve
agent = Agent(load(None, service={"data_dir": sys.argv[1]}, agent={"pool": sys.argv[2]}))
agent.start()
view = serve(agent, "s1")
print(json.dumps([view.state, Path(f"/proc/{view.pid}").owner(), view.data_dir.owner(), store_gid(agent.settings)]))
agent.delete_server("s1")
agent.stop()
"""
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(home / "d"), pool, str(tests)],
        user="nobody",
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(next(line for line in done.stdout.splitlines() if line.startswith("["))) == [
        "running",
        "nobody",
        "nobody",
        None,
    ]


def test_crashed_server_is_restarted(agents: AgentMaker) -> None:
    agent = agents()
    first = serve(agent, "s1")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: agent.servers.view("s1").pid not in (first.pid, None) and agent.servers.view("s1").healthy)
    assert agent.servers.view("s1").restarts == 1
    agent.servers.stop("s1")
    time.sleep(2.5)
    assert agent.servers.view("s1").state == "stopped"


def test_a_server_can_be_stopped_while_it_starts(agents: AgentMaker) -> None:
    """MariaDB 10.11 hangs for ever when it gets SIGTERM on its way up: about one time in four."""
    agent = agents(stop_timeout=10)
    serve(agent, "s1")
    agent.servers.stop("s1")
    record = agent.servers._home.registry.get("s1")
    for tenths in range(8):
        agent.servers._lifecycle.launch(record)
        time.sleep(tenths / 30)
        assert agent.servers.stop("s1").state == "stopped"


def test_server_that_keeps_crashing_is_no_longer_restarted(agents: AgentMaker) -> None:
    agent = agents(restart_limit=1)
    view = serve(agent, "s1")
    assert view.pid is not None
    original = (view.data_dir / "ibdata1").read_bytes()
    agent.servers.stop("s1")
    (view.data_dir / "ibdata1").write_bytes(b"\0" * len(original))
    with pytest.raises(ServerFailed, match="ended right after its start"):
        agent.servers.start("s1")
    until(lambda: agent.servers.view("s1").state == "failed")
    failed = agent.servers.view("s1")
    assert "it died 2 times" in failed.detail and "InnoDB" in failed.detail and failed.restarts == 1
    (view.data_dir / "ibdata1").write_bytes(original)
    assert agent.servers.start("s1").healthy


def test_servers_outlive_the_agent(agents: AgentMaker) -> None:
    first = agents()
    before = serve(first, "s1")
    with pytest.raises(ConfigurationError, match="another agent"):
        agents()
    first.stop()
    second = agents()
    after = second.servers.view("s1")
    assert after.state == "running" and after.healthy
    assert (after.pid, after.address, after.lineage) == (before.pid, before.address, before.lineage)


def test_server_is_found_without_its_recorded_pid(agents: AgentMaker, place: Path) -> None:
    first = agents()
    before = serve(first, "s1")
    first.stop()
    path = place / "d/agent/servers/s1/server.json"
    record = json.loads(path.read_text())
    record["process"] = None
    path.write_text(json.dumps(record))
    assert agents().servers.view("s1").pid == before.pid


def test_addresses_are_shared_with_others(agents: AgentMaker, pool: str) -> None:
    base = pool.removesuffix("0/24")
    with socket.create_server((f"{base}2", 3306)):
        one, other = agents("a"), agents("b")
        assert [one.servers.define(i, definition()).address for i in ("s1", "s2")] == [f"{base}1", f"{base}3"]
        # Nobody listens on 1 and 3 yet, but the other agent sees that they are held.
        assert other.servers.define("s1", definition()).address == f"{base}4"
        assert serve(one, "s1").address == f"{base}1"
        late = serve(other, "s1")
        assert late.address == f"{base}4" and late.healthy
        with socket.create_connection((late.address or "", 3306), timeout=5):
            pass
    assert one.servers.define("s1", definition("renamed")).name == "renamed"
    with pytest.raises(ConfigurationError, match="not installed"):
        one.servers.define("s9", definition().model_copy(update={"series": "5.5"}))


def test_restart_is_refused_while_a_job_runs(agents: AgentMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.agent.servers.holds.PATIENCE", 0.2)
    agent = agents(scripted=True)
    agent.servers.define("s1", definition())
    agent.jobs.put("j", request("sleep", server="s1"))
    for act in (agent.servers.stop, agent.servers.restart, agent.servers.discard_old):
        with pytest.raises(Busy, match="job j"):
            act("s1")
    agent.delete_server("s1")
    assert agent.jobs.view("j").status == "cancelled"


def test_restore_removes_the_files_of_dead_attempts(agents: AgentMaker, place: Path) -> None:
    agent = agents(scripted=True)
    agent.servers.define("s1", definition())
    data = place / "d/instances/s1/data"
    for job in ("j1", "j2"):
        agent.jobs.put(job, JobRequest(server="s1", job=InitializeJob()))
        finish(agent, job)  # the scripted worker knows no such job and dies
        beside(data, "failed", job).mkdir()
    until(lambda: not beside(data, "new", "j2").exists())
    beside(data, "new", "j0").mkdir()
    fresh = agent.servers.new_data(agent.servers.server("s1"), "j3", {}).directory
    assert fresh == beside(data, "new", "j3") and stat.S_IMODE(fresh.stat().st_mode) == 0o700
    assert [p.name for p in data.parent.glob("data*")] == ["data.new-j3"]


def test_unused_prepared_data_is_removed(agents: AgentMaker, place: Path) -> None:
    agent = agents()
    agent.servers.define("s1", definition())
    agent.jobs.put("j", JobRequest(server="s1", job=InitializeJob()))
    assert finish(agent, "j").status == "succeeded"
    prepared = beside(place / "d/instances/s1/data", "new", "j")
    assert prepared.is_dir()
    assert agent.jobs.cancel("j").status == "succeeded"
    assert not prepared.exists()
    with pytest.raises(NotFound, match="left no data"):
        agent.servers.swap("s1", "j")


@pytest.mark.root
def test_mount_point_is_refused_before_any_change(agents: AgentMaker, place: Path) -> None:
    agent = agents()
    serve(agent, "s1")
    data = place / "d/instances/s1/data"
    agent.servers.stop("s1")
    for mounted, said in ((data, "is a mount point and cannot be renamed"), (data / "mysql", "away with the previous data")):
        if subprocess.run(["mount", "--bind", str(mounted), str(mounted)], check=False).returncode:
            pytest.skip("this machine lets nobody mount")
        try:
            with pytest.raises(ConfigurationError, match=said):
                agent.jobs.put("j", JobRequest(server="s1", job=InitializeJob()))
        finally:
            subprocess.run(["umount", str(mounted)], check=True)


def test_adopted(agents: AgentMaker, place: Path) -> None:
    """A server of somebody else (here: of another agent, which then looks away)."""
    theirs = agents("theirs")
    view = serve(theirs, "s1")
    _create(theirs, "s1", "old")
    theirs.stop()
    base = place / "theirs/instances/s1"
    become = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups"] if os.geteuid() == 0 else []
    agent = agents("ours")
    adopted = definition(
        "x",
        runtime="adopted",
        socket=view.socket,
        credentials_file=base / "client.cnf",
        start_command=[*become, "/usr/sbin/mariadbd", f"--defaults-file={base}/my.cnf"],
        stop_command=["sh", "-c", f"kill $(cat {base}/run/mysqld.pid)"],
    ).model_copy(update={"series": ""})
    with pytest.raises(VersionMismatch):
        agent.servers.define("a", adopted.model_copy(update={"series": "11.4"}))
    with pytest.raises(ConfigurationError, match="has its data in"):
        agent.servers.define("a", adopted.model_copy(update={"data_dir": place}))
    known = agent.servers.define("a", adopted)
    assert (known.runtime, known.data_dir, known.series, known.lineage) == ("adopted", base / "data", "10.11", view.lineage)
    assert agent.servers.start("a").state == "running"
    assert agent.servers.server("a").user == (base / "data").owner()
    assert agent.servers.stop("a").state == "stopped"
    shutil.copytree(base / "data", fresh := beside(base / "data", "new", "j"))
    for path in [fresh, *fresh.rglob("*")]:
        shutil.chown(path, (base / "data").owner())
    (fresh / "old").rename(fresh / "fresh")
    swapped = agent.servers.swap("a", "j")
    assert swapped.healthy and swapped.lineage != view.lineage and [o.name for o in swapped.old_data] == ["data.old-j"]
    assert _databases(agent, "a") == ["fresh"]
    agent.delete_server("a")
    assert (base / "data").is_dir()
    adopted = adopted.model_copy(update={"start_command": [], "stop_command": []})
    agent.servers.define("b", adopted)
    missing = next(check_server(agent.servers.server("b")))
    assert (missing.level, "no command to start or to stop it" in missing.message) == ("warning", True)
    with pytest.raises(ConfigurationError, match="has no start command"):
        agent.jobs.put("k", JobRequest(server="b", job=InitializeJob()))
    theirs.start()
    theirs.delete_server("s1")


def test_a_data_directory_with_a_long_name(agents: AgentMaker) -> None:
    agent = agents("d" + 90 * "e")
    view = serve(agent, "s1")
    assert view.socket is not None and len(str(view.socket)) < 108 and view.socket.is_socket()
    agent.delete_server("s1")
    assert not view.socket.parent.exists()


def test_users_reach_the_server(agents: AgentMaker) -> None:
    agent = agents()
    serve(agent, "s1")
    sql, server = agent.servers.serving("s1")
    _create(agent, "s1", "db1")
    sql.users.create(server, [UserSpec(name="u", password="p", databases=["db1"])])
    assert [(u.name, u.host, u.databases) for u in sql.users.list_all(server)] == [("u", "%", ["db1"])]
