"""Checks of a host before it is used: configuration, tools, store, permissions."""

from strongroom.agent.checks.checks import (
    UNUSED,
    Check,
    CheckRequest,
    check_host,
    check_server,
    check_service,
    is_set,
    run_checks,
)

__all__ = ["UNUSED", "Check", "CheckRequest", "check_host", "check_server", "check_service", "is_set", "run_checks"]
