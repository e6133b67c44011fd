"""What the service remembers about the stores and the last check. Only in memory: after a start, everything is checked again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from strongroom.flows.retention.clocks import Reading
from strongroom.protection.measures import Measures

Place = tuple[str, str]
"""A store, by the project that it belongs to (empty: of all), and a container."""


@dataclass(slots=True)
class StoreFacts:
    """The content of all stores when they were last read."""

    read: dict[Place, datetime] = field(default_factory=dict)
    """When each container was last listed completely."""
    folders: dict[Place, frozenset[str]] = field(default_factory=dict)
    """The artifacts in it."""
    missing: set[str] = field(default_factory=set)
    """Ids of the backups without a manifest."""
    cursor: str = ""
    """The backup whose manifest was checked last."""
    failed: dict[tuple[str, str], int] = field(default_factory=dict)
    """How often a container could not be read, by its name and the code of the error."""
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures of databases at one time, by id."""

    at: datetime
    of: dict[str, Measures]


@dataclass(slots=True)
class Watch:
    """The last check of retention and the content of the stores."""

    facts: StoreFacts = field(default_factory=StoreFacts)
    checked: datetime | None = None
    """When changed databases were last checked."""
    everything: datetime | None = None
    """When all databases were last checked."""
    jump: str = ""
    """Why the clock cannot be trusted; empty if it can be."""
    ticked: Reading | None = None
    """The clocks at the last check. The time since then counts as time in which the service ran."""
    measured: Measured | None = None
    """The measures of all databases when their incidents were last noted."""
