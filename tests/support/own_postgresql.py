"""A PostgreSQL server that somebody else runs: made with the stock tools, its configuration in its data directory."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from strongroom.datastores import Version
from support.postgresql import Connection, server_user, version


class OwnPostgreSQL:
    """A plain server below ``place``, started, with scripts to start and stop it, as ``initdb`` makes it."""

    def __init__(
        self,
        place: Path,
        *,
        use: Version | None = None,
        settings: str = "",
        hba: str | None = None,
        initdb: Sequence[str] = (),
        encoding: str = "UTF8",
    ) -> None:
        self.user = server_user()
        self.base = place / "own"
        self.data = self.base / "data"
        self.run = self.base / "run"
        self.bin = (use or version()).programs["server"].parent
        self.start, self.stop = self.base / "start", self.base / "stop"
        for path in (self.base, self.run):
            path.mkdir(mode=0o755)
            os.chown(path, *self._ids())
        self.command(
            "initdb",
            "-D",
            self.data,
            "--auth-local=peer",
            "--auth-host=scram-sha-256",
            "-E",
            encoding,
            "--locale=C.UTF-8",
            *initdb,
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.run}'\n{settings}\n")
        if hba is not None:
            (self.data / "pg_hba.conf").write_text(hba)
        become = f"setpriv --reuid={self.user} --regid={self._ids()[1]} --clear-groups " if os.geteuid() == 0 else ""
        for script, what in ((self.start, f"start -l {self.base}/log"), (self.stop, "stop -m fast")):
            script.write_text(
                f"#!/bin/sh\ncd / && exec {become}{self.bin}/pg_ctl -w -t 120 -D {self.data} {what} >/dev/null 2>&1\n"
            )
            script.chmod(0o755)
        subprocess.run([str(self.start)], check=True)

    def _ids(self) -> tuple[int, int]:
        entry = pwd.getpwnam(self.user)
        return entry.pw_uid, entry.pw_gid

    def command(self, program: str, *arguments: object) -> str:
        """One of the server's own programs, as its OS user."""
        uid, gid = self._ids()
        user: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [str(self.bin / program), *map(str, arguments)], check=True, cwd="/", capture_output=True, text=True, **user
        )
        return done.stdout

    def sql(self, statement: str, database: str = "postgres") -> str:
        """By psql, as the OS user of the server."""
        return self.command("psql", "-XAtq", "-h", self.run, "-d", database, "-v", "ON_ERROR_STOP=1", "-c", statement).strip()

    def connect(self, user: str, database: str = "postgres") -> Connection:
        return psycopg.connect(host=str(self.run), user=user, dbname=database, autocommit=True)

    def end(self) -> None:
        subprocess.run([str(self.stop)], check=False)
