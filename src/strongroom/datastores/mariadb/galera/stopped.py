"""A stopped node: its position, the options of its start, the first state of a new cluster."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import connect, query, read_variables
from strongroom.datastores.innodb.paths import option_file
from strongroom.datastores.mariadb.galera import files
from strongroom.datastores.mariadb.galera.config import find_library, ring_buffer_mb
from strongroom.datastores.mariadb.server import facts, plugins, settings
from strongroom.datastores.protocol.clusters import UUID, GaleraPosition
from strongroom.datastores.protocol.profiles import read_restored_profile
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.datastores.toolkit.tools import Tool, read_tail
from strongroom.errors import Conflict, ServerFailed, StrongroomError
from strongroom.system.directories import make_directory
from strongroom.system.disks import require_space
from strongroom.system.users import find_user

PATIENCE = 300.0
"""Seconds that a private start may take, since it may have to recover first."""
TEMPORARY_MB = 16
"""Space for the files that a server creates at its start: 12 MB for temporary tables, and some for small files."""


def find_position(server: Server, data_dir: Path | None = None) -> GaleraPosition:
    """The position of a stopped server, or of another data directory, by ``--wsrep-recover`` with a separate log.

    ``grastate.dat`` knows it after a stop in good order only. Raises Conflict without data, ToolFailed.
    """
    data_dir = data_dir or server.data_dir
    if not (data_dir / "mysql").is_dir():
        raise Conflict(f"{data_dir} has no data")
    if files.is_receiving(data_dir):
        return files.NOWHERE  # the transfer was interrupted: the data is a mix of two states
    with _program(server, data_dir, ["--wsrep-recover"]) as tool:
        tool.check()
        found = re.findall(rf"Recovered position: ({UUID}):(-?\d+)", "\n".join(read_tail(tool.log, 400, size=1 << 20)))
    if not found:
        raise ServerFailed(f"{tool.name} --wsrep-recover found no position in {data_dir}", remedy="Check the data directory.")
    uuid, seqno = found[-1]
    return GaleraPosition(uuid=uuid, seqno=int(seqno))


def start_options(server: Server, *, bootstrap: bool, expected: str | None = None) -> list[str]:
    """Options for the next start only. The files of the data directory are prepared for it.

    Without its position a node that had crashed would begin or join a history of zeros. Raises Conflict when it cannot
    bootstrap with the data that it has.
    """
    data_dir = server.data_dir
    saved = files.read_saved(data_dir)
    if not bootstrap:
        if saved is None or saved.position.seqno >= 0 or not (data_dir / "mysql").is_dir():
            return []
        place = find_position(server, data_dir)
        return [f"--wsrep-start-position={place}"] if place.known else []
    place = find_position(server, data_dir)
    if not place.known:
        raise Conflict(
            f"the data of node {server.name or server.id} belongs to no cluster and cannot bootstrap one",
            remedy="Restore a backup.",
        )
    if expected is not None and str(place) != expected:
        raise Conflict(
            f"the data of node {server.name or server.id} is at {place}, not at {expected}",
            remedy="Find the positions of all nodes again.",
        )
    files.forget_view(data_dir)
    files.write_saved(data_dir, place, safe_to_bootstrap=True)
    return ["--wsrep-new-cluster", f"--wsrep-start-position={place}"]


def seed(server: Server, data_dir: Path, uuid: str) -> GaleraPosition:
    """Make a prepared directory the first state of a new cluster. Idempotent.

    The UUID in ``grastate.dat`` is not enough: InnoDB stores it too, and a node where the two differ crashes when it joins. So a
    private server bootstraps the cluster alone, and is stopped: the first transaction is the same on every node.
    Raises NoSpace if it would not have the space to serve, which is better known before the outage.
    """
    facts.check_data(server, data_dir)
    if find_position(server, data_dir).uuid != uuid:
        files.forget_cluster(data_dir)
        files.write_saved(data_dir, GaleraPosition(uuid=uuid, seqno=0), safe_to_bootstrap=True)
        restored = read_restored_profile(data_dir)
        _begin_and_end(server, data_dir, uuid, isolated=restored is not None and restored.isolated)
    place = find_position(server, data_dir)
    if place != GaleraPosition(uuid=uuid, seqno=1):
        raise ServerFailed(f"{data_dir} is at {place} after it was given the identity {uuid}", remedy="Restore again.")
    files.forget_cluster(data_dir)
    files.write_saved(data_dir, place, safe_to_bootstrap=False)
    require_space(data_dir, (ring_buffer_mb(server) + TEMPORARY_MB) << 20)  # the previous data remains
    return place


def _begin_and_end(server: Server, data_dir: Path, uuid: str, *, isolated: bool) -> None:
    options = [
        "--skip-log-bin",
        "--innodb-buffer-pool-size=64M",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
        "--wsrep-on=ON",
        f"--wsrep-provider={find_library(server.version)}",
        "--wsrep-cluster-address=gcomm://",
        "--wsrep-cluster-name=seed",
        "--wsrep-node-address=127.0.0.1",
        "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:0;gcache.size=1M",
        "--wsrep-new-cluster",
    ]
    with _program(server, data_dir, options) as tool:
        _wait_synced(server.model_copy(update={"socket": _private_socket(server)}), tool, uuid, isolated=isolated)
        tool.check()


def _wait_synced(server: Server, tool: Tool, uuid: str, *, isolated: bool) -> None:
    """Wait, then shut the server down. Raises ToolFailed if it ends before, ServerFailed."""
    deadline = time.monotonic() + PATIENCE
    while tool.running:
        try:
            with connect(server, timeout=5, patience=30) as connection:
                status = read_variables(connection, "STATUS", "wsrep_%")
                if status.get("wsrep_local_state_comment") == "Synced" and status.get("wsrep_cluster_state_uuid") == uuid:
                    if isolated:
                        _forget_addresses(connection)
                    query(connection, "SHUTDOWN")
                    return
        except StrongroomError as error:
            last = error.message
        else:
            last = f"it is {status.get('wsrep_local_state_comment')} in {status.get('wsrep_cluster_state_uuid')}"
        if time.monotonic() > deadline:
            raise ServerFailed(f"the restored data cannot bootstrap a cluster: {last}", remedy="Verify the backup.")
        time.sleep(0.05)


def _forget_addresses(connection: Connection[Cursor]) -> None:
    """Remove the allowed addresses: they are those of another cluster's nodes, so nodes of a copy could not join."""
    query(connection, "SET SESSION wsrep_on=0")
    with suppress(pymysql.MySQLError):  # since 10.10
        query(connection, "DELETE FROM mysql.wsrep_allowlist")


def needed_options(server: Server, data_dir: Path) -> list[str]:
    """Options that restored data needs. The option file is still that of the previous data."""
    if server.is_adopted:
        return []
    restored = read_restored_profile(data_dir)
    if restored is None:
        return []
    options = [f"--{name}={value}" for name, value in settings.select_demanded(restored.profile.settings).items()]
    options += [f"--plugin-load-add={library}" for library in plugins.list_libraries(server.version, restored.profile.plugins)]
    return [*options, "--default-time-zone=SYSTEM"]


def _private_socket(server: Server) -> Path:
    return socket_path(server.base_dir, "private.sock")


@contextmanager
def _program(server: Server, data_dir: Path, options: list[str]) -> Iterator[Tool]:
    """The server's program on a directory, as its OS user, its messages in a log of its own, seen by nobody.

    The server itself may run meanwhile, on another directory.
    """
    owner, socket = find_user(server.user).owner, _private_socket(server)
    make_directory(socket.parent, owner)
    file = option_file(server) if not server.is_adopted else server.defaults_file
    with tempfile.TemporaryDirectory(prefix="strongroom-") as place:
        tool = Tool(
            [
                server.version.programs["server"],
                f"--defaults-file={file}" if file else "--no-defaults",
                f"--datadir={data_dir}",
                f"--socket={socket}",
                f"--pid-file={socket.with_suffix('.pid')}",
                "--skip-networking",
                "--skip-log-error",
                *needed_options(server, data_dir),
                *options,
            ],
            Path(place) / "server.log",
            owner=owner,
        )
        try:
            yield tool
        finally:
            tool.abort(grace=0)
