"""All cases, in the order of the page. A case that needs the same data as the previous one reuses it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import (
    cluster,
    codecs,
    control_plane,
    effect,
    growth,
    idle,
    mariadb_backup,
    mariadb_restore,
    mysql,
    policies,
    postgresql,
)
from benchmarks.case import Case

CASES: tuple[Case, ...] = (
    *mariadb_backup.CASES,
    *mariadb_restore.CASES,
    *postgresql.CASES,
    *mysql.CASES,
    *cluster.CASES,
    *effect.CASES,
    *codecs.CASES,
    *control_plane.CASES,
    *policies.CASES,
    *idle.CASES,
    *growth.CASES,
)


def chosen(words: Sequence[str]) -> list[Case]:
    """The cases whose names begin with one of the words; all cases if there are no words. Raises ValueError if none match."""
    for word in words:
        if not any(case.name.startswith(word) for case in CASES):
            raise ValueError(f"no case begins with {word}; the cases are: {', '.join(case.name for case in CASES)}")
    return [case for case in CASES if not words or case.name.startswith(tuple(words))]
