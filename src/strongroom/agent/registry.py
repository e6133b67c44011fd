"""What the agent keeps of each server, in directories that no other user can write: ``<id>/server.json`` and more."""

from __future__ import annotations

import re
import threading
from datetime import datetime
from pathlib import Path
from typing import Literal

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from strongroom.agent.models import ServerDefinition
from strongroom.artifact import ID_PATTERN
from strongroom.datastores import GaleraMember, Place
from strongroom.errors import Conflict, InvalidRequest, NotFound
from strongroom.system.directories import make_directory, remove_tree, sync_directory
from strongroom.system.files import read_model, write_model
from strongroom.system.processes import Process

log = structlog.get_logger()


class ServerRecord(BaseModel):
    """A server: what it should be, where it is, and its process if the agent starts it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    definition: ServerDefinition
    user: str
    data_dir: Path
    address: str | None = None
    port: int | None = None
    socket: Path | None = None
    member: GaleraMember | None = Field(None, description="The Galera cluster that it is a node of.")
    data_epoch: int | None = Field(None, description="Epoch of the cluster to which its data belongs; None before it has data.")
    desynced_for: str | None = Field(None, description="Job for which it is desynced: its cluster does not wait for it.")
    wanted: Literal["running", "stopped"] = "stopped"
    process: Process | None = None
    was_started: bool = Field(False, description="It was started with its address, which it keeps from then on.")
    places: list[Place] | None = Field(
        None, description="Where it keeps files elsewhere, as it last reported; None before it was asked."
    )
    staged: dict[Path, list[str]] = Field(
        default_factory=dict, description="Jobs that made work directories beside an outside directory, or in it."
    )
    beside: list[str] = Field(
        default_factory=list,
        description="Jobs that made directories beside the data directory. Others there belong to the owner.",
    )
    swapped: list[Path] = Field(default_factory=list, description="Outside directories in which swaps moved files.")
    restarts: list[AwareDatetime] = Field(default_factory=list, description="When it was started again after it died.")
    failed: str | None = Field(None, description="Why it is not started again.")

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.definition.name} ({self.id})" if self.definition.name else self.id

    @property
    def is_adopted(self) -> bool:
        """Whether its owner set it up."""
        return self.definition.is_adopted

    def require_epoch(self) -> None:
        """Raise Conflict if its cluster was restored without it: it must not serve the data that it has."""
        if self.member is not None and self.data_epoch != self.member.epoch:
            raise Conflict(
                f"the data of {self.label} predates the last restore of cluster {self.member.cluster} and must not be served",
                remedy="`strongroom cluster recover` gives it the data of the others and keeps its own as previous data.",
            )

    def restarts_since(self, moment: datetime) -> int:
        """How often it was started again since then."""
        return sum(when > moment for when in self.restarts)


class Registry:
    """All servers of this host. Only ``save`` changes records."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._records: dict[str, ServerRecord] = {}
        self.mutex = threading.Lock()
        """Held while a server is added."""
        self._saving = threading.Lock()

    def load(self) -> None:
        """Read what is on disk."""
        make_directory(self._root)
        for path in sorted(self._root.glob("*/server.json")):
            try:
                record = read_model(path, ServerRecord)
            except (OSError, ValueError) as error:
                log.error("server record cannot be read", path=str(path), reason=str(error))
                continue
            self._records[record.id] = record

    def place(self, server_id: str) -> Path:
        """The directory of a server. Raises InvalidRequest if the id is not valid."""
        if not re.fullmatch(ID_PATTERN, server_id):
            raise InvalidRequest(f"{server_id!r} cannot be the id of a server")
        return self._root / server_id

    def get(self, server_id: str) -> ServerRecord:
        """Raises NotFound."""
        try:
            return self._records[server_id]
        except KeyError:
            raise NotFound(f"server {server_id} is not on this host") from None

    def __contains__(self, server_id: str) -> bool:
        return server_id in self._records

    def all(self) -> list[ServerRecord]:
        """Every server, in order of id."""
        return [record for _, record in sorted(self._records.items())]

    def require_own_data(self, record: ServerRecord) -> None:
        """Raise Conflict if another server has the same data directory: a server is managed once."""
        for other in self.all():
            if other.id != record.id and other.data_dir.resolve() == record.data_dir:
                name = other.definition.name
                raise Conflict(
                    f"the server with its data in {record.data_dir} is managed already, as {name or other.id}"
                    + (f" ({other.id})" if name else ""),
                    remedy="Use that instance, or delete it first: deleting an adopted instance leaves its server as it is. "
                    "If there is no such instance, see `strongroom host servers`.",
                )

    def save(self, record: ServerRecord) -> None:
        """Write the record durably."""
        directory = self.place(record.id)
        with self._saving:  # the last state of the record must be the last on disk
            if not directory.exists():
                make_directory(directory)
                sync_directory(self._root)
            write_model(directory / "server.json", record)
            self._records[record.id] = record

    def forget(self, server_id: str) -> None:
        """Remove everything that is kept of the server."""
        remove_tree(self.place(server_id))
        self._records.pop(server_id, None)
