"""Servers as people really run them: each line of the table is one, backed up, restored to a new instance, and compared."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from strongroom.datastores.postgresql.server.connection import connect, query
from support.own_postgresql import OwnPostgreSQL
from support.postgresql import (
    PostgreSQLServer,
    checksums,
    driver,
    fill,
    server_user,
    started,
)
from support.postgresql_profiles import adopted, copy_of


@dataclass
class Case:
    """A server of an owner."""

    name: str
    initdb: Sequence[str] = ()
    settings: str = ""
    sql: Sequence[str] = ()
    """Run as the bootstrap superuser in database postgres, or in the one that a line names as ``@name``."""
    database: str = "postgres"
    encoding: str = "UTF8"
    account: str = server_user()
    tells: Sequence[str] = ()
    """Words of notices of the backup."""
    new: Callable[[PostgreSQLServer], object] = lambda restored: None
    """Looks at the restored server."""
    sees: dict[str, str] = field(default_factory=dict)
    """Settings of the restored server."""


CASES = [
    Case(
        "kept out by its settings",
        settings="synchronous_standby_names = '*'\nidle_session_timeout = 300\nstatement_timeout = 2000\nlock_timeout = 100",
        sql=[
            "ALTER ROLE CURRENT_USER SET session_preload_libraries = 'nowhere'",
            "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on",
            "ALTER ROLE CURRENT_USER SET search_path = 'nowhere'",
            "CREATE ROLE nobody_special",
            "ALTER ROLE CURRENT_USER SET role = 'nobody_special'",
        ],
    ),
    Case(
        "large WAL files, no way in for the bootstrap superuser",
        ["--wal-segsize=64", "-U", "the Boss-1"],
        sql=['ALTER ROLE "the Boss-1" NOLOGIN'],
        account="dba",
        sees={"wal_segment_size": "64MB", "min_wal_size": "128MB"},
    ),
    Case(
        "answers and sizes",
        settings="timezone = 'Asia/Tokyo'\ndatestyle = 'German, DMY'\nwal_level = logical\ntrack_commit_timestamp = on\n"
        "max_connections = 150\nmax_locks_per_transaction = 300\nshared_preload_libraries = 'pg_stat_statements,auto_explain'\n"
        "password_encryption = md5",
        sql=[
            'CREATE TABLE names (n text COLLATE "de-x-icu" PRIMARY KEY)',
            "CREATE UNLOGGED TABLE lost (id int)",
            "CREATE UNLOGGED SEQUENCE lost_too",
            "CREATE ROLE old LOGIN PASSWORD 'secret'",
        ],
        tells=["postgres: public.lost", "postgres: public.lost_too"],
        new=lambda restored: by_password(restored, "old", "secret"),
        sees={
            "TimeZone": "Asia/Tokyo",
            "DateStyle": "German, DMY",
            "wal_level": "logical",
            "track_commit_timestamp": "on",
            "max_connections": "150",
            "max_locks_per_transaction": "300",
            "shared_preload_libraries": "pg_stat_statements,auto_explain",
        },
    ),
    Case(
        "prepared transactions, all slots in use, lost+found",
        settings="max_prepared_transactions = 7\nmax_replication_slots = 1",
        sql=["@PREPARED", "SELECT pg_create_physical_replication_slot('x')", "@LOST"],
        tells=["p1", "all replication slots", "x (physical)"],
        sees={"max_prepared_transactions": "7"},
    ),
    Case("no database postgres", sql=["CREATE DATABASE other", "@other DROP DATABASE postgres"], database="other"),
    Case(
        "Latin-1 names without an encoding",
        ["--locale=C"],
        encoding="SQL_ASCII",
        sql=['SET client_encoding = latin1; CREATE ROLE "caf\u00e9"', "@LATIN1"],
    ),
]


def by_password(restored: PostgreSQLServer, user: str, password: str) -> None:
    assert restored.server.socket is not None
    psycopg.connect(host=str(restored.server.socket.parent), user=user, password=password, dbname="postgres").close()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_realistic_server_is_restored_to_a_new_instance(place: Path, case: Case) -> None:
    own = OwnPostgreSQL(
        place,
        initdb=case.initdb,
        encoding=case.encoding,
        settings=case.settings,
        hba="local all,replication all trust\n",
    )
    held: psycopg.Connection[tuple[object, ...]] | None = None
    try:
        boss = case.initdb[case.initdb.index("-U") + 1] if "-U" in case.initdb else own.user
        credentials = place / "pgpass"
        credentials.write_text(f"*:*:*:{case.account}:unused\n")
        credentials.chmod(0o644)
        source = PostgreSQLServer(adopted(own, place, credentials))
        connection = psycopg.connect(host=str(own.run), user=boss, dbname="postgres", autocommit=True)
        connection.execute("SET synchronous_commit = local")
        if case.account not in (boss, own.user):
            connection.execute(f"CREATE ROLE {case.account} SUPERUSER LOGIN".encode())
        with source.connect("postgres") as actual:
            fill(actual, 200)
            before = checksums(actual)
        for line in case.sql:
            if line == "@LOST":
                (own.data / "lost+found").mkdir(mode=0o700)
            elif line == "@LATIN1":
                subprocess.run(
                    [own.bin / "psql", "-qh", own.run, "-U", boss, "-c", b'CREATE DATABASE "caf\xe9"', "postgres"], check=True
                )
            elif line == "@PREPARED":
                held = psycopg.connect(host=str(own.run), user=boss, dbname="postgres", autocommit=True)
                for statement in ("BEGIN", "CREATE TABLE prepared (id int)", "PREPARE TRANSACTION 'p1'"):
                    held.execute(statement.encode())
            elif line.startswith("@"):
                connection.close()
                database, _, statement = line[1:].partition(" ")
                with psycopg.connect(host=str(own.run), user=boss, dbname=database, autocommit=True) as other:
                    fill(other, 200)
                    before = checksums(other)
                    other.execute(statement.encode())
            else:
                connection.execute(line.encode())
        connection.close()
        with connect(source.server, case.database) as actual:
            query(actual, "SELECT pg_switch_wal()")
        server, profile = copy_of(source, place, "copy")
    finally:
        if held is not None:
            held.close()
        own.end()
    said = " ".join([*(notice.message for notice in profile.notices), *profile.absent])
    assert all(word in said for word in case.tells), said
    assert not profile.stopping("refuse"), profile.notices
    with started(server) as restored:
        assert not [n for n in driver.profiles.check(server, profile, isolated=True) if n.effect != "warn"]
        with restored.connect(case.database) as actual:
            assert checksums(actual)["public.customers"] == before["public.customers"]
            seen = {name: query(actual, "SELECT current_setting(%s)", name)[0][0] for name in case.sees}
        assert seen == case.sees
        case.new(restored)
