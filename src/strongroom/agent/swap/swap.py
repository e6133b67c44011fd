"""Replaces the data directory by a restored one, and puts the previous one back if the server does not start on the new one.

The journal holds the direction. The file system shows what was renamed already, and is always in one of these states:

    data (old)   -                  data.new-J      nothing done
    -            data.old-J         data.new-J
    data (new)   data.old-J         -               all done, and the new one is tried
    -            data.old-J         data.failed-J   going back
    data (old)   -                  data.failed-J   gone back

After a crash, the swap continues from there, and each step can be repeated. What a server keeps outside its data directory is
swapped while there is no data directory: between the second and the third row, and between the fourth and the fifth.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import Lifecycle
from strongroom.agent.swap.attributes import copy_access
from strongroom.agent.swap.outside import Outside, swap_back, swap_in
from strongroom.artifact import describe_notices
from strongroom.datastores import read_restored_profile
from strongroom.errors import ConfigurationError, NotFound, ServerFailed, StrongroomError
from strongroom.system.directories import make_directory, sync_directory
from strongroom.system.files import read_model, write_model
from strongroom.system.users import find_user

log = structlog.get_logger()

_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-\w+")
"""Id of a restore job, and the number of the attempt, as the service names them."""


class Journal(BaseModel):
    """The last swap of a server."""

    model_config = ConfigDict(extra="forbid")

    job: str
    phase: Literal["forward", "back", "done", "undone"] = "forward"
    had_old: bool
    outside: list[Outside] = Field(default_factory=list)
    """Directories outside the data directory whose files of the server are swapped as well."""
    start: bool = True
    data_epoch: int | None = None
    """Of the previous data, if the server is a node of a cluster."""
    wanted: Literal["running", "stopped"]
    reason: str = ""
    remedy: str = ""
    warnings: list[str] = Field(default_factory=list)
    """For users: what was kept of the previous data, and what the restored server lacks."""

    @property
    def unfinished(self) -> bool:
        """Whether it was interrupted."""
        return self.phase in ("forward", "back")


def beside(data_dir: Path, what: Literal["new", "old", "failed"], job: str) -> Path:
    """A directory of restore job ``job`` beside the data directory."""
    return data_dir.with_name(f"{data_dir.name}.{what}-{job}")


def around(record: ServerRecord, *whats: Literal["new", "old", "failed"]) -> list[Path]:
    """Directories of restores beside the data directory. The owner of an adopted server may use similar names."""
    data_dir, found = record.data_dir, []
    for what in whats:
        start = f"{data_dir.name}.{what}-"
        for path in data_dir.parent.glob(f"{escape(start)}*"):
            job = path.name.removeprefix(start)
            if not record.is_adopted or job in record.beside or _JOB.fullmatch(job):
                found.append(path)
    return found


def note_job(record: ServerRecord, job: str) -> None:
    """Record that a directory beside the data directory belongs to this job, before it is made. The caller saves the record."""
    whats: tuple[Literal["new", "old", "failed"], ...] = ("new", "old", "failed")
    known = [each for each in record.beside if any(os.path.lexists(beside(record.data_dir, what, each)) for what in whats)]
    record.beside = [*(each for each in known if each != job), job]


class Swapper:
    """Swaps of all servers; the caller holds the lock of the server. ``outside_of``: see ``Layouts.of_swap``."""

    def __init__(self, home: Home, lifecycle: Lifecycle, outside_of: Callable[..., list[Outside]]) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._outside_of = outside_of

    def journal(self, record: ServerRecord) -> Journal | None:
        """The last swap of the server."""
        try:
            return read_model(self._path(record), Journal)
        except FileNotFoundError:
            return None

    def swap(self, record: ServerRecord, job: str, *, start: bool = True, empty: bool = False) -> None:
        """Swap in what ``job`` prepared, or report the outcome. Raises NotFound, ServerFailed, ConfigurationError.

        With ``empty``, swap in an empty directory, which another node of the cluster fills. Without ``start``, it stays stopped.
        """
        journal = self.journal(record)
        if journal is None or journal.job != job:
            new = beside(record.data_dir, "new", job)
            note_job(record, job)
            self._home.registry.save(record)
            if empty:
                make_directory(new, find_user(record.user).owner)
            if not new.is_dir():
                raise NotFound(f"job {job} left no data for server {record.id}", remedy="Restore again.")
            self._lifecycle.require_movable(record)
            server, datastore = self._home.describe_server(record), self._home.get_datastore(record)
            kept: list[str] = []
            # Everything that can be refused is refused before the server is stopped.
            if not empty:
                datastore.servers.check_data(server, new)
                datastore.servers.ensure_lineage(new, renew=True)
                before = _entries(new)
                datastore.restores.keep_configuration(server, new)
                kept = sorted(name for name, facts in _entries(new).items() if before.get(name) != facts)
            had_old = record.data_dir.is_dir()
            if had_old:
                copy_access(record.data_dir, new)
            journal = Journal(
                job=job,
                had_old=had_old,
                outside=self._outside_of(record, job, empty=empty),
                wanted=record.wanted,
                start=start,
                data_epoch=record.data_epoch,
                warnings=[f"kept from the previous data directory: {', '.join(kept)}"] if kept else [],
            )
            self._save(record, journal)
        self.finish(record, journal)

    def undo(self, record: ServerRecord, job: str) -> None:
        """Put the data of before swap ``job`` back, which did not start the server. Raises NotFound, ServerFailed."""
        journal = self.journal(record)
        if journal is None or journal.job != job:
            raise NotFound(f"the last swap of server {record.id} was not {job}")
        if journal.phase != "undone":
            journal.phase, journal.wanted = "back", "stopped"
            self._save(record, journal)
            self._back(record, journal)
            if record.failed:
                raise ServerFailed(record.failed, remedy=journal.remedy)
            journal.phase, journal.reason = "undone", f"swap {job} was undone"
            self._save(record, journal)

    def finish(self, record: ServerRecord, journal: Journal) -> None:
        """Complete a swap in its direction. Raises ServerFailed if that is back."""
        if journal.phase == "forward":
            try:
                self._forward(record, journal)
                journal.phase = "done"
            except Exception as error:  # any error: a swap goes forward or back, and never stops halfway
                known = isinstance(error, StrongroomError | OSError)
                log.warning(
                    "swap failed, going back",
                    server=record.id,
                    job=journal.job,
                    reason=str(error),
                    exc_info=not known,
                )
                journal.phase, journal.reason = "back", str(error)
                journal.remedy = error.remedy if isinstance(error, StrongroomError) else ""
            self._save(record, journal)
            if journal.phase == "done" and journal.start and not journal.had_old:
                for outside in journal.outside:  # nothing was there before
                    with suppress(OSError):
                        outside.at("old", journal.job).rmdir()
        if journal.phase == "back":
            self._back(record, journal)
            journal.phase = "undone"
            self._save(record, journal)
        if journal.phase == "undone":
            raise ServerFailed(journal.reason, remedy=journal.remedy)

    def _forward(self, record: ServerRecord, journal: Journal) -> None:
        data, new, old = self._places(record, journal)
        if new.exists():
            self._lifecycle.stop(record)
            if journal.had_old and not old.exists():
                _rename(data, old)
            for outside in journal.outside:  # while there is no data directory, no server can be started on one half
                swap_in(outside, journal.job, find_user(record.user))
            _rename(new, data)
        record.wanted, record.failed, record.restarts = "running" if journal.start else "stopped", None, []
        record.data_epoch = record.member.epoch if record.member is not None else None
        self._home.registry.save(record)
        if journal.start:
            launched = self._lifecycle.launch(record)
            try:
                self._lifecycle.wait_ready(record, launched)
            except ConfigurationError as error:
                journal.warnings.append(self._excuse_refusal(record, error))
            else:
                journal.warnings += self._check(record)

    def _excuse_refusal(self, record: ServerRecord, error: ConfigurationError) -> str:
        """A restored server has the passwords of the time of its backup: that it refuses the agent is no reason to go back.

        Raises ``error`` for a server of the agent, and for an isolated copy, which has to be checked.
        """
        restored = read_restored_profile(record.data_dir)
        if not record.is_adopted or (restored is not None and restored.isolated):
            raise error
        return (
            f"The restored server runs, but it refuses the account of backups: {error.message.rstrip('.')}. "
            "Its passwords are those of the time of the backup: set that of this account again, or correct the credentials file."
        )

    def _check(self, record: ServerRecord) -> list[str]:
        """Compare the restored server with its profile. Raises ServerFailed if it lacks something."""
        restored = read_restored_profile(record.data_dir)
        if restored is None:
            return []
        server, datastore = self._home.describe_server(record), self._home.get_datastore(record)
        try:
            notices = datastore.profiles.check(server, restored.profile, isolated=restored.isolated)
        except Exception as error:
            if restored.isolated:  # it may contact other servers
                raise
            log.exception("restored server not checked", server=record.id)
            return [f"The restored server serves, but could not be checked: {error}"]
        lacking = [notice for notice in notices if notice.effect != "warn"]
        if lacking:
            raise ServerFailed("; ".join(n.message for n in lacking), remedy=" ".join(n.remedy for n in lacking if n.remedy))
        return describe_notices(notices)

    def _back(self, record: ServerRecord, journal: Journal) -> None:
        data, new, old = self._places(record, journal)
        failed = beside(record.data_dir, "failed", journal.job)
        moved = data.exists() and not new.exists() and not failed.exists()
        try:
            if moved:
                self._lifecycle.stop_or_kill(record)  # the new data is thrown away
                _rename(data, failed)
            if not data.exists():
                for outside in journal.outside:
                    swap_back(outside, journal.job, find_user(record.user))
            if old.exists() and not data.exists():
                _rename(old, data)
        except (StrongroomError, OSError) as error:
            journal.reason += f"; and the previous data could not be put back: {error}"
            journal.remedy = f"Put {old} back as {data} by hand, and start the server."
            record.failed = journal.reason
            self._home.registry.save(record)
            return
        record.wanted, record.failed, record.restarts = journal.wanted, None, []
        record.data_epoch = journal.data_epoch
        self._home.registry.save(record)
        if not journal.had_old or journal.wanted == "stopped":
            return
        try:
            self._lifecycle.wait_ready(record, self._lifecycle.launch(record))
            journal.reason += "; the previous data is back and serves"
        except StrongroomError as error:
            journal.reason += f"; the previous data is back, but the server does not start: {error.message}"

    def _places(self, record: ServerRecord, journal: Journal) -> tuple[Path, Path, Path]:
        return record.data_dir, beside(record.data_dir, "new", journal.job), beside(record.data_dir, "old", journal.job)

    def _path(self, record: ServerRecord) -> Path:
        return self._home.registry.place(record.id) / "swap.json"

    def _save(self, record: ServerRecord, journal: Journal) -> None:
        write_model(self._path(record), journal)


def _entries(directory: Path) -> dict[str, tuple[int, int]]:
    """The files and directories in it, as they are now."""
    found = {path.name: path.lstat() for path in directory.iterdir()}
    return {name: (facts.st_ino, facts.st_mtime_ns) for name, facts in found.items()}


def _rename(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise ServerFailed(f"{target} is in the way", remedy="Move it away by hand.")
    source.rename(target)
    sync_directory(target.parent)
