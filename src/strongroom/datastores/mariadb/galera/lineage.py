"""The lineage of a node that gets its data from another, too.

``mariabackup`` empties the directory first, but ``rsync`` leaves files at its top as they are, and makes the directories below
equal to the sender's. So the id is in both places: where the two differ, the data is another's.
"""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.toolkit import lineage


def ensure_lineage(data_dir: Path, *, renew: bool = False) -> str:
    """The id in the data directory, made when it is missing or when the data came from elsewhere; ``renew`` makes another."""
    below = data_dir / "mysql"
    if not below.is_dir():
        return lineage.ensure_lineage(data_dir, renew=renew)
    known = lineage.read_lineage(data_dir)
    if renew or known is None or known != lineage.read_lineage(below):
        known = lineage.ensure_lineage(below, renew=True)  # first below: a crash in between leaves two that differ
        lineage.write_lineage(data_dir, known)
    return known
