"""MariaDB as its owner set it up: an option file, directories and plugins of his own; we only adopted it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from strongroom.datastores import Version, get
from strongroom.errors import StrongroomError
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from support import mariadb
from support.identity import server_user

_PASSWORD = 'Owner\'s 1st "secret"'
PLUGINS = Path(__file__).parents[2] / ".tools/mariadb/plugin"
"""Plugins that Debian has in packages with the service around the server; scripts/setup takes them out of them."""


@cache
def have_plugins() -> bool:
    """scripts/setup could get them."""
    return (PLUGINS / "ha_archive.so").is_file()


def with_plugins(place: Path) -> Version:
    """This machine's MariaDB, below a prefix of its own with all plugins: where the server looks for them follows its prefix."""
    of = mariadb.version()
    prefix = place / "prefix"
    if not prefix.exists():
        (prefix / "lib/mysql").mkdir(parents=True)
        (prefix / "bin").mkdir()
        (prefix / "sbin").symlink_to("bin")
        (prefix / "lib/mysql/plugin").symlink_to(PLUGINS)
        (prefix / "share").symlink_to("/usr/share")
        for program in (*of.programs.values(), *(Path("/usr/bin") / name for name in ("my_print_defaults", "resolveip"))):
            with suppress(FileExistsError):
                (prefix / "bin" / program.name).symlink_to(program)
        for path in (prefix, *prefix.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
    programs = {role: prefix / "bin" / path.name for role, path in of.programs.items() if role not in ("galera", "transfer")}
    return of.model_copy(update={"programs": programs})


@dataclass
class OwnServer(mariadb.MariaDBServer):
    """``options`` are lines of its [mysqld] group, ``groups`` is text that follows it. ``{place}`` is its directory."""

    options: Sequence[str] = ()
    groups: str = ""
    arguments: Sequence[str] = field(default_factory=list)

    def write_options(self) -> None:
        """Its option file, and the account that it gave us."""
        place, owner = self.server.base_dir, find_user(self.server.user).owner
        lines = [line.replace("{place}", str(place)) for line in self.options]
        basedir = self.server.version.programs["server"].parent.parent
        own = [f"basedir={basedir}", f"datadir={self.data_dir}", f"socket={self.server.socket}", "skip-networking"]
        own += [f"pid-file={place}/pid", f"log-error={place}/error.log", f"tmpdir={place}/tmp", "innodb_log_file_size=16M"]
        own += ["innodb_buffer_pool_size=32M", "performance_schema=0"]
        text = "\n".join(["[mysqld]", *own, *lines, "", self.groups.replace("{place}", str(place))])
        assert self.server.defaults_file is not None and self.server.credentials_file is not None
        for path, content in (
            (self.server.defaults_file, text + "\n"),
            (self.server.credentials_file, f"[client]\nuser=keeper\npassword='{_PASSWORD}'\n"),
            (place / "first.sql", self._first()),
        ):
            path.write_text(content)
            path.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(path, *owner)

    def _first(self) -> str:
        password = _PASSWORD.replace("'", "''")
        user = f"CREATE OR REPLACE USER keeper@localhost IDENTIFIED BY '{password}'"
        return f"{user};\nGRANT ALL ON *.* TO keeper@localhost WITH GRANT OPTION;\n"

    def start(self, *, wait: float = 30, first: bool = False) -> None:
        self.write_options()
        driver = get(self.server.datastore)
        argv = [str(self.server.version.programs["server"]), f"--defaults-file={self.server.defaults_file}", *self.arguments]
        if first:
            argv.append(f"--init-file={self.server.base_dir / 'first.sql'}")
        uid, gid = find_user(self.server.user).owner
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **({"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
        )
        deadline = time.monotonic() + wait
        while True:
            try:
                driver.servers.read_facts(self.server)
                return
            except StrongroomError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    with suppress(OSError):
                        error.message += "\n" + (self.server.base_dir / "error.log").read_text()[-3000:]
                    raise
                time.sleep(0.05)


def make(
    place: Path,
    name: str = "own",
    *,
    options: Sequence[str] = (),
    groups: str = "",
    directories: Sequence[str] = (),
    fresh: bool = False,
    of: Version | None = None,
) -> OwnServer:
    """Not started. ``directories`` are made below its own; ``fresh`` initializes with its options, which cost a second."""
    user = server_user()
    if fresh:
        server = mariadb.describe(place, name, None, user=user, of=of)
        mariadb.prepare_directories(server)
    else:
        server = mariadb.make(place, None, name=name, of=of).server
    base = server.base_dir
    adopted = server.model_copy(
        update={
            "runtime": "adopted",
            "socket": base / "s",
            "defaults_file": base / "own.cnf",
            "credentials_file": base / "keeper.cnf",
        }
    )
    for directory in ("tmp", *directories):
        make_directory(base / directory, find_user(user).owner)
    own = OwnServer(adopted, options=options, groups=groups)
    if fresh:
        own.write_options()
        run_install(own)
    return own


def run_install(own: OwnServer) -> None:
    """The system tables, made with the owner's options."""
    command = [
        str(own.server.version.programs["initialize"]),
        f"--defaults-file={own.server.defaults_file}",
        "--auth-root-authentication-method=socket",
        f"--auth-root-socket-user={own.server.user}",
        "--skip-test-db",
        "--skip-name-resolve",
    ]
    uid, gid = find_user(own.server.user).owner
    become = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **become)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running(place: Path, name: str = "own", **options: object) -> Iterator[OwnServer]:
    """An owner's server that runs, killed at the end."""
    own = make(place, name, **options)  # type: ignore[arg-type]
    try:
        own.start(first=True)
        yield own
    finally:
        own.kill()
