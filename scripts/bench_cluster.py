"""A restore of a Galera cluster beside the steps of a person, done by a script as fast as it can: same three nodes, same data.

Told are the outage (from the first node that is stopped until one serves again) and the whole (until all nodes are Synced).
The steps are those of Kolla-Ansible's guide: unpack, prepare, stop all, delete the data, copy back, start one, let the others
be sent everything. A person who does them by hand, and reads a log in between, takes minutes more. Only ratios mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pymysql
from bench_run import console, judge, size_of, warm
from demo import Service
from demo_data import SCHEMA, DataSet, Loader
from rich.table import Table

SCRIPTS = Path(__file__).parents[1] / ".tools/galera"
GOAL = 3.0
"""The outage is to be so many times shorter than that of the steps."""
PATIENCE = 300.0


class Node:
    """A server of the cluster, as a script sees it: its files, its socket, its process."""

    def __init__(self, service: Service, view: dict[str, Any]) -> None:
        self.base = service.data_dir / "instances" / view["id"]
        self.data = self.base / "data"
        self.socket = service.ask("instance", "show", view["id"])["socket"]

    def sql(self, statement: str) -> Any:
        """Its first row."""
        with (
            pymysql.connect(
                read_default_file=str(self.base / "client.cnf"), unix_socket=self.socket, autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return cursor.fetchone()

    @property
    def running(self) -> bool:
        """Its server lives."""
        return bool(servers_with(self.base / "my.cnf"))

    def stop(self) -> None:
        """As `systemctl stop` does."""
        for pid in servers_with(self.base / "my.cnf"):
            os.kill(pid, signal.SIGTERM)
        self.until(lambda: not self.running)

    def start(self, *options: str) -> None:
        """As `systemctl start` does, or `galera_new_cluster`; back when it is Synced."""
        path = f"{SCRIPTS}:{os.environ['PATH']}"
        subprocess.Popen(
            [
                "setpriv",
                "--reuid=mysql",
                "--regid=mysql",
                "--clear-groups",
                "mariadbd",
                f"--defaults-file={self.base}/my.cnf",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": path},
            cwd=self.base,
            start_new_session=True,
        )
        self.until(self._synced)

    def _synced(self) -> bool:
        try:
            row = self.sql("SHOW STATUS LIKE 'wsrep_local_state_comment'")
        except pymysql.Error:
            return False
        return bool(row and row[1] == "Synced")

    def until(self, condition: Any) -> None:
        """Look ten times a second."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"a node in {self.base} does not come to where it should")
            time.sleep(0.1)


def servers_with(options: Path) -> list[int]:
    """Servers with this option file."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"mariadbd") and f"--defaults-file={options}".encode() in words:
                    found.append(int(entry.name))
    return found


def load(node: Node, megabytes: int) -> None:
    """Fill the cluster through one node."""
    with pymysql.connect(read_default_file=str(node.base / "client.cnf"), unix_socket=node.socket, autocommit=True) as connection:
        with connection.cursor() as cursor:
            for statement in ["CREATE DATABASE db1", "CREATE DATABASE db2", *SCHEMA.split(";")]:
                if statement.strip():
                    cursor.execute(statement)
        loader = Loader(connection)
        DataSet(megabytes).fill(loader)
        loader.close()
    console.print(f"loaded: {size_of(node.data) / 1e9:.2f} GB in the data directory of each node")


def by_steps(place: Path, nodes: list[Node]) -> dict[str, float]:
    """The guide's steps. The backup that they restore was made by the guide's own command."""
    first, *others = nodes
    work = place / "restore"
    work.mkdir()
    began = time.monotonic()
    shell(
        f"gunzip -c {place}/backup.gz > {work}/backup.xbs && mkdir {work}/full && mbstream -x -C {work}/full < {work}/backup.xbs"
    )
    shell(f"mariadb-backup --prepare --target-dir={work}/full")
    stopped = time.monotonic()
    for node in reversed(nodes):
        node.stop()
    shell(f"find {first.data} -mindepth 1 -delete")
    shell(f"mariadb-backup --no-defaults --copy-back --target-dir={work}/full --datadir={first.data}")
    shell(f"chown -R mysql:mysql {first.data}")
    first.start("--wsrep-new-cluster")
    serving = time.monotonic()
    for node in others:
        node.start()
    return {"outage": serving - stopped, "whole": time.monotonic() - began}


def shell(pipeline: str) -> None:
    """A pipeline as a person types it; every part of it must succeed."""
    subprocess.run(["bash", "-o", "pipefail", "-ec", pipeline], check=True, stderr=subprocess.DEVNULL)


def ours(service: Service, backup: str, method: str) -> dict[str, float]:
    """One command."""
    began = time.monotonic()
    service.run("cluster", "restore", "bench", "--backup", backup, "--method", method, "--yes")
    whole = time.monotonic() - began
    job = service.ask("job", "show", service.ask("cluster", "show", "bench")["job_id"])
    service.ask("cluster", "discard-old", "bench", "--yes")
    return {"outage": job["output"]["outage_seconds"], "whole": whole}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench --cluster", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=int, default=450, metavar="MB", help="size of the data set (default: %(default)s)")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TMPDIR", "/var/tmp")), help="where to work")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    place = Path(tempfile.mkdtemp(prefix="strongroom-bench-", dir=options.dir))
    place.chmod(0o711)
    service = Service(place)
    service.environment["STRONGROOM_DATASTORES__MARIADB"] = json.dumps([str(SCRIPTS)])
    try:
        service.start()
        service.run("cluster", "create", "bench", "--flavor", "d2", "--size", "20")
        nodes = [Node(service, view) for view in service.ask("cluster", "show", "bench")["instances"]]
        load(nodes[0], options.size)
        service.run("cluster", "backup", "bench", "--name", "full")
        shell(
            f"mariadb-backup --defaults-file={nodes[2].base}/client.cnf --backup --stream=xbstream --galera-info "
            f"--socket={nodes[2].socket} --datadir={nodes[2].data} | gzip > {place}/backup.gz"
        )
        times = {}
        for method, text in (("seed", "Strongroom, every node seeded"), ("sst", "Strongroom, one node sends it to the others")):
            warm(service.data_dir / "store")
            times[text] = ours(service, "full", method)
        os.kill(service.pid, signal.SIGTERM)  # it would start the servers that the script stops; they go on without it
        time.sleep(3)
        times["the steps, by script"] = by_steps(place, nodes)
        _report(times, as_json=options.json)
    finally:
        service.stop()
        shutil.rmtree(place, ignore_errors=True)


def _report(times: dict[str, dict[str, float]], *, as_json: bool) -> None:
    table = Table("restore of three nodes", "outage s", "whole s")
    for text, seconds in times.items():
        table.add_row(text, f"{seconds['outage']:.1f}", f"{seconds['whole']:.1f}")
    console.print(table)
    seeded, sent, steps = times.values()
    outage = steps["outage"] / seeded["outage"]
    judged = Table("goal", "wanted", "measured", "reached")
    judge(judged, "outage: times shorter than that of the steps", f"{GOAL:g}", f"{outage:.2f}", outage >= GOAL)
    console.print(judged)
    if as_json:
        print(json.dumps({"outage, times": round(outage, 2), "seeded": seeded, "sent": sent, "steps": steps}))


if __name__ == "__main__":
    main()
