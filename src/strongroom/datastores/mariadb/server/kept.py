"""Files of the owner in the data directory of an adopted server: certificates, keys, configuration, marks of upgrades."""

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
    """Copy them into the restored data, because backups lack them. A directory with a dot in its name is not a database."""
    if server.is_adopted and server.data_dir.is_dir():
        restored = {path.name for path in new.iterdir()}
        copy_entries(server.data_dir, new, lambda name, is_directory: name not in restored and _is_owners(name, is_directory))


def _is_owners(name: str, is_directory: bool) -> bool:
    return "." in name if is_directory else not _OF_THE_SERVER.fullmatch(name)
