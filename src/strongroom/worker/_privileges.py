"""Become the OS user of the database, for good."""

from __future__ import annotations

import os
import pwd

from strongroom.errors import ConfigurationError


def become(user: str, group: int | None) -> None:
    """Give up root for ``user``, with ``group`` (of the directory store) beside its own; files are private from here on.

    Raises ConfigurationError when there is no such user, or when we are neither root nor that user.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigurationError(f"there is no OS user {user}", remedy="Install the database's package.") from None
    if os.geteuid() == 0 and entry.pw_uid != 0:
        os.setgroups([] if group is None else [group])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if os.geteuid() != entry.pw_uid:
        raise ConfigurationError(
            f"a job of OS user {user} cannot run as {pwd.getpwuid(os.geteuid()).pw_name}",
            remedy=f"Start the service as root or as {user}.",
        )
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
    os.umask(0o077)
