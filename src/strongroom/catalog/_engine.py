"""Opens the catalog: engine, pragmas, migrations, sessions."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool

from strongroom.system.imports import defer_modules

with defer_modules(  # SQLAlchemy loads all drivers, of which the catalog uses one
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.postgresql.pg8000",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.dialects.postgresql.psycopg2cffi",
    "sqlalchemy.dialects.sqlite.aiosqlite",
):
    import sqlalchemy.dialects.postgresql
    import sqlalchemy.dialects.sqlite  # noqa: F401

from strongroom.catalog._changes import Changes
from strongroom.catalog._tables import Fact
from strongroom.catalog._tables import Table as Base
from strongroom.catalog.queries import SILENT_AFTER
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings

WRITERS = 877900
"""PostgreSQL: the advisory lock of a writing transaction."""
SERVICE = 877901
"""PostgreSQL: the advisory lock of the running service, of which there is only one."""
TIMEOUTS = {"connect_timeout": "10", "tcp_user_timeout": "15000", "keepalives_idle": "5", "keepalives_interval": "5"}
"""PostgreSQL: options of libpq that detect a lost connection within seconds. Options in the URL take precedence."""
_TRANSIENT = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR")
"""SQLite: errors that end when the disk has free space or a lock is released."""
_FEW = 2
"""Connections to a file that an idle service uses."""
THREADS = 40
"""Connections to keep open: one for each thread that answers requests, so that no request waits for a new connection."""


class Catalog:
    """Sessions on one database: ``read`` for queries, ``write`` for transactions, one at a time."""

    def __init__(self, engine: Engine, *, silent_after: float) -> None:
        self.engine = engine
        self.is_local = engine.dialect.name == "sqlite"
        """Whether a query takes less time than waking up another thread to run it."""
        facts = {SILENT_AFTER: silent_after}
        self._readers = sessionmaker(engine, expire_on_commit=False, info=facts)
        self._writers = sessionmaker(engine.execution_options(write=True), expire_on_commit=False, info=facts)
        self.changes = Changes()
        self._turn = Lock()  # SQLite has no queue: waiting writers poll at growing intervals and are overtaken

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for queries. Nothing is committed."""
        with self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: committed at the end, rolled back by an exception. One at a time, so that what it reads stays valid."""
        with self._turn, self._writers.begin() as session:
            yield session
        self.changes.notify()

    def is_temporary(self, error: Exception) -> bool:
        """Whether the database is temporarily unusable, so that the operation can be repeated later.

        PostgreSQL may be unreachable. For SQLite, the disk may be full, or another process may hold a lock.
        """
        if not self.is_local:
            return isinstance(error, OperationalError | InterfaceError)
        name = getattr(error.orig, "sqlite_errorname", "") if isinstance(error, OperationalError) else ""
        return name.startswith(_TRANSIENT)

    def acquire_service_lock(self) -> Connection | None:
        """PostgreSQL: a connection that holds the lock of the running service; None if another service holds it."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if connection.scalar(text(f"SELECT pg_try_advisory_lock({SERVICE})")):
            return connection
        connection.close()
        return None

    @property
    def service_id(self) -> str:
        """The random id of this service. It is created once and identifies the intent records of its backups."""
        with self.read() as session:
            fact = session.get(Fact, "service_id")
            return fact.value if fact else ""

    def release_memory(self) -> None:
        """After work, forget compiled statements, and close connections to a file that are not in use: each takes a megabyte.

        An idle service has only few of them, and would open them again.
        """
        pool = self.engine.pool
        if self.is_local and isinstance(pool, QueuePool) and pool.checkedin() > _FEW:
            self.engine.dispose()
            self.engine.clear_compiled_cache()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def database_url(settings: Settings) -> URL | None:
    """The URL of PostgreSQL, for the catalog and the engine of jobs; None if they are in files.

    Raises ConfigurationError, without the password.
    """
    if settings.service.database_url is None:
        return None
    try:
        url = make_url(settings.service.database_url.get_secret_value())
    except ArgumentError:
        raise ConfigurationError(
            "service.database_url is not a valid URL", remedy="Use one like postgresql://strongroom@db.example.org/strongroom."
        ) from None
    if url.get_backend_name() != "postgresql" or not url.database:
        raise ConfigurationError(
            f"service.database_url must name a database of PostgreSQL, not {url.render_as_string(hide_password=True)}",
            remedy="Use one like postgresql://strongroom@db.example.org/strongroom, or remove the option to use SQLite.",
        )
    return url.set(drivername="postgresql+psycopg", query=TIMEOUTS | dict(url.query))


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN, not the driver's
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _prepare_postgresql(engine: Engine) -> None:
    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        if connection.get_execution_options().get("write"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")


def open_engine(url: URL) -> Engine:
    """Connections to the database of the catalog."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"check_same_thread": False}, pool_size=THREADS, pool_use_lifo=True)
        _prepare_sqlite(engine)
    else:
        engine = create_engine(url, pool_pre_ping=True, pool_size=THREADS // 2, max_overflow=THREADS // 2, pool_use_lifo=True)
        _prepare_postgresql(engine)
    return engine


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog and run missing migrations. Raises ConfigurationError if it cannot be opened."""
    url = database_url(settings)
    if url is None:
        path = settings.service.data_dir / "catalog.sqlite"
        _touch_private(path)
        url = make_url(f"sqlite:///{path}")
    engine = open_engine(url)
    try:
        migrate(engine)
    except OperationalError as error:
        raise ConfigurationError(
            f"cannot open the catalog {engine.url.render_as_string(hide_password=True)}: {error.orig}",
            remedy="Check service.database_url, or the permissions and free space of service.data_dir.",
        ) from None
    catalog = Catalog(engine, silent_after=settings.hosts.silent_after)
    with catalog.write() as session:
        if session.get(Fact, "service_id") is None:
            session.add(Fact(key="service_id", value=str(uuid.uuid4())))
    return catalog


def _touch_private(path: Path) -> None:
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)


MIGRATIONS = Path(__file__).parent / "migrations"
_UPGRADE = (sys.executable, "-P", "-m", "strongroom.catalog.upgrade")
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
"""Where Alembic keeps the last migration that was run."""


def migrate(engine: Engine) -> None:
    """Create the tables in a new catalog; run the missing Alembic migrations in an older one."""
    newest = max(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))  # they are numbered
    with engine.connect() as connection:
        is_new = not inspect(connection).has_table(_VERSION.name)
        if not is_new and connection.scalar(select(_VERSION.c.version_num)) == newest:
            return
    if is_new:
        with engine.begin() as connection:
            Base.metadata.create_all(connection)
            _VERSION.create(connection)
            connection.execute(_VERSION.insert().values(version_num=newest))
        return
    url = engine.url.render_as_string(hide_password=False)
    run = subprocess.run(_UPGRADE, input=url, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        reason = run.stderr.strip().splitlines()[-1:] or [f"exit status {run.returncode}"]
        raise ConfigurationError(
            f"cannot upgrade the catalog {engine.url.render_as_string(hide_password=True)}: {reason[0]}",
            remedy="Check the permissions and free space of the database, then start the service again.",
        )
