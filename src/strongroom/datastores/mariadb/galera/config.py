"""Options of a node of a Galera cluster, and the programs that it needs in addition to those of the server."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.protocol.clusters import REMEDY, list_missing
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import ConfigurationError

GROUP_PORT, IST_PORT, SST_PORT = 4567, 4568, 4444
Options = dict[str, str | int | Path | None]


def find_library(version: Version) -> Path:
    """The Galera library of the host. Raises ConfigurationError if it, or another program that nodes need, is missing."""
    if missing := list_missing(version.programs):
        raise ConfigurationError(f"MariaDB {version.number} on this host lacks {' and '.join(missing)}", remedy=REMEDY)
    return version.programs["galera"]


def server_options(server: Server) -> Options:
    """Options for the group ``mysqld``: standard ports on the node's own address."""
    member, address = server.galera, server.address
    assert member is not None
    if address is None:
        raise ConfigurationError(f"node {member.node} has no address", remedy="Nodes of a cluster communicate over TCP.")
    return {
        "log_slave_updates": "ON",
        "innodb_autoinc_lock_mode": 2,
        "wsrep_on": "ON",
        "wsrep_provider": find_library(server.version),
        "wsrep_cluster_name": member.group,
        "wsrep_cluster_address": f"gcomm://{','.join(member.peers)}",
        "wsrep_node_name": member.node,
        "wsrep_node_address": address,
        "wsrep_node_incoming_address": address,
        "wsrep_provider_options": (
            f"gmcast.listen_addr=tcp://{address}:{GROUP_PORT};ist.recv_addr={address}:{IST_PORT};"
            f"ist.recv_bind={address}:{IST_PORT};gcache.size={ring_buffer_mb(server)}M;"
            # Hosts return one after the other: each node waits for the others without a limit.
            "pc.recovery=true;pc.wait_prim_timeout=PT1H"
        ),
        "wsrep_sst_method": member.transfer,
        "wsrep_sst_receive_address": f"{address}:{SST_PORT}",
        # As its OS user over its own socket: no password can leak, or be wrong after a restore.
        "wsrep_sst_auth": f"{server.user}:",
    }


def ring_buffer_mb(server: Server) -> int:
    """Size of the file with the last transactions, for nodes that return. It is created at the start."""
    return max(32, server.ram_mb // 4)


def transfer_options(server: Server) -> Options:
    """Options for the group ``sst``: listen on the node's own address only."""
    return {"sockopt": f",bind={server.address}"}


def account_sql(user: str) -> str:
    """Statements that create the account for state transfers, which logs in as its OS user over the socket."""
    account = f"`{user}`@`localhost`"
    return (
        f"CREATE USER IF NOT EXISTS {account};\n"
        f"ALTER USER {account} IDENTIFIED VIA unix_socket ACCOUNT UNLOCK;\n"
        f"GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICA MONITOR ON *.* TO {account};\n"
    )
