"""What a node keeps of its cluster in its data directory: ``grastate.dat`` and ``gvwstate.dat``. Read as hostile input."""

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
    """Content of ``grastate.dat``. The position is not known (-1) while the server runs, and after a crash."""

    position: GaleraPosition
    safe_to_bootstrap: bool


@dataclass(frozen=True, slots=True)
class PrimaryView:
    """Content of ``gvwstate.dat``: the last primary view that the node was in. Gone after a stop in good order."""

    id: str
    members: list[str]


def read_saved(data_dir: Path) -> Saved | None:
    """None when there is no such file, or nothing of use in it."""
    text = read_text(data_dir / GRASTATE) or ""
    uuid = re.search(rf"^uuid:\s+({UUID})\s*$", text, re.MULTILINE)
    seqno = re.search(r"^seqno:\s+(-?\d{1,19})\s*$", text, re.MULTILINE)
    safe = re.search(r"^safe_to_bootstrap:\s+1\s*$", text, re.MULTILINE)
    if uuid is None:
        return None
    return Saved(GaleraPosition(uuid=uuid[1], seqno=int(seqno[1]) if seqno else -1), safe is not None)


def write_saved(data_dir: Path, position: GaleraPosition, *, safe_to_bootstrap: bool) -> None:
    """Make the data directory one of this history, at this place."""
    text = (
        "# GALERA saved state\nversion: 2.1\n"
        f"uuid:    {position.uuid}\nseqno:   {position.seqno}\nsafe_to_bootstrap: {int(safe_to_bootstrap)}\n"
    )
    write_file(data_dir / GRASTATE, text, find_owner(data_dir))


def read_view(data_dir: Path) -> PrimaryView | None:
    """None when there is no such file, or half of one."""
    text = read_text(data_dir / GVWSTATE) or ""
    found = re.search(rf"^view_id:\s+(\d+\s+{UUID}\s+\d+)\s*$", text, re.MULTILINE)
    members = re.findall(rf"^member:\s+({UUID})\s", text, re.MULTILINE)
    if found is None or not members or "#vwend" not in text:
        return None
    return PrimaryView(" ".join(found[1].split()), sorted(members))


def forget_view(data_dir: Path) -> None:
    """A node that begins a cluster must not wait for those it once saw."""
    (data_dir / GVWSTATE).unlink(missing_ok=True)
    sync_directory(data_dir)


def forget_cluster(data_dir: Path) -> None:
    """Remove all that ties the directory to a cluster it was of."""
    for name in _OF_THE_CLUSTER:
        (data_dir / name).unlink(missing_ok=True)
    sync_directory(data_dir)


def is_receiving(data_dir: Path) -> bool:
    """Another node sends all its data just now, or did when the server died: what is here is not whole.

    The first of the marks is there as well while only a gap is closed, which leaves the data as it is.
    """
    return (data_dir / "sst_in_progress").exists() and any((data_dir / mark).exists() for mark in (".sst", "rsync_sst.pid"))


NOWHERE = GaleraPosition(uuid=NO_UUID, seqno=-1)
"""Data that is of no cluster."""
