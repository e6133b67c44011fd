"""Switches the worker to the OS user of the database, permanently."""

from __future__ import annotations

import os
import pwd

from strongroom.errors import ConfigurationError


def become_user(user: str, group: int | None) -> None:
    """Drop root's privileges and become ``user``, in its own group and ``group`` (of the directory store). New files are private.

    Raises ConfigurationError if the user does not exist, or if the process runs as neither root nor that user.
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
            f"the job must run as OS user {user}, but this process runs as {pwd.getpwuid(os.geteuid()).pw_name}",
            remedy=f"Start the service as root or as {user}.",
        )
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
    os.umask(0o077)
