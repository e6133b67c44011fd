"""A real HTTP server that gives the answers that a test has put in, and keeps what it was asked; and sample views."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@dataclass
class Canned:
    """Answers by method and path below the project; a list is used up, its last answer stays."""

    url: str = ""
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)
    """Method, raw path, query, JSON body."""

    delay: float = 0
    """Seconds that every answer takes."""

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self.answers[method, path] = list(answers)

    def on_job(self, *views: dict[str, Any], job: str = "j1") -> None:
        """Views of a job, one for each time that it is looked at."""
        base = {
            "id": job,
            "kind": "backup",
            "instance_id": "i1",
            "instance_name": "mysql1",
            "backup_id": "b1",
            "total": None,
            "stored": 0,
            "done": 0,
            "message": None,
            "attempts": 1,
            "created": "2026-11-21T07:00:00Z",
            "started": "2026-11-21T07:00:00Z",
            "finished": None,
            "fault": None,
            "output": {},
            "phase": "",
            "events": 0,
            "status": "running",
        }
        self.on("GET", f"/jobs/{job}", *((200, {"job": {**base, "events": n, **view}}) for n, view in enumerate(views)))

    def bodies(self, method: str) -> list[Any]:
        return [body for verb, _, _, body in self.asked if verb == method]

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            return
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        await asyncio.sleep(self.delay)
        raw = scope["raw_path"].decode()
        self.asked.append((scope["method"], raw, scope["query_string"].decode(), json.loads(content) if content else None))
        path = scope["path"].removeprefix("/v1.0/default")
        queue = self.answers.get((scope["method"], path))
        missing = {"itemNotFound": {"code": 404, "message": f"nothing at {path}", "remedy": "Look.", "error_code": "NotFound"}}
        status, body, *rest = (queue.pop(0) if len(queue) > 1 else queue[0]) if queue else (404, missing)
        reply = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
        headers = [(k.encode(), v.encode()) for k, v in (rest[0] if rest else {}).items()]
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json"), *headers]}
        )
        await send({"type": "http.response.body", "body": reply})


@dataclass
class Running:
    """A canned service on its port, which can be stopped and started again."""

    canned: Canned
    port: int
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(self.canned, host="127.0.0.1", port=self.port, log_level="error", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        if self._server and self._thread:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join(10)
            self._server = None


def spawn(canned: Canned, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Starts the command line as a process of its own. How wide a terminal is, it asks the terminal."""
    program = [sys.executable, "-c", "from strongroom.cli import main; main()", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return subprocess.Popen(program, env={**environment, "STRONGROOM_URL": canned.url, "TERM": "xterm"}, **options)


BACKUP: dict[str, Any] = {
    "id": "4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11",
    "name": "monday",
    "description": None,
    "instance_id": "i1",
    "instance_name": "mysql1",
    "status": "COMPLETED",
    "kind": "full",
    "container": "database_backups",
    "chain_id": "4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11",
    "parent_id": None,
    "raw_size": 300 * 1024**2,
    "stored_size": 100 * 1024**2,
    "data_size": 310 * 1024**2,
    "codec": "zstd",
    "encrypted": False,
    "seconds": 3.21,
    "reason": None,
    "fault": None,
    "verified": {
        "at": "2026-11-21T08:00:00Z",
        "ok": True,
        "level": "tables",
        "links": 2,
        "stored_size": 1000,
        "prepared": True,
        "tables": 7,
        "message": "",
    },
    "positions": {"from_lsn": 0, "to_lsn": 4711, "gtid": None},
    "restorable": True,
    "protected": False,
    "locationRef": "file:///store/x",
    "datastore": {"type": "mariadb", "version": "10.11", "version_id": "v"},
    "created": "2026-11-21T07:00:00",
    "finished": "2026-11-21T07:00:03.21Z",
    "job_id": None,
}


INSTANCE: dict[str, Any] = {
    "id": "i1",
    "name": "mysql1",
    "status": "ACTIVE",
    "operating_status": "HEALTHY",
    "datastore": {"type": "mariadb", "version": "10.11", "version_number": "10.11.19"},
    "flavor": {"id": "d1"},
    "ip": ["127.1.0.1"],
    "volume": {"size": 10, "used": 0.1},
    "data_bytes": 130_000_000,
    "old_data": [{"name": "data.old-j0", "bytes": 5, "since": "2026-11-21T06:00:00Z"}],
    "created": "2026-11-21T06:00:00",
    "fault": None,
    "protected": False,
}
PLAN: dict[str, Any] = {
    "backup": {"id": BACKUP["id"], "name": "monday", "kind": "full", "raw_size": 300 * 1024**2, "stored_size": 100 * 1024**2},
    "datastore": "mariadb",
    "series": "10.11",
    "host": "db1",
    "instance": None,
    "in_place": False,
    "isolated": True,
    "allowed": True,
    "chain": [{"id": BACKUP["id"], "name": "monday", "kind": "full", "raw_size": 1, "stored_size": 1}],
    "raw_size": 300 * 1024**2,
    "stored_size": 100 * 1024**2,
    "data_size": 310 * 1024**2,
    "effects": [
        {
            "effect": "warned",
            "item": "events",
            "message": "2 events of shop run there",
            "remedy": "Look at them.",
        },
        {"effect": "carried", "item": "innodb_page_size", "message": "innodb_page_size = 8192", "remedy": ""},
    ],
}
"""Of a restore of ``BACKUP``."""
DELETE_PLAN: dict[str, Any] = {
    "noun": "backup",
    "id": BACKUP["id"],
    "name": "monday",
    "allowed": True,
    "refused": [],
    "protected": False,
    "adopted": False,
    "bytes": 100 * 1024**2,
    "old_bytes": 0,
    "nodes": [],
    "backups": [
        {
            "id": BACKUP["id"],
            "name": "monday",
            "kind": "full",
            "instance_name": "mysql1",
            "created": "2026-11-21T07:00:00",
            "stored_size": 100 * 1024**2,
        }
    ],
    "jobs": [],
    "kept": 2,
    "newest": {"id": "b2", "name": "tuesday", "created": "2026-11-22T07:00:00", "verified": None},
    "newest_verified": {"id": "b0", "name": "sunday", "created": "2026-11-20T07:00:00", "verified": "2026-11-20T08:00:00Z"},
}
"""Of a deletion of ``BACKUP``."""
DONE = {"status": "succeeded", "finished": "2026-11-21T07:00:01Z"}
