"""The groups of the matrix, or with --alone each line of them (choose one by ``-k``)."""

from __future__ import annotations

import pytest

from support.matrix_lines import Group, separate


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    groups: list[Group] = metafunc.module.GROUPS
    metafunc.parametrize("group", separate(groups) if metafunc.config.getoption("alone") else groups, ids=str)
