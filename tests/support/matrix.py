"""The matrix test: one server configuration is one ``Line``; every line goes through the same sequence of backups and restores.

A server is made by hand, adopted, backed up in full, changed, backed up incrementally, verified, restored to a new instance and
restored in place. Data is compared each time.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from strongroom.agent import Agent
from strongroom.agent.models import ServerDefinition
from strongroom.datastores import Server
from strongroom.errors import StrongroomError
from strongroom.settings import load
from strongroom.worker.spec import JobRequest, Result
from support import jobs

PATIENCE = 240
"""Seconds that a job may take on a machine that is busy with other tests."""
Sums = dict[str, str]
"""Checksum of every table of users, by ``database.table``. A table that cannot be read has the error in its place."""
Where = Literal["backup", "incremental", "verify", "new", "in place"]


@dataclass(frozen=True)
class Refused:
    """The backup or the restore is refused, and the error message contains ``part``."""

    part: str
    at: Where = "backup"


@dataclass(frozen=True)
class Line:
    """A server configuration and its expected outcome.

    Text may hold ``{base}`` (directory of the server), ``{data}`` (its data directory), ``{peer}`` and ``{peer_port}`` (somebody
    that a restored copy must not contact).
    """

    name: str
    options: str = ""
    """Lines of the server's option file (MariaDB, MySQL: of [mysqld])."""
    init: tuple[str, ...] = ()
    """Arguments of the program that makes the database."""
    groups: str = ""
    """Further groups of the option file."""
    directories: tuple[str, ...] = ()
    """Directories below ``{base}`` that exist before the server starts."""
    prepare: tuple[str, ...] = ()
    """SQL before the full backup."""
    change: tuple[str, ...] = ()
    """SQL between the full and the incremental backup."""
    spoil: tuple[str, ...] = ()
    """SQL after the incremental backup, before the restore in place."""
    crash: bool = False
    """The server is killed before the restore in place, as after a power failure."""
    refused: tuple[Refused, ...] = ()
    """Empty: everything is restored."""
    warnings: tuple[str, ...] = ()
    """Parts of sentences that backup or restore must report."""
    full_because: str = ""
    """The incremental becomes a full; its reason contains this."""
    emptied: tuple[str, ...] = ()
    """Tables that are there after a restore, without their rows, by nature."""
    new_has: tuple[tuple[str, str], ...] = ()
    """Queries to the new instance, with the expected value."""
    in_place_has: tuple[tuple[str, str], ...] = ()
    """The same for the server after its restore in place."""
    series: str = ""
    """Default: the version of this machine."""
    user: str = ""
    """The superuser, when it has another name than usual."""
    plugins: bool = False
    """The server has plugins that are packaged apart from it; the line is skipped where they cannot be had."""
    layout: str = ""
    """Shell commands that change the data directory before the first start, in ``{data}``."""

    def __str__(self) -> str:
        return self.name

    def refusal(self, at: Where) -> Refused | None:
        return next((refused for refused in self.refused if refused.at == at), None)


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
    """One line on one server."""

    line: Line
    own: OwnServer
    agent: Agent
    place: Path
    peer: Peer
    said: list[str] = field(default_factory=list)

    def go(self) -> None:
        """The whole sequence."""
        line, own = self.line, self.own
        own.load()
        own.sql(*self._filled(line.prepare))
        self.agent.servers.define("own", own.definition())
        if not self._back_up("full"):
            return
        own.change()
        own.sql(*self._filled(line.change))
        expected = own.sums()
        broken = {name: what for name, what in expected.items() if what.startswith("error")}
        assert not broken, broken
        for table in line.emptied:
            expected[table] = "0"
        if not self._back_up("incremental", parent="full"):
            return
        verified = self._run("verify", None, jobs.verify_job(self.place, "incremental", prepare=True, **self._kind()))
        if refused := line.refusal("verify"):
            assert verified.failure is not None and refused.part in verified.failure.message, verified.failure
        else:
            assert verified.status == "succeeded", verified.failure
        own.spoil()
        own.sql(*self._filled(line.spoil))
        self._restore_new(expected)
        self._restore_in_place(expected)
        missing = [part for part in line.warnings if not any(part in sentence for sentence in self.said)]
        assert not missing, (missing, self.said)

    def _back_up(self, id: str, parent: str | None = None) -> bool:
        server = self.agent.servers.server("own")
        job = jobs.backup_job(self.place, server, id, parent, fall_back_to_full=True)
        result = self._run(id, "own", job)
        refused = self.line.refusal("incremental" if parent else "backup")
        if refused:
            assert result.failure is not None, f"the backup was not refused: {refused}"
            assert refused.part in result.failure.message, result.failure
            return False
        assert result.status == "succeeded", result.failure
        if parent:
            kind, reason = result.output["manifest"]["kind"], result.output["reason"] or ""
            assert kind == ("full" if self.line.full_because else "incremental"), reason
            assert self.line.full_because in reason
        return True

    def _restore_new(self, expected: Sums) -> None:
        apart = any("{peer}" in text for text in self.line.prepare)
        if apart:  # whoever contacts the peer now is the copy
            self.own.stop()
            before = self.peer.visits
        definition = self.own.definition()
        copy = ServerDefinition(
            name="copy", datastore=definition.datastore, series=self.agent.servers.view("own").series, ram_mb=64
        )
        self.agent.servers.define("copy", copy)
        if self._restored("copy", "new", in_place=False):
            server = self.agent.servers.server("copy")
            self._compare("new", expected, self.line.new_has, server)
            self.agent.servers.stop("copy")
        if apart:
            assert self.peer.visits == before, "the copy contacted somebody"
            self.own.start()

    def _restore_in_place(self, expected: Sums) -> None:
        if self.line.crash:
            self.own.kill()
        before = None if self.line.crash else self.own.sums()
        if self._restored("own", "in place", in_place=True):
            self._compare("in place", expected, self.line.in_place_has, None)
        elif before is not None:
            assert self.own.sums() == before, "a refused restore changed the data"

    def _restored(self, server: str, at: Where, *, in_place: bool) -> bool:
        refused, job_id = self.line.refusal(at), f"restore-{server}"
        job = jobs.restore_job(self.place, "incremental", in_place=in_place, **self._kind())
        result = self._run(job_id, server, job)
        failure = result.failure.message if result.failure else ""
        if not failure:
            try:
                view = self.agent.servers.swap(server, job_id)
                self.said += view.restore_warnings
            except StrongroomError as error:
                assert not refused, f"was refused only after the server had been stopped: {error.message}"
                failure = error.message
        if refused:
            assert failure, f"the restore ({at}) was not refused: {refused.part}"
            assert refused.part in failure, failure
            return False
        assert not failure, f"restore ({at}): {failure}"
        return True

    def _compare(self, at: Where, expected: Sums, has: tuple[tuple[str, str], ...], copy: Server | None) -> None:
        found = self.own.sums(copy)
        different = {name: (expected.get(name), found.get(name)) for name in expected.keys() | found.keys()}
        different = {name: both for name, both in different.items() if both[0] != both[1]}
        assert not different, f"{at}: expected and found differ: {different}"
        for query, value in self._filled_pairs(has):
            assert self.own.ask(query, copy) == value, f"{at}: {query}"

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

    def _filled(self, texts: tuple[str, ...]) -> list[str]:
        return [fill(text, self.place, self.peer) for text in texts]

    def _filled_pairs(self, pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        return [(fill(query, self.place, self.peer), fill(value, self.place, self.peer)) for query, value in pairs]


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


def run_line(line: Line, own: OwnServer, place: Path, pool: str) -> None:
    """Run the sequence of a line. The fixture ``place`` ends what is left."""
    jobs.open_place(place)
    peer = Peer(pool.replace(".0/24", ".250"))
    try:
        with started_agent(place, pool, own.programs()) as agent:
            Run(line, own, agent, place, peer).go()
    finally:
        peer.close()
