"""Incrementals prove that the server's history contains their parent, or a full is taken: real servers are put back to snapshots,
restarted, have their logs reset, and every chain restores to what the server held when it was backed up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.datastores.innodb import witness as mariadb_witness
from strongroom.datastores.mysql.backup import incremental as mysql_incremental
from strongroom.datastores.postgresql.backup import wal as postgresql_wal
from strongroom.datastores.postgresql.backup import witness as postgresql_witness
from strongroom.errors import LineageChanged, WalGone
from support import history, history_model, postgresql, postgresql_versions
from support.history_model import Event

Opened = Callable[[Path], AbstractContextManager[Any]]


def _of_the_host(place: Path) -> AbstractContextManager[Any]:
    return history.postgresql_history(place, postgresql.version())


def _eighteen(place: Path) -> AbstractContextManager[Any]:
    return history.postgresql_history(place, postgresql_versions.version("18"))


EVERY = [
    pytest.param(history.mariadb_history, id="mariadb"),
    pytest.param(history.mysql_history, id="mysql"),
    pytest.param(_of_the_host, id="postgresql-wal"),
    pytest.param(_eighteen, id="postgresql-blocks"),
]


@pytest.mark.parametrize("opened", EVERY)
def test_rollback_past_the_parent(place: Path, opened: Opened) -> None:
    """The server is put back to before its full and written on until its positions have passed those of the full."""
    with opened(place) as server:
        server.write()
        kept = server.snapshot()
        server.write(500)
        chain = [server.take()]
        passed = server.position()
        server.roll_back(kept)
        server.write_past(passed)
        chain = server.back_up(chain)
        assert len(chain) == 1
        assert any(why in server.reason for why in ("nothing proves", "older copy", "WAL file")), server.reason
        server.write()
        chain = server.back_up(chain)  # the new full is a parent again
        assert len(chain) == 2, server.reason
        assert server.restored(chain) == server.rows()


@pytest.mark.parametrize("opened", EVERY)
def test_rollback_to_a_state_between_two_backups(place: Path, opened: Opened) -> None:
    """The older of them can still be a parent, the younger cannot."""
    with opened(place) as server:
        server.write()
        full = server.take()
        server.write()
        kept = server.snapshot()
        server.write()
        younger = server.take(full)
        server.roll_back(kept)
        server.write(300)
        with pytest.raises((LineageChanged, WalGone)):
            server.take(younger)
        try:
            chain = [full, server.take(full)]
        except WalGone:
            pytest.fail("its WAL is kept")
        assert server.restored(chain) == server.rows()


@pytest.mark.parametrize("opened", EVERY)
def test_invalid_parents(place: Path, opened: Opened) -> None:
    """A backup without a witness, one whose token could not be written, and for a restored copy every backup of its source."""
    with opened(place) as server:
        server.write()
        full = server.take()
        for witness in (None, full.witness.model_copy(update={"token": "0" * 32})):
            with pytest.raises(LineageChanged, match="nothing proves that the data of"):
                server.take(replace(full, witness=witness))
        server.write()
        child = server.take(full)
        with server.copied([full, child]) as copy:
            for parent in (full, child):
                with pytest.raises((LineageChanged, WalGone)):
                    server.take(parent, of=copy)
            own = server.take(of=copy)
            assert own.witness not in (full.witness, child.witness)
            server.take(own, of=copy)
        file = server.data_dir / "strongroom_witness"
        file.rename(file.with_suffix(".away"))
        with pytest.raises(LineageChanged, match=f"missing in {file}"):
            server.take(child)
        file.mkdir()  # nothing can be written there
        other = server.take()
        assert other.witness is None
        file.rmdir()
        with pytest.raises(LineageChanged, match="no token was written"):
            server.take(other)


def test_mysql_log_that_was_reset(place: Path) -> None:
    with history.mysql_history(place) as server:
        for _ in range(5):
            server.write(1)
        chain = [server.take()]
        server.sql("RESET BINARY LOGS AND GTIDS")
        for _ in range(20):
            server.write(1)
        chain = server.back_up(chain)
        assert len(chain) == 1 and "nothing proves" in server.reason
        assert server.restored(chain) == server.rows()


# --- a model: random histories, see support.history_model

PLAN = [*history_model.plan(seed=453, steps=14), Event("reset"), Event("incremental", rows=20)]
"""A reset comes last: until PostgreSQL has written as much again as its new log skips, a rollback behind it takes long."""


def test_each_fault_lies_between_an_incremental_and_its_parent() -> None:
    assert history_model.faults(PLAN) == history_model.FAULTS


@pytest.mark.parametrize("opened", EVERY)
def test_every_chain_restores_whatever_happened(place: Path, opened: Opened) -> None:
    with opened(place) as server:
        history_model.run(server, PLAN)


def accept(*_: object) -> None:
    """Replaces a proof; accepts everything."""


@pytest.mark.slow
@pytest.mark.parametrize("opened", EVERY)
def test_a_missing_proof_is_noticed(place: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same history as above, whose incrementals are taken without any proof."""
    for module in (mariadb_witness, mysql_incremental, postgresql_witness, postgresql_wal):
        monkeypatch.setattr(module, "require_witness", accept)
    with opened(place) as server, pytest.raises(AssertionError, match=r"rows too many|cannot be restored"):
        history_model.run(server, PLAN)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
@pytest.mark.parametrize("opened", EVERY)
def test_every_chain_restores_whatever_happened_for_long(place: Path, opened: Opened, seed: int) -> None:
    with opened(place) as server:
        history_model.run(server, history_model.plan(seed, 40))
