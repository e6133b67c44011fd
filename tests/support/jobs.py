"""Run the worker as the agent does: a process of its own with a spec on stdin, in a job directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from strongroom.artifact import Location
from strongroom.datastores import Server
from strongroom.sections import Artifact
from strongroom.storage import Store, open_store
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from strongroom.worker.spec import BackupJob, Event, InitializeJob, Job, RestoreJob, Result, StorageSpec, VerifyJob, WorkerSpec
from support import processes

STORE_GID = 8779
CONTAINER = "backups"
COMMAND = (sys.executable, "-P", "-m", "strongroom.worker")


def group() -> int | None:
    """Group of the directory store, as the agent makes it."""
    return STORE_GID if os.geteuid() == 0 else None


def storage(place: Path) -> StorageSpec:
    """A directory store below ``place``."""
    return StorageSpec(driver="directory", path=place / "store")


def open_place(place: Path) -> Store:
    """The store of ``storage``; the first call makes it."""
    return open_store(storage(place), gid=group())


def at(id: str) -> Location:
    return Location(container=CONTAINER, id=id)


def backup_job(place: Path, server: Server, id: str, parent: str | None = None, **more: Any) -> BackupJob:
    options: dict[str, Any] = {"artifact": Artifact(segment_size=1 << 20)} | more
    return BackupJob(
        location=at(id),
        backup_kind="incremental" if parent else "full",
        name=f"name of {id}",
        project="p",
        instance_id=server.id,
        instance_name=server.name,
        datastore_version=server.version.series,
        parent=at(parent) if parent else None,
        storage=storage(place),
        owner="tests",
        **options,
    )


def restore_job(place: Path, id: str, **more: Any) -> RestoreJob:
    options: dict[str, Any] = {"datastore": "mariadb"} | more
    return RestoreJob(location=at(id), storage=storage(place), artifact=Artifact(), **options)


def verify_job(place: Path, id: str, **more: Any) -> VerifyJob:
    options: dict[str, Any] = {"datastore": "mariadb"} | more
    return VerifyJob(location=at(id), storage=storage(place), artifact=Artifact(), **options)


class WorkerProcess:
    """One run of the worker. ``target`` is the new directory of a restore."""

    def __init__(
        self,
        place: Path,
        name: str,
        job: Job,
        *,
        user: str,
        server: Server | None = None,
        os_user: str | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """``user`` owns the directories; ``os_user`` is who the worker shall become, when that is another."""
        open_place(place)
        owner = find_user(user).owner
        self.directory = place / f"job-{name}"
        make_directory(self.directory, owner)
        make_directory(self.directory / "work", owner)
        self.target: Path | None = None
        if server is not None and isinstance(job, RestoreJob | InitializeJob):
            self.target = server.data_dir.with_name(f"data.new-{name}")
            make_directory(self.target, owner)
        spec = WorkerSpec(
            id=name,
            job=job,
            server=server,
            user=os_user or user,
            work_dir=self.directory / "work",
            target_dir=self.target,
            store_gid=group(),
        )
        self.log = self.directory / "worker.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ["PATH"]},
                start_new_session=True,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(spec.model_dump_json().encode())
        self.process.stdin.close()

    def wait(self) -> Result:
        """The result, once the worker has ended."""
        status = self.process.wait(120)
        assert (self.directory / "result.json").exists(), f"exit status {status}, no result: {self.log.read_text()}"
        return Result.model_validate_json((self.directory / "result.json").read_bytes())

    def succeed(self) -> dict[str, Any]:
        """The output of a job that has to succeed."""
        result = self.wait()
        assert result.status == "succeeded", f"{result.failure}\n{self.log.read_text()}"
        return result.output

    def events(self) -> list[Event]:
        try:
            text = (self.directory / "events.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [Event(**json.loads(line)) for line in text.splitlines()]

    def wait_until(self, condition: Callable[[], object], patience: float = 60) -> None:
        """Until ``condition`` holds; it must, before the worker ends."""
        deadline = time.monotonic() + patience
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.log.read_text(), self.events())
            time.sleep(0.002)

    def wait_for_phase(self, phase: str) -> None:
        self.wait_until(lambda: any(event.phase == phase for event in self.events()))

    def wait_for_tool(self, *words: str) -> None:
        """Until a program of the worker runs whose command line holds all the words."""
        self.wait_until(lambda: any(all(word in command for word in words) for command in self.tools().values()))

    def tools(self) -> dict[int, str]:
        """Live processes of the worker's session, without itself."""
        found = processes.below(Path("/"))
        return {pid: command for pid, command in found.items() if pid != self.process.pid and _session(pid) == self.process.pid}

    def interrupt(self) -> None:
        """What the agent does to cancel."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def keys(store: Store) -> list[str]:
    """Everything in the container."""
    return [stat.key for stat in store.list(CONTAINER)]
