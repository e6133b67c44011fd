"""PostgreSQL servers as people run them: each line goes through backups and restores, and its data is compared.

Adding a server configuration takes one line in a group; see ``support.matrix_lines``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.matrix import run_group
from support.matrix_lines import Group, Line, Refused
from support.matrix_servers import OwnPostgreSQL

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

MOVE = "mkdir -p {base}/elsewhere && mv {data}/%s {base}/elsewhere/ && ln -s {base}/elsewhere/%s {data}/%s"

GROUPS = [
    Group(
        "default options, features made by SQL",
        (
            Line("plain"),
            Line("names of databases that need quoting", prepare=('CREATE DATABASE "a\'b\\c d"', 'CREATE DATABASE "Ü=x"')),
            Line(
                "unlogged tables",
                prepare=("CREATE UNLOGGED TABLE u AS SELECT 1 AS id",),
                emptied=("db1.public.u",),
                warnings=("unlogged",),
            ),
            Line(
                "subscription",
                prepare=(
                    "CREATE SUBSCRIPTION s CONNECTION 'host={peer} port={peer_port} dbname=x user=x' PUBLICATION p"
                    " WITH (connect = false, slot_name = 's')",
                    "ALTER SUBSCRIPTION s ENABLE",
                ),
                warnings=("subscription",),
            ),
            Line(
                "foreign server",
                prepare=(
                    "CREATE EXTENSION postgres_fdw",
                    "CREATE SERVER f FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{peer}', port '{peer_port}')",
                ),
            ),
            Line(
                "settings made by ALTER SYSTEM",
                prepare=("ALTER SYSTEM SET work_mem = '9MB'",),
                in_place_has=(("SHOW work_mem", "9MB"),),
            ),
            Line(
                "large objects",
                prepare=("SELECT lo_from_bytea(0, 'large')",),
                new_has=(("SELECT count(*) FROM pg_largeobject", "1"),),
            ),
            Line(
                "collations of columns",
                prepare=(
                    'CREATE TABLE c (name text COLLATE "C", other text COLLATE "ucs_basic")',
                    "INSERT INTO c VALUES ('a', 'b'), ('B', 'a')",
                    "CREATE INDEX ON c (name)",
                ),
            ),
            Line(
                "preload library of a role that is missing",
                prepare=("CREATE ROLE app LOGIN", "ALTER ROLE postgres SET session_preload_libraries = 'auto_explain'"),
            ),
            Line("lost+found that only root may read", layout="mkdir -m 0700 {data}/lost+found"),
        ),
    ),
    Group(
        "made with WAL segments of 64 MB, checksums, group access and superuser admin",
        (
            Line("WAL segments of 64 MB", "min_wal_size = 128MB\nmax_wal_size = 256MB", init=("--wal-segsize=64",)),
            Line("data checksums", init=("--data-checksums",)),
            Line("data directory with mode 0750", init=("--allow-group-access",)),
            Line("superuser admin", init=("-U", "admin"), user="admin"),
            Line(
                "hba and ident files elsewhere",
                "hba_file = '{base}/hba.conf'\nident_file = '{base}/ident.conf'",
                layout="mv {data}/pg_hba.conf {base}/hba.conf && mv {data}/pg_ident.conf {base}/ident.conf",
            ),
            Line("archiving", "archive_mode = on\narchive_command = 'exit 1'", new_has=(("SHOW archive_mode", "off"),)),
            Line("idle_session_timeout", "idle_session_timeout = 300\nidle_in_transaction_session_timeout = 300"),
            Line("synchronous standby that does not exist", "synchronous_standby_names = 'nobody'\nsynchronous_commit = local"),
        ),
    ),
    Group(
        "made with WAL segments of 1 MB elsewhere and a difficult superuser",
        (
            Line("WAL segments of 1 MB", init=("--wal-segsize=1",)),
            Line("WAL directory elsewhere", init=("-X", "{base}/wal"), change=("SELECT pg_switch_wal()",)),
            Line("superuser with a difficult name", init=("-U", "The Admin"), user="The Admin"),
            Line(
                "all replication slots in use",
                "max_replication_slots = 1",
                prepare=("SELECT pg_create_physical_replication_slot('theirs')",),
            ),
            Line(
                "configuration in conf.d of the data directory",
                "include_dir = 'conf.d'",
                layout="mkdir {data}/conf.d && echo 'work_mem = 7MB' > {data}/conf.d/a.conf",
                in_place_has=(("SHOW work_mem", "7MB"),),
            ),
            Line(
                "preloaded library",
                "shared_preload_libraries = 'pg_stat_statements'",
                prepare=("CREATE EXTENSION pg_stat_statements",),
                new_has=(("SELECT count(*) >= 0 FROM public.pg_stat_statements", "True"),),
            ),
        ),
    ),
    Group(
        "superuser made by SQL, no database postgres",
        (
            Line(
                "superuser that may not log in",
                prepare=("CREATE ROLE chief SUPERUSER LOGIN", "ALTER ROLE postgres NOLOGIN"),
                init=("-U", "postgres"),
                user="chief",
            ),
            Line("no database postgres", prepare=("DROP DATABASE postgres",)),
            Line(
                "prepared transactions",
                "max_prepared_transactions = 20",
                prepare=("CREATE TABLE p (id int)", "BEGIN; INSERT INTO p VALUES (1); PREPARE TRANSACTION 'a'"),
                new_has=(("SELECT count(*) FROM pg_prepared_xacts", "1"),),
                in_place_has=(("SELECT count(*) FROM pg_prepared_xacts", "1"),),
                warnings=("prepared",),
            ),
            Line(
                "logical WAL and commit timestamps",
                "track_commit_timestamp = on",
                new_has=(("SHOW track_commit_timestamp", "on"),),
            ),
        ),
    ),
    Group(
        "many locks",
        (
            Line(
                "prepared transaction with many locks",
                "max_prepared_transactions = 5\nmax_locks_per_transaction = 512",
                prepare=(
                    "BEGIN; SELECT count(pg_advisory_xact_lock(n)) FROM generate_series(1, 20000) n; PREPARE TRANSACTION 'a'",
                ),
            ),
            Line(
                "settings that change answers",
                "timezone = 'Asia/Kolkata'\ndatestyle = 'German'\ndefault_transaction_isolation = serializable",
                new_has=(("SHOW timezone", "Asia/Kolkata"), ("SHOW datestyle", "German, DMY")),
                in_place_has=(("SHOW timezone", "Asia/Kolkata"),),
            ),
            Line(
                "md5 passwords",
                "password_encryption = md5",
                prepare=("CREATE ROLE app LOGIN PASSWORD 'secret'",),
                warnings=("md5",),
            ),
        ),
    ),
    Group(
        "many connections, tablespace, settings of the superuser",
        (
            Line(
                "more connections and workers than by default",
                "max_connections = 300\nmax_worker_processes = 40\nmax_wal_senders = 40",
                new_has=(("SELECT setting::int >= 300 FROM pg_settings WHERE name = 'max_connections'", "True"),),
            ),
            Line(
                "tablespace",
                directories=("space",),
                prepare=(
                    "\\c template1;CREATE TABLESPACE s LOCATION '{base}/space'",
                    "CREATE TABLE x TABLESPACE s AS SELECT * FROM t",
                ),
                change=("DELETE FROM x WHERE id < 10",),
                spoil=("DROP TABLE x",),
            ),
            Line(
                "settings of the superuser and the database that stand in our way",
                prepare=(
                    "ALTER ROLE postgres SET search_path = nowhere",
                    "ALTER ROLE postgres SET statement_timeout = '2s'",
                    "ALTER DATABASE postgres SET default_transaction_read_only = on",
                    "ALTER ROLE postgres SET default_transaction_read_only = on",
                ),
            ),
        ),
    ),
    Group(
        "SQL_ASCII",
        (
            Line(
                "SQL_ASCII with a Latin-1 name",
                init=("-E", "SQL_ASCII", "--locale=C"),
                prepare=('\\c template1;CREATE DATABASE "caf\udce9"',),
            ),
        ),
    ),
    Group(
        "version 16",
        (Line("version 16", series="16"),),
    ),
    Group(
        "version 18",
        (
            Line("version 18", series="18"),
            Line(
                "tablespace, version 18",
                series="18",
                directories=("space",),
                prepare=(
                    "\\c template1;CREATE TABLESPACE s LOCATION '{base}/space'",
                    "CREATE TABLE x TABLESPACE s AS SELECT * FROM t",
                ),
                change=("DELETE FROM x WHERE id < 10",),
            ),
        ),
    ),
    Group(
        "version 18 made with WAL segments of 64 MB",
        (
            Line(
                "WAL segments of 64 MB, version 18",
                "min_wal_size=128MB\nmax_wal_size=256MB",
                init=("--wal-segsize=64",),
                series="18",
            ),
        ),
    ),
    Group(
        "link in the data directory",
        (Line("link in base", layout=MOVE % ("pg_xact", "pg_xact", "pg_xact"), refused=(Refused("pg_xact"),)),),
    ),
]


def test_matrix(group: Group, place: Path, pool: str) -> None:
    run_group(group, OwnPostgreSQL(group, place), place, pool)
