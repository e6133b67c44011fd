"""The method that the configuration asks for."""

from __future__ import annotations

from strongroom.identity._basic import BasicAuthentication
from strongroom.identity._keystone import KeystoneAuthentication
from strongroom.identity._none import NoAuthentication, check_none_allowed
from strongroom.identity._principal import Method
from strongroom.settings import Settings


def open_method(settings: Settings) -> Method:
    """How callers are to be told apart. Raises ConfigurationError."""
    identity = settings.identity
    match identity.method:
        case "basic":
            return BasicAuthentication(settings.user_file, attempts=identity.attempts, window=identity.attempts_window)
        case "keystone":
            return KeystoneAuthentication(identity)
        case "none":
            check_none_allowed(settings.service.host)
            return NoAuthentication()
