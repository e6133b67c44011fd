"""The table of the phases of a cluster's run."""

from __future__ import annotations

from strongroom.flows import is_reversible
from strongroom.flows.clusters.phases import PHASES
from strongroom.flows.kind import kind_of

NAMES = ["prepare", "seed", "stop", "swap", "bootstrap", "join", "check"]
"""As journals of earlier versions have them: their runs are continued, or undone, after an upgrade."""


def test_journals_of_earlier_versions_are_understood() -> None:
    assert [phase.name for phase in PHASES] == NAMES
    assert [name for name in [*NAMES, "done", "undone"] if is_reversible(name)] == NAMES[:5]


def test_only_reversible_phases_are_undone() -> None:
    assert all(phase.reversible for phase in PHASES if phase.undo is not None)


def test_steps_of_runs_match_those_that_the_engine_recorded() -> None:
    """Another number or order of steps needs another ``engine.WORKFLOWS``."""
    names = {kind: [step.__name__ for step in kind_of(kind).steps] for kind in ("cluster_create", "cluster_restore")}
    assert names["cluster_create"] == ["define", *(name for name in NAMES if name != "stop"), "finish"]
    assert names["cluster_restore"] == [*NAMES, "finish"]
