"""OS users of the database servers of this host."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.datastores import Datastore
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings
from strongroom.system.users import User, current_user, find_user, find_user_by_id


def choose_server_user(settings: Settings, datastore: Datastore) -> User:
    """The user of new servers: the datastore's own if the agent runs as root, else the agent's. Raises ConfigurationError."""
    if os.geteuid() != 0:
        return current_user()
    return find_user(settings.agent.servers_user or datastore.default_user)


def choose_adopted_user(data_dir: Path, name: str | None) -> User:
    """The user of an adopted server: the named one, else the owner of its data.

    Raises ConfigurationError if the agent cannot act as that user.
    """
    try:
        user = find_user(name) if name else find_user_by_id(data_dir.stat().st_uid)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the data directory {data_dir}: {error.strerror}",
            remedy="Run the agent as root or as the server's user.",
        ) from error
    if os.geteuid() not in (0, user.uid):
        raise ConfigurationError(
            f"the data directory {data_dir} belongs to {user.name}, but this agent runs as {current_user().name}",
            remedy="Run the agent as root or as the server's user.",
        )
    return user
