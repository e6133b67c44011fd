"""The one service on a PostgreSQL: it stays that when the server goes and comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from strongroom.catalog import open_catalog
from strongroom.errors import ConfigurationError
from strongroom.flows import Engine, open_site
from strongroom.settings import load
from strongroom.storage import open_store
from support.own_postgresql import OwnPostgreSQL


def test_lock_is_acquired_again_when_the_database_answers_again(place: Path) -> None:
    own = OwnPostgreSQL(place, hba="local all all trust\n")
    own.sql("CREATE ROLE strongroom LOGIN")
    own.sql("CREATE DATABASE strongroom OWNER strongroom")

    def engine(data_dir: Path) -> Engine:
        data_dir.mkdir()
        url = f"postgresql://strongroom@/strongroom?host={own.run}"
        settings = load(service={"data_dir": data_dir, "database_url": url})
        return Engine(open_site(settings, open_catalog(settings), open_store(settings.storage, data_dir / "s"), {}))

    one, other = engine(place / "a"), engine(place / "b")
    one.lock()
    subprocess.run([str(own.stop)], check=True)
    assert [one.stay_alone(), one.stay_alone()] == [True, True]  # nobody else can be there, either
    subprocess.run([str(own.start)], check=True)
    assert one.stay_alone()
    with pytest.raises(ConfigurationError, match="running on the same database"):
        other.lock()
    own.end()
