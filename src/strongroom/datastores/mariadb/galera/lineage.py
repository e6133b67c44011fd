"""The lineage of a data directory, also of a node that receives its data from another.

A state transfer with ``mariabackup`` empties the directory first, but one with ``rsync`` keeps files at its top and makes the
directories below equal to the sender's. So the id is in both places: if the two differ, the data is another node's.
"""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.toolkit import lineage


def ensure_lineage(data_dir: Path, *, renew: bool = False) -> str:
    """The id in the data directory. It is created if it is missing or if the data is another node's; ``renew`` replaces it."""
    below = data_dir / "mysql"
    if not below.is_dir():
        return lineage.ensure_lineage(data_dir, renew=renew)
    known = lineage.read_lineage(data_dir)
    if renew or known is None or known != lineage.read_lineage(below):
        known = lineage.ensure_lineage(below, renew=True)  # first below: after a crash in between the two differ
        lineage.write_lineage(data_dir, known)
    return known
