"""The section ``[agent]`` of the configuration."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from strongroom.sections.section import AGENT_PORT, HOST_PATTERN, Section


def _network(value: str) -> str:
    ipaddress.IPv4Network(value)
    return value


def _address(value: str) -> str:
    return str(ipaddress.ip_address(value))


class Agent(Section):
    """How jobs and database servers run on this host."""

    embedded: bool = Field(True, description="serve: whether the service runs an agent, so that this machine is a host, too.")
    name: str = Field(
        "local", pattern=HOST_PATTERN, description="Name of this host. A host that joined with a token has the name in the token."
    )
    address: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="agent: address to listen on. Default: the local address of connections to the service.",
    )
    port: int = Field(AGENT_PORT, ge=0, le=65535, description="agent: port to listen on. 0 selects a free one when it joins.")
    pool: Annotated[str, AfterValidator(_network)] = Field(
        "127.1.0.0/16", description="Network of addresses for instances. Each listens on its own address, at the standard port."
    )
    jobs: int = Field(2, ge=1, le=64, description="How many jobs run at the same time on this host.")
    cancel_grace: float = Field(20.0, gt=0, description="Seconds between SIGINT and SIGKILL when a job is cancelled.")
    start_timeout: float = Field(120.0, gt=0, description="Seconds that a database server may take to start.")
    stop_timeout: float = Field(300.0, gt=0, description="Seconds that a database server may take to stop.")
    stall_timeout: float = Field(
        1800.0,
        gt=0,
        description="Seconds without progress (output, disk reads and writes, processor time) after which a backup tool, a "
        "private server or a transfer between nodes is stopped. A job that uses a store waits at least as long as calls to the "
        "store are retried.",
    )
    restart_limit: int = Field(
        5, ge=0, description="How often a crashed server is restarted within ten minutes before giving up."
    )
    keep_jobs: int = Field(14, ge=1, description="Days for which the directories of finished jobs are kept.")
    wal_limit: int | None = Field(
        None,
        ge=64,
        description="MB of WAL that a PostgreSQL server keeps for the next incremental backup. Beyond this limit WAL is dropped, "
        "and the next backup must be a full one. Default: a tenth of the file system, at most half of its free space.",
    )
    servers_user: str | None = Field(
        None, description="OS user of database servers. Default: mysql or postgres if the agent runs as root, else its own user."
    )
