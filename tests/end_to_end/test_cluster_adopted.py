"""Three nodes that somebody else runs, with his own commands: taken in, backed up, restored to all, brought back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from support.agents import until
from support.cluster import Sums, cluster_service
from support.galera import SCRIPTS
from support.load import fill
from support.service import Service, checksums

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


class OwnNode:
    """A node with its own option file, as a distribution would run it, and scripts to start, stop and bootstrap it."""

    def __init__(self, place: Path, number: int, addresses: list[str]) -> None:
        self.base, self.address = place / f"own{number}", addresses[number]
        self.base.mkdir(mode=0o755)
        self.data, self.socket, self.options = self.base / "mysql", self.base / "s", self.base / "own.cnf"
        self.options.write_text(
            f"[mysqld]\ndatadir={self.data}\nsocket={self.socket}\npid-file={self.base}/own.pid\nlog_error={self.base}/own.log\n"
            f"bind-address={self.address}\nskip-name-resolve\ncharacter-set-server=utf8mb4\nlog_bin=own-bin\nlog_slave_updates\nbinlog_format=ROW\n"
            "innodb_buffer_pool_size=32M\ninnodb_log_file_size=16M\ninnodb_autoinc_lock_mode=2\n"
            "wsrep_on=ON\nwsrep_provider=/usr/lib/galera/libgalera_smm.so\nwsrep_cluster_name=theirs\n"
            f"wsrep_cluster_address=gcomm://{','.join(addresses)}\nwsrep_node_name=own{number}\n"
            f"wsrep_node_address={self.address}\nwsrep_node_incoming_address={self.address}\n"
            f'wsrep_provider_options="gmcast.listen_addr=tcp://{self.address}:4567;ist.recv_addr={self.address}:4568;'
            f'ist.recv_bind={self.address}:4568;gcache.size=32M"\n'
            f"wsrep_sst_method=mariabackup\nwsrep_sst_receive_address={self.address}:4444\nwsrep_sst_auth=mysql:\n"
            f"[sst]\nsockopt=,bind={self.address}\n"
        )
        start = (
            f"#!/bin/sh\nPATH={SCRIPTS}:$PATH exec setsid setpriv --reuid=mysql --regid=mysql --clear-groups"
            f" mariadbd --defaults-file={self.options} %s >/dev/null 2>&1 </dev/null &\n"
        )
        self.start = self._script("start", start % "")
        self.bootstrap = self._script("bootstrap", start % "--wsrep-new-cluster")
        self.stop = self._script("stop", f"#!/bin/sh\nmariadb --no-defaults -S {self.socket} -uroot -e SHUTDOWN\n")
        subprocess.run(["chown", "mysql:mysql", str(self.base)], check=True)

    def _script(self, name: str, text: str) -> Path:
        path = self.base / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def connect(self) -> pymysql.Connection[Any]:
        return pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True, init_command="SET wsrep_sync_wait=1")

    def status(self, name: str) -> str:
        try:
            with self.connect() as connection, connection.cursor() as cursor:
                cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
                return str((cursor.fetchone() or ("", ""))[1])
        except pymysql.MySQLError:
            return ""

    def option(self, name: str, value: str) -> None:
        """Edit its option file; it is read at the next start."""
        lines = self.options.read_text().splitlines()
        self.options.write_text("".join(f"{name}={value}\n" if line.startswith(f"{name}=") else f"{line}\n" for line in lines))

    @property
    def term(self) -> str:
        """As ``cluster adopt`` wants it."""
        return (
            f"socket={self.socket},defaults_file={self.options},address={self.address},start_command={self.start},"
            f"stop_command={self.stop},bootstrap_command={self.bootstrap}"
        )


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with cluster_service("start_timeout = 15\n") as service:  # a node that cannot join is waited for so long
        yield service


@pytest.fixture(scope="module")
def theirs(service: Service) -> Iterator[list[OwnNode]]:
    """Their cluster, which has a little data and was taken in by the service."""
    addresses = [service.pool.replace(".0/24", f".{200 + number}") for number in range(3)]
    nodes = [OwnNode(service.place, number, addresses) for number in range(3)]
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={nodes[0].data}", "--user=mysql", "--skip-test-db",
         "--innodb_log_file_size=16M"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    for node in nodes[1:]:
        node.data.mkdir(mode=0o700)
        subprocess.run(["chown", "mysql:mysql", str(node.data)], check=True)
    for number, node in enumerate(nodes):
        subprocess.run([str(node.start if number else node.bootstrap)], check=True)
        until(lambda node=node: node.status("wsrep_local_state_comment") == "Synced", 180)  # type: ignore[misc]
    with nodes[0].connect() as connection:
        fill(connection, 300)
    service.cli("cluster", "adopt", "theirs", *(part for node in nodes for part in ("--node", node.term)))
    yield nodes
    for node in nodes:
        subprocess.run([str(node.stop)], check=False, capture_output=True)


def _require(theirs: list[OwnNode], wanted: Sums) -> None:
    """Every node Primary and Synced in one history, with this data."""
    assert {node.status("wsrep_cluster_status") for node in theirs} == {"Primary"}
    assert {node.status("wsrep_local_state_comment") for node in theirs} == {"Synced"}
    assert {node.status("wsrep_cluster_size") for node in theirs} == {str(len(theirs))}
    assert len({node.status("wsrep_cluster_state_uuid") for node in theirs}) == 1
    for node in theirs:
        with node.connect() as connection:
            assert checksums(connection) == wanted


def test_adopt_back_up_restore_recover(service: Service, theirs: list[OwnNode]) -> None:
    before = theirs[0].status("wsrep_cluster_state_uuid")
    view = service.get("/clusters/theirs")["cluster"]
    assert [node["node"] for node in view["instances"]] == ["own0", "own1", "own2"]

    service.cli("cluster", "backup", "theirs", "--name", "full")
    with theirs[1].connect() as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE db1.customers SET note = 'changed' WHERE id < 100")
        wanted = checksums(connection)
    service.cli("cluster", "backup", "theirs", "--name", "inc", "--incremental")
    assert service.get("/backups/inc")["backup"]["kind"] == "incremental"
    with theirs[2].connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE db1")

    service.cli("cluster", "restore", "theirs", "--backup", "inc", "--yes")
    _require(theirs, wanted)
    after = {node.status("wsrep_cluster_state_uuid") for node in theirs}
    assert len(after) == 1
    assert before not in after

    for node in theirs:
        subprocess.run([str(node.stop)], check=True)
    until(lambda: not any(node.status("wsrep_ready") for node in theirs))
    service.cli("cluster", "recover", "theirs")
    assert {node.status("wsrep_cluster_state_uuid") for node in theirs} == after
    _require(theirs, wanted)


def test_wrong_credentials_for_transfers_affect_only_transfers(service: Service, theirs: list[OwnNode]) -> None:
    with theirs[1].connect() as connection:
        wanted = checksums(connection)
    service.cli("cluster", "backup", "theirs", "--name", "credentials")
    for node in theirs:
        node.option("wsrep_sst_auth", "nobody:wrong")

    done = service.cli("cluster", "restore", "theirs", "--backup", "credentials", "--yes")
    assert "could not join" not in done.stderr
    _require(theirs, wanted)

    done = service.cli("cluster", "restore", "theirs", "--backup", "credentials", "--method", "sst", "--yes", check=False)
    assert done.returncode not in (0, 2), done.stderr
    assert "own1" in done.stderr
    assert str(theirs[1].base / "own.log") in done.stderr
    assert "Check the donor's log" in done.stderr
    assert "strongroom cluster restore theirs --resume" in done.stderr
    with theirs[0].connect() as connection:
        assert checksums(connection) == wanted  # beyond the point of no return: the first serves
    assert not any(node.status("wsrep_ready") == "ON" for node in theirs[1:])

    for node in theirs:
        node.option("wsrep_sst_auth", "mysql:")
    with theirs[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL wsrep_sst_auth = 'mysql:'")
    service.cli("cluster", "restore", "theirs", "--resume")
    _require(theirs, wanted)
    service.cli("cluster", "backup", "theirs", "--name", "next", "--incremental")
    assert service.get("/backups/next")["backup"]["kind"] == "full"
