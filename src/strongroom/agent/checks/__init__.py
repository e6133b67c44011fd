"""Checks of a host before it is needed: configuration, tools, store, permissions. Each result says what to do."""

from strongroom.agent.checks.check import Check, CheckRequest
from strongroom.agent.checks.host import UNUSED, is_set
from strongroom.agent.checks.run import check_host, check_service, run_checks
from strongroom.agent.checks.server import check_server

__all__ = ["UNUSED", "Check", "CheckRequest", "check_host", "check_server", "check_service", "is_set", "run_checks"]
