"""A private server on restored data: without network, replication, events and binary log."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.innodb.connection import connect
from strongroom.datastores.innodb.options import format_options
from strongroom.datastores.innodb.paths import ACCOUNT
from strongroom.datastores.mariadb.server import config, plugins, settings
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.tools import Tool, read_tail
from strongroom.errors import NoSpace, ServerFailed, StrongroomError, ToolStopped
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

START = 3600.0
"""Seconds that the start may take, since the server may have to roll back."""
_END = 2.0
"""Seconds until a server that has lost the connection has ended."""
_LOOK = 0.05
_OPTIONS = "private.cnf"
Options = dict[str, str | int | Path | None]


@contextmanager
def private_server(version: Version, data_dir: Path, work_dir: Path, profile: Profile) -> Iterator[Server]:
    """It runs inside the context with the settings of the profile, and is killed at the end: the data cannot be used then.

    Raises ServerFailed, with the end of its log, when it does not start or dies.
    """
    with tempfile.TemporaryDirectory(prefix="strongroom-") as place:
        options: Options = {"innodb_buffer_pool_size": "128M", "innodb_flush_log_at_trx_commit": 0}
        server = configure(version, data_dir, Path(place), work_dir, profile, options, purpose="rehearsal")
        tool = start(server, work_dir / "rehearsal.log")
        try:
            wait(server, tool)
            yield server
        except ServerFailed as error:
            if tool.ends(_END):
                raise explain_end(tool) from error
            raise
        finally:
            tool.abort(grace=0)


def configure(
    version: Version,
    data_dir: Path,
    base: Path,
    work_dir: Path,
    profile: Profile,
    options: Options,
    *,
    purpose: str,
    account: str = ACCOUNT,
    libraries: Sequence[str] = (),
) -> Server:
    """Write the files of a private server into ``base``, whose path is short. ``options`` have precedence over the profile's."""
    owner = find_owner(data_dir)
    server = Server(
        id=purpose,
        name=f"the private server of the {purpose}",
        datastore="mariadb",
        user="",
        base_dir=base,
        data_dir=data_dir,
        socket=base / "s",
        version=version,
    )
    password = secrets.token_hex(24)
    write_file(base / "client.cnf", format_options("client", {"user": account, "password": password}), owner)
    write_file(base / "init.sql", config.own_account_sql(password, name=account), owner)
    found: Options = {
        "basedir": version.programs["server"].parent.parent,
        "datadir": data_dir,
        "socket": server.socket,
        "pid-file": base / "pid",
        "tmpdir": work_dir,
        "init-file": base / "init.sql",
        "skip-networking": None,
        "skip-log-bin": None,
        "skip-slave-start": None,
        "skip-name-resolve": None,
        "performance_schema": 0,
        "innodb_buffer_pool_load_at_startup": 0,
        **settings.select_carried(profile, isolated=True, galera=False),
        **options,
    }
    text = format_options("mysqld", found)
    text += config.plugin_lines([*plugins.list_libraries(version, profile.plugins), *libraries])
    write_file(base / _OPTIONS, text, owner)
    return server


def start(server: Server, log: Path) -> Tool:
    """Start the server that ``configure`` has described."""
    return Tool([server.version.programs["server"], f"--defaults-file={server.base_dir / _OPTIONS}"], log, local_time=True)


def wait(server: Server, tool: Tool) -> None:
    """Until it serves. Raises ServerFailed."""
    deadline = time.monotonic() + START
    while True:
        try:
            with connect(server, timeout=5, patience=30):
                return
        except ServerFailed:
            if not tool.running or time.monotonic() > deadline:
                raise
        time.sleep(_LOOK)


def explain_end(tool: Tool) -> StrongroomError:
    """The error for a private server that ended. If it was killed or the disk was full, that says nothing about the data."""
    try:
        tool.check()
    except NoSpace as full:
        return full
    except ToolStopped as stopped:
        return ToolStopped(
            f"a private server was killed, so that nothing is known about the restored data: {stopped.message}",
            remedy="Look for out-of-memory kills in the kernel log, then verify again.",
        )
    except StrongroomError:
        pass
    lines = "\n".join(read_tail(tool.log, 12))
    return ServerFailed(
        f"a private server cannot run on the restored data; the end of its log:\n{lines}",
        remedy="A restored server would not start either: see the log, and take another backup.",
    )
