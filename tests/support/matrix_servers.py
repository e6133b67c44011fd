"""Servers of the matrix test: made with the stock programs, with option files and directories of their own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from strongroom.agent.models import ServerDefinition
from strongroom.datastores import Server, Version
from strongroom.datastores.innodb.connection import connect as connect_mysql
from strongroom.datastores.postgresql.server.connection import connect as connect_postgresql
from support import identity, mariadb, mysql_programs, postgresql, postgresql_versions
from support.agents import until
from support.matrix import Sums, fill
from support.matrix_lines import Group

SYSTEM = ("mysql", "sys", "information_schema", "performance_schema", "strongroom")
RIGHTS = "BACKUP_ADMIN, REPLICATION SLAVE, REPLICATION CLIENT, RELOAD, PROCESS, SELECT"


class Base:
    """Directories, commands and scripts that every server has."""

    datastore = ""

    def __init__(self, group: Group, place: Path, user: str, version: Version) -> None:
        self.group, self.user, self.version = group, user, version
        self.base = place / "own"
        self.data = self.base / "data"
        self.entry = pwd.getpwnam(user)
        self.log = self.base / "own.log"
        self.pid_file = self.base / "own.pid"
        self._place = place
        for path in (self.base, *(self.base / name for name in group.directories)):
            path.mkdir(mode=0o755)
            os.chown(path, self.entry.pw_uid, self.entry.pw_gid)
        self._make()
        if group.layout:
            self.command("sh", "-ec", self.filled(group.layout))
        self._write_scripts()
        self.start()

    def filled(self, text: str) -> str:
        return fill(text, self._place)

    def command(self, *arguments: object) -> None:
        """Run a program as the OS user of the server."""
        root: dict[str, Any] = {"user": self.entry.pw_uid, "group": self.entry.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [str(argument) for argument in arguments],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            umask=0o077,
            **(root if os.geteuid() == 0 else {}),
        )
        assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-2000:])

    def template(self, *arguments: str) -> None:
        """Copy an empty database that ``_initialize`` made with these arguments; it is made once."""
        name = hashlib.sha256(" ".join((self.datastore, self.version.number, self.user, *arguments)).encode()).hexdigest()[:12]
        final = Path(f"/tmp/sr-template-matrix-{name}")
        if not final.exists():
            place = Path(tempfile.mkdtemp(prefix="sr-template-", dir="/tmp"))
            place.chmod(0o711)
            os.chown(place, self.entry.pw_uid, self.entry.pw_gid)
            self._initialize(place / "data", *arguments)
            with contextlib.suppress(OSError):  # another process of the test run was faster
                (place / "data").rename(final)
            shutil.rmtree(place)
        subprocess.run(["cp", "-a", "--sparse=always", str(final), str(self.data)], check=True)

    def _write_scripts(self) -> None:
        root = os.geteuid() == 0
        become = f"setpriv --reuid={self.user} --regid={self.entry.pw_gid} --clear-groups " if root else ""
        self.start_script, self.stop_script = self.base / "start", self.base / "stop"
        self.start_script.write_text(f"#!/bin/sh\ncd / && exec setsid {become}{self._start()} >/dev/null 2>&1 </dev/null &\n")
        self.stop_script.write_text(
            f"#!/bin/sh\npid=$(head -n 1 {self._pid_file()} 2>/dev/null) && kill -{self._signal()} $pid 2>/dev/null || exit 0\n"
            "while kill -0 $pid 2>/dev/null; do sleep 0.05; done\n"
        )
        for script in (self.start_script, self.stop_script):
            script.chmod(0o755)

    def start(self) -> None:
        subprocess.run([str(self.start_script)], check=True)
        until(self._serves, 120)

    def stop(self) -> None:
        subprocess.run([str(self.stop_script)], check=True)

    def kill(self) -> None:
        """As when the power fails: the kernel keeps what was written."""
        pid = int(self._pid_file().read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), 20)

    def _serves(self) -> bool:
        try:
            self.sql("SELECT 1")
        except (pymysql.MySQLError, psycopg.Error):
            return False
        return True

    def _signal(self) -> str:
        return "TERM"

    def _pid_file(self) -> Path:
        return self.pid_file

    @abstractmethod
    def _make(self) -> None: ...

    @abstractmethod
    def _initialize(self, data: Path, *arguments: str) -> None: ...

    @abstractmethod
    def _start(self) -> str: ...

    @abstractmethod
    def sql(self, *statements: str) -> list[tuple[Any, ...]]: ...


class OwnMariaDB(Base):
    """MariaDB. The OS user of the server comes in by its socket."""

    datastore = "mariadb"
    common = (
        "skip-networking\nskip-name-resolve\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\nlog_bin=own-bin\nserver_id=7\n"
        "innodb_flush_log_at_trx_commit=0\ncharacter_set_server=utf8mb4\n"
    )

    def __init__(self, group: Group, place: Path) -> None:
        super().__init__(group, place, identity.server_user(), self._version(group, place))

    @staticmethod
    def _version(group: Group, place: Path) -> Version:
        if not group.plugins:
            return mariadb.version()
        own = pytest.importorskip("support.own_mariadb")
        if not own.have_plugins():
            pytest.skip("scripts/setup could not get the plugins of MariaDB")
        version: Version = own.with_plugins(place)
        return version

    def programs(self) -> Mapping[str, list[Path]]:
        return {"mariadb": [self.version.programs["server"].parent]} if self.group.plugins else {}

    def _make(self) -> None:
        self.socket, self.options = self.base / "own.sock", self.base / "own.cnf"
        self.template(*map(self.filled, self.group.init))
        self.options.write_text(
            f"[mysqld]\ndatadir={self.data}\nsocket={self.socket}\npid-file={self.pid_file}\nlog_error={self.log}\n"
            f"{self.common}{self.filled(self.group.options)}\n{self.filled(self.group.groups)}\n"
        )

    def _initialize(self, data: Path, *arguments: str) -> None:
        self.command("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *arguments)

    def _start(self) -> str:
        programs = self.version.programs["server"].parent.parent
        prefix = f" --basedir={programs}" if self.group.plugins else ""
        return f"{self.version.programs['server']} --defaults-file={self.options}{prefix}"

    def definition(self) -> ServerDefinition:
        return ServerDefinition(
            name="own",
            datastore=self.datastore,
            series="",
            runtime="adopted",
            socket=self.socket,
            defaults_file=self.options,
            start_command=[str(self.start_script)],
            stop_command=[str(self.stop_script)],
        )

    @contextlib.contextmanager
    def connect(self, copy: Server | None = None) -> Iterator[pymysql.Connection[Any]]:
        if copy is not None:
            with connect_mysql(copy) as connection:
                yield connection
            return
        with contextlib.closing(
            pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True, charset="utf8mb4")
        ) as connection:
            yield connection

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if statements else []

    def ask(self, query: str, copy: Server | None = None) -> str:
        with self.connect(copy) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        return str(row[0]) if row else ""

    def accounts(self) -> tuple[str, ...]:
        """The account for backups."""
        return (
            f"CREATE OR REPLACE USER {self.user}@localhost IDENTIFIED VIA unix_socket",
            f"GRANT ALL ON *.* TO {self.user}@localhost WITH GRANT OPTION",
        )

    def load(self) -> None:
        rows = ", ".join(f"({n}, HEX({n * 7919}))" for n in range(400))
        self.sql(*self.accounts())
        self.sql(
            "CREATE DATABASE db1",
            "CREATE TABLE db1.t (id INT PRIMARY KEY, note TEXT, KEY (note(20))) ENGINE=InnoDB",
            "CREATE TABLE db1.dropped (id INT PRIMARY KEY) ENGINE=InnoDB",
            f"INSERT INTO db1.t VALUES {rows}",
            "INSERT INTO db1.dropped VALUES (1), (2)",
        )

    def change(self) -> None:
        self.sql(
            "UPDATE db1.t SET note = REPEAT('changed', 20) WHERE id % 3 = 0",
            "CREATE TABLE db1.made (id INT PRIMARY KEY) ENGINE=InnoDB",
            "INSERT INTO db1.made VALUES (1), (2), (3)",
        )

    def spoil(self) -> None:
        self.sql(
            "UPDATE db1.t SET note = REPEAT('spoilt', 400)",
            "DELETE FROM db1.t WHERE id % 2 = 0",
            "DROP TABLE db1.dropped",
            "CREATE TABLE db1.later (id INT PRIMARY KEY) ENGINE=InnoDB",
            "INSERT INTO db1.later VALUES (1)",
        )

    def sums(self, copy: Server | None = None) -> Sums:
        found = {}
        with self.connect(copy) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
                f" AND table_schema NOT IN {SYSTEM}"
            )
            for database, table in cursor.fetchall():
                found[f"{database}.{table}"] = _checksum(cursor, database.replace("`", "``"), table.replace("`", "``"))
        return found


def _checksum(cursor: Any, database: str, table: str) -> str:
    try:
        cursor.execute(f"SELECT COUNT(*) FROM `{database}`.`{table}`")
        (count,) = cursor.fetchone()
        cursor.execute(f"CHECKSUM TABLE `{database}`.`{table}` EXTENDED")
        (_, checksum) = cursor.fetchone()
    except pymysql.MySQLError as error:
        return f"error {error}"
    return f"{count} {checksum}" if count else "0"


class OwnMySQL(OwnMariaDB):
    """MySQL. The account for backups is in a credentials file."""

    datastore = "mysql"
    common = (
        "skip-networking\nskip-name-resolve\nmysqlx=OFF\nsecure_file_priv=NULL\ninnodb_redo_log_capacity=8M\nserver_id=7\n"
        "innodb_buffer_pool_size=32M\nlog_bin=own\ngtid_mode=ON\nenforce_gtid_consistency=ON\n"
        "innodb_flush_log_at_trx_commit=0\nsync_binlog=0\nperformance_schema=ON\n"
    )

    @staticmethod
    def _version(group: Group, place: Path) -> Version:
        return mysql_programs.version()

    def programs(self) -> Mapping[str, list[Path]]:
        return {"mysql": [mysql_programs.programs()]}

    def _make(self) -> None:
        super()._make()
        (self.data / "auto.cnf").unlink(missing_ok=True)  # every server has an id of its own
        self.credentials = self.base / "credentials.cnf"
        self.credentials.write_text('[client]\nuser = keeper\npassword = "keep it"\n')
        self.credentials.chmod(0o600)
        os.chown(self.credentials, self.entry.pw_uid, self.entry.pw_gid)

    def _initialize(self, data: Path, *arguments: str) -> None:
        self.command(
            self.version.programs["server"],
            "--no-defaults",
            "--initialize-insecure",
            f"--datadir={data}",
            "--innodb-redo-log-capacity=8M",
            f"--log-error={data.parent}/install.log",
            *arguments,
        )

    def definition(self) -> ServerDefinition:
        return super().definition().model_copy(update={"credentials_file": self.credentials, "defaults_file": None})

    def accounts(self) -> tuple[str, ...]:
        return (
            "INSTALL PLUGIN clone SONAME 'mysql_clone.so'",
            "CREATE USER keeper@localhost IDENTIFIED BY 'keep it'",
            f"GRANT {RIGHTS} ON *.* TO keeper@localhost",
        )


class OwnPostgreSQL(Base):
    """PostgreSQL. Local users come in as whoever they say they are."""

    datastore = "postgresql"

    def __init__(self, group: Group, place: Path) -> None:
        version = postgresql_versions.version(group.series) if group.series else postgresql.version()
        self.superuser = group.user or "postgres"
        self.credentials: Path | None = None
        super().__init__(group, place, postgresql.server_user(), version)

    def programs(self) -> Mapping[str, list[Path]]:
        return {"postgresql": [postgresql_versions.programs(self.group.series)]} if self.group.series else {}

    def _make(self) -> None:
        self.run = self.base / "run"
        self.run.mkdir(mode=0o755)
        os.chown(self.run, self.entry.pw_uid, self.entry.pw_gid)
        arguments = [*map(self.filled, self.group.init)]
        if any(str(self.base) in argument for argument in arguments):
            self._initialize(self.data, *arguments)
        else:
            self.template(*arguments)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self.run}'\nfsync = off\nmax_wal_senders = 5\n"
                f"shared_buffers = 16MB\nlogging_collector = off\nwal_level = logical\n{self.filled(self.group.options)}\n"
            )
        if self.superuser != self.user:
            self.credentials = self.base / "credentials"
            self.credentials.write_text(f"localhost:5432:*:{self.superuser}:any\n")
            self.credentials.chmod(0o600)
            os.chown(self.credentials, self.entry.pw_uid, self.entry.pw_gid)

    def _initialize(self, data: Path, *arguments: str) -> None:
        more = () if "-U" in arguments else ("-U", "postgres")
        locale = () if "--locale" in " ".join(arguments) else ("-E", "UTF8", "--locale=C.UTF-8")
        initdb = self.version.programs["server"].parent / "initdb"
        self.command(initdb, "-D", data, "--no-sync", "--auth=trust", *locale, *more, *arguments)

    def _start(self) -> str:
        return f"{self.version.programs['server']} -D {self.data}"

    def _write_scripts(self) -> None:
        super()._write_scripts()
        script = self.start_script.read_text().replace(">/dev/null 2>&1", f">>{self.log} 2>&1")
        self.start_script.write_text(script)

    def _signal(self) -> str:
        return "INT"

    def _pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def kill(self) -> None:
        super().kill()
        until(lambda: not list(self._children()), 20)

    def _children(self) -> Iterator[Path]:
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == self.data:
                    yield entry

    def definition(self) -> ServerDefinition:
        return ServerDefinition(
            name="own",
            datastore=self.datastore,
            series="",
            runtime="adopted",
            socket=self.run,
            credentials_file=self.credentials,
            start_command=[str(self.start_script)],
            stop_command=[str(self.stop_script)],
        )

    @contextlib.contextmanager
    def connect(self, copy: Server | None = None, database: str = "template1") -> Iterator[psycopg.Connection[Any]]:
        if copy is not None:
            with connect_postgresql(copy, database) as connection:
                yield connection
            return
        with self._log_in(database) as connection:
            yield connection

    def _log_in(self, database: str) -> psycopg.Connection[Any]:
        """As the superuser of the group, or as the first one while SQL has not made that yet."""
        wanted: dict[str, Any] = {
            "host": str(self.run),
            "dbname": database,
            "autocommit": True,
            "client_encoding": "SQL_ASCII",
            "options": "-c default_transaction_read_only=off -c search_path=public",  # whatever a line gives to our role
        }
        try:
            return psycopg.connect(user=self.superuser, **wanted)
        except psycopg.OperationalError as error:
            if f'role "{self.superuser}" does not exist' not in str(error):
                raise
            return psycopg.connect(user="postgres", **wanted)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """A statement that begins with ``\\c NAME;`` goes to that database; else to db1, or to template1 while there is none."""
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            database, text = self._home(), statement
            if statement.startswith("\\c "):
                database, text = statement[3:].split(";", 1)
            with self.connect(database=database) as connection:
                cursor = connection.execute(text.encode("utf-8", "surrogateescape"))
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def _home(self) -> str:
        with self.connect() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'db1'").fetchone()
        return "db1" if found else "template1"

    def ask(self, query: str, copy: Server | None = None) -> str:
        with self.connect(copy, "db1") as connection:
            row = connection.execute(query.encode()).fetchone()
        return str(_text(row[0])) if row else ""

    def load(self) -> None:
        self.sql(
            "CREATE DATABASE db1",
            "CREATE TABLE t AS SELECT id, md5(id::text) AS note FROM generate_series(1, 400) id",
            "ALTER TABLE t ADD PRIMARY KEY (id)",
            "CREATE TABLE dropped AS SELECT 1 AS id",
        )

    def change(self) -> None:
        self.sql(
            "UPDATE t SET note = repeat('changed', 20) WHERE id % 3 = 0",
            "CREATE TABLE made AS SELECT id FROM generate_series(1, 3) id",
        )

    def spoil(self) -> None:
        self.sql(
            "UPDATE t SET note = repeat('spoilt', 400)",
            "DELETE FROM t WHERE id % 2 = 0",
            "DROP TABLE dropped",
            "CREATE TABLE later AS SELECT 1 AS id",
        )

    def sums(self, copy: Server | None = None) -> Sums:
        found: Sums = {}
        with self.connect(copy, "template1") as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate").fetchall()
        for database in (_text(name) for (name,) in rows):
            if any("\udc80" <= character <= "\udcff" for character in database):
                found[database] = "there"  # its name is not UTF-8, and the driver cannot say it
                continue
            with self.connect(copy, database) as connection:
                tables = connection.execute(
                    "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
                    " WHERE schemaname !~ '^(pg_|information_schema|strongroom)'"
                ).fetchall()
                for table in (_text(name) for (name,) in tables):
                    found[f"{database}.{table}"] = _digest(connection, table)
        return found


def _text(value: Any) -> Any:
    """Where the encoding is SQL_ASCII, the driver gives bytes."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _digest(connection: psycopg.Connection[Any], table: str) -> str:
    try:
        rows = """string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C")"""
        row = connection.execute(f"SELECT count(*), md5(coalesce({rows}, '')) FROM {table} t".encode()).fetchone()
    except psycopg.Error as error:
        return f"error {error}"
    assert row is not None
    return f"{row[0]} {_text(row[1])}" if row[0] else "0"
