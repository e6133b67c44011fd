"""Galera clusters of tests: three nodes of one agent, on addresses of their own, made at once and joined without a transfer."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from strongroom.agent import Agent
from strongroom.agent.models import Seed, Start
from strongroom.datastores import GaleraMember, GaleraView
from strongroom.worker.spec import InitializeJob, JobRequest
from support.agents import definition, finish, until

TOOLS = Path(__file__).parents[2] / ".tools"
_PAUSES = (
    ("        sleep 10\n", "        sleep 0.1\n"),
    (
        'tcmd="socat -u stdio TCP:$REMOTEIP:$SST_PORT$sockopt"',
        'tcmd="socat -u stdio TCP:$REMOTEIP:$SST_PORT,retry=300,interval=0.1$sockopt"',
    ),
)
"""The donor sleeps until the joiner surely listens for the data: it tries to connect instead."""


def _make_scripts(original: Path) -> Path:
    """A copy of the scripts that ``scripts/setup`` puts there when the system has none: a transfer takes ten seconds less."""
    name = "wsrep_sst_mariabackup"
    if not (original / name).is_file():
        return original
    text = (original / name).read_text()
    if not all(text.count(before) == 1 for before, _ in _PAUSES):
        return original
    for before, after in _PAUSES:
        text = text.replace(before, after)
    copy = original.with_name(f"{original.name}-quick")
    if not (copy / name).is_file() or (copy / name).read_text() != text:
        work = Path(tempfile.mkdtemp(prefix="galera-", dir=original.parent))
        shutil.copytree(original, work, dirs_exist_ok=True)
        (work / name).write_text(text)
        shutil.rmtree(copy, ignore_errors=True)
        with contextlib.suppress(OSError):  # another worker was faster
            work.rename(copy)
        shutil.rmtree(work, ignore_errors=True)
    return copy


SCRIPTS = _make_scripts(TOOLS / "galera")
"""Where the scripts of transfers are that the tests use."""


@dataclass
class Cluster:
    """Nodes ``n1``, ``n2``, ``n3`` of an agent."""

    agent: Agent
    name: str = "t"
    nodes: Sequence[str] = ("n1", "n2", "n3")
    transfer: str = "mariabackup"

    def enroll(self, epoch: int = 1, nodes: Sequence[str] | None = None) -> None:
        """Tell the nodes what they are."""
        peers = [str(self.agent.servers.view(node).address) for node in self.nodes]
        for node in nodes or self.nodes:
            member = GaleraMember(cluster=self.name, node=node, epoch=epoch, peers=peers, transfer=self.transfer)  # type: ignore[arg-type]
            self.agent.servers.nodes.enroll(node, member)

    def make(self) -> None:
        """From nothing to three nodes that serve."""
        for node in self.nodes:
            self.agent.servers.define(node, definition(node))
        self.enroll()
        identity = str(uuid.uuid4())
        for node in self.nodes:
            self.agent.jobs.put(f"init-{node}", JobRequest(server=node, job=InitializeJob()))
        for node in self.nodes:
            assert finish(self.agent, f"init-{node}").status == "succeeded"
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda node: self.agent.servers.nodes.seed(node, Seed(job=f"init-{node}", uuid=identity)), self.nodes))
        for node in self.nodes:
            self.agent.servers.swap(node, f"init-{node}", start=False)
        self.bring_up()

    def bring_up(self, first: str = "n1") -> None:
        """Bootstrap one, let the others join."""
        self.agent.servers.start(first, Start(mode="bootstrap"))
        for node in self.nodes:
            if node != first:
                self.agent.servers.start(node)
        self.wait()

    def wait(self, nodes: Sequence[str] | None = None, seconds: float = 180) -> None:
        """Until these nodes are one whole cluster."""
        nodes = nodes or self.nodes
        until(lambda: all(self.view(node).synced and self.view(node).size == len(nodes) for node in nodes), seconds)

    def stop(self, nodes: Sequence[str] | None = None) -> None:
        """One after the other, in good order."""
        for node in nodes or self.nodes:
            self.agent.servers.stop(node)

    def view(self, node: str) -> GaleraView:
        """The node as it is now."""
        return self.agent.servers.nodes.view(node)

    def kill(self, *nodes: str) -> None:
        """``kill -9``."""
        for node in nodes:
            pid = self.agent.servers.view(node).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

    def sql(self, node: str, statement: str) -> str:
        """What the stock client says, as root over the node's socket."""
        server = self.agent.servers.server(node)
        run = subprocess.run(
            ["mariadb", f"--defaults-file={server.base_dir / 'client.cnf'}", "--batch", "--skip-column-names", "-e", statement],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()
