"""Who is asking: request → ``Principal(project, user, roles)``."""

from strongroom.identity._none import NoAuthentication, check_none_allowed
from strongroom.identity._principal import Method, Principal

__all__ = ["Method", "NoAuthentication", "Principal", "check_none_allowed"]
