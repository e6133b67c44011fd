"""Reads the profile of a running server. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Notice, Profile
from strongroom.datastores.innodb.checkpoints import TOOL_FILES
from strongroom.datastores.innodb.connection import (
    connect,
    describe_server,
    find_account,
    find_server_pid,
    query,
    read_variables,
    split_error,
)
from strongroom.datastores.mariadb.profile.accounts import judge_accounts, read_accounts
from strongroom.datastores.mariadb.profile.layout import explain_denied, read_directory_tables, read_layout, walk_of
from strongroom.datastores.mariadb.profile.running import read_plugins, read_settings
from strongroom.datastores.mariadb.profile.tables import BUILT_IN, SYSTEM, Tables, read_tables
from strongroom.datastores.mariadb.server.plugins import KNOWN, OWN_FILES, REACHING_OUT, Kind
from strongroom.datastores.mariadb.server.settings import refused_values
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.names import name_some
from strongroom.datastores.toolkit.nets import is_below
from strongroom.errors import ConfigurationError

T = TypeVar("T")
_DENIED = {1044, 1142, 1143, 1227, 1370}
_UNKNOWN_TABLE = {1109, 1146, 1193}


class Survey:
    """Reads the profile of a server over one connection."""

    def __init__(self, server: Server, connection: Connection[Cursor]) -> None:
        self._server = server
        self._connection = connection
        self._notices: list[Notice] = []
        self._absent: list[str] = []
        self._facts: dict[str, str | int | bool | list[str] | None] = {}
        self._denied: list[str] = []

    def read(self) -> Profile:
        """See ``Profiles.read``."""
        connection = self._connection
        settings, others = read_settings(connection)
        plugins = read_plugins(connection)
        tables = self._ask("the tables of all databases", read_tables) or Tables()
        remote = self._ask("where InnoDB tables lie", read_directory_tables) or []
        accounts = self._ask("the accounts", read_accounts)
        said = self._variables("innodb_log_archive", "binlog_storage_engine", "wsrep_on", "wsrep_replicate_myisam", "wsrep_mode")
        layout = read_layout(connection, self._server.data_dir, find_server_pid(connection), [path for _, path in remote])
        self._notices += layout.notices
        self._judge_settings(settings, others)
        self._judge_versions(said)
        self._judge_tables(tables, plugins, remote)
        if accounts is not None:
            adopted = self._server.is_adopted
            self._notices += judge_accounts(accounts, adopted=adopted, account=find_account(self._server)[0])
            self._facts["accounts with host names"] = bool(accounts.host_names)
        self._notices += self._encryption(plugins)
        self._notices += _judge_names(self._server.data_dir)
        self._notices += self._replication()
        self._notices += self._events(settings)
        self._notices += self._transactions()
        self._notices += self._functions()
        if said.get("wsrep_on") == "ON":
            self._judge_galera(tables, said)
        self._notices += self._rights(tables)
        return Profile(
            settings={name: value for name, value in settings.items() if value is not None},
            plugins=sorted(plugins),
            facts=self._facts,
            outside=layout.outside,
            tables=dict(sorted(tables.engines.items())),
            absent=self._absent,
            left_behind=layout.left_behind,
            notices=self._notices,
        )

    def _ask(self, what: str, question: Callable[[Connection[Cursor]], T]) -> T | None:
        """The result of a query; none if the account may not run it, which is reported, or if the server does not support it."""
        try:
            return question(self._connection)
        except pymysql.MySQLError as error:
            code, _ = split_error(error)
            if code in _DENIED:
                self._denied.append(what)
            elif code not in _UNKNOWN_TABLE:
                raise
            return None

    def _rows(self, what: str, sql: str) -> list[tuple[object, ...]]:
        return self._ask(what, lambda connection: query(connection, sql)) or []

    def _variables(self, *names: str) -> dict[str, str]:
        listed = ", ".join(f"'{name}'" for name in names)
        rows = query(self._connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
        return {str(name).lower(): str(value) for name, value in rows}

    def _judge_settings(self, settings: dict[str, str], others: list[str]) -> None:
        (zones,) = query(self._connection, "SELECT @@global.time_zone, @@system_time_zone")
        self._facts["time zone of the host"] = str(zones[1]) if zones[0] == "SYSTEM" else ""
        if refused := refused_values(settings):
            self._notices.append(
                Notice(
                    item="raw devices in innodb_data_file_path",
                    effect="refuse",
                    message=f"{', '.join(f'{name} is {settings[name]}' for name in refused)}: such a server cannot be backed up",
                    remedy="Use files in the data directory, without a path in their names.",
                )
            )
        if settings.get("aria_block_size", "8192") != "8192":
            self._notices.append(
                Notice(
                    item="aria_block_size",
                    effect="refuse",
                    message=f"aria_block_size is {settings['aria_block_size']}: mariadb-backup supports only 8192",
                    remedy="Dump the server, and load the dump into one with aria_block_size = 8192.",
                )
            )
        if others:
            self._notices.append(
                Notice(
                    item="settings that are not carried",
                    effect="warn",
                    message=f"settings of this server that are not carried to a new instance: {name_some(others)}",
                )
            )

    def _judge_versions(self, said: dict[str, str]) -> None:
        if said.get("innodb_log_archive") == "ON":
            self._notices.append(
                Notice(
                    item="innodb_log_archive",
                    effect="refuse",
                    message="innodb_log_archive is ON: mariadb-backup cannot read the redo log of this server",
                    remedy="SET GLOBAL innodb_log_archive = OFF, and remove it from the option file.",
                )
            )
        engine = said.get("binlog_storage_engine", "").lower()
        self._facts["binlog_storage_engine"] = engine
        if engine:
            self._notices.append(
                Notice(
                    item="binlog_storage_engine",
                    effect="warn",
                    message=f"the binary log is stored in {engine}: GTID is its only position, and the log is not carried over",
                )
            )

    def _judge_tables(self, tables: Tables, plugins: dict[str, Kind], remote: list[tuple[str, str]]) -> None:
        self._facts["page compression"] = bool(tables.compressed)
        if tables.broken:
            self._notices.append(
                Notice(
                    item="engines from plugins",
                    effect="refuse",
                    message=f"the server cannot open tables: {name_some(tables.broken)}",
                    remedy="Repair or drop them, or load the plugin of their engine.",
                )
            )
        for engine, names in sorted(tables.by_engine.items()):
            notice = _judge_engine(engine, names)
            if notice is not None:
                self._notices.append(notice)
        if memory := tables.by_engine.get("MEMORY"):
            self._absent.append(f"Rows of MEMORY tables are not in the backup: {name_some(memory)}.")
        if remote:
            self._notices.append(
                Notice(
                    item="InnoDB DATA DIRECTORY",
                    effect="warn",
                    message="tables with a DATA DIRECTORY are restored into the data directory: "
                    f"{name_some(n for n, _ in remote)}",
                    remedy="After a restore in place, remove the old files in the other directory by hand.",
                )
            )

    def _encryption(self, plugins: dict[str, Kind]) -> Iterator[Notice]:
        keys = sorted(name for name, kind in plugins.items() if kind == "keys")
        sql = "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption WHERE encryption_scheme = 1"
        rows = self._rows("which tables are encrypted", sql) if keys else []
        switches = self._variables("innodb_encrypt_log", "aria_encrypt_tables", "encrypt_binlog", "innodb_encrypt_tables")
        used = bool(rows and int(str(rows[0][0]))) or any(
            switches.get(name) in ("ON", "1", "FORCE")
            for name in ("innodb_encrypt_log", "aria_encrypt_tables", "innodb_encrypt_tables")
        )
        self._facts["encryption"] = ", ".join(keys) if used else ""
        if not keys or not used:
            return
        if keys != ["file_key_management"]:
            yield Notice(
                item="encryption",
                effect="refuse",
                message=f"data is encrypted with keys of {', '.join(keys)}, whose secrets the backup tool writes into the backup",
                remedy="Use file_key_management with file_key_management_filekey = FILE:/path.",
            )
            return
        said = self._variables("file_key_management_filename", "file_key_management_filekey")
        secret, place = said.get("file_key_management_filekey", ""), said.get("file_key_management_filename", "")
        if secret and not secret.startswith("FILE:"):
            yield Notice(
                item="encryption",
                effect="refuse",
                message="file_key_management_filekey has a passphrase, which would be unencrypted in the backup",
                remedy="Put the passphrase into a file and set file_key_management_filekey = FILE:/path.",
            )
        paths = [place, *([secret[5:]] if secret.startswith("FILE:") else [])]
        if unreadable := [path for path in paths if not os.access(path, os.R_OK)]:
            yield Notice(
                item="encryption",
                effect="refuse",
                message=f"the data is encrypted, and the OS user of the server cannot read its keys: {', '.join(unreadable)}",
                remedy="Make them readable for the OS user of the server.",
            )
        inside = [path for path in paths if is_below(os.path.realpath(path), os.path.realpath(self._server.data_dir))]
        if inside:
            yield Notice(
                item="encryption",
                effect="refuse",  # a new instance is refused too, so that the backup could not be restored at all
                message=f"the keys are in the data directory, which a restore replaces: {', '.join(inside)}",
                remedy="Move the keys out of the data directory, change the option file, and restart the server.",
            )
        yield Notice(
            item="encryption",
            effect="refuse_new",
            message="data is encrypted by the server, and the keys are not in the backup: a new instance could not read it",
            remedy="Restore in place, where the keys are; keep a copy of them separately from the backups.",
        )

    def _replication(self) -> Iterator[Notice]:
        if self._ask("replication", lambda connection: query(connection, "SHOW ALL SLAVES STATUS")) is None:
            return
        with self._connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute("SHOW ALL SLAVES STATUS")
            sources = list(cursor.fetchall())
        self._facts["replica of"] = sorted(f"{row['Master_Host']}:{row['Master_Port']}" for row in sources)
        for row in sources:
            name = f"'{row['Connection_name']}' " if row["Connection_name"] else ""
            yield Notice(
                item="replication",
                effect="warn",
                message=f"the server is a replica of {row['Master_Host']}:{row['Master_Port']}; a restored server is none",
                remedy="To make it a replica, from the position of the backup: "
                f"CHANGE MASTER {name}TO MASTER_HOST='{row['Master_Host']}', "
                f"MASTER_PORT={row['Master_Port']}, MASTER_USER='{row['Master_User']}', MASTER_PASSWORD='…', "
                "MASTER_USE_GTID=slave_pos; START SLAVE.",
            )
        connected = int(read_variables(self._connection, "STATUS", "Slaves_connected").get("slaves_connected", 0) or 0)
        if connected or sources:
            yield Notice(
                item="GTID state",
                effect="warn",
                message="the GTID state of the binary log is not restored: GTIDs from after the backup are used again",
                remedy="Rebuild the replicas of a restored server, or give it another gtid_domain_id.",
            )

    def _events(self, settings: dict[str, str]) -> Iterator[Notice]:
        if settings.get("event_scheduler") != "ON":
            return
        rows = self._rows("events", "SELECT event_schema, event_name FROM information_schema.events WHERE status = 'ENABLED'")
        if rows:
            yield Notice(
                item="events",
                effect="warn",
                message=f"events run here, but not in a copy until it is activated: {name_some(f'{d}.{e}' for d, e in rows)}",
            )

    def _transactions(self) -> Iterator[Notice]:
        rows = self._rows("XA transactions", "XA RECOVER")
        if rows:
            yield Notice(
                item="XA transactions in prepared state",
                effect="warn",
                message=f"{len(rows)} XA transactions are prepared; they are restored as prepared and hold their locks",
                remedy="Run XA RECOVER after a restore, and commit or roll back each.",
            )

    def _functions(self) -> Iterator[Notice]:
        rows = self._rows("functions in shared libraries", "SELECT name, dl FROM mysql.func ORDER BY name")
        if rows:
            yield Notice(
                item="functions in shared libraries",
                effect="warn",
                message=f"functions need libraries that are not in the backup: {name_some(f'{n} ({dl})' for n, dl in rows)}",
            )

    def _judge_galera(self, tables: Tables, said: dict[str, str]) -> None:
        if tables.local and said.get("wsrep_replicate_myisam") != "ON" and "REPLICATE_" not in said.get("wsrep_mode", ""):
            self._absent.append(
                f"Tables that the cluster does not replicate are in the backup as this node has them: {name_some(tables.local)}."
            )

    def _rights(self, tables: Tables) -> Iterator[Notice]:
        """A notice about what the account cannot read, for lack of rights."""
        seen = sum(tables.engines.values())
        there = sum(1 for path in _frm_files(self._server.data_dir))
        denied = list(self._denied)
        if there and not seen:
            denied.append("the tables of all databases")
        if denied:
            yield Notice(
                item="rights of the account",
                effect="warn",
                message=f"unknown, because the account may not read it: {', '.join(sorted(set(denied)))}",
                remedy="GRANT SELECT, SHOW VIEW, EVENT, PROCESS, REPLICA MONITOR ON *.* to the account of the backups.",
            )


def _frm_files(data_dir: Path) -> Iterator[str]:
    return (path for path in walk_of(data_dir) if path.endswith(".frm") and path.partition("/")[0] not in SYSTEM)


def _judge_names(data_dir: Path) -> Iterator[Notice]:
    """Refuse databases with the name of a file of the tool: the stream would contain both under one name."""
    names = [name for name in sorted(TOOL_FILES) if (data_dir / name).is_dir()]
    if names:
        yield Notice(
            item="names of the backup tool",
            effect="refuse",
            message=f"databases have the names of files that the backup tool writes: {', '.join(names)}",
            remedy="Rename these databases.",
        )


def _judge_engine(engine: str, names: list[str]) -> Notice | None:
    upper, listed = engine.upper(), name_some(names)
    if upper in REACHING_OUT:
        return Notice(
            item="engines that reach other servers",
            effect="refuse_new",
            message=f"tables of engine {engine} are on other servers, and a copy would change them: {listed}",
            remedy="Restore in place, or drop them before the backup.",
        )
    if upper in OWN_FILES:
        return Notice(
            item="engines with files of their own",
            effect="refuse",
            message=f"tables of engine {engine} are not completely in a backup: {listed}",
            remedy="Convert them to InnoDB, or back them up by other means and drop them here.",
        )
    if engine in BUILT_IN or engine == "MEMORY":
        return None
    if engine not in KNOWN:
        return Notice(
            item="engines with files of their own",
            effect="refuse",
            message=f"it is unknown whether a backup contains tables of engine {engine}: {listed}",
            remedy="Convert them to InnoDB.",
        )
    return Notice(item="engines from plugins", effect="warn", message=f"tables that need plugin {engine}: {listed}")


def read_profile(server: Server) -> Profile:
    """See ``Profiles.read``. Raises ServerFailed, ConfigurationError."""
    with connect(server) as connection:
        try:
            return Survey(server, connection).read()
        except PermissionError as error:
            raise explain_denied(server, error) from error
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"the data directory {server.data_dir} of {describe_server(server)} does not exist on this host",
                remedy="Check the address and the data directory: backups are taken on the host of the server.",
            ) from error
