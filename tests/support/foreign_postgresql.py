"""Backups of PostgreSQL as OpenStack Trove writes them: by its own commands, from any server that has a socket."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg

from support.foreign import ACCOUNT, md5, side_car
from support.postgresql import scratch, server_user, version


class Source:
    """A server that keeps an archive of its WAL, as Trove configures it. ``restart`` makes it take its new settings."""

    def __init__(self, place: Path, socket: Path, restart: Callable[[], object]) -> None:
        self.folder = socket.parent
        self.archive = scratch(place, "wal_archive")
        command = f"test ! -f {self.archive}/%f && cp %p {self.archive}/%f.tmp && mv {self.archive}/%f.tmp {self.archive}/%f"
        self.sql("ALTER SYSTEM SET archive_mode = on")
        self.sql(f"ALTER SYSTEM SET archive_command = '{command}'")
        restart()

    def sql(self, *statements: str) -> None:
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def full(self, container: Path, id: str | None = None) -> Path:
        """A full backup in ``container``, with the metadata of the object in a side-car."""
        id = id or str(uuid.uuid4())
        target = self._target(container, id)
        argv = [str(version().programs["backup"]), "-h", str(self.folder)]
        argv += ["-U", "postgres", "-Ft", "-z", "--wal-method=fetch", f"--label={id}", "--pgdata=-"]
        self._run(argv, target)
        self._describe(target, id, {})
        return target

    def incremental(self, container: Path, parent: Path) -> Path:
        """An incremental on ``parent``: WAL from where the backup before this one began, whichever that was."""
        id = str(uuid.uuid4())
        told = json.loads(side_car(parent).read_text())
        assert list(self.archive.glob(f"{told['stop-wal-file']}.*.backup")), "Cannot find parent backup WAL file."
        self.sql(f"SELECT pg_backup_start('{id}', true)", "SELECT pg_backup_stop()")
        self._history(id)
        second = sorted(self.archive.glob("*.backup"))[-2].name[:24]
        names = sorted(path.name for path in self.archive.iterdir() if re.fullmatch("[0-9A-F]{24}", path.name))
        target = self._target(container, id)
        self._run(["tar", "-czf", "-", "-C", str(self.archive), *[name for name in names if name >= second]], target)
        checksum = told.get("etag") or md5(parent)
        self._describe(target, id, {"parent-location": f"{ACCOUNT}/{container.name}/{parent.name}", "parent-checksum": checksum})
        return target

    def _target(self, container: Path, id: str) -> Path:
        container.mkdir(parents=True, exist_ok=True)
        container.chmod(0o755)
        return container / f"{id}.tar.gz"

    def _run(self, argv: list[str], target: Path) -> None:
        with target.open("wb") as out:
            done = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, user=server_user(), cwd="/", check=False)
        assert done.returncode == 0, done.stderr
        target.chmod(0o644)

    def _history(self, id: str) -> str:
        """The history file of a backup, once it is in the archive."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for path in self.archive.glob("*.backup"):
                text = path.read_text()
                if f"LABEL: {id}" in text:
                    return text
            time.sleep(0.05)
        raise AssertionError(f"no history of {id}")

    def _describe(self, target: Path, id: str, more: dict[str, str]) -> None:
        text = self._history(id)
        metadata = {"datastore": "postgresql", "datastore-version": version().number, "label": id, **more}
        for what in ("start", "stop"):
            found = re.search(rf"^{what.upper()} WAL LOCATION: (\S+) \(file ([0-9A-F]+)\)", text, re.MULTILINE)
            assert found
            metadata |= {f"{what}-segment": found[1], f"{what}-wal-file": found[2]}
        checkpoint = re.search(r"^CHECKPOINT LOCATION: (\S+)", text, re.MULTILINE)
        assert checkpoint
        metadata["checkpoint-location"] = checkpoint[1]
        side_car(target).write_text(json.dumps(metadata))
        side_car(target).chmod(0o644)
