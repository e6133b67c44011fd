"""On every database host: the job API, job directories, and the life of database servers."""

from strongroom.agent.app import Agent, create_agent
from strongroom.agent.checks import Check, run_checks
from strongroom.agent.client import AgentClient
from strongroom.agent.host.stores import store_gid

__all__ = ["Agent", "AgentClient", "Check", "create_agent", "run_checks", "store_gid"]
