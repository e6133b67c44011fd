"""Who may do what: one line for each route, and for each action that needs more. What is not here is for administrators."""

from __future__ import annotations

from strongroom.errors import Forbidden
from strongroom.identity._principal import ADMIN, MEMBER, READER, Principal, Role

RULES: dict[str, Role] = {
    "GET /instances": READER,
    "POST /instances": MEMBER,
    "POST /instances host": ADMIN,
    "GET /instances/detail": READER,
    "GET /instances/{instance}": READER,
    "PUT /instances/{instance}": MEMBER,
    "PATCH /instances/{instance}": MEMBER,
    "DELETE /instances/{instance}": MEMBER,
    "POST /instances/{instance}/action": MEMBER,
    "POST /instances/{instance}/action reset_status": ADMIN,
    "GET /instances/{instance}/backups": READER,
    "GET /instances/{instance}/databases": READER,
    "POST /instances/{instance}/databases": MEMBER,
    "DELETE /instances/{instance}/databases/{name}": MEMBER,
    "GET /instances/{instance}/users": READER,
    "POST /instances/{instance}/users": MEMBER,
    "GET /instances/{instance}/users/{user}": READER,
    "DELETE /instances/{instance}/users/{user}": MEMBER,
    "GET /instances/{instance}/users/{user}/databases": READER,
    "PUT /instances/{instance}/users/{user}/databases": MEMBER,
    "DELETE /instances/{instance}/users/{user}/databases/{database}": MEMBER,
    "PUT /instances/{instance}/users": MEMBER,
    "PUT /instances/{instance}/users/{user}": MEMBER,
    "GET /instances/{instance}/root": READER,
    "POST /instances/{instance}/root": MEMBER,
    "DELETE /instances/{instance}/root": MEMBER,
    "GET /instances/{instance}/configuration": READER,
    "GET /instances/{instance}/log": READER,
    "POST /instances/{instance}/log": MEMBER,
    "GET /instances/{instance}/modules": READER,
    "GET /instances/{instance}/ssl": READER,
    "POST /instances/{instance}/ssl": MEMBER,
    "GET /clusters": READER,
    "POST /clusters": MEMBER,
    "GET /clusters/{thing}": READER,
    "DELETE /clusters/{thing}": MEMBER,
    "GET /configurations": READER,
    "POST /configurations": MEMBER,
    "GET /configurations/{thing}": READER,
    "DELETE /configurations/{thing}": MEMBER,
    "GET /modules": READER,
    "POST /modules": MEMBER,
    "GET /modules/{thing}": READER,
    "DELETE /modules/{thing}": MEMBER,
    "GET /backups": READER,
    "POST /backups": MEMBER,
    "GET /backups/{backup}": READER,
    "DELETE /backups/{backup}": MEMBER,
    "POST /backups/{backup}/action": MEMBER,
    "GET /backup_strategies": READER,
    "POST /backup_strategies": MEMBER,
    "DELETE /backup_strategies": MEMBER,
    "GET /flavors": READER,
    "GET /flavors/{flavor}": READER,
    "GET /datastores": READER,
    "GET /datastores/{datastore}": READER,
    "GET /datastores/{datastore}/versions": READER,
    "GET /datastores/{datastore}/versions/{version}": READER,
    "GET /datastores/{datastore}/versions/{version}/flavors": READER,
    "GET /datastores/versions/{version}": READER,
    "GET /limits": READER,
    "GET /mgmt/quotas/{owner}": READER,
    "PUT /mgmt/quotas/{owner}": ADMIN,
    "GET /mgmt/instances": ADMIN,
    "GET /mgmt/instances/{instance}": ADMIN,
    "POST /mgmt/instances/{instance}/action": ADMIN,
    "GET /jobs": READER,
    "GET /jobs/{job}": READER,
    "DELETE /jobs/{job}": MEMBER,
    "GET /hosts": ADMIN,
    "POST /hosts": ADMIN,
    "GET /hosts/{host}": ADMIN,
    "DELETE /hosts/{host}": ADMIN,
    "GET /checks": ADMIN,
    "POST /catalog/rebuild": ADMIN,
}
"""Method and path below the project (and the action, where it is not as the others) → the least role that may use it."""


def authorize(principal: Principal, route: str) -> None:
    """Raise Forbidden unless the caller has the role that the route (a key of ``RULES``) needs."""
    needed = RULES.get(route, ADMIN)
    if needed not in principal.roles:
        held = next((role for role in (MEMBER, READER) if role in principal.roles), "none that counts")
        raise Forbidden(f"this needs the role {needed}; the caller has {held}", remedy="Ask an administrator for it.")
