"""Files of a node about its cluster: ``grastate.dat`` and ``gvwstate.dat``. They are read as hostile input."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from strongroom.datastores.protocol.clusters import NO_UUID, UUID, GaleraPosition
from strongroom.system.directories import sync_directory
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

GRASTATE = "grastate.dat"
GVWSTATE = "gvwstate.dat"
_OF_THE_CLUSTER = (GRASTATE, GVWSTATE, "galera.cache", "sst_in_progress")


@dataclass(frozen=True, slots=True)
class Saved:
    """Content of ``grastate.dat``. The position is unknown (-1) while the server runs, and after a crash."""

    position: GaleraPosition
    safe_to_bootstrap: bool


@dataclass(frozen=True, slots=True)
class PrimaryView:
    """Content of ``gvwstate.dat``: the last primary view of the node. A clean stop removes the file."""

    id: str
    members: list[str]


def read_saved(data_dir: Path) -> Saved | None:
    """The content of ``grastate.dat``; none if there is no such file, or nothing usable in it."""
    text = read_text(data_dir / GRASTATE) or ""
    uuid = re.search(rf"^uuid:\s+({UUID})\s*$", text, re.MULTILINE)
    seqno = re.search(r"^seqno:\s+(-?\d{1,19})\s*$", text, re.MULTILINE)
    safe = re.search(r"^safe_to_bootstrap:\s+1\s*$", text, re.MULTILINE)
    if uuid is None:
        return None
    return Saved(GaleraPosition(uuid=uuid[1], seqno=int(seqno[1]) if seqno else -1), safe is not None)


def write_saved(data_dir: Path, position: GaleraPosition, *, safe_to_bootstrap: bool) -> None:
    """Make the data directory one of this history, at this position."""
    text = (
        "# GALERA saved state\nversion: 2.1\n"
        f"uuid:    {position.uuid}\nseqno:   {position.seqno}\nsafe_to_bootstrap: {int(safe_to_bootstrap)}\n"
    )
    write_file(data_dir / GRASTATE, text, find_owner(data_dir))


def read_view(data_dir: Path) -> PrimaryView | None:
    """The content of ``gvwstate.dat``; none if there is no such file, or only a part of it."""
    text = read_text(data_dir / GVWSTATE) or ""
    found = re.search(rf"^view_id:\s+(\d+\s+{UUID}\s+\d+)\s*$", text, re.MULTILINE)
    members = re.findall(rf"^member:\s+({UUID})\s", text, re.MULTILINE)
    if found is None or not members or "#vwend" not in text:
        return None
    return PrimaryView(" ".join(found[1].split()), sorted(members))


def forget_view(data_dir: Path) -> None:
    """Remove the view, so that a node that bootstraps does not wait for the nodes in it."""
    (data_dir / GVWSTATE).unlink(missing_ok=True)
    sync_directory(data_dir)


def forget_cluster(data_dir: Path) -> None:
    """Remove all files about the cluster that the directory belonged to."""
    for name in _OF_THE_CLUSTER:
        (data_dir / name).unlink(missing_ok=True)
    sync_directory(data_dir)


def is_receiving(data_dir: Path) -> bool:
    """Whether a full state transfer runs, or was interrupted by a crash: the data is incomplete then.

    The first mark also exists during an incremental state transfer, which keeps the data consistent.
    """
    return (data_dir / "sst_in_progress").exists() and any((data_dir / mark).exists() for mark in (".sst", "rsync_sst.pid"))


NOWHERE = GaleraPosition(uuid=NO_UUID, seqno=-1)
"""The position of data that belongs to no cluster."""
