"""The method that the configuration asks for."""

from __future__ import annotations

import structlog

from strongroom.identity._basic import BasicAuthentication
from strongroom.identity._none import NoAuthentication, check_none_allowed, is_loopback
from strongroom.identity._principal import Method
from strongroom.settings import Settings

log = structlog.get_logger()


def open_method(settings: Settings) -> Method:
    """How callers are to be told apart. Raises ConfigurationError."""
    identity = settings.identity
    match identity.method:
        case "basic":
            if not is_loopback(settings.service.host) and not settings.service.proxies:
                log.warning(
                    "passwords cross the network as they are",
                    host=settings.service.host,
                    remedy="Listen on loopback, behind a proxy with TLS that service.proxies names.",
                )
            return BasicAuthentication(settings.user_file, attempts=identity.attempts, window=identity.attempts_window)
        case "keystone":
            from strongroom.identity._keystone import KeystoneAuthentication  # slow to load, and most have no need of it

            return KeystoneAuthentication(identity)
        case "none":
            check_none_allowed(settings.service.host)
            return NoAuthentication()
