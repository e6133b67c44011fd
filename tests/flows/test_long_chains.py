"""Chains of 10,000 backups: hourly incrementals of more than a year."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from strongroom.catalog import Backup, Instance, now, open_catalog
from strongroom.catalog.find import chain_of, descendants_of
from strongroom.catalog.queries import broken_chains
from strongroom.flows import Site, open_site
from strongroom.flows.backups.chains import newest_parent
from strongroom.flows.kinds.deletion import request_delete_backup
from strongroom.settings import load
from strongroom.storage import open_store
from support.ends import settle

LINKS = 10_000


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Site:
    place: Path = tmp_path_factory.mktemp("chain")
    settings = load(service={"data_dir": place})
    control = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {})
    control.queue.start = lambda job: None
    at = now()
    rows = [
        {
            "id": f"b{number:05}",
            "project": "p",
            "name": f"n{number:05}",
            "container": "c",
            "instance_id": "i",
            "kind": "incremental" if number else "full",
            "parent_id": f"b{number - 1:05}" if number else None,
            "chain_id": "b00000",
            "status": "COMPLETED",
            "datastore": "mariadb",
            "series": "10.11",
            "created": at,
            "updated": at,
        }
        for number in range(LINKS)
    ]
    with control.catalog.write() as session:
        session.execute(insert(Backup), rows)
    return control


def test_newest_parent_and_its_chain_are_found(control: Site) -> None:
    began = time.monotonic()
    with control.catalog.read() as session:
        parent, reason = newest_parent(session, Instance(id="i", lineage=None))
        assert (parent.id if parent else None, reason) == (f"b{LINKS - 1:05}", None)
        assert parent is not None
        assert len(chain_of(session, parent)) == LINKS
        assert len(descendants_of(session, "b00000")) == LINKS - 1
        assert broken_chains(session, [parent]) == {}
    assert time.monotonic() - began < 60  # it was a RecursionError; the bound only catches quadratic work


def test_a_cascade_is_one_job(control: Site) -> None:
    job = request_delete_backup(control, "p", "b00000", cascade=True)
    with control.catalog.read() as session:
        assert set(session.scalars(select(Backup.status).distinct())) == {"DELETING"}
    with control.catalog.write() as session:
        settle(session, job, {"code": "StorageError", "message": "away", "remedy": ""})
    with control.catalog.read() as session:
        assert set(session.scalars(select(Backup.status).distinct())) == {"DELETE_FAILED"}
