"""A MySQL server that somebody else runs: made with the stock programs, with an option file of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymysql

from strongroom.datastores import Server, Version
from support import processes
from support.identity import server_user
from support.mysql import MySQLServer
from support.mysql_programs import version

_OF_NEW = ("innodb_page_size", "innodb_data_file_path", "lower_case_table_names")
"""Settings that a database keeps from its beginning."""


class OwnMySQL:
    """A plain server below ``place``, started, with scripts to start and stop it. ``root`` has no password at its socket.

    ``outside`` are directories made for it; ``{base}`` in the settings is the directory that holds them.
    """

    def __init__(self, place: Path, *, use: Version | None = None, settings: str = "", outside: Sequence[str] = ()) -> None:
        self.user = server_user()
        self.base = place / "own"
        self.base.mkdir(mode=0o755)
        self.data = self.base / "mysql"
        self.socket = self.base / "own.sock"
        self.options = self.base / "own.cnf"
        self.version = use or version()
        self.programs = self.version.programs
        self.options.write_text(
            f"[mysqld]\ndatadir={self.data}\nsocket={self.socket}\npid-file={self.base}/own.pid\nlog_error={self.base}/own.log\n"
            f"skip-networking\nskip-name-resolve\nmysqlx=OFF\nsecure_file_priv=NULL\ninnodb_redo_log_capacity=32M\n"
            f"{settings.replace('{base}', str(self.base))}\n"
        )
        self.start, self.stop = self.base / "start", self.base / "stop"
        entry = pwd.getpwnam(self.user)
        for name in outside:
            (self.base / name).mkdir(mode=0o750)
        for path in (self.base, *(self.base / name for name in outside)):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        root = os.geteuid() == 0
        become = f"setpriv --reuid={self.user} --regid={entry.pw_gid} --clear-groups " if root else ""
        server = f"{self.programs['server']} --defaults-file={self.options}"
        self.start.write_text(f"#!/bin/sh\ncd / && exec setsid {become}{server} >/dev/null 2>&1 </dev/null &\n")
        self.stop.write_text(
            f"#!/bin/sh\npid=$(cat {self.base}/own.pid) && kill $pid && while kill -0 $pid 2>/dev/null; do sleep 0.1; done\n"
        )
        for script in (self.start, self.stop):
            script.chmod(0o755)
        user: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []} if root else {}
        if outside or use is not None or any(name in settings for name in _OF_NEW):
            subprocess.run([*server.split(" "), "--initialize-insecure"], check=True, cwd="/", **user)
        else:
            subprocess.run(["cp", "-a", "--sparse=always", str(_template(self.version, user)), str(self.data)], check=True)
        subprocess.run([str(self.start)], check=True)
        self.wait()

    def wait(self, seconds: float = 60) -> None:
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.connect().close()
                return
            except pymysql.MySQLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def connect(self, user: str = "root", password: str = "") -> pymysql.Connection[Any]:
        return pymysql.connect(unix_socket=str(self.socket), user=user, password=password, autocommit=True, charset="utf8mb4")

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Rows of the last of the statements."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def server(self, address: str | None = None, credentials: Path | None = None) -> Server:
        """As it is adopted: at its socket, or at an address."""
        return Server(
            id="own",
            name="own",
            datastore="mysql",
            runtime="adopted",
            user=self.user,
            base_dir=self.base,
            data_dir=self.data,
            socket=None if address else self.socket,
            address=address,
            version=self.version,
            credentials_file=credentials,
            start_command=[str(self.start)],
            stop_command=[str(self.stop)],
        )

    def end(self) -> None:
        subprocess.run([str(self.stop)], check=False)


def _template(of: Version, user: dict[str, Any]) -> Path:
    """An empty database that servers are copied from; it lives as long as the machine's temporary directory."""
    final = Path(f"/tmp/sr-template-own-{server_user()}-{of.datastore}-{of.number}")
    if not final.exists():
        place = Path(tempfile.mkdtemp(prefix="sr-template-", dir="/tmp"))
        place.chmod(0o711)
        made = place / "made"
        made.mkdir()
        os.chown(made, user.get("user", -1), user.get("group", -1))
        options = [f"--datadir={made / 'data'}", "--innodb-redo-log-capacity=32M", f"--log-error={made}/install.log"]
        subprocess.run([of.programs["server"], "--no-defaults", "--initialize-insecure", *options], check=True, cwd="/", **user)
        (made / "data" / "auto.cnf").unlink(missing_ok=True)  # every server has an id of its own
        with contextlib.suppress(OSError):  # another process of the test run was faster
            (made / "data").rename(final)
        shutil.rmtree(place)
    return final


class Owned:
    """A server of somebody else in a place of its own, and the same as tests of backups want it.

    ``settings`` may name a directory ``{far}`` outside its data directory.
    """

    def __init__(self, settings: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
        self.place.chmod(0o711)
        self.far = self.place / "far"
        self.far.mkdir()
        self.far.chmod(0o777)
        self.own = OwnMySQL(self.place, settings=settings.replace("{far}", str(self.far)))
        credentials = self.place / "own.cnf"
        credentials.write_text("[client]\nuser=root\n")
        credentials.chmod(0o644)
        self.running = MySQLServer(self.own.server(credentials=credentials))

    def end(self) -> None:
        self.own.end()
        processes.end(self.place)
        shutil.rmtree(self.place)
