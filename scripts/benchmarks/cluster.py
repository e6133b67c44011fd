"""Restore of a Galera cluster, compared with the manual steps, which a script runs on the same nodes with the same data.

Measured are the outage (from stopping the first node until one serves again) and the total (until all nodes are Synced). The
steps are those of Kolla-Ansible's guide: unpack, prepare, stop all nodes, delete the data, copy back, start one node, let the
others receive everything. A person who types them and reads logs in between takes minutes longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
from demo_data import SCHEMA, DataSet, Loader

from benchmarks.bench import Bench, size_of, warm
from benchmarks.case import Case, Times
from benchmarks.site import Site

SCRIPTS = Path(__file__).parents[2] / ".tools/galera"
PATIENCE = 300.0
STEPS, SEEDED, SENT = "manual steps, scripted", "Strongroom, every node seeded", "Strongroom, one node sends it to the others"


class Node:
    """A server of the cluster: its files, its socket, its process."""

    def __init__(self, site: Site, view: dict[str, Any]) -> None:
        self.base = site.service.data_dir / "instances" / view["id"]
        self.data = self.base / "data"
        self.socket = site.ask("instance", "show", view["id"])["socket"]

    def connect(self) -> pymysql.Connection[Any]:
        """A connection with all privileges."""
        return pymysql.connect(read_default_file=str(self.base / "client.cnf"), unix_socket=self.socket, autocommit=True)

    def stop(self) -> None:
        """Stop the server as `systemctl stop` does."""
        for pid in _servers_with(self.base / "my.cnf"):
            os.kill(pid, signal.SIGTERM)
        self._until(lambda: not _servers_with(self.base / "my.cnf"))

    def start(self, *options: str) -> None:
        """Start the server as `systemctl start` or `galera_new_cluster` does, and wait until it is Synced."""
        identity = ("setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups")
        subprocess.Popen(
            [*identity, "mariadbd", f"--defaults-file={self.base}/my.cnf", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"},
            cwd=self.base,
            start_new_session=True,
        )
        self._until(self._synced)

    def _synced(self) -> bool:
        try:
            with self.connect() as connection, connection.cursor() as cursor:
                cursor.execute("SHOW STATUS LIKE 'wsrep_local_state_comment'")
                row = cursor.fetchone()
        except pymysql.Error:
            return False
        return bool(row and row[1] == "Synced")

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the node in {self.base} did not reach the expected state")
            time.sleep(0.1)


def _servers_with(options: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"mariadbd") and f"--defaults-file={options}".encode() in words:
                    found.append(int(entry.name))
    return found


def cluster(bench: Bench) -> None:
    """Measure each restore once. The manual steps come last, because the service would restart the nodes that they stop."""
    bench.site.drop()
    with bench.site.configured(DATASTORES__MARIADB=json.dumps([str(SCRIPTS)])):
        bench.site.ask("cluster", "create", "bench", "--flavor", "d2", "--size", "20")
        nodes = [Node(bench.site, view) for view in bench.site.ask("cluster", "show", "bench")["instances"]]
        _load(nodes[0], bench.scaled(1500, 8))
        bench.result.data = f"three nodes on this machine, {size_of(nodes[0].data) / 1e9:.2f} GB in the data directory of each"
        bench.site.ask("cluster", "backup", "bench", "--name", "full")
        node = nodes[2]
        access = f"--defaults-file={node.base}/client.cnf --socket={node.socket} --datadir={node.data}"
        bench.shell(f"mariadb-backup {access} --backup --stream=xbstream --galera-info | gzip > {bench.place}/backup.gz")
        for method, name in (("seed", SEEDED), ("sst", SENT)):
            warm(bench.site.service.data_dir / "store")
            words = ("cluster", "restore", "bench", "--backup", "full", "--method", method, "--yes")
            bench.timed(f"{name}, total", lambda words=words: bench.site.ask(*words), f"strongroom {' '.join(words)}")
            job = bench.site.ask("job", "show", bench.site.ask("cluster", "show", "bench")["job_id"])
            bench.note(f"{name}, outage", job["output"]["outage_seconds"])
            bench.site.ask("cluster", "discard-old", "bench", "--yes")
        with bench.site.paused():
            outage: list[float] = []
            bench.timed(f"{STEPS}, total", lambda: outage.append(_by_steps(bench, nodes)))
            bench.note(f"{STEPS}, outage", outage[0])
            for node in nodes:  # the service does not know about servers that a script has started
                node.stop()
        bench.site.ask("cluster", "delete", "bench", "--yes")


def _load(node: Node, megabytes: int) -> None:
    with node.connect() as connection:
        for statement in ["CREATE DATABASE db1", "CREATE DATABASE db2", *filter(str.strip, SCHEMA.split(";"))]:
            connection.query(statement)
        loader = Loader(connection)
        DataSet(megabytes).fill(loader)
        loader.close()


def _by_steps(bench: Bench, nodes: list[Node]) -> float:
    """Run the guide's steps, on a backup by the guide's command. Returns the seconds of the outage."""
    first, *others = nodes
    work = bench.place / "restore"
    (work / "full").mkdir(parents=True)
    bench.shell(f"gunzip -c {bench.place}/backup.gz > {work}/backup.xbs")
    bench.shell(f"mbstream -x -C {work}/full < {work}/backup.xbs")
    bench.shell(f"mariadb-backup --prepare --target-dir={work}/full")
    stopped = time.monotonic()
    for node in reversed(nodes):
        node.stop()
    bench.shell(f"find {first.data} -mindepth 1 -delete")
    bench.shell(f"mariadb-backup --no-defaults --copy-back --target-dir={work}/full --datadir={first.data}")
    bench.shell(f"chown -R mysql:mysql {first.data}")
    first.start("--wsrep-new-cluster")
    serving = time.monotonic()
    for node in others:
        node.start()
    shutil.rmtree(work)
    return serving - stopped


CASES = (
    Case(
        "cluster",
        "Restore of a Galera cluster",
        "three nodes, 1.5 GB",
        cluster,
        (
            Times("outage: times shorter than with manual steps", 3, f"{STEPS}, outage", f"{SEEDED}, outage"),
            Times("total: times shorter than with manual steps", None, f"{STEPS}, total", f"{SEEDED}, total"),
        ),
        rounds=1,
        quick=False,
        text=(
            "The outage lasts from stopping the first node until one serves again; the total, until all nodes are Synced. The "
            "manual steps are those of Kolla-Ansible's guide, without the time for reading and typing."
        ),
        bound=(
            "In both cases three servers shut down and one starts. During the rest of the outage, the manual steps copy the "
            "data, which takes longer the more data there is; Strongroom renames directories."
        ),
    ),
)
