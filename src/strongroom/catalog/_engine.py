"""Open the catalog: the engine, its pragmas, migrations, sessions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from strongroom.catalog._tables import Fact
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings

THREADS = 40
"""Connections that are kept: one for each thread that answers requests, so that none has to be made while somebody waits."""


class Catalog:
    """Sessions on one database. ``read`` for looking, ``write`` for a transaction that others wait for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.at_hand = engine.dialect.name == "sqlite"
        """Whether looking takes no longer than a thread would need to wake up."""
        self._readers = sessionmaker(engine, expire_on_commit=False)
        self._writers = sessionmaker(engine.execution_options(write=True), expire_on_commit=False)
        self._turn = Lock()  # SQLite lets those who wait sleep, longer and longer, while others overtake them

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking; nothing is committed."""
        with self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: committed at the end, rolled back by an exception. On SQLite writers take turns (BEGIN IMMEDIATE)."""
        with self._turn, self._writers.begin() as session:
            yield session

    @property
    def service_id(self) -> str:
        """Random id of this service, made once: it signs the intent records of its backups."""
        with self.read() as session:
            fact = session.get(Fact, "service_id")
            return fact.value if fact else ""

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


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


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog and bring its tables up to date. Raises ConfigurationError when it cannot be opened."""
    url = settings.service.database_url
    if url is not None:
        engine = create_engine(url.get_secret_value(), pool_pre_ping=True)
    else:
        path = settings.service.data_dir / "catalog.sqlite"
        _touch_private(path)
        engine = create_engine(
            f"sqlite:///{path}", connect_args={"check_same_thread": False}, pool_size=THREADS, pool_use_lifo=True
        )
        _prepare_sqlite(engine)
    try:
        migrate(engine)
    except OperationalError as error:
        raise ConfigurationError(
            f"cannot open the catalog {engine.url.render_as_string(hide_password=True)}: {error.orig}",
            remedy="Check service.database_url, or the permissions and free space of service.data_dir.",
        ) from None
    catalog = Catalog(engine)
    with catalog.write() as session:
        if session.get(Fact, "service_id") is None:
            session.add(Fact(key="service_id", value=str(uuid.uuid4())))
    return catalog


def _touch_private(path: Path) -> None:
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)


_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(engine: Engine) -> None:
    """Run the Alembic migrations that the database does not have yet."""
    if _is_up_to_date(engine):
        return
    from alembic import command  # a tenth of all that a start loads, and seldom needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _is_up_to_date(engine: Engine) -> bool:
    """Files of migrations begin with their revision, and each follows the one before."""
    newest = max(path.stem.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == newest)
