"""Files of the owner, not data, in the data directory of an adopted server: they are kept when the data is replaced."""

from __future__ import annotations

import re
from pathlib import Path

from strongroom.datastores.postgresql.restore import first_start
from strongroom.datastores.toolkit.keep import copy_entries
from strongroom.errors import ConfigurationError

_OF_THE_SERVER = re.compile(
    r"base|global|pg_(?!hba\.conf$|ident\.conf$).*|PG_VERSION|postmaster\.(pid|opts)|backup_(label|manifest).*|tablespace_map.*"
    r"|(standby|recovery)\.signal|current_logfiles.*|logfile|log|lost\+found|strongroom.*|\.strongroom.*|core.*|.*\.tmp"
    rf"|{re.escape(first_start.SETTINGS)}"
)


def keep(old: Path, new: Path) -> None:
    """Copy the owner's files from the previous data directory, if there is one, to the new one. Raises ConfigurationError."""
    if not old.is_dir():
        return
    try:
        copy_entries(old, new, lambda name, _: not _OF_THE_SERVER.fullmatch(name))
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} of the previous data directory cannot be kept: {error.strerror}",
            remedy="Make it readable, or move it out of the data directory.",
        ) from error
