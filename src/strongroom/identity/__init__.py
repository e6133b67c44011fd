"""Authentication (request → ``Principal(project, user, roles)``) and authorization (which role each route requires)."""

from strongroom.identity._basic import BasicAuthentication
from strongroom.identity._none import NoAuthentication
from strongroom.identity._open import open_method
from strongroom.identity._principal import Method, Principal, Role, asker
from strongroom.identity._rules import RULES, authorize
from strongroom.identity._users import NAME, User, UserFile, edit_users, hash_password

__all__ = [
    "NAME",
    "RULES",
    "BasicAuthentication",
    "Method",
    "NoAuthentication",
    "Principal",
    "Role",
    "User",
    "UserFile",
    "asker",
    "authorize",
    "edit_users",
    "hash_password",
    "open_method",
]
