"""The duty that archives a log, as the process that the agent starts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.archive import LogLocation, find_window, load_log
from strongroom.datastores import get
from strongroom.datastores.postgresql.files.lsn import parse_lsn
from strongroom.sections import Artifact, Storage
from strongroom.storage import open_store
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from strongroom.worker.duty import DutySpec
from support import postgresql
from support.binlog_archives import Archived
from support.logs import logged
from support.postgresql import fill

Start = Callable[[DutySpec], subprocess.Popen[bytes]]
LOG = LogLocation(container="box", database="shop", source="shop")


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(spec: DutySpec) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-m", "strongroom.worker.duty"], stdin=subprocess.PIPE, cwd="/")
        started.append(process)
        assert process.stdin is not None
        process.stdin.write(spec.model_dump_json().encode())
        process.stdin.close()
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def _read_report(directory: Path) -> dict[str, Any]:
    path = directory / "report.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


@pytest.mark.root
def test_the_log_of_a_server_is_archived_until_the_duty_ends(place: Path, start: Start) -> None:
    owner = find_user(postgresql.server_user()).owner
    directory, top = place / "duty", place / "store"
    for path in (directory, top):
        make_directory(path, owner)
    with postgresql.running(place) as instance:
        options = {
            "log": LOG.model_dump(),
            "storage": {"path": str(top)},
            "artifact": Artifact().model_dump(),
            "max_age": 0.2,
        }
        spec = DutySpec(
            kind="log-archive", server=instance.server, user=instance.server.user, directory=directory, options=options
        )
        process = start(spec)
        with instance.connect("postgres") as connection:
            fill(connection, 100)
            row = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        assert row is not None
        deadline = time.monotonic() + 60
        while parse_lsn(_read_report(directory).get("facts", {}).get("position", "0/0")) < parse_lsn(row[0]):
            assert time.monotonic() < deadline and process.poll() is None, _read_report(directory)
            time.sleep(0.1)
        assert _read_report(directory)["detail"] == "the log is archived"
        directory.rename(place / "moved")  # its agent has gone for ever
        assert process.wait(30) == 1
        (place / "moved").rename(directory)
        (directory / "report.json").unlink()
        process = start(spec)
        while not _read_report(directory):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        os.chown(directory, 0, 0)  # no report can be written, as on a full disk
        with instance.connect("postgres") as connection:
            connection.execute("CREATE TABLE later AS SELECT generate_series(1, 1000)")
            row = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        assert row is not None
        time.sleep(5)  # more than one report
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        contents, damaged = load_log(open_store(Storage(path=top)), LOG)
        (interval,) = find_window(contents, lambda first, second: parse_lsn(first) <= parse_lsn(second)).intervals
        assert not damaged
        assert parse_lsn(interval.end) >= parse_lsn(row[0])


@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_a_binary_log_is_archived_until_the_duty_ends(kind: str, place: Path, start: Start) -> None:
    """As the server's user, with little memory. What was stored is what the server has."""
    with logged(kind, place) as log:
        server = log.running.server
        owner = find_user(server.user).owner
        directory, top = place / "duty", place / "store"
        for path in (directory, top):
            make_directory(path, owner)
        options = {
            "log": LOG.model_dump(),
            "storage": {"path": str(top)},
            "artifact": Artifact().model_dump(),
            "max_age": 0.2,
        }
        process = start(DutySpec(kind="log-archive", server=server, user=server.user, directory=directory, options=options))
        large = "INSERT INTO d.t (b) VALUES (REPEAT(UUID(), 300000))"
        log.run(*["INSERT INTO d.t (b) VALUES ('x')"] * 20, "FLUSH BINARY LOGS", large, large, large)
        deadline = time.monotonic() + 60
        while _read_report(directory).get("facts", {}).get("position") != str(log.end()):
            assert time.monotonic() < deadline and process.poll() is None, _read_report(directory)
            time.sleep(0.1)
        assert _read_report(directory)["detail"] == "the log is archived"
        (most,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        assert int(most) < 64 * 1024, most
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        store = open_store(Storage(path=top))
        ((contents,), damaged) = load_log(store, LOG)
        assert not damaged
        series = contents.series.record
        assert series.lineage == get(kind).servers.ensure_lineage(log.running.data_dir)
        assert Archived(store, log=LOG).files() == log.files(log.names())


def test_options_that_are_not_valid_end_the_duty(place: Path, start: Start) -> None:
    server = postgresql.describe(place, "a", None)
    user = postgresql.server_user()
    make_directory(place / "duty", find_user(user).owner)
    spec = DutySpec(kind="log-archive", server=server, user=user, directory=place / "duty", options={"password": "secret"})
    assert start(spec).wait(60) == 1
    failure = _read_report(place / "duty")["failure"]
    assert "secret" not in json.dumps(failure)
    assert "not valid" in failure["message"]
