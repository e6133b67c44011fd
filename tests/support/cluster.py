"""A cluster of a real service, as tests look at it: its nodes, their data, and what hits them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymysql

from support import processes
from support.agents import until
from support.galera import SCRIPTS
from support.load import fill
from support.service import Refused, Service, checksums, shared_service

CONFIG = f'[datastores]\nmariadb = ["{SCRIPTS}"]\n'
"""Where the scripts of transfers are, when the system has none."""
Sums = dict[str, tuple[int, int]]


def cluster_service(agent: str = "") -> contextlib.AbstractContextManager[Service]:
    """A service for a module of tests, which share its cluster: to make one takes longer than most tests."""
    return shared_service(agent + CONFIG)


class Shop:
    """The cluster ``shop`` of a service: three nodes with a little data."""

    def __init__(self, service: Service) -> None:
        self.service = service
        response = service.call("POST", "/clusters", {"cluster": {"name": "shop"}})
        service.wait(response.headers["Strongroom-Job"])
        with self.sql(0) as connection:
            fill(connection, 300)

    @property
    def view(self) -> dict[str, Any]:
        return dict(self.service.get("/clusters/shop")["cluster"])

    @property
    def ids(self) -> list[str]:
        return [node["id"] for node in self.view["instances"]]

    @contextlib.contextmanager
    def sql(self, number: int) -> Iterator[pymysql.Connection[Any]]:
        """A connection to a node, which has all that the cluster had committed."""
        with self.service.sql(self.ids[number]) as connection:
            connection.cursor().execute("SET SESSION wsrep_sync_wait = 1")
            yield connection

    @contextlib.contextmanager
    def clients(self, statement: str) -> Iterator[Callable[[], int]]:
        """Clients that write through whichever node serves, all the time; how often they have."""
        over, done, ids = threading.Event(), 0, self.ids

        def write() -> None:
            nonlocal done
            while not over.is_set():
                for node in ids:
                    with (
                        contextlib.suppress(pymysql.MySQLError, OSError, Refused, KeyError),
                        self.service.sql(node) as connection,
                    ):
                        while not over.is_set():
                            connection.cursor().execute(statement)
                            done += 1
                            time.sleep(0.005)
                time.sleep(0.05)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield lambda: done
        finally:
            over.set()
            thread.join()

    def write(self, word: str) -> Sums:
        """Change something through one node; what the data is then."""
        until(lambda: self.view["status"] == "HEALTHY", 60)
        with self.sql(1) as connection:
            connection.cursor().execute(f"UPDATE db1.customers SET note = CONCAT('{word} ', note) WHERE id % 7 = 0")
            return checksums(connection)

    def post(self, what: str, body: dict[str, Any] | None = None) -> str:
        """The job of a request about it."""
        return str(self.service.call("POST", f"/clusters/shop/{what}", body or {}).headers["Strongroom-Job"])

    def backup(self, name: str, **options: Any) -> dict[str, Any]:
        job = self.service.wait(self.post("backup", {"backup": {"name": name, **options}}))
        return dict(self.service.get(f"/backups/{job['backup_id']}")["backup"])

    def restore(self, backup: str, **options: Any) -> dict[str, Any]:
        return self.service.wait(self.post("restore", {"restore": {"backupRef": backup, **options}}), 300)

    def pids(self) -> list[int]:
        """Of its servers."""
        return [
            pid
            for node in self.ids
            for pid, command in processes.below(self.service.data_dir / "instances" / node).items()
            if f"instances/{node}/my.cnf" in command
        ]

    def power_cut(self) -> None:
        """Every server and the service, at once."""
        pids = self.pids()
        self.service.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def require(self, sums: Sums) -> None:
        """All nodes Primary and Synced, in one history, with this data; the next incremental is a full."""
        until(lambda: self.view["status"] == "HEALTHY", 60)
        view = self.view
        assert len({node["position"].split(":")[0] for node in view["instances"]}) == 1
        for number in range(len(view["instances"])):
            with self.sql(number) as connection, connection.cursor() as cursor:
                assert checksums(connection) == sums
                cursor.execute("SHOW STATUS WHERE variable_name IN ('wsrep_cluster_size', 'wsrep_cluster_status')")
                assert dict(cursor.fetchall()) == {
                    "wsrep_cluster_size": str(len(view["instances"])),
                    "wsrep_cluster_status": "Primary",
                }

    def require_full_next(self) -> None:
        """What was replaced cannot be gone on from."""
        taken = self.backup("next", incremental=True)
        assert (taken["kind"], taken["parent_id"]) == ("full", None)
        assert taken["reason"]
