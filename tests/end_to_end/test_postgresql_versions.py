"""Several series of PostgreSQL side by side: each backup goes back to its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.databases import POSTGRESQL as database
from support.postgresql_versions import programs
from support.service import Refused, Service


def test_fulls_of_16_and_18_beside_the_default_version(serve: Callable[..., Service]) -> None:
    places = [str(programs(series)) for series in ("16", "18")]
    service = serve(config=f"[datastores]\npostgresql = {places!r}\n")
    listed = service.get("/datastores/postgresql/versions")["versions"]
    assert {"16", "18"} < {version["name"] for version in listed}
    for series in ("16", "18"):
        name = f"pg{series}"
        one = service.create(name, datastore={"type": "postgresql", "version": series}, databases=[{"name": "db1"}])
        assert one["datastore"]["version"] == series
        database.fill(service, name, 500)
        expected = database.sums(service, name)
        full = service.backup(name, f"full-{series}")
        database.execute(service, name, "DROP TABLE orders")
        copy = service.create(f"copy{series}", restorePoint={"backupRef": full["id"]})
        assert copy["datastore"]["version"] == series
        assert database.sums(service, f"copy{series}") == expected
        service.wait(service.act(f"/instances/{name}/action", {"restore": {"backupRef": full["id"]}}))
        assert database.sums(service, name) == expected
        service.wait(service.act(f"/backups/{full['id']}/action", {"verify": {"prepare": True}}))
        assert service.get(f"/backups/{full['id']}")["backup"]["verified"]["prepared"] is True
    with pytest.raises(Refused) as refused:
        service.wait(service.act("/instances/pg18/action", {"restore": {"backupRef": "full-16"}}))
    assert refused.value.status in (400, 409)
    with pytest.raises(Refused) as refused:
        wrong = {"type": "postgresql", "version": "18"}
        service.create("wrong", datastore=wrong, restorePoint={"backupRef": service.get("/backups/full-16")["backup"]["id"]})
    assert refused.value.status in (400, 409)
