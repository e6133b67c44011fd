"""Options of a node of a Galera cluster, and the programs that it needs beside the server's own."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.protocol.clusters import REMEDY, lacking
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import ConfigurationError

GROUP_PORT, IST_PORT, SST_PORT = 4567, 4568, 4444
Options = dict[str, str | int | Path | None]


def library(version: Version) -> Path:
    """The Galera library of the host. Raises ConfigurationError when that, or another thing that nodes need, is not there."""
    if missing := lacking(version.programs):
        raise ConfigurationError(f"MariaDB {version.number} lacks on this host {' and '.join(missing)}", remedy=REMEDY)
    return version.programs["galera"]


def server_options(server: Server) -> Options:
    """For the group ``mysqld``: every port on the node's own address, the standard ones."""
    member, address = server.galera, server.address
    assert member is not None
    if address is None:
        raise ConfigurationError(f"node {member.node} has no address", remedy="Nodes of a cluster talk to each other by TCP.")
    return {
        "log_slave_updates": "ON",
        "innodb_autoinc_lock_mode": 2,
        "wsrep_on": "ON",
        "wsrep_provider": library(server.version),
        "wsrep_cluster_name": member.group,
        "wsrep_cluster_address": f"gcomm://{','.join(member.peers)}",
        "wsrep_node_name": member.node,
        "wsrep_node_address": address,
        "wsrep_node_incoming_address": address,
        "wsrep_provider_options": (
            f"gmcast.listen_addr=tcp://{address}:{GROUP_PORT};ist.recv_addr={address}:{IST_PORT};"
            f"ist.recv_bind={address}:{IST_PORT};gcache.size={ring_buffer_mb(server)}M;"
            # Hosts come up again one after the other: each node waits for the others, and does not give up.
            "pc.recovery=true;pc.wait_prim_timeout=PT1H"
        ),
        "wsrep_sst_method": member.transfer,
        "wsrep_sst_receive_address": f"{address}:{SST_PORT}",
        # By its OS user over its own socket: there is no password that could leak, or be the wrong one after a restore.
        "wsrep_sst_auth": f"{server.user}:",
    }


def ring_buffer_mb(server: Server) -> int:
    """Size of the file with the last transactions, for nodes that were away. It is made at the start."""
    return max(32, server.ram_mb // 4)


def transfer_options(server: Server) -> Options:
    """For the group ``sst``: listen on the node's own address only."""
    return {"sockopt": f",bind={server.address}"}


def account_sql(user: str) -> str:
    """The account for transfers of state, which is the OS user's own: MariaDB knows it by the socket, under no other name."""
    account = f"`{user}`@`localhost`"
    return (
        f"CREATE USER IF NOT EXISTS {account};\n"
        f"ALTER USER {account} IDENTIFIED VIA unix_socket ACCOUNT UNLOCK;\n"
        f"GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICA MONITOR ON *.* TO {account};\n"
    )
