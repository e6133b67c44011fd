"""Database hosts in miniature, on a network of their own, each with a real ``strongroom agent``; and a control plane for them.

with Hosts(place, 3) as hosts:
    view = hosts.service.create("mysql1", host="h2")
    hosts.partition("h2")      # the cable is pulled
    hosts.heal("h2")
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pymysql
import pytest

from strongroom.identity import User, edit_users, hash_password
from support import namespaces, processes
from support.namespaces import Namespace, Network
from support.service import PROJECT, Service

CONTROL = "10.77.0.1"
USER, PASSWORD = "operator", "password-of-the-operator"

needs_hosts = pytest.mark.skipif(bool(namespaces.missing()), reason=namespaces.missing() or "-")
"""Mark of tests that use ``Hosts``."""


class ControlPlane(Service):
    """A service in the namespace of the switch, which has no agent of its own and knows one user, an administrator."""

    def __init__(
        self, place: Path, namespace: Namespace, *, config: str, flags: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        users = place / "users.json"
        with edit_users(users) as known:
            known[USER] = User(password=hash_password(PASSWORD), projects={PROJECT: "admin"})
        self.password_file = place / "password"
        self.password_file.write_text(PASSWORD)
        identity = f'embedded = false\n[identity]\nmethod = "basic"\nuser_file = "{users}"\n'
        super().__init__(place, "127.1.0.0/16", 8779, config=identity + config)
        self.namespace = namespace
        self.prefix = namespace.prefix
        self.flags = ["--host", CONTROL, *flags]
        self.environment = {**environment, "STRONGROOM_USERNAME": USER, "STRONGROOM_PASSWORD_FILE": str(self.password_file)}
        self.url = f"http://{CONTROL}:8779"
        self.http = httpx.Client(base_url=f"{self.url}/v1.0/{PROJECT}", timeout=90, auth=(USER, PASSWORD), trust_env=False)

    def wait_ready(self, seconds: float = 60) -> None:
        with self.namespace.inside():
            super().wait_ready(seconds)

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        with self.namespace.inside():
            return super().call(method, path, body, **params)


class Host:
    """A machine: its namespace, its state directory, its agent. ``name`` is h1, h2, …"""

    def __init__(self, place: Path, number: int, namespace: Namespace, config: str) -> None:
        self.number = number
        self.name = f"h{number}"
        self.namespace = namespace
        self.address = f"10.77.{number}.1"
        self.data_dir = place / self.name
        self.log = place / f"{self.name}.log"
        self.config = place / f"{self.name}.toml"
        self.config.write_text(f'[agent]\npool = "10.77.{number}.128/25"\n{config}')
        self.token_file = place / f"{self.name}.token"
        self.process: subprocess.Popen[bytes] | None = None

    def start_agent(self, *arguments: str) -> None:
        """Its output is in ``log``. With the arguments of a join, or none when it has joined."""
        argv = [*self.namespace.prefix, sys.executable, "-m", "strongroom", "agent", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--data-dir", str(self.data_dir), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )

    def kill_agent(self) -> None:
        """kill -9. Database servers and workers go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop_agent(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command on the machine."""
        return subprocess.run([*self.namespace.prefix, *argv], capture_output=True, text=True, check=check, timeout=120)


class Hosts:
    """``count`` hosts that have joined a control plane (``service``). A directory store is shared: all are on one file system.

    ``config`` is more of the control plane's TOML, ``flags`` more of its command line, ``environment`` more of its environment,
    ``agents`` more of the hosts' TOML (which begins in the section [agent]).
    """

    def __init__(
        self,
        place: Path,
        count: int,
        *,
        config: str = "",
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        agents: str = "",
    ) -> None:
        self.place = place
        self.network = Network(count)
        self.service = ControlPlane(place, self.network.switch, config=config, flags=flags, environment=environment or {})
        self.hosts = {f"h{n}": Host(place, n, namespace, agents) for n, namespace in self.network.machines.items()}

    def __enter__(self) -> Hosts:
        try:
            self.service.start()
            for name in self.hosts:
                self.join(name)
            for name in self.hosts:
                self.wait_status(name, "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def token(self, name: str) -> str:
        """A new one-time token for a host of this name."""
        return str(self.service.call("POST", "/hosts", {"host": {"name": name}}).json()["invitation"]["token"])

    def join(self, name: str) -> None:
        """Start the agent with a fresh token."""
        host = self.hosts[name]
        host.token_file.write_text(self.token(name))
        host.token_file.chmod(0o600)
        host.start_agent("--control-plane", self.service.url, "--token-file", str(host.token_file))

    def view(self, name: str) -> dict[str, Any]:
        """The host as the API shows it."""
        return dict(self.service.get(f"/hosts/{name}")["host"])

    def wait_status(self, name: str, status: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until the host is up, silent or new."""
        deadline = time.monotonic() + seconds
        while (view := self.view(name))["status"] != status:
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} is {view['status']}, not {status}:\n{self.hosts[name].log.read_text()[-3000:]}")
            time.sleep(0.1)
        return view

    @contextlib.contextmanager
    def sql(self, instance: str, database: str | None = None) -> Iterator[pymysql.Connection[Any]]:
        """A connection to an instance of MariaDB, wherever it is, as our own account."""
        view = self.service.get(f"/instances/{instance}")["instance"]
        connection = pymysql.connect(
            read_default_file=str(self.hosts[view["host"]].data_dir / "instances" / view["id"] / "client.cnf"),
            read_default_group="client",
            unix_socket=view["socket"],
            database=database,
            autocommit=True,
        )
        try:
            yield connection
        finally:
            connection.close()

    def partition(self, name: str) -> None:
        """Pull its cable."""
        self.network.unplug(self.hosts[name].number)

    def heal(self, name: str) -> None:
        self.network.plug(self.hosts[name].number)

    def part(self, one: str, other: str) -> None:
        """These two hosts do not reach each other any more; the control plane reaches both."""
        self.network.part(self.hosts[one].number, self.hosts[other].number)

    def rejoin(self, one: str, other: str) -> None:
        self.network.rejoin(self.hosts[one].number, self.hosts[other].number)

    def restart_agent(self, name: str) -> None:
        """kill -9 and start."""
        self.hosts[name].kill_agent()
        self.hosts[name].start_agent()

    def close(self) -> None:
        processes.end(self.place)
        for host in self.hosts.values():
            if host.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    host.process.wait(5)
        if self.service.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.service.process.wait(5)
        self.service.http.close()
        self.network.close()
