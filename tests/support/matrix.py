"""The matrix test: one server configuration is one ``Line``; every line goes through the same sequence of backups and restores.

A server is made by hand, adopted, backed up in full, changed, backed up incrementally, verified, restored to a new instance and
restored in place. Data is compared each time. Lines that do not contradict each other share a server: they are a ``Group``.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from strongroom.agent import Agent
from strongroom.agent.models import ServerDefinition
from strongroom.datastores import Server
from strongroom.errors import StrongroomError
from strongroom.settings import load
from strongroom.worker.spec import JobRequest, Result
from support import jobs
from support.matrix_lines import Group, Line, Refused, Where

PATIENCE = 240
"""Seconds that a job may take on a machine that is busy with other tests."""
Sums = dict[str, str]
"""Checksum of every table of users, by ``database.table``. A table that cannot be read has the error in its place."""


class OwnServer(Protocol):
    """A server that somebody made by hand. Runs when it was made."""

    datastore: str

    def definition(self) -> ServerDefinition: ...

    def programs(self) -> Mapping[str, list[Path]]: ...

    def sql(self, *statements: str) -> list[tuple[Any, ...]]: ...

    def load(self) -> None:
        """The data that every line has."""

    def change(self) -> None:
        """Change some of it."""

    def spoil(self) -> None:
        """Change more of it, drop and create tables."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def sums(self, copy: Server | None = None) -> Sums:
        """Of this server, or of a copy that the agent runs."""

    def ask(self, query: str, copy: Server | None = None) -> str: ...


class Peer:
    """Listens, and counts who comes."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_server((address, 0))
        self.host, self.port = self._socket.getsockname()
        self.visits = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.visits += 1
                connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@dataclass
class Run:
    """The lines of a group on one server."""

    group: Group
    own: OwnServer
    agent: Agent
    place: Path
    peer: Peer
    said: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def go(self) -> None:
        """The whole sequence; the failures of all lines are raised together."""
        try:
            self._sequence()
        except Exception as error:
            self._check(None, passed=False, failure=f"{error}; the rest was not tried")
            raise AssertionError("\n".join(self.failures)) from error
        assert not self.failures, "\n".join(self.failures)

    def _sequence(self) -> None:
        group, own = self.group, self.own
        own.load()
        for line in (*group.usual, *group.fulls):
            self._sql(line, line.prepare)
        self.agent.servers.define("own", own.definition())
        latest = "full"
        if group.taken:
            self._back_up(latest)
            own.change()
            latest = self._back_up_changes(latest)
            expected = self._sums()
        for line in group.refused:
            self._try(line, latest)
        if not (group.usual or group.fulls):
            return
        self._verify(latest)
        self._spoil()
        self._restore_new(latest, expected)
        crashes = {line.crash for line in (*group.usual, *group.fulls)}
        if False in crashes:
            self._restore_in_place(latest, expected, crash=False)
        if True in crashes:
            if False in crashes:
                self._spoil()
            own.kill()
            self._restore_in_place(latest, expected, crash=True)
        for line in group.lines:
            for part in line.warnings:
                found = any(part in sentence for sentence in self.said)
                self._check(line, found, f"no warning has {part!r}: {sorted(set(self.said))}")

    def _back_up_changes(self, latest: str) -> str:
        """An incremental backup with the changes of all lines, or a full one for each line that wants that. Returns the last."""
        for line in self.group.usual:
            self._sql(line, line.change)
        if self.group.usual:
            self._expect_kind(None, self._back_up("incremental", latest))
            latest = "incremental"
        for number, line in enumerate(self.group.fulls):
            self._sql(line, line.change)
            self._expect_kind(line, self._back_up(f"full-{number}", latest))
            latest = f"full-{number}"
        return latest

    def _expect_kind(self, line: Line | None, result: Result) -> None:
        """``line`` is the one that turns an incremental into a full."""
        kind, reason = result.output["manifest"]["kind"], result.output["reason"] or ""
        because = line.full_because if line else ""
        self._check(line, kind == ("full" if because else "incremental") and because in reason, f"{kind}: {reason}")

    def _back_up(self, id: str, parent: str | None = None) -> Result:
        result = self._try_backup(id, parent)
        assert result.status == "succeeded", result.failure
        return result

    def _try_backup(self, id: str, parent: str | None) -> Result:
        server = self.agent.servers.server("own")
        return self._run(id, "own", jobs.backup_job(self.place, server, id, parent, fall_back_to_full=True))

    def _try(self, line: Line, latest: str) -> None:
        """A backup that has to be refused, by what one line made; that is undone."""
        refused = line.refusal("backup") or line.refusal("incremental")
        assert refused is not None
        self._sql(line, line.prepare)
        self._sql(line, line.change)
        result = self._try_backup(f"refused-{self.group.refused.index(line)}", latest if refused.at == "incremental" else None)
        message = result.failure.message if result.failure else "the backup was not refused"
        self._check(line, result.failure and refused.part in message, f"{refused}: {message}")
        self._sql(line, line.undo)

    def _verify(self, latest: str) -> None:
        verified = self._run("verify", None, jobs.verify_job(self.place, latest, prepare=True, **self._kind()))
        line, refused = self._refusal("verify")
        if refused:
            self._check(line, verified.failure and refused.part in verified.failure.message, f"verify: {verified.failure}")
        else:
            self._check(None, verified.status == "succeeded", f"verify: {verified.failure}")

    def _sums(self) -> Sums:
        """What a restore has to bring."""
        expected = self.own.sums()
        for name, what in expected.items():
            self._check(self._owner(name), not what.startswith("error"), f"{name}: {what}")
        return expected | {table: "0" for line in self.group.lines for table in line.emptied}

    def _spoil(self) -> None:
        self.own.spoil()
        for line in self.group.usual:
            self._sql(line, line.spoil)

    def _restore_new(self, latest: str, expected: Sums) -> None:
        apart = any("{peer}" in text for line in self.group.lines for text in line.prepare)
        if apart:  # whoever contacts the peer now is the copy
            self.own.stop()
            before = self.peer.visits
        definition = self.own.definition()
        copy = ServerDefinition(
            name="copy", datastore=definition.datastore, series=self.agent.servers.view("own").series, ram_mb=64
        )
        self.agent.servers.define("copy", copy)
        if self._restored("copy", latest, "new"):
            self._compare("new", expected, self.agent.servers.server("copy"))
            self.agent.servers.stop("copy")
        if apart:
            assert self.peer.visits == before, "the copy contacted somebody"
            self.own.start()

    def _restore_in_place(self, latest: str, expected: Sums, *, crash: bool) -> None:
        before = None if crash else self.own.sums()
        if self._restored("own", latest, "in place", crash=crash):
            self._compare("in place", expected, None)
        elif before is not None:
            assert self.own.sums() == before, "a refused restore changed the data"

    def _restored(self, server: str, latest: str, at: Where, *, crash: bool = False) -> bool:
        (line, refused), job_id = self._refusal(at), f"restore-{server}" + "-after-crash" * crash
        result = self._run(job_id, server, jobs.restore_job(self.place, latest, in_place=at == "in place", **self._kind()))
        failure = result.failure.message if result.failure else ""
        if not failure:
            try:
                view = self.agent.servers.swap(server, job_id)
                self.said += view.restore_warnings
            except StrongroomError as error:
                self._check(line, not refused, f"was refused only after the server had been stopped: {error.message}")
                failure = error.message
        if refused:
            self._check(line, failure and refused.part in failure, f"restore ({at}), {refused.part}: {failure or 'not refused'}")
            return False
        self._check(None, not failure, f"restore ({at}): {failure}")
        return not failure

    def _compare(self, at: Where, expected: Sums, copy: Server | None) -> None:
        found = self.own.sums(copy)
        for name in sorted(expected.keys() | found.keys()):
            wanted, got = expected.get(name), found.get(name)
            self._check(self._owner(name), wanted == got, f"{at}: {name} has {got}, not {wanted}")
        for line in self.group.lines:
            for query, value in line.in_place_has if copy is None else line.new_has:
                query, value = fill(query, self.place, self.peer), fill(value, self.place, self.peer)
                answer = self.own.ask(query, copy)
                self._check(line, answer == value, f"{at}: {query} gives {answer}, not {value}")

    def _check(self, line: Line | None, passed: object, failure: str) -> None:
        """Keep a failure, and the line that it is of, where that is known."""
        if not passed:
            lines = [line] if line else self.group.lines
            self.failures.append(f"{' or '.join(map(str, lines))}: {failure}")

    def _refusal(self, at: Where) -> tuple[Line | None, Refused | None]:
        return next(((line, refused) for line in self.group.lines if (refused := line.refusal(at))), (None, None))

    def _owner(self, table: str) -> Line | None:
        """The line that made a table."""
        made = re.compile(rf"TABLE (`[^`]+`\.|\w+\.)?`?{re.escape(table.rsplit('.', 1)[-1])}(?!\w)", re.IGNORECASE)
        return next((line for line in self.group.lines if made.search("\n".join(line.prepare + line.change))), None)

    def _sql(self, line: Line, texts: tuple[str, ...]) -> None:
        try:
            self.own.sql(*[fill(text, self.place, self.peer) for text in texts])
        except Exception as error:
            raise AssertionError(f"SQL of {line}: {error}") from error

    def _run(self, id: str, server: str | None, job: Any) -> Result:
        self.agent.jobs.put(id, JobRequest(server=server, job=job))
        deadline = time.monotonic() + PATIENCE
        while (view := self.agent.jobs.view(id)).status == "running":
            assert time.monotonic() < deadline, view
            time.sleep(0.1)
        assert view.result is not None, view
        self.said += view.result.output.get("warnings", [])
        return view.result

    def _kind(self) -> dict[str, str]:
        return {"datastore": self.own.datastore}


def fill(text: str, place: Path, peer: Peer | None = None) -> str:
    """Replace the placeholders of a line."""
    values = {"{base}": str(place / "own"), "{data}": str(place / "own" / "data")}
    if peer is not None:
        values |= {"{peer}": peer.host, "{peer_port}": str(peer.port)}
    for name, value in values.items():
        text = text.replace(name, value)
    return text


@contextlib.contextmanager
def started_agent(place: Path, pool: str, programs: Mapping[str, list[Path]]) -> Iterator[Agent]:
    """An agent in this process."""
    places = {name: [str(path) for path in paths] for name, paths in programs.items()}
    settings = load(None, service={"data_dir": str(place / "d")}, agent={"pool": pool, "cancel_grace": 1}, datastores=places)
    agent = Agent(settings)
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def run_group(group: Group, own: OwnServer, place: Path, pool: str) -> None:
    """Run the sequence of a group. The fixture ``place`` ends what is left."""
    jobs.open_place(place)
    peer = Peer(pool.replace(".0/24", ".250"))
    try:
        with started_agent(place, pool, own.programs()) as agent:
            Run(group, own, agent, place, peer).go()
    finally:
        peer.close()
