"""The catalog in SQLite and in PostgreSQL."""

from __future__ import annotations

import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import OperationalError

from strongroom.catalog import Attachment, Backup, Catalog, Fact, Instance, Policy, Strategy, _engine, open_catalog
from strongroom.catalog._tables import Table
from strongroom.catalog.find import chain_of, container_for, descendants_of, find_backup, find_instance, owner_of
from strongroom.catalog.policies import close_incident, find_policy, open_incident, policy_of
from strongroom.errors import ConfigurationError, Conflict, InvalidRequest, NotFound
from strongroom.settings import load


def instance(id: str, name: str = "one", project: str = "p") -> Instance:
    return Instance(
        id=id, project=project, name=name, host="local", datastore="mariadb", series="10.11", flavor="d1", volume_size=1
    )


def backup(id: str, parent: str | None = None, chain: str | None = None) -> Backup:
    return Backup(
        id=id,
        project="p",
        name=f"b-{id}",
        container="c",
        kind="incremental" if parent else "full",
        parent_id=parent,
        chain_id=chain or id,
        datastore="mariadb",
        series="10.11",
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def options(request: pytest.FixtureRequest, place: Path) -> dict[str, object]:
    there: dict[str, object] = {"data_dir": place}
    if request.param == "postgresql":
        there["database_url"] = request.getfixturevalue("new_database")()
    return there


@pytest.fixture
def catalog(options: dict[str, object]) -> Iterator[Catalog]:
    catalog = open_catalog(load(service=options))
    yield catalog
    catalog.close()


def require_current_tables(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == ScriptDirectory(str(_engine.MIGRATIONS)).get_current_head()
        differences = compare_metadata(context, Table.metadata)
    assert [d for d in differences if "modify_type" not in str(d)] == []


def test_new_catalog_is_created_without_migrations(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    require_current_tables(catalog)
    monkeypatch.setattr(command, "upgrade", lambda *_: pytest.fail("a new catalog has nothing to migrate"))
    _engine.migrate(catalog.engine)


def test_older_catalog_is_migrated(options: dict[str, object], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _engine.database_url(load(service=options)) or f"sqlite:///{place / 'catalog.sqlite'}"
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(_engine.MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    with monkeypatch.context() as patch:
        patch.setattr(_engine, "_UPGRADE", (sys.executable, "-c", "raise SystemExit('the disk is full')"))
        with pytest.raises(ConfigurationError, match=r"cannot upgrade the catalog .*: the disk is full"):
            open_catalog(load(service=options))
    engine.dispose()
    catalog = open_catalog(load(service=options))
    require_current_tables(catalog)
    catalog.close()


def test_only_one_service_runs_on_a_database(new_database: Callable[[], str], place: Path) -> None:
    settings = load(service={"data_dir": place, "database_url": new_database()})
    one, other = open_catalog(settings), open_catalog(settings)
    held = one.acquire_service_lock()
    assert held is not None
    assert other.acquire_service_lock() is None
    held.close()
    one.close()
    deadline = time.monotonic() + 30  # PostgreSQL ends a session soon after its connection was closed
    while (again := other.acquire_service_lock()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert again is not None
    again.close()
    other.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "is not a valid URL"),
        ("mysql://u:hunter2@h/x", "must name a database of PostgreSQL"),
        ("sqlite:///x", "must name a database of PostgreSQL"),
        ("postgresql://u:hunter2@h", "must name a database of PostgreSQL"),
    ],
)
def test_invalid_database_urls_are_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        open_catalog(load(service={"database_url": url}))
    assert "hunter2" not in str(caught.value)


def test_file_is_private_and_service_id_is_kept(place: Path) -> None:
    catalog = open_catalog(load(service={"data_dir": place}))
    assert stat.S_IMODE((place / "catalog.sqlite").stat().st_mode) == 0o600
    assert len(catalog.service_id) == 36
    assert open_catalog(load(service={"data_dir": place})).service_id == catalog.service_id


def test_times_are_aware_and_in_utc(catalog: Catalog) -> None:
    when = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    with catalog.write() as session:
        session.add(instance("i1"))
        row = session.get(Instance, "i1")
        assert row is not None
        row.created = when
    with catalog.read() as session:
        again = session.get(Instance, "i1")
        assert again is not None
        assert again.created == when
        assert again.created.tzinfo is UTC


def test_exception_rolls_back(catalog: Catalog) -> None:
    with pytest.raises(RuntimeError), catalog.write() as session:
        session.add(instance("i1"))
        session.flush()
        raise RuntimeError
    with catalog.read() as session:
        assert session.get(Instance, "i1") is None


def test_concurrent_writers_lose_no_update(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add(instance("i1"))

    def add() -> None:
        for _ in range(20):
            with catalog.write() as session:
                row = session.get(Instance, "i1")
                assert row is not None
                row.data_bytes += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with catalog.read() as session:
        row = session.get(Instance, "i1")
        assert row is not None
        assert row.data_bytes == 80


def test_released_memory_closes_connections_to_a_file_that_are_not_in_use(place: Path) -> None:
    catalog = open_catalog(load(service={"data_dir": place}))
    closed: list[object] = []
    event.listen(catalog.engine, "close", lambda connection, _record: closed.append(connection))
    with catalog.read() as used:
        with catalog.read() as one, catalog.read() as other:
            assert used.scalar(select(1)) == one.scalar(select(1)) == other.scalar(select(1)) == 1
        catalog.release_memory()
        assert not closed, "an idle service would open them again"
        with catalog.read() as one, catalog.read() as other, catalog.read() as third:
            assert one.scalar(select(1)) == other.scalar(select(1)) == third.scalar(select(1)) == 1
        catalog.release_memory()
        assert len(closed) == 3
        assert used.scalar(select(1)) == 1
    with catalog.write() as session:
        session.add(Fact(key="a", value="b"))
    catalog.release_memory()
    with catalog.read() as session:
        assert session.get(Fact, "a") is not None
    catalog.close()


def test_released_memory_keeps_connections_to_postgresql(new_database: Callable[[], str], place: Path) -> None:
    catalog = open_catalog(load(service={"data_dir": place, "database_url": new_database()}))
    with catalog.read() as one, catalog.read() as other:
        pids = {session.scalar(text("SELECT pg_backend_pid()")) for session in (one, other)}
    catalog.release_memory()
    with catalog.read() as one, catalog.read() as other:
        assert {session.scalar(text("SELECT pg_backend_pid()")) for session in (one, other)} == pids
    catalog.close()


def test_find_by_name_and_ambiguous_names(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add_all([instance("i1"), instance("i2", "two"), instance("i3", "two"), instance("i4", project="q")])
    with catalog.read() as session:
        assert find_instance(session, "p", "one").id == "i1"
        assert find_instance(session, "p", "i2").name == "two"
        assert find_instance(session, None, "i4").project == "q"
        with pytest.raises(Conflict, match=r"i2, created 20.* UTC, new; i3, created 20"):
            find_instance(session, "p", "two")
        with pytest.raises(NotFound, match="i4"):
            find_instance(session, "p", "i4")
        with pytest.raises(NotFound, match="backup nope cannot be found"):
            find_backup(session, "p", "nope")


def test_find_by_the_beginning_of_an_id(catalog: Catalog) -> None:
    first, second = "0123abcd-0000-4000-8000-000000000001", "0123abcd-0000-4000-8000-000000000002"
    other, named = "77777777-0000-4000-8000-000000000003", "99999999-0000-4000-8000-000000000004"
    with catalog.write() as session:
        session.add_all([instance(first), instance(second, "two"), instance(other, "three", "q"), instance(named, "77777777")])
    with catalog.read() as session:
        assert find_instance(session, "p", second[:36]).name == "two"
        assert find_instance(session, "p", "99999999").id == named
        assert find_instance(session, "p", "77777777").id == named
        assert find_instance(session, "q", "77777777").id == other
        assert find_instance(session, None, other[:20]).id == other
        with pytest.raises(Conflict, match=f"2 instances have an id that begins with 0123abcd: {first}"):
            find_instance(session, "p", "0123abcd")
        for ref in ("9999999", "0123abcd-0000-4000-8000-00000000001", "9999999g"):
            with pytest.raises(NotFound):
                find_instance(session, "p", ref)
        assert owner_of(session, Instance, "p", "77777777") == "p"
        assert owner_of(session, Instance, "elsewhere", "77777777") == "q"
        assert owner_of(session, Instance, "q", "0123abcd") is None


def test_chains_and_broken_chains(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add_all(
            [backup("f"), backup("a", "f", "f"), backup("b", "a", "f"), backup("c", "f", "f"), backup("x", "gone", "g")]
        )
        session.add_all([backup("r1", "r2", "r"), backup("r2", "r1", "r")])
    with catalog.read() as session:
        assert [b.id for b in chain_of(session, find_backup(session, "p", "b"))] == ["f", "a", "b"]
        order = [b.id for b in descendants_of(session, "f")]
        assert set(order) == {"a", "b", "c"}
        assert order.index("b") < order.index("a")
        with pytest.raises(InvalidRequest, match="backup gone, which does not exist"):
            chain_of(session, find_backup(session, "p", "x"))
        with pytest.raises(InvalidRequest, match="has a cycle"):
            chain_of(session, find_backup(session, "p", "r1"))


def test_precedence_of_containers(catalog: Catalog) -> None:
    with catalog.write() as session:
        assert container_for(session, "p", "i1", None, "default") == "default"
        session.add(Strategy(project="p", instance_id="", container="of-project"))
        session.flush()
        assert container_for(session, "p", "i1", None, "default") == "of-project"
        session.add(Strategy(project="p", instance_id="i1", container="of-instance"))
        session.flush()
        assert container_for(session, "p", "i1", None, "default") == "of-instance"
        assert container_for(session, "p", "i2", None, "default") == "of-project"
        assert container_for(session, "p", "i1", "asked", "default") == "asked"


def test_unreachable_catalog_is_named_without_the_password() -> None:
    settings = load(service={"database_url": "postgresql+psycopg://u:hunter2@127.0.0.1:1/x"})
    with pytest.raises(ConfigurationError) as caught:
        open_catalog(settings)
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_full_disk_and_foreign_lock_are_temporary(place: Path) -> None:
    """Jobs wait until they are over, so that the result of a job is not lost."""
    catalog = open_catalog(load(service={"data_dir": place}))
    with catalog.engine.connect() as other:
        other.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(OperationalError) as full:
            other.exec_driver_sql("CREATE TABLE more AS SELECT zeroblob(1000000)")
        with pytest.raises(OperationalError) as wrong:
            other.exec_driver_sql("SELECT nothing FROM nowhere")
    assert catalog.is_temporary(full.value)
    assert not catalog.is_temporary(wrong.value)


def test_a_database_has_its_own_policy_or_the_one_of_its_project(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add_all([instance("i1"), instance("i2", "two"), instance("n1", "node"), instance("o1", project="other")])
        for name in ("gold", "silver"):
            session.add(Policy(id=name[0], project="p", name=name, document={"full": "daily", "keep_last": 1}))
        session.add(Attachment(project="p", policy_id="s"))
        session.add(Attachment(project="p", database_id="i1", policy_id="g"))
        session.add(Attachment(project="p", database_id="c1", policy_id="g"))
        session.flush()
        rows = {row.id: row for row in session.query(Instance)}
        rows["n1"].cluster_id = "c1"
        policies = {key: policy_of(session, row) for key, row in rows.items()}
        assert {key: policy.name if policy else None for key, policy in policies.items()} == {
            "i1": "gold",
            "i2": "silver",
            "n1": "gold",
            "o1": None,
        }
        assert find_policy(session, "p", "gold").spec.keep_last == 1
        with pytest.raises(NotFound):
            find_policy(session, "other", "gold")


def test_a_condition_that_comes_back_soon_is_the_same_incident(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add(instance("i1"))
        row = session.get_one(Instance, "i1")
        first = open_incident(session, row, "failing", "disk full")
        assert open_incident(session, row, "failing", "host gone").id == first.id
        assert close_incident(session, "i1", "failing")
        assert not close_incident(session, "i1", "failing")
        assert open_incident(session, row, "failing", "disk full").id == first.id
        assert open_incident(session, row, "stuck", "skipped").id != first.id
