"""Servers that somebody else runs, adopted by an agent of the test: backed up, killed and restored in place through its jobs."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymysql
import pytest

from strongroom.agent import Agent
from strongroom.agent.models import ServerDefinition, ServerView
from strongroom.sections import Artifact
from strongroom.worker.spec import BackupJob, JobRequest, JobView, RestoreJob
from support.agents import finish
from support.identity import server_user
from support.jobs import at, storage
from support.mariadb import version
from support.own_mysql import OwnMySQL
from support.own_postgresql import OwnPostgreSQL


class AdoptedMariaDB:
    """A plain MariaDB below ``place``, started; ``outside`` are directories made for it, which ``settings`` may name.

    ``{base}`` in the settings is the directory of all its files. Those in ``mounted`` are file systems of their own.
    """

    def __init__(self, place: Path, settings: str, outside: Sequence[str], mounted: Sequence[str] = ()) -> None:
        self.user = server_user()
        self.base = place / "own"
        self.base.mkdir(mode=0o755)
        self.data = self.base / "data"
        self.socket = self.base / "s"
        self.options = self.base / "own.cnf"
        self.options.write_text(
            f"[mysqld]\ndatadir={self.data}\nsocket={self.socket}\npid-file={self.base}/pid\nlog_error={self.base}/own.log\n"
            "skip-networking\nskip-name-resolve\ninnodb_log_file_size=16M\ninnodb_buffer_pool_size=32M\n"
            f"{settings.replace('{base}', str(self.base))}\n"
        )
        for name in outside:
            (self.base / name).mkdir(mode=0o750)
        self._mounted = [self.base / name for name in mounted]
        for path in self._mounted:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0750,size=128m", "none", str(path)], check=False)
            if done.returncode:
                self._mounted.clear()
                pytest.skip("file systems cannot be mounted here")
        for path in (self.base, *(self.base / name for name in outside)):
            os.chown(path, *self._ids())
        programs = version().programs
        root = os.geteuid() == 0
        become = f"setpriv --reuid={self._ids()[0]} --regid={self._ids()[1]} --clear-groups " if root else ""
        user: dict[str, Any] = {"user": self._ids()[0], "group": self._ids()[1], "extra_groups": []} if root else {}
        install = [
            str(programs["initialize"]),
            f"--defaults-file={self.options}",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={self.user}",
        ]
        done = subprocess.run(install, capture_output=True, text=True, check=False, cwd="/", **user)
        assert done.returncode == 0, done.stdout + done.stderr + (self.base / "own.log").read_text()[-3000:]
        self.start, self.stop = self.base / "start", self.base / "stop"
        command = f"{become}{programs['server']} --defaults-file={self.options}"
        self.start.write_text(f"#!/bin/sh\ncd / && setsid {command} >/dev/null 2>&1 </dev/null &\n")
        self.stop.write_text(
            f"#!/bin/sh\npid=$(cat {self.base}/pid) && kill $pid && while kill -0 $pid 2>/dev/null; do sleep 0.1; done\n"
        )
        for script in (self.start, self.stop):
            script.chmod(0o755)
        self.serve()

    def _ids(self) -> tuple[int, int]:
        entry = pwd.getpwnam(self.user)
        return entry.pw_uid, entry.pw_gid

    def serve(self, seconds: float = 60) -> None:
        """Start it and wait until it answers."""
        subprocess.run([str(self.start)], check=True)
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(pymysql.MySQLError):
                self.connect().close()
                return
            assert time.monotonic() < deadline, (self.base / "own.log").read_text()[-2000:]
            time.sleep(0.1)

    def connect(self) -> pymysql.Connection[Any]:
        user = pwd.getpwuid(os.geteuid()).pw_name
        return pymysql.connect(unix_socket=str(self.socket), user=user, autocommit=True, charset="utf8mb4")

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Rows of the last of the statements."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def kill(self) -> None:
        """As a crash ends it."""
        pid = int((self.base / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}/cwd").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.kill()
        for path in self._mounted:
            subprocess.run(["umount", str(path)], check=False)

    def definition(self) -> ServerDefinition:
        """As it is adopted."""
        return ServerDefinition(
            name="own",
            datastore="mariadb",
            series=version().series,
            runtime="adopted",
            socket=self.socket,
            user=self.user,
            defaults_file=self.options,
            start_command=[str(self.start)],
            stop_command=[str(self.stop)],
        )


def definition_of(own: OwnMySQL | OwnPostgreSQL, datastore: str, series: str, socket: Path) -> ServerDefinition:
    """One of another kind, as it is adopted."""
    return ServerDefinition(
        name="own",
        datastore=datastore,
        series=series,
        runtime="adopted",
        socket=socket,
        user=own.user,
        start_command=[str(own.start)],
        stop_command=[str(own.stop)],
    )


def back_up(agent: Agent, place: Path, server_id: str, id: str, *, good: bool = True) -> JobView:
    """A full backup, by a job of the agent."""
    server = agent.servers.server(server_id)
    job = BackupJob(
        location=at(id),
        backup_kind="full",
        project="p",
        instance_id=server_id,
        datastore_version=server.version.series,
        storage=storage(place),
        artifact=Artifact(segment_size=1 << 20),
        owner="tests",
    )
    agent.jobs.put(id, JobRequest(server=server_id, job=job))
    return succeeded(finish(agent, id, 120)) if good else finish(agent, id, 120)


def prepare(agent: Agent, place: Path, server_id: str, id: str, job_id: str) -> JobView:
    """The job of a restore in place; its swap is still to come."""
    server = agent.servers.server(server_id)
    job = RestoreJob(location=at(id), datastore=server.datastore, storage=storage(place), artifact=Artifact())
    agent.jobs.put(job_id, JobRequest(server=server_id, job=job))
    return succeeded(finish(agent, job_id, 120))


def restore(agent: Agent, place: Path, server_id: str, id: str, job_id: str) -> ServerView:
    """A restore in place."""
    prepare(agent, place, server_id, id, job_id)
    return agent.servers.swap(server_id, job_id)


def succeeded(view: JobView) -> JobView:
    assert view.status == "succeeded", view.result
    return view
