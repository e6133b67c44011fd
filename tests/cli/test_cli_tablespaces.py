"""How ``restore --tablespace OLD=NEW`` is read."""

from __future__ import annotations

import pytest

from strongroom.cli.commands.recovery.restore import _parse_directories
from strongroom.errors import InvalidRequest


def test_tablespaces_by_name_and_by_directory() -> None:
    assert _parse_directories(["far=/srv/far", "/srv/a=b=/srv/c"]) == {"far": "/srv/far", "/srv/a=b": "/srv/c"}


@pytest.mark.parametrize("wrong", [["far"], ["=/srv"], ["far="], ["far=srv"], ["far=/a", "far=/b"]])
def test_invalid_tablespaces_are_refused(wrong: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="--tablespace"):
        _parse_directories(wrong)
