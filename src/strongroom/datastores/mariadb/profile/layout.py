"""Where a server keeps its files: directories outside the data directory, and unknown entries in it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Notice
from strongroom.datastores.innodb.connection import query
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.names import name_some
from strongroom.datastores.toolkit.nets import Oddity, Walked, find_open_files, is_below, walk
from strongroom.errors import ConfigurationError

DIRECTORIES: Mapping[str, str] = {
    "innodb_data_home_dir": "the system tablespace",
    "innodb_undo_directory": "the undo logs",
    "innodb_log_group_home_dir": "the redo log",
    "aria_log_dir_path": "the Aria log",
}
"""Settings that name a directory with files of the data; their names are keys of ``Profile.outside``."""
LOGS: Mapping[str, str] = {"log_bin_basename": "log_bin", "relay_log_basename": "relay_log"}
"""Settings with the beginning of a log's path, and its key in ``Profile.outside``."""
_PLACES = (
    *DIRECTORIES,
    *LOGS,
    "tmpdir",
    "slave_load_tmpdir",
    "innodb_tmpdir",
    "ignore_db_dirs",
    "general_log_file",
    "innodb_temp_data_file_path",
)
# fmt: off
_OF_TABLES = frozenset((
    "ibd", "isl", "frm", "MYD", "MYI", "MAD", "MAI", "MRG", "TRG", "TRN", "ARM", "ARZ", "CSM", "CSV", "opt", "par",
))
# fmt: on
"""Files that mariadb-backup copies from the directory of a database."""
_PASSING = frozenset(["cfg", "cfp", "TMD", "TMM", "BAK", "OLD", "ARN", "CSN"])
"""Temporary or unused files beside a table: an export, a repair, a copy of an index."""
_NEW = re.compile(r"\.new$")
"""The tool streams a tablespace under this name if its creation is still in the redo log; a prepare renames it."""
_CORE = re.compile(
    r"ibdata\d+|undo\d+|ib_logfile\d+|ib_\w+\.log|ibtmp\d+|ib_buffer_pool|aria_log\.\d{8}|aria_log_control|"
    r"#innodb.*|#ib_.*|ddl_recovery\S*\.log|ddl\.log|tc\.log|multi-master\.info|(master|relay-log)(-\S+)?\.info|"
    r"xtrabackup_\w+|mariadb_backup_\w+|strongroom_[\w.]+|"
    r"grastate\.dat|gvwstate\.dat|galera\.cache|sst_in_progress|\S+\.pid|"
    r"mysql_upgrade_info|mariadb_upgrade_info|debian-\S*\.flag|(\S+\.)?(err|log)(\.\d+)?|\S+\.(ibb|state)|\..*"
)
"""Files at the top of a data directory that are in the backup, are created again, or belong to this server only."""
_LOG_FILE = re.compile(r"\S+\.(\d{6,}|index|state)")
_DATA_FILE = re.compile(r"ibdata\d+|undo\d+|ib_logfile\d+|aria_log\S*")
_LINKED = frozenset(("MYD", "MYI", "MAD", "MAI"))
_OPEN_LOG = re.compile(r".*\.(log|err|out|pid|txt)(\.\d+)?")
_SYSTEM_PLACES = ("/usr", "/proc", "/sys", "/dev", "/etc", "/var/log")


@dataclass(slots=True)
class Layout:
    """Directories, files and notices about the files of a server."""

    outside: dict[str, str] = field(default_factory=dict)
    left_behind: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def read_places(connection: Connection[Cursor]) -> dict[str, str]:
    """Paths and directories in the server's settings, without empty ones."""
    names = ", ".join(f"'{name}'" for name in _PLACES)
    rows = query(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    return {str(name): str(value) for name, value in rows if value}


def find_outside(data_dir: Path, places: Mapping[str, str]) -> dict[str, str]:
    """Directories outside the data directory, by the setting that names them."""
    inside, found = os.path.realpath(data_dir), {}
    for name in DIRECTORIES:
        if places.get(name):
            path = os.path.realpath(data_dir / places[name])
            if not is_below(path, inside):
                found[name] = path
    for name, key in LOGS.items():
        if places.get(name):
            path = os.path.realpath((data_dir / places[name]).parent)
            if not is_below(path, inside):
                found[key] = path
    return found


def read_layout(connection: Connection[Cursor], data_dir: Path, pid: int | None, remote: Sequence[str]) -> Layout:
    """Read the settings, the open files and the data directory of the server. ``remote`` are files of tables outside it."""
    places = read_places(connection)
    layout = Layout(outside=find_outside(data_dir, places))
    walked = walk(data_dir, skip=["lost+found"])
    layout.notices.extend(_judge_open_files(data_dir, pid, layout.outside, places, remote, walked))
    layout.notices.extend(_judge_oddities(walked))
    databases = _databases(walked, places, data_dir)
    unknown = list(find_unknown_files(walked, databases))
    for path in walked.files:
        top, _, rest = path.partition("/")
        if not rest:
            if not _CORE.fullmatch(top) and not _is_log(top, places):
                layout.left_behind.append(path)
        elif top not in databases and not top.startswith("#") and not _is_place(data_dir / top, places, data_dir):
            layout.left_behind.append(path)
    layout.left_behind.sort()
    if unknown:
        layout.notices.append(
            Notice(
                item="unknown files of a database",
                effect="refuse",
                message=f"the backup tool leaves out files in directories of databases: {name_some(unknown)}",
                remedy="Move them out of the data directory, unless an unknown engine needs them.",
            )
        )
    if layout.left_behind:
        layout.notices.append(
            Notice(
                item="files beside the data",
                effect="warn",
                message=f"files of the data directory are not in the backup: {name_some(layout.left_behind)}",
                remedy="Keep copies of files that the server needs, such as certificates and keys.",
            )
        )
    return layout


def find_unknown_files(walked: Walked, databases: Collection[str]) -> Iterator[str]:
    """Files in directories of databases that the backup tool does not know."""
    for path in walked.files:
        top, _, rest = path.partition("/")
        ending = rest.rpartition(".")[2]
        beside = "/" not in rest and (ending in _OF_TABLES or ending in _PASSING or _is_of_strongroom(rest))
        known = beside or _is_passing(rest)
        if rest and top in databases and not known:
            yield path


def _is_passing(name: str) -> bool:
    """Whether the file is temporary: while a trigger or a view is created, a table is altered, or NFS drops an open file. Also
    true for old versions of views, which servers before 5.5 kept.
    """
    return name.endswith(("~", "-")) or name.startswith(("#sql", ".nfs", "arc/"))


def _is_of_strongroom(name: str) -> bool:
    return name.startswith(("strongroom_", ".strongroom_")) or name in ("db.opt", ".empty")


def _is_log(name: str, places: Mapping[str, str]) -> bool:
    """Whether it is a file of the binary log or the relay log, which a restore does not need."""
    bases = {Path(places.get(setting, "")).name for setting in LOGS} | {"binlog", "mysql-bin", "mariadb-bin"}
    return bool(_LOG_FILE.fullmatch(name)) and name.rpartition(".")[0] in bases


def _is_place(directory: Path, places: Mapping[str, str], data_dir: Path) -> bool:
    """Whether the server keeps logs or temporary files there."""
    for name in _PLACES:
        value = places.get(name)
        if value and name != "ignore_db_dirs":
            path = os.path.realpath(data_dir / value)
            if is_below(path if name not in LOGS else Path(path).parent, os.path.realpath(directory)):
                return True
    return False


def _databases(walked: Walked, places: Mapping[str, str], data_dir: Path) -> set[str]:
    """Directories at the top that hold tables."""
    ignored = set(places.get("ignore_db_dirs", "").split(","))
    tables = {path.partition("/")[0] for path in walked.files if path.endswith((".frm", "/db.opt", ".ibd"))}
    return {
        top
        for top in tables
        if top not in ignored and not top.startswith("#") and not _is_place(data_dir / top, places, data_dir)
    }


def _judge_open_files(
    data_dir: Path, pid: int | None, outside: Mapping[str, str], places: Mapping[str, str], remote: Sequence[str], walked: Walked
) -> Iterator[Notice]:
    found = find_open_files([pid], data_dir) if pid is not None else None
    if found is None:
        yield Notice(
            item="open files outside the data directory",
            effect="warn",
            message="the open files of the server cannot be read, so files outside the data directory are unknown",
            remedy="Run the service as root, or start the server as its own OS user.",
        )
        return
    known = [*outside.values(), *_SYSTEM_PLACES]
    known += [
        os.path.realpath(part)
        for name in ("tmpdir", "slave_load_tmpdir", "innodb_tmpdir")
        for part in places.get(name, "").split(":")
        if part
    ]
    temporary = {
        os.path.realpath(data_dir / places.get("innodb_data_home_dir", "") / part.partition(":")[0])
        for part in places.get("innodb_temp_data_file_path", "").split(";")
        if part
    }
    targets = {os.path.realpath(data_dir / odd.path) for odd in walked.oddities if odd.kind in ("link", "mount point")}
    strange = [
        str(file.path)
        for file in found
        if file.writes
        and file.reads
        and not file.path.name.startswith("#sql")
        and not any(is_below(file.path, place) for place in known)
        and not any(is_below(file.path, target) for target in targets)
        and str(file.path) not in temporary
        and str(file.path) not in remote
        and not _OPEN_LOG.fullmatch(file.path.name)
    ]
    if strange:
        yield Notice(
            item="open files outside the data directory",
            effect="refuse",
            message=f"the server has files open outside its data directory that the backup would not hold: {name_some(strange)}",
            remedy="Move them into the data directory, or report which engine or plugin they belong to.",
        )


def _judge_oddities(walked: Walked) -> Iterator[Notice]:
    refused, moved, unreadable = [], [], []
    for odd in walked.oddities:
        top, _, rest = odd.path.partition("/")
        if odd.path == "." or odd.kind == "foreign owner":
            continue
        if odd.kind == "unreadable":
            if rest or _DATA_FILE.fullmatch(top) or odd.path in walked.directories:
                unreadable.append(odd.path)
        elif _is_followed(odd):
            moved.append(odd.path)
        elif rest or _DATA_FILE.fullmatch(top):
            refused.append(f"{odd.path} ({odd.kind})")
    if refused:
        yield Notice(
            item="links and mount points",
            effect="refuse",
            message=f"the data directory holds entries that cannot be backed up: {name_some(refused)}",
            remedy="Replace them by the files themselves while the server is stopped.",
        )
    if unreadable:
        yield Notice(
            item="links and mount points",
            effect="refuse",
            message=f"the OS user of the server cannot read: {name_some(unreadable)}",
            remedy="Make the OS user of the server their owner.",
        )
    if moved:
        yield Notice(
            item="MyISAM and Aria DATA/INDEX DIRECTORY",
            effect="warn",
            message=f"files behind links or mount points are restored as plain files in the data directory: {name_some(moved)}",
        )


def _is_followed(odd: Oddity) -> bool:
    """Whether the backup tool follows this link or mount point, so that it is restored as plain files."""
    if odd.kind == "mount point":
        return "/" not in odd.path
    return odd.kind == "link" and (
        ("/" not in odd.path and not _DATA_FILE.fullmatch(odd.path)) or odd.path.rpartition(".")[2] in _LINKED
    )


def read_directory_tables(connection: Connection[Cursor]) -> list[tuple[str, str]]:
    """Name and path of InnoDB tables and partitions outside the data directory."""
    sql = "SELECT name, filename FROM information_schema.innodb_sys_tablespaces WHERE filename NOT LIKE './%' AND name LIKE '%/%'"
    return [(str(name), str(path)) for name, path in query(connection, sql)]


def walk_of(data_dir: Path) -> dict[str, tuple[int, int]]:
    """Files of tables in the directories of databases that must be in a full backup, with their inodes.

    Files in subdirectories are not files of tables. The tool ignores empty tablespaces, which are remains of dropped tables.
    """
    with suppress(OSError):
        walked = walk(data_dir, skip=["lost+found", "#*"])
        return {
            path: walked.inodes[path]
            for path, size in walked.files.items()
            if path.count("/") == 1
            and path.rpartition(".")[2] in _OF_TABLES
            and "#sql" not in path
            and (size or not path.endswith(".ibd"))
        }
    return {}


def find_left_out(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]], paths: Collection[str]
) -> list[str]:
    """Files of tables that existed all the time, and that a stream with these paths does not contain.

    A table that was dropped or renamed while the tool ran may exist again when it has ended: statements that waited for the end
    of the backup create it immediately. Its definition, a file that is only written at its creation, is another one then.
    """
    held = {_NEW.sub(".ibd", path.removesuffix(".delta")) for path in paths}
    gone = {_find_table(path) for path in paths if path.endswith((".del", ".ren"))}

    def stayed(path: str) -> bool:
        definition = f"{_find_table(path)}.frm"
        if definition in before or definition in after:
            return path in after and before.get(definition) == after.get(definition)
        if path.endswith(".ibd"):  # of an index for full text: it is written all the time
            return path in after and before[path][0] == after[path][0]
        return before[path] == after.get(path)

    return sorted(path for path in before if path not in held and _find_table(path) not in gone and stayed(path))


def _find_table(path: str) -> str:
    """Database and table of a file, which may belong to a partition."""
    return path.rpartition(".")[0].partition("#P#")[0]


def explain_denied(server: Server, error: PermissionError) -> ConfigurationError:
    """The error for a data directory that cannot be read."""
    return ConfigurationError(
        f"the data directory {server.data_dir} cannot be read by the OS user {server.user}: {error.filename}",
        remedy="Run the job as the OS user of the server, or give that user the right to read.",
    )
