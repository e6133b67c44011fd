"""Backup, accident and restore, from an empty machine, with the public command line. Started by ``scripts/demo``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pymysql
from demo_data import SCHEMA, DataSet, Loader
from demo_proof import Expected, Proof, look, prove
from demo_writer import Writer
from rich.console import Console
from rich.table import Table

from strongroom.cli.output.values import format_duration, format_ratio, format_size

PROGRAM = Path(sys.executable).with_name("strongroom")
console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 130)


class Failed(Exception):
    """A step of the demo failed."""


def step(number: int, text: str) -> None:
    """Print the heading of a step."""
    console.print(f"\n{number}. {text}", style="bold")


class Service:
    """A ``strongroom serve`` for the demo, in a separate directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data_dir = place / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.pool = f"127.{self.port >> 8}.{self.port & 255}.0/24"  # unique, like the port
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("STRONGROOM_")} | {
            "STRONGROOM_URL": self.url,
            "STRONGROOM_AGENT__POOL": self.pool,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it answers."""
        words = ["serve", "--data-dir", str(self.data_dir), "--port", str(self.port)]
        log = self.place / "serve.log"
        console.print(f"$ export STRONGROOM_AGENT__POOL={self.pool} STRONGROOM_URL={self.url}", style="cyan", soft_wrap=True)
        show(*words)
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self.environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise Failed(f"the service does not start: {log.read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """The process id of the service."""
        assert self._process
        return self._process.pid

    def run(self, *words: str) -> float:
        """Run a command with visible output. Returns how many seconds it took."""
        show(*words)
        began = time.monotonic()
        if subprocess.run([PROGRAM, *words], env=self.environment, check=False).returncode != 0:
            raise Failed(f"`strongroom {shlex.join(words)}` failed")
        return time.monotonic() - began

    def ask(self, *words: str) -> Any:
        """Run a command. Returns its JSON output; None if there is none."""
        asked = subprocess.run(
            [PROGRAM, *words, "--format", "json"], env=self.environment, capture_output=True, text=True, check=False
        )
        if asked.returncode != 0:
            raise Failed(f"`strongroom {shlex.join(words)}` failed: {asked.stderr}")
        return json.loads(asked.stdout or "null")

    def stop(self) -> None:
        """Delete the instances and stop the service. Processes that still run after an interruption are killed."""
        if self._process and self._process.poll() is None:
            with contextlib.suppress(Failed, subprocess.SubprocessError):
                for instance in self.ask("instance", "list"):
                    words = ["instance", "delete", instance["id"], "--yes"]
                    subprocess.run([PROGRAM, *words], env=self.environment, capture_output=True, timeout=60, check=False)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        for wanted, patience in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
            deadline = time.monotonic() + patience
            for pid in processes(self.place):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, wanted)
            while processes(self.place) and time.monotonic() < deadline:
                time.sleep(0.1)


def processes(place: Path) -> list[int]:
    """Ids of the demo's processes: those whose command line or stderr refers to a path below ``place``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                if f"{place}/" in words or str((entry / "fd" / "2").readlink()).startswith(f"{place}/"):
                    found.append(int(entry.name))
    return found


def show(*words: str) -> None:
    """Print a command line."""
    console.print(f"$ strongroom {shlex.join(words)}", style="cyan", soft_wrap=True)


class Demo:
    """The nine steps."""

    def __init__(self, service: Service, megabytes: int) -> None:
        self.service = service
        self.megabytes = megabytes
        self.password = secrets.token_urlsafe(18)
        self.data = DataSet(megabytes)
        self.writer: Writer | None = None
        self.expected: Expected | None = None
        self.proofs: list[tuple[str, float, Proof]] = []

    def play(self) -> None:
        """Run all steps. Raises Failed."""
        began = time.monotonic()
        try:
            self.create()
            self.load()
            step(2, "Full backup under load")
            self.back_up("full1", 0)
            step(3, "More writes and an incremental backup, twice")
            for name in ("inc1", "inc2"):
                self.back_up(name, self.megabytes * 1024**2 // 20)
            self.accident()
            self.restore()
            self.restore_in_place()
            self.protect()
        finally:
            if self.writer:
                self.writer.stop()
        self.report(time.monotonic() - began)

    def terms(self, instance: str) -> dict[str, Any]:
        """The parameters to connect to an instance as user1."""
        view = self.service.ask("instance", "show", instance)
        return {
            "host": view["ip"][0],
            "port": view["port"],
            "user": "user1",
            "password": self.password,
            "charset": "utf8mb4",
            "connect_timeout": 10,
        }

    @contextlib.contextmanager
    def connection(self, instance: str) -> Iterator[pymysql.Connection]:
        """A connection as user1."""
        with pymysql.connect(**self.terms(instance), autocommit=True) as connection:
            yield connection

    def create(self) -> None:
        step(1, f"Create an instance, load {self.megabytes} MB, and keep writing to it")
        self.service.run("instance", "create", "mysql1", "--flavor", "d2", "--database", "db1", "--database", "db2")
        secret = self.service.place / "user1.password"
        secret.touch(mode=0o600)
        secret.write_text(self.password + "\n")
        self.service.run(
            "user", "create", "mysql1", "user1", "--database", "db1", "--database", "db2", "--password-file", str(secret)
        )

    def load(self) -> None:
        began = time.monotonic()
        with self.connection("mysql1") as connection, connection.cursor() as cursor:
            for statement in filter(None, map(str.strip, SCHEMA.split(";"))):
                cursor.execute(statement)
        self.add(self.data.fill)
        terms = self.terms("mysql1")
        self.writer = Writer(terms)
        while not self.writer.committed:
            if not self.writer.alive:
                raise Failed("the writing process died")
            time.sleep(0.05)
        console.print(
            f"  loaded in {format_duration(time.monotonic() - began)}; from now on a process transfers money between accounts"
        )

    def add(self, fill: Any) -> None:
        """Load rows of the data set."""
        with pymysql.connect(**self.terms("mysql1")) as connection, console.status("loading"):
            loader = Loader(connection)
            fill(loader)
            loader.close()

    def back_up(self, name: str, more: int) -> None:
        assert self.writer
        if more:
            self.add(lambda loader: self.data.grow(loader, more))
        with self.connection("mysql1") as connection:
            tables = look(connection)
        at_least = self.writer.committed
        self.service.run("backup", "create", name, "--instance", "mysql1", *(["--incremental"] if more else []))
        if not self.writer.alive:
            raise Failed("the writing process died")
        self.expected = Expected(tables, at_least, self.writer.committed)

    def accident(self) -> None:
        step(4, "Accident")
        assert self.writer
        with self.connection("mysql1") as connection, connection.cursor() as cursor:
            console.print("  mysql1> DROP TABLE db2.items;", style="red")
            cursor.execute("DROP TABLE db2.items")
        last = self.writer.stop()
        console.print(f"  the last transfer is {last}")

    def restore(self) -> None:
        step(5, "Restore the last incremental, and the backups that it is based on, to a new instance")
        seconds = self.service.run("restore", "inc2", "--name", "mysql2", "--flavor", "d2")
        self.service.run("db", "list", "mysql2")
        self.service.run("user", "list", "mysql2")
        step(6, "Check the restored data")
        self.prove("mysql2", seconds)

    def restore_in_place(self) -> None:
        step(7, "Restore the damaged instance in place")
        seconds = self.service.run("restore", "inc2", "--in-place", "mysql1", "--yes")
        self.prove("mysql1", seconds)

    def protect(self) -> None:
        step(8, "Let a policy take and remove the backups from now on")
        schedules = ("--full", "sun 02:00", "--incremental", "daily 02:00")
        self.service.run("policy", "create", "gold", *schedules, "--keep-within", "7d", "--keep-weekly", "8", "--max-age", "26h")
        self.service.run("policy", "attach", "gold", "mysql1")
        self.service.run("status")

    def prove(self, instance: str, seconds: float) -> None:
        assert self.expected
        with self.connection(instance) as connection:
            proof = prove(connection, self.expected)
        for finding in proof.good:
            console.print(f"  correct: {finding}", style="green")
        for finding in proof.wrong:
            console.print(f"  WRONG: {finding}", style="bold red")
        self.proofs.append((instance, seconds, proof))
        if proof.wrong:
            raise Failed(f"the restored data of {instance} is wrong")

    def report(self, seconds: float) -> None:
        step(9, "Summary")
        console.print()
        table = Table(box=None, pad_edge=False)
        for title in ("Backup", "Kind", "Data size", "Stored size", "Ratio", "Time", "Rate"):
            table.add_column(title, justify="left" if title in ("Backup", "Kind") else "right")
        for backup in reversed(self.service.ask("backup", "list", "--status", "COMPLETED")):
            rate = f"{format_size(backup['raw_size'] / backup['seconds'])}/s" if backup["seconds"] else ""
            ratio = format_ratio(backup["raw_size"], backup["stored_size"])
            took = format_duration(backup["seconds"])
            table.add_row(
                backup["name"],
                backup["kind"],
                format_size(backup["data_size"]),
                format_size(backup["stored_size"]),
                ratio,
                took,
                rate,
            )
        console.print(table)
        console.print()
        table = Table(box=None, pad_edge=False)
        for title in ("Restore of inc2 to", "Time to restore", "Tables compared", "Rows compared", "Result"):
            table.add_column(title, justify="left" if title in ("Restore of inc2 to", "Result") else "right")
        for instance, took, proof in self.proofs:
            table.add_row(
                instance, format_duration(took), str(proof.tables), f"{proof.rows:,}", "wrong" if proof.wrong else "correct"
            )
        console.print(table)
        console.print(f"\nAll restored data is correct. The demo took {format_duration(seconds)}.", style="bold green")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Shows backup, accident and restore on a real server, and checks the restored data."
    )
    parser.add_argument("--size", type=int, default=300, metavar="MB", help="size of the generated data (default: 300)")
    parser.add_argument("--keep", action="store_true", help="leave everything running, and print commands to explore it")
    parser.add_argument("--yes", action="store_true", help="install packages without asking")
    parser.add_argument("--dir", type=Path, help="an empty directory for all files (default: a new one in TMPDIR or /var/tmp)")
    given = parser.parse_args()
    if given.size < 1:
        parser.error("--size must be at least 1")
    return given


def make_place(wanted: Path | None) -> Path:
    """Create the directory of the demo, through which the OS user of the database servers may pass."""
    if wanted is None:
        place = Path(tempfile.mkdtemp(prefix="strongroom-", dir=os.environ.get("TMPDIR") or "/var/tmp"))
    else:
        place = wanted.absolute()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise Failed(f"{place} is not empty")
    place.chmod(0o711)
    return place


def explain(service: Service) -> None:
    """Print how to explore the demo, and how to stop it."""
    view = service.ask("instance", "show", "mysql2")
    console.print(
        f"""
Everything is still running. To explore it:
  export STRONGROOM_URL={service.url} PATH="{PROGRAM.parent}:$PATH"
  strongroom instance list
  strongroom backup list
  mariadb --host {view["ip"][0]} --port {view["port"]} --user user1 --password="$(cat {service.place}/user1.password)" db1
To stop it:
  strongroom instance delete mysql1 --yes; strongroom instance delete mysql2 --yes
  kill {service.pid}; rm -r {service.place}""",
        soft_wrap=True,
    )


def interrupt(number: int, _frame: object) -> NoReturn:
    """Handle SIGTERM and SIGHUP like Ctrl-C."""
    raise KeyboardInterrupt


def main() -> int:
    given = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        place = make_place(given.dir)
    except Failed as error:
        console.print(f"The demo cannot start: {error}", style="bold red")
        return 1
    service = Service(place)
    done = False
    try:
        console.print(f"The demo uses {place}; its service listens on {service.url}.")
        service.start()
        Demo(service, given.size).play()
        done = True
    except Failed as error:
        console.print(f"\nThe demo failed: {error}", style="bold red", soft_wrap=True)
    except KeyboardInterrupt:
        console.print("\nInterrupted; cleaning up.")
        return 130
    finally:
        if given.keep and done:
            explain(service)
        else:
            service.stop()
            shutil.rmtree(place, ignore_errors=True)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
