"""Whose log it is."""

from __future__ import annotations

from uuid import UUID


def find_identity(lineage: str) -> str:
    """MariaDB has no UUID of a server: the id of the data directory as one. Empty if it is not known."""
    return str(UUID(hex=lineage)) if lineage else ""
