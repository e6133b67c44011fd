"""Adopted servers whose user may not write tokens: what proves their history, and what `check` asks the owner for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.datastores import get
from strongroom.datastores.innodb.options import format_options
from strongroom.errors import LineageChanged
from support import history, postgresql
from support.mariadb import MariaDBServer
from support.postgresql import PostgreSQLServer


@contextmanager
def keeper(server: history.History, rights: str) -> Iterator[Any]:
    """The same server as adopted with an account that may do what ``rights`` say."""
    server.sql("CREATE USER keeper@localhost IDENTIFIED BY 'secret'")
    server.sql(f"GRANT {rights} ON *.* TO keeper@localhost")
    about = server.server.server
    path = about.base_dir / "keeper.cnf"
    path.write_text(format_options("client", {"user": "keeper", "password": "secret"}))
    shutil.chown(path, about.user)
    yield MariaDBServer(about.model_copy(update={"runtime": "adopted", "credentials_file": path}))


def remedies(of: Any) -> list[str]:
    """What `check` asks the owner for to get tokens."""
    found = get(of.server.datastore).servers.examine(of.server)
    return [finding.remedy for finding in found if "token" in finding.message or "strongroom_witness" in finding.message]


def test_the_process_proves_the_history_of_a_read_only_mariadb(place: Path) -> None:
    rights = "RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, BINLOG ADMIN, SELECT, INSERT, DELETE, CREATE"
    with history.mariadb_history(place) as server, keeper(server, rights) as of:
        server.write()
        server.sql("SET GLOBAL read_only = 1")
        full = server.take(of=of)
        assert full.witness is not None and full.witness.token is None and full.witness.evidence["pid"]
        server.sql("SET GLOBAL read_only = 0")
        server.write()
        server.sql("SET GLOBAL read_only = 1")
        assert server.restored([full, server.take(full, of=of)]) == server.rows()


def test_mariadb_process_is_proof_until_it_ends(place: Path) -> None:
    with history.mariadb_history(place) as server, keeper(server, "RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR") as of:
        server.write()
        full = server.take(of=of)
        assert full.witness.token is None and full.witness.evidence["pid"] == str(server.server.process.pid)
        server.write()
        child = server.take(full, of=of)
        assert server.restored([full, child]) == server.rows()
        moved = full.witness.evidence | {"clock": str(int(full.witness.evidence["clock"]) + 60)}
        with pytest.raises(LineageChanged):  # the whole machine was put back
            server.take(replace(full, witness=full.witness.model_copy(update={"evidence": moved})), of=of)
        server.restart()
        with pytest.raises(LineageChanged, match="was restarted since") as caught:
            server.take(child, of=of)
        (remedy,) = remedies(of)
        assert remedy in caught.value.remedy
        for statement in remedy.rstrip(";").split(";"):
            server.sql(statement)
        assert remedies(of) == []
        full = server.take(of=of)
        assert full.witness.token
        server.restart()
        server.write()
        assert server.restored([full, server.take(full, of=of)]) == server.rows()
        assert server.sql("SHOW BINLOG EVENTS") and "strongroom_witness" not in str(server.sql("SHOW BINLOG EVENTS LIMIT 10000"))


def test_mysql_log_is_proof(place: Path) -> None:
    rights = "BACKUP_ADMIN, REPLICATION SLAVE, REPLICATION CLIENT, RELOAD, PROCESS, SELECT"
    with history.mysql_history(place) as server, keeper(server, rights) as of:
        server.write(3)
        full = server.take(of=of)
        assert full.witness.token is None
        server.write(3)
        server.restart()
        child = server.take(full, of=of)
        assert server.restored([full, child]) == server.rows()
        server.reset_log()
        for _ in range(10):
            server.write(5)
        with pytest.raises(LineageChanged, match="its binary log was replaced"):
            server.take(child, of=of)
        (remedy,) = remedies(of)
        server.sql(remedy)
        assert remedies(of) == []
        full = server.take(of=of)
        assert full.witness.token
        assert server.restored([full, server.take(full, of=of)]) == server.rows()


def test_mysql_replica_gets_no_transactions_of_its_own(place: Path) -> None:
    with history.mysql_history(place) as server:
        server.sql("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1, SOURCE_USER = 'nobody'")
        before = server.sql("SELECT @@gtid_executed")
        full = server.take()
        assert full.witness.token is None
        assert server.sql("SELECT @@gtid_executed") == before
        server.write()
        assert server.restored([full, server.take(full)]) == server.rows()


def test_postgresql_functions_that_an_account_may_call(place: Path) -> None:
    with history.postgresql_history(place, postgresql.version()) as server:
        server.sql("CREATE ROLE keeper LOGIN REPLICATION PASSWORD 'secret'")
        server.sql("GRANT pg_read_all_settings TO keeper")
        server.sql("SELECT pg_create_physical_replication_slot('strongroom', true)")
        about = server.server.server
        path = about.base_dir / "keeper.pgpass"
        path.write_text("*:*:*:keeper:secret\n")
        path.chmod(0o600)
        shutil.chown(path, about.user)

        def let_in() -> None:
            ((hba,),) = server.sql("SHOW hba_file")
            with Path(hba).open("a") as file:
                file.write("local all,replication keeper scram-sha-256\n")
            server.sql("SELECT pg_reload_conf()")

        let_in()
        of = PostgreSQLServer(about.model_copy(update={"runtime": "adopted", "credentials_file": path}))
        full = server.take(of=of)
        assert full.witness.token is None and full.witness.evidence["pid"] == str(server.server.process.pid)
        assert any("pg_replication_origin_create" in remedy for remedy in remedies(of))
        server.server.sql("GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO keeper", "postgres")
        full = server.take(of=of)
        assert set(full.witness.evidence) == {"lsn"}
        server.write()
        server.restart()
        let_in()
        child = server.take(full, of=of)
        assert server.restored([full, child]) == server.rows()
        (remedy,) = remedies(of)
        server.server.sql(remedy, "postgres")
        assert remedies(of) == []
        child = server.take(child, of=of)
        assert set(child.witness.evidence) == {"lsn", "origin"}


def test_few_tokens_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.datastores.innodb import witness as table
    from strongroom.datastores.toolkit import witness as file

    for module in (table, file):
        monkeypatch.setattr(module, "KEPT_TOKENS", 2)
    with history.mariadb_history(place) as server:
        tokens = [server.take().witness.token for _ in range(4)]
        assert [token for (token,) in server.sql("SELECT token FROM mysql.strongroom_witness ORDER BY id")] == tokens[-2:]
        lines = (server.data_dir / "strongroom_witness").read_text().splitlines()
        assert [line.split(" ")[1] for line in lines] == tokens[-2:]
