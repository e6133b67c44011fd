"""Files that the owner of an adopted server keeps in its data directory: certificates, keys, configuration, marks of upgrades."""

from __future__ import annotations

import re
from pathlib import Path

from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.keep import copy_entries

_OF_THE_SERVER = re.compile(
    r"ib_logfile\d+|ibdata.*|ibtmp.*|undo\d+|ib_buffer_pool|aria_log.*|.+\.\d{6,}(?:\.idx)?|.+\.index|.+\.state"
    r"|.+\.(?:pid|err|log|sock|lock|frm|ibd|isl|MY[DI]|MA[DI]|CS[VM]|AR[ZM]|TR[GN]|par|opt)|core.*"
    r"|.*master.*\.info|.*relay.*\.info|galera\.cache|grastate\.dat|gvwstate\.dat|rsync.*|sst_in_progress|wsrep_.*"
    r"|(?:xtrabackup|mariadb_backup|strongroom)_.*|backup-my\.cnf|donor_galera_info|#.*|ddl_recovery.*",
    re.IGNORECASE,
)


def keep_configuration(server: Server, new: Path) -> None:
    """Take them along into the restored data: a backup has none of them. A directory with a point in its name is no database."""
    if server.is_adopted and server.data_dir.is_dir():
        restored = {path.name for path in new.iterdir()}
        copy_entries(server.data_dir, new, lambda name, is_directory: name not in restored and _is_owners(name, is_directory))


def _is_owners(name: str, is_directory: bool) -> bool:
    return "." in name if is_directory else not _OF_THE_SERVER.fullmatch(name)
