"""Where the files of a server are, and the empty directories that a restore fills, inside the data directory and outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field

from strongroom.agent.host.limits import require_aio_events
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import Lifecycle
from strongroom.agent.swap.attributes import copy_attributes
from strongroom.agent.swap.directories import require_usable
from strongroom.agent.swap.outside import WHATS, Outside, What, leftovers, make_staging, plan
from strongroom.agent.swap.swap import around, beside, note_job
from strongroom.datastores import Place
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.system.directories import make_directory, remove_entries, remove_tree
from strongroom.system.files import read_model, write_model
from strongroom.system.users import find_user

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NewData:
    """What a restore fills."""

    directory: Path
    places: list[Place] = field(default_factory=list)
    staging: dict[Path, Path] = field(default_factory=dict)
    """By outside directory."""


class _Plan(BaseModel):
    """What a job got, kept for its swap."""

    model_config = ConfigDict(extra="forbid")

    job: str
    outside: list[Outside] = Field(default_factory=list)
    chosen: list[Place] = Field(default_factory=list)
    """Places that a person chose for parts of the backup."""


class Layouts:
    """Layouts of all servers; the caller holds the lock of the server."""

    def __init__(self, home: Home, lifecycle: Lifecycle) -> None:
        self._home = home
        self._lifecycle = lifecycle

    def learn(self, record: ServerRecord) -> None:
        """Ask the server where its files are, and remember it for when it does not run. Never fails."""
        try:
            self.places(record)
        except StrongroomError as error:
            log.warning("cannot learn where a server keeps its files", server=record.id, reason=error.message)

    def places(self, record: ServerRecord) -> list[Place]:
        """Where the server keeps files outside the top of its data directory. Raises ConfigurationError if that is unknown."""
        server = self._home.describe_server(record)
        try:
            found = self._home.get_datastore(record).placement.places(server)
        except StrongroomError as error:
            if record.places is None:
                raise ConfigurationError(
                    f"where {server.name or server.id} keeps files outside its data directory is not known: {error.message}",
                    remedy="Start the server, so that it can be asked; or restore to a new instance.",
                ) from error
            return record.places
        if found != record.places:
            record.places = found
            if record.id in self._home.registry:
                self._home.registry.save(record)
        return found

    def new_data(self, record: ServerRecord, job: str, choices: Mapping[str, Path]) -> NewData:
        """Empty directories for a restore; those of earlier attempts are removed.

        ``choices`` are directories for parts of the backup. Raises ConfigurationError if they cannot be used or cannot replace
        what the server has; InvalidRequest.
        """
        self._lifecycle.require_movable(record)
        if not self._lifecycle.is_running(record):  # a running one has already reserved what the next start needs
            require_aio_events(self._home.get_datastore(record))
        account = find_user(record.user)
        server = self._home.describe_server(record)
        chosen = self._home.get_datastore(record).placement.choose_places(server, choices)
        require_usable([place.directory for place in chosen], server, account)
        places = [*self.places(record), *chosen]
        outside = plan(places, record.data_dir, account)
        for leftover in [*around(record, "new", "failed"), *self._work(record, "new", "taken", "failed")]:
            remove_tree(leftover)
        note_job(record, job)
        self._note(record, job, outside)
        path = beside(record.data_dir, "new", job)
        make_directory(path, account.owner)
        copy_attributes(record.data_dir, path)
        staging = {each.directory: make_staging(each, job, account) for each in outside}
        write_model(self._path(record), _Plan(job=job, outside=outside, chosen=chosen))
        return NewData(path, places, staging)

    def require_swappable(self, record: ServerRecord) -> None:
        """Raise ConfigurationError if restored data could not replace what the server has. Changes nothing."""
        self._lifecycle.require_movable(record)
        plan(self.places(record), record.data_dir, find_user(record.user))

    def of_swap(self, record: ServerRecord, job: str, *, empty: bool) -> list[Outside]:
        """What swap ``job`` does outside the data directory. Raises ConfigurationError if that is not what was prepared."""
        known = self._plan(record, job)
        outside = plan([*self.places(record), *known.chosen], record.data_dir, find_user(record.user))
        if empty:
            self._note(record, job, outside)
            for each in outside:
                make_staging(each, job, find_user(record.user))
        elif outside != (prepared := known.outside):
            raise ConfigurationError(
                f"{record.label} keeps its files in other directories than when job {job} began: now "
                f"{_named(outside)}, then {_named(prepared)}",
                remedy="Restore again.",
            )
        new = [each.directory for each in outside if each.directory not in record.swapped]
        if new:
            record.swapped += new
            self._home.registry.save(record)
        return outside

    def remove_remains(self, record: ServerRecord) -> None:
        """Remove what restores put into directories outside for a server that is deleted, as far as possible."""
        for path in self._work(record, "new", "taken", "old", "leaving", "failed"):
            remove_tree(path)
        places = self._home.get_datastore(record).placement.places(self._home.describe_server(record)) if record.swapped else []
        for place in places:
            if place.directory in record.swapped and place.directory.is_dir():
                try:
                    remove_entries(place.directory, find_user(record.user), place.owns)
                except OSError as error:
                    log.warning("cannot remove what a restore left", path=str(place.directory), reason=str(error))

    def _work(self, record: ServerRecord, *whats: What) -> list[Path]:
        return [path for directory, jobs in record.staged.items() for path in leftovers(directory, jobs, *whats)]

    def _note(self, record: ServerRecord, job: str, outside: list[Outside]) -> None:
        """Record which work directories belong to a job, before they are made."""
        for directory, jobs in record.staged.items():
            record.staged[directory] = [each for each in jobs if list(leftovers(directory, [each], *WHATS))]
        for each in outside:
            record.staged[each.directory] = [*record.staged.get(each.directory, []), job]
        self._home.registry.save(record)

    def _plan(self, record: ServerRecord, job: str) -> _Plan:
        try:
            known = read_model(self._path(record), _Plan)
        except FileNotFoundError:
            return _Plan(job=job)
        return known if known.job == job else _Plan(job=job)

    def _path(self, record: ServerRecord) -> Path:
        return self._home.registry.place(record.id) / "layout.json"


def _named(outside: list[Outside]) -> str:
    return ", ".join(str(each.directory) for each in outside) or "the data directory alone"
