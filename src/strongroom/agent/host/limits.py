"""Limits of the host that can prevent the start of a server. They are checked before data is replaced."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores import Datastore
from strongroom.errors import ConfigurationError

_SYSTEM = Path("/proc/sys/fs")
AIO_REMEDY = "Raise it: `sysctl fs.aio-max-nr=1048576`, and write it to a file in /etc/sysctl.d."


def free_aio_events() -> int | None:
    """Events of asynchronous I/O that programs of this host can still reserve; None if the kernel does not report them."""
    try:
        return int((_SYSTEM / "aio-max-nr").read_text()) - int((_SYSTEM / "aio-nr").read_text())
    except (OSError, ValueError):
        return None


def require_aio_events(datastore: Datastore) -> None:
    """Raise ConfigurationError if one more server of this kind could not be started."""
    free, needed = free_aio_events(), datastore.capabilities.aio_events
    if free is not None and free < needed:
        raise ConfigurationError(
            f"fs.aio-max-nr is exhausted: {free} events are left, but a server of {datastore.name} needs {needed}",
            remedy=AIO_REMEDY,
        )
