"""Opens the configured authentication method."""

from __future__ import annotations

import structlog

from strongroom.identity._basic import BasicAuthentication
from strongroom.identity._none import NoAuthentication, check_none_allowed, is_loopback
from strongroom.identity._principal import Method
from strongroom.settings import Settings

log = structlog.get_logger()


def open_method(settings: Settings) -> Method:
    """The authentication method of the settings. Raises ConfigurationError."""
    identity = settings.identity
    match identity.method:
        case "basic":
            if not is_loopback(settings.service.host) and not settings.service.proxies:
                log.warning(
                    "passwords are sent over the network without encryption",
                    host=settings.service.host,
                    remedy="Listen on loopback, behind a proxy with TLS that is listed in service.proxies.",
                )
            return BasicAuthentication(settings.user_file, attempts=identity.attempts, window=identity.attempts_window)
        case "keystone":
            from strongroom.identity._keystone import KeystoneAuthentication  # slow to import, and rarely needed

            return KeystoneAuthentication(identity)
        case "none":
            check_none_allowed(settings.service.host)
            return NoAuthentication()
