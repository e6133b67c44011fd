"""Copies contact nobody; a restore in place takes a timeline that nobody has; a rehearsal reads everything."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.artifact import Profile
from strongroom.datastores import RestoredProfile, Server, write_restored_profile
from strongroom.datastores.postgresql.files.tree import find_data_links
from strongroom.datastores.postgresql.profile import carry, rehearsal
from strongroom.datastores.postgresql.profile.walk import examine_directory
from strongroom.datastores.postgresql.restore import first_start, timelines
from strongroom.datastores.postgresql.server import superuser
from strongroom.datastores.postgresql.server.connection import query
from strongroom.errors import ArtifactCorrupt, ServerFailed, VersionMismatch
from support.identity import run_as
from support.own_postgresql import OwnPostgreSQL
from support.postgresql import (
    FileLink,
    PostgreSQLServer,
    backup,
    checksums,
    driver,
    fill,
    restore,
    running,
    scratch,
    started,
    version,
)
from support.postgresql_profiles import adopted, copy_of


def restore_in_place(own: OwnPostgreSQL, server: Server, chain: list[FileLink], place: Path, job: str) -> None:
    """As a restore job and the swap do it."""
    new = scratch(place, f"new-{job}")
    work = scratch(place, f"work-{job}")
    run_as(server.user, driver.restores.restore, server.version, chain, new, work, str, server)
    driver.restores.keep_configuration(server, new)
    own.end()
    own.data.rename(place / f"old-{job}")
    new.rename(own.data)
    subprocess.run([str(own.start)], check=True)
    deadline = time.monotonic() + 60
    while True:
        try:
            driver.servers.read_facts(server)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.parametrize("incremental", [False, True], ids=["full", "wal"])
def test_each_restore_in_place_uses_a_timeline_that_is_new_to_the_archive(place: Path, incremental: bool) -> None:
    archive = scratch(place, "archive")
    own = OwnPostgreSQL(
        place,
        settings=f"archive_mode = on\narchive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'\nwal_keep_size = 256",
        hba="local all,replication all trust\n",
    )
    try:
        source = PostgreSQLServer(adopted(own, place))
        (own.data / "server.key").write_text("old")
        shutil.chown(own.data / "server.key", own.user)
        with source.connect("postgres") as connection:
            fill(connection, 100)
        chain = [backup(source, place, "full")]
        if incremental:
            source.sql("INSERT INTO sequence VALUES (1)", "postgres")
            chain.append(backup(source, place, "incremental", chain[0]))
        with source.connect("postgres") as connection:
            data = checksums(connection)
        (own.data / "server.key").write_text("new")
        for job, timeline in (("one", 2), ("two", 3), ("three", 4)):
            source.sql("INSERT INTO sequence SELECT max(id) + 100 FROM customers ON CONFLICT DO NOTHING", "postgres")
            restore_in_place(own, source.server, chain, place, job)
            with source.connect("postgres") as connection:
                assert checksums(connection) == data
                assert query(connection, "SELECT timeline_id FROM pg_control_checkpoint()") == [(timeline,)]
                query(connection, "SELECT pg_switch_wal()")
            deadline = time.monotonic() + 30
            while not (archive / f"{timeline:08X}.history").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            assert (archive / f"{timeline:08X}.history").exists(), sorted(path.name for path in archive.iterdir())
            assert not [p for p in (own.data / "pg_wal").glob("*.history") if p.read_text().startswith("# reserved")]
            assert (own.data / "server.key").read_text() == "new"
            if job == "two":  # the owner puts older data back by hand: our record remembers
                own.end()
                shutil.rmtree(archive)
                scratch(place, "archive")
                own.data.rename(place / "put-aside")
                (place / "old-one").rename(own.data)
                subprocess.run([str(own.start)], check=True)
    finally:
        own.end()


def test_a_copy_of_a_subscriber_does_not_advance_the_slot_of_its_publisher(place: Path) -> None:
    with running(place, name="pub") as publisher:
        publisher.sql("CREATE DATABASE db1", "postgres")
        publisher.sql("CREATE TABLE t (id int PRIMARY KEY)")
        publisher.sql("CREATE PUBLICATION p FOR TABLE t")
        publisher.sql("ALTER SYSTEM SET wal_level = logical", "postgres")
        publisher.end()
        publisher.start()
        assert publisher.server.socket is not None
        conninfo = f"host={publisher.server.socket.parent} dbname=db1 user=postgres"
        with running(place, name="sub") as subscriber:
            subscriber.sql("CREATE DATABASE db1", "postgres")
            subscriber.sql("CREATE TABLE t (id int PRIMARY KEY)")
            subscriber.sql(f"CREATE SUBSCRIPTION s CONNECTION '{conninfo}' PUBLICATION p")
            publisher.sql("INSERT INTO t VALUES (1)")
            wait_for(lambda: subscriber.sql("SELECT count(*) FROM t") == [(1,)])
            server, profile = copy_of(subscriber, place, "copy")
        assert profile.facts["subscriptions"] == ["db1.s"]
        assert any("db1.s" in notice.message for notice in profile.notices if notice.item == "subscriptions")
        wait_for(lambda: publisher.sql("SELECT count(*) FROM pg_stat_replication") == [(0,)])
        slot = publisher.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 's'")
        publisher.sql("INSERT INTO t SELECT generate_series(2, 21)")
        with started(server) as copy:
            (notice,) = [n for n in driver.profiles.check(server, profile, isolated=True) if n.item == "subscriptions"]
            assert "db1.s (slot s)" in notice.message and "ENABLE" in notice.remedy
            time.sleep(2)
            assert copy.sql("SELECT subenabled, subslotname FROM pg_subscription", "db1") == [(False, None)]
            assert copy.sql("SELECT count(*) FROM t") == [(1,)]
            copy.sql("DROP SUBSCRIPTION s")  # would drop the slot of the real one
        assert publisher.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 's'") == slot
        log = (publisher.server.base_dir / "log" / "error.log").read_text()
        with started(subscriber.server) as real:
            wait_for(lambda: real.sql("SELECT count(*) FROM t") == [(21,)])
        assert 's" does not exist' not in log


@pytest.mark.parametrize("isolated", [True, False])
def test_an_adopted_server_runs_no_subscription_of_a_copy(tmp_path: Path, isolated: bool) -> None:
    """Its configuration is its owner's; subscriptions can only be disabled while it runs."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    before = "max_logical_replication_workers = '0'\nmax_logical_replication_workers = '8'\n"
    (old / "postgresql.auto.conf").write_text(before)
    write_restored_profile(new, RestoredProfile(profile=Profile(facts={"subscriptions": []}), isolated=isolated))
    server = Server(
        id="i",
        name="own",
        datastore="postgresql",
        runtime="adopted",
        user=version_user(),
        base_dir=tmp_path,
        data_dir=old,
        version=version(),
    )
    driver.restores.keep_configuration(server, new)
    withheld = "max_logical_replication_workers = '0'\n" if isolated else ""
    assert (new / "postgresql.auto.conf").read_text() == before + withheld
    if withheld:
        first_start.release_subscriptions(new)
        assert (new / "postgresql.auto.conf").read_text() == before


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def taken() -> Iterator[tuple[FileLink, Profile, Path]]:
    """A backup with indexes of several kinds, large values and an event trigger, and its profile."""
    import tempfile

    top = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    top.chmod(0o711)
    try:
        with running(top) as source:
            source.sql("CREATE DATABASE db1", "postgres")
            source.sql("CREATE DATABASE closed", "postgres")
            with source.connect() as connection:
                fill(connection, 500)
                for statement in (
                    "CREATE INDEX by_note ON customers USING hash (name)",
                    "CREATE INDEX by_upper ON customers (upper(name))",
                    "CREATE MATERIALIZED VIEW seen AS SELECT * FROM orders",
                    "CREATE MATERIALIZED VIEW not_yet AS SELECT * FROM orders WITH NO DATA",
                    "CREATE FUNCTION nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'",
                    "CREATE EVENT TRIGGER no ON ddl_command_start EXECUTE FUNCTION nothing()",
                ):
                    connection.execute(statement.encode())
            source.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false", "postgres")
            profile = run_as(source.server.user, driver.profiles.read, source.server)
            link = backup(source, top)
            link.profile = profile
            files = dict(
                source.sql(
                    "SELECT relname::text, pg_relation_filepath(oid) FROM pg_class WHERE relname IN ('customers', 'orders_pkey')"
                )
            )
            profile.facts["files"] = [files["customers"], files["orders_pkey"]]
        yield link, profile, top
    finally:
        shutil.rmtree(top)


def rehearse(link: FileLink, place: Path, profile: Profile | None, harm: str | None = None) -> int:
    target, work = scratch(place, "target"), scratch(place, "work")
    user = version_user()
    run_as(user, driver.restores.restore, version(), [link], target, work, str)
    if harm is not None:
        with (target / harm).open("r+b") as file:
            file.seek(8192 + 3000)
            file.write(b"x" * 2000)
    found = run_as(user, driver.profiles.rehearse, version(), target, work, profile)
    return int(found.tables)


def version_user() -> str:
    from support.postgresql import server_user

    return server_user()


def test_a_rehearsal_reads_all_tables(place: Path, taken: tuple[FileLink, Profile, Path]) -> None:
    link, profile, _ = taken
    assert rehearse(link, place, profile) > 200  # those of the system in four databases, and of users


@pytest.mark.parametrize("n", [0, 1], ids=["table", "index"])
def test_a_rehearsal_finds_unreadable_tables(place: Path, taken: tuple[FileLink, Profile, Path], n: int) -> None:
    link, profile, _ = taken
    files = profile.facts["files"]
    assert isinstance(files, list)
    with pytest.raises(ArtifactCorrupt, match="customers" if n == 0 else "orders_pkey"):
        rehearse(link, place, None, files[n])


def test_a_rehearsal_ends_if_its_server_refuses_the_login(
    place: Path, taken: tuple[FileLink, Profile, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, profile, _ = taken
    monkeypatch.setattr(rehearsal, "_LONGEST_REFUSAL", 2.0)
    foreign = profile.model_copy(update={"facts": profile.facts | {"superuser": "nobody_here"}})
    with pytest.raises(ServerFailed, match="nobody_here"):
        rehearse(link, place, foreign)


def test_a_rehearsal_on_a_host_with_other_catalogs_does_not_report_damage(
    place: Path, taken: tuple[FileLink, Profile, Path]
) -> None:
    link, profile, _ = taken
    catalogs = profile.facts["catalog_version"]
    assert isinstance(catalogs, int)
    other = profile.model_copy(update={"facts": profile.facts | {"catalog_version": catalogs + 1}})
    with pytest.raises(VersionMismatch, match="reads"):
        rehearse(link, place, other)


@pytest.mark.parametrize(
    ("sqlstate", "said", "expected"),
    [
        ("58P01", 'could not access file "$libdir/columnar": No such file or directory', True),
        ("55000", "citus can only be loaded via shared_preload_libraries", True),
        ("42883", 'could not find function "f" in file "/usr/lib/x.so"', True),
        ("58P01", 'could not open file "pg_tblspc/16400/PG_15_202209061/5/16401": No such file or directory', False),
        ("58P01", 'could not open file "base/5/16401": No such file or directory', False),
        ("58P01", "could not access status of transaction 740", False),
    ],
)
def test_lost_files_of_the_data_are_damage_and_lost_libraries_are_not(sqlstate: str, said: str, expected: bool) -> None:
    assert rehearsal.is_missing_library(sqlstate, said) is expected


RIGHTS = (
    "CREATE ROLE taker LOGIN REPLICATION IN ROLE pg_read_all_settings",
    "GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO taker",
    "CREATE ROLE strongroom NOLOGIN",
    "CREATE SCHEMA pgagent",
    "CREATE TABLE pgagent.pga_job (id int)",
    "ALTER ROLE boss NOLOGIN",
)


@pytest.mark.parametrize(("account", "told", "expected"), [("boss", False, "boss"), ("taker", True, "strongroom_[0-9a-f]{8}")])
def test_strongroom_can_always_log_in_to_restored_data(place: Path, account: str, told: bool, expected: str) -> None:
    """The superuser is found in data of unknown origin, and made where none can log in. The account of backups is a plain one."""
    own = OwnPostgreSQL(place, initdb=["-U", "boss"], hba="local all,replication all trust\n")
    try:
        credentials = place / "pgpass"
        credentials.write_text(f"*:*:*:{account}:unused\n")
        credentials.chmod(0o644)
        source = PostgreSQLServer(adopted(own, place, credentials))
        if told:
            with own.connect("boss") as connection:
                for statement in RIGHTS:
                    connection.execute(statement.encode())
        profile = run_as(own.user, driver.profiles.read, source.server)
        assert (profile.facts["superuser"], profile.facts["md5_passwords"]) == ((None, None) if told else ("boss", False))
        assert profile.facts["workers"] == (["pgagent in postgres"] if told else [])
        link = backup(source, place)
    finally:
        own.end()
    link.profile = profile if told else None
    with started(restore(link, place, "copy", known=True)) as copy:
        ((name, is_superuser),) = copy.sql("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user", "postgres")
    assert re.fullmatch(expected, name) and is_superuser


LINKS = [
    ("base/777", True, "refuse"),
    ("pg_xact/0000_link", True, "refuse"),
    ("server.crt", False, "warn"),
    ("pg_log", False, "warn"),
    ("pg_wal", False, None),
    ("base/pgsql_tmp", False, None),
    ("pg_tblspc/16400", False, None),
]


@pytest.mark.parametrize(("name", "own", "effect"), LINKS)
def test_links_that_a_backup_would_omit_are_refused(tmp_path: Path, name: str, own: bool, effect: str | None) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.symlink_to("/elsewhere")
    assert [(notice.effect, name in notice.message) for notice in examine_directory(tmp_path / "data")] == (
        [(effect, True)] if effect else []
    )
    assert find_data_links(tmp_path / "data") == ([name] if effect == "refuse" else [])


@pytest.mark.parametrize(("text", "effect"), [('{"pause": true}', "warn"), ('{"ttl": 30}', "refuse_in_place")])
def test_patroni_has_to_pause(tmp_path: Path, text: str, effect: str) -> None:
    (tmp_path / "patroni.dynamic.json").write_text(text)
    assert [notice.effect for notice in examine_directory(tmp_path)] == [effect]


# --- without a server


@pytest.mark.parametrize(
    ("name", "value", "carried"),
    [
        ("max_connections", "500", True),
        ("max_connections", "5", False),  # that of Strongroom is higher
        ("max_connections", "99999999", False),
        ("max_connections", "1; x", False),
        ("TimeZone", "Europe/Berlin", True),
        ("TimeZone", "../../etc/passwd", False),
        ("lc_time", "xx_XX.nowhere", False),
        ("archive_command", "rm -rf /", False),
        ("dynamic_library_path", "/tmp", False),
        ("search_path", '"$user", public', True),
        ("search_path", "public'\narchive_mode = on", False),
        ("wal_level", "minimal", False),
    ],
)
def test_only_known_and_valid_settings_are_carried(name: str, value: str, carried: bool) -> None:
    found = carry.select_carried(Profile(settings={name: value}), version(), {"max_connections": 100})
    assert (name in found) == carried


def test_a_copy_loads_passive_libraries_only(place: Path) -> None:
    libraries = ["pg_stat_statements", "pg_cron", "../evil", "/tmp/evil", "plpgsql"]
    restored = RestoredProfile(profile=Profile(plugins=libraries), isolated=True)
    assert carry.list_preloaded(restored, version()) == ["pg_stat_statements", "plpgsql"]
    assert carry.list_withheld(restored.profile) == ["pg_cron"]


@pytest.mark.parametrize("name", ["postgres\nlocal all all trust", "/.*", "+all", "", "x" * 64])
def test_a_name_of_a_superuser_that_matches_all_users_is_ignored(name: str) -> None:
    assert superuser.find_in_profile(Profile(facts={"superuser": name})) is None


def test_archives_are_found_in_commands() -> None:
    assert timelines._DIRECTORY.findall("test ! -f /a b/%f && cp %p '/var/archive/%f'") == ["/var/archive"]
    assert re.fullmatch(timelines._NAME, "0000000A.history.gz")
