"""A real ``strongroom serve`` in a place of its own, and short ways to drive it: over HTTP as any client, or by the CLI."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pymysql

from support import processes

PROJECT = "default"


class Refused(Exception):
    """The API answered with an error: ``status``, ``code`` (our class name), message."""

    def __init__(self, response: httpx.Response) -> None:
        body = next(iter(response.json().values()))
        super().__init__(f"{response.status_code} {body.get('error_code')}: {body.get('message')}")
        self.status = response.status_code
        self.code = body.get("error_code")
        self.message = str(body.get("message"))
        self.remedy = str(body.get("remedy"))


class Failed(Exception):
    """A job ended otherwise than asked; ``job`` is its view."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(f"{job['kind']} job {job['status']}: {job['fault']}")
        self.job = job


class Service:
    """Starts, kills and restarts one service on one data directory."""

    def __init__(self, place: Path, pool: str, port: int, *, user: str | None = None, config: str = "") -> None:
        self.place = place
        self.data_dir = place / "d"
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.pool = pool
        self.user = user
        self.prefix: list[str] = []
        self.flags: list[str] = []
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.config = place / "strongroom.toml"
        self.config.write_text(f'[agent]\npool = "{pool}"\n{config}')
        self.config.chmod(0o644)
        self.log = place / "serve.log"
        self.http = httpx.Client(base_url=f"{self.url}/v1.0/{PROJECT}", timeout=90)
        if user is not None:
            import pwd

            entry = pwd.getpwnam(user)
            self.data_dir.mkdir()
            os.chown(self.data_dir, entry.pw_uid, entry.pw_gid)

    # --- the process

    def start(self, *, wait: bool = True) -> Service:
        argv = [*self.prefix, sys.executable, "-m", "strongroom", "serve", "--config", str(self.config)]
        argv += ["--data-dir", str(self.data_dir), "--port", str(self.port), *self.flags]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                env={**os.environ, **self.environment},
                user=self.user,
                extra_groups=[] if self.user else None,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"serve ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.url, timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"serve did not answer:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """kill -9 of the whole service: API, control plane and agent at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    # --- HTTP

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        response = self.http.request(method, path, json=body, params=params or None)
        if response.status_code >= 400:
            raise Refused(response)
        return response

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, **params).json()

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/jobs/{job_id}")["job"])

    def wait(self, job_id: str, seconds: float = 120, *, expect: str | None = "succeeded") -> dict[str, Any]:
        """Follow the job to its end, across restarts of the service."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                job = dict(self.get(f"/jobs/{job_id}", wait=2, after=10**9)["job"])
                if job["status"] not in ("queued", "running"):
                    if expect is not None and job["status"] != expect:
                        raise Failed(job)
                    return job
        raise AssertionError(f"job {job_id} did not end: {self.job(job_id)}")

    def wait_phase(self, job_id: str, phase: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until the job's phase begins with ``phase``; fails when the job ends before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if job["phase"].startswith(phase):
                return job
            if job["status"] not in ("queued", "running"):
                raise AssertionError(f"job ended before {phase}: {job}")
            time.sleep(0.02)
        raise AssertionError(f"job never came to {phase}: {self.job(job_id)}")

    # --- what tests do all the time

    def create(self, name: str, *, wait: bool = True, **fields: Any) -> dict[str, Any]:
        response = self.call("POST", "/instances", {"instance": {"name": name, **fields}})
        view = dict(response.json()["instance"])
        if wait:
            self.wait(response.headers["Strongroom-Job"])
            view = dict(self.get(f"/instances/{view['id']}")["instance"])
        return view

    def backup(self, instance: str, name: str, *, wait: bool = True, **fields: Any) -> dict[str, Any]:
        response = self.call("POST", "/backups", {"backup": {"name": name, "instance": instance, **fields}})
        view = dict(response.json()["backup"])
        if wait:
            self.wait(response.headers["Strongroom-Job"])
            view = self.get(f"/backups/{view['id']}")["backup"]
        return view

    def act(self, path: str, body: dict[str, Any]) -> str:
        """POST an action; the id of its job."""
        return str(self.call("POST", path, body).headers["Strongroom-Job"])

    def cli(self, *args: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "strongroom", *args],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=180,
            env={**os.environ, "STRONGROOM_URL": self.url, "COLUMNS": "200", **self.environment},
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"strongroom {' '.join(args)} → {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def cli_json(self, *args: str) -> Any:
        return json.loads(self.cli(*args, "--format", "json").stdout)

    # --- inside a server

    @contextlib.contextmanager
    def sql(self, instance_id: str, database: str | None = None) -> Iterator[pymysql.Connection[Any]]:
        """A connection as the service's own account (tests run as root, who may read every file)."""
        base = self.data_dir / "instances" / instance_id
        view = self.get(f"/instances/{instance_id}")["instance"]
        connection = pymysql.connect(
            read_default_file=str(base / "client.cnf"),
            read_default_group="client",
            unix_socket=view.get("socket") or str(base / "run" / "mysqld.sock"),  # members are not shown where it is
            database=database,
            autocommit=True,
            local_infile=True,
        )
        try:
            yield connection
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """Pids of live worker processes of this service."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"strongroom.worker" in command and str(self.data_dir) in str((entry / "fd" / "2").readlink()):
                        found.append(int(entry.name))
        return found

    def objects(self, container: str) -> list[str]:
        """Keys of all that the directory store holds in the container."""
        top = self.data_dir / "store" / container
        return sorted(str(p.relative_to(top)) for p in top.rglob("*") if p.is_file())


@contextlib.contextmanager
def shared_service(config: str = "") -> Iterator[Service]:
    """A service in a place of its own, for a module of tests."""
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    high, low = divmod(os.getpid() * 7 % (15 * 250), 250)
    service = Service(place, f"127.{5 + high}.{low}.0/24", port, config=config)
    try:
        yield service.start()
    finally:
        service.kill()
        processes.end(place)
        shutil.rmtree(place, ignore_errors=True)


def checksums(connection: pymysql.Connection[Any]) -> dict[str, tuple[int, int]]:
    """Row count and CHECKSUM TABLE of every table of every database of users."""
    result: dict[str, tuple[int, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')"
        )
        for schema, table in cursor.fetchall():
            cursor.execute(f"SELECT count(*) FROM `{schema}`.`{table}`")
            (rows,) = cursor.fetchone()  # type: ignore[misc]
            cursor.execute(f"CHECKSUM TABLE `{schema}`.`{table}` EXTENDED")
            (_, checksum) = cursor.fetchone()  # type: ignore[misc]
            result[f"{schema}.{table}"] = (int(rows), int(checksum))
    return result
