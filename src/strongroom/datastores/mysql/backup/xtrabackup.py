"""Percona XtraBackup, if it is installed for the server's series: the differences to mariadb-backup.

By its documentation for 8.0 and 8.4. It was not run against the real program: Debian has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb import witness
from strongroom.datastores.innodb.backup import Session, require_history, require_parent_lsn
from strongroom.datastores.innodb.chain import ChainRestore
from strongroom.datastores.innodb.checkpoints import PREPARED
from strongroom.datastores.innodb.connection import connect, query, read_variables
from strongroom.datastores.innodb.options import format_options
from strongroom.datastores.innodb.prepare import FILE, keep_allowed, read_backup_options
from strongroom.datastores.innodb.versions import extract_number, extract_series, make_sort_key
from strongroom.datastores.mysql.backup.full import require_own_data
from strongroom.datastores.mysql.binlog.identity import find_identity
from strongroom.datastores.mysql.profile.settings import DEMANDED
from strongroom.datastores.mysql.server.versions import XTRABACKUP, read_version
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import VersionMismatch
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

FINISHED = "full-prepared"
"""State of data on which a server may start. Data in the state ``log-applied`` is only for further incrementals."""


class _Session(Session):
    option_group = "xtrabackup"

    def _command(self, option_file: Path) -> list[str]:
        return [
            str(self._server.version.programs[XTRABACKUP]),
            f"--defaults-file={option_file}",
            "--backup",
            "--stream=xbstream",
            f"--parallel={self._request.parallel}",
            f"--target-dir={self._request.work_dir}",
            f"--extra-lsndir={self._meta}",
        ]

    def _find_identity(self, connection: Connection[Cursor]) -> str:
        return find_identity(connection)


def is_installed(version: Version) -> bool:
    """Whether XtraBackup is installed for this MySQL."""
    return XTRABACKUP in version.programs


def begin(server: Server, request: BackupRequest) -> Session:
    """Check that it supports the server and that the server uses the data directory that will be read, then start."""
    require_parent_lsn(request)
    with connect(server) as connection:
        ((version, data_dir, uuid),) = query(connection, "SELECT @@version, @@datadir, @@server_uuid")
        lsn = read_variables(connection, "STATUS", "innodb_redo_log_current_lsn").get("innodb_redo_log_current_lsn")
        if lsn is not None:  # since 8.0.30
            require_history(server, request, int(lsn))
        witness.require_witness(connection, server, request)
    tool = _require_tool(server.version, version)
    require_own_data(server, Path(data_dir), uuid)
    return _Session(server, request, server_version=extract_number(version), tool_version=tool)


class _Restore(ChainRestore):
    def _last(self, number: int) -> bool:
        return number + 1 == len(self._chain)

    def _command(self, number: int) -> list[str]:
        program = str(self._version.programs[XTRABACKUP])
        argv = [program, f"--defaults-file={self._target / FILE}", "--prepare"]
        return argv if self._last(number) else [*argv, "--apply-log-only"]

    def _state_after(self, number: int) -> str:
        return FINISHED if self._last(number) else PREPARED

    def _require_tool(self, server_version: str) -> None:
        _require_tool(self._version, server_version)

    def _rewrite_options(self, directory: Path, number: int) -> dict[str, str]:
        found = read_backup_options(directory)
        if found is None:
            return {}
        kept = keep_allowed(found, DEMANDED)
        write_file(directory / FILE, format_options("mysqld", kept), find_owner(directory))
        return {name: str(kept[name]) for name in DEMANDED if name in kept}


def restore(version: Version, chain: Sequence[ChainLink], target: Path, work_dir: Path, phase: Phase) -> Restored:
    """See ``Restores.restore``. An apply that died cannot be repeated, so until the end ``target`` is marked as unusable."""
    _require_tool(version, max((link.server_version for link in chain), key=make_sort_key))
    return _Restore(version, chain, target, work_dir, phase).restore()


def _require_tool(version: Version, server_version: str) -> str:
    """Version of the program. Raises VersionMismatch unless there is one that supports a server of ``server_version``."""
    wanted = extract_number(server_version)
    tool = read_version(version.programs[XTRABACKUP]) if is_installed(version) else None
    if tool is None or extract_series(tool) != extract_series(wanted) or make_sort_key(tool) < make_sort_key(wanted):
        raise VersionMismatch(
            f"the backup was taken by XtraBackup of MySQL {wanted}, and this host has {f'XtraBackup {tool}' if tool else 'none'} "
            f"for MySQL {version.number}",
            remedy=f"Install Percona XtraBackup {extract_series(wanted)}, version {wanted} or a later one of that series.",
        )
    return tool
