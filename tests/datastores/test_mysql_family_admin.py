"""Databases and users of MariaDB and MySQL, with names that bite."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from strongroom.datastores import DatabaseSpec, Datastore, UserChange, UserSpec, get
from strongroom.datastores.innodb.connection import identifier
from strongroom.errors import AlreadyExists, ConfigurationError, InvalidRequest, NoConnections, NotFound, ServerFailed
from support import mariadb, mysql, own_mariadb
from support.mariadb import MariaDBServer

NAMES = [
    "plain",
    "back`tick",
    "quote'\"s",
    "semi; DROP DATABASE mysql; --",
    "per%cent %s",
    "under_score",
    "sl/ash.and.dots..",
    "back\\slash\\_",
    "数据库",
    "x" * 64,
    " leading",
]


@pytest.fixture(scope="module", params=[mariadb, mysql], ids=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest) -> Iterator[MariaDBServer]:
    with tempfile.TemporaryDirectory(prefix="sr-", dir="/tmp") as place:
        address = f"127.{10 + os.getpid() % 8}.{os.getpid() // 8 % 250}.0/24"  # not of the pools of tests
        with request.param.running(Path(place), address) as server:
            yield server


@pytest.fixture
def running(server: MariaDBServer) -> Iterator[MariaDBServer]:
    """The server; what a test leaves in it is removed."""
    kept = set(server.sql("SELECT User, Host FROM mysql.user"))
    yield server
    for spec in get(server.server.datastore).databases(server.server):
        server.sql(f"DROP DATABASE {identifier(spec.name)}")
    for name, host in set(server.sql("SELECT User, Host FROM mysql.user")) - kept:
        if host:
            server.sql("DROP USER %s@%s", name, host)
        else:
            server.sql("DROP ROLE %s", name)  # of MariaDB


@pytest.fixture
def driver(server: MariaDBServer) -> Datastore:
    return get(server.server.datastore)


def login(running: MariaDBServer, user: str, password: str) -> pymysql.Connection:  # type: ignore[type-arg]
    return pymysql.connect(unix_socket=str(running.server.socket), user=user, password=password.encode(), charset="utf8mb4")


def visible(running: MariaDBServer, user: str, password: str) -> set[str]:
    with login(running, user, password) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        return {name for (name,) in cursor.fetchall()} - {"information_schema", "performance_schema"}


def test_databases_of_every_name(driver: Datastore, running: MariaDBServer) -> None:
    server = running.server
    driver.create_databases(server, [DatabaseSpec(name=name) for name in NAMES])
    assert {spec.name for spec in driver.databases(server)} == set(NAMES)
    for name in NAMES:
        with pytest.raises(AlreadyExists):
            driver.create_databases(server, [DatabaseSpec(name=name)])
        driver.drop_database(server, name)
        with pytest.raises(NotFound):
            driver.drop_database(server, name)
    assert driver.databases(server) == []


def test_character_set_and_collation(driver: Datastore, running: MariaDBServer) -> None:
    driver.create_databases(running.server, [DatabaseSpec(name="a", character_set="latin1", collate="latin1_german1_ci")])
    (spec,) = driver.databases(running.server)
    assert (spec.character_set, spec.collate) == ("latin1", "latin1_german1_ci")
    for bad in (
        DatabaseSpec(name="b", character_set="klingon"),
        DatabaseSpec(name="b", character_set="utf8mb4; DROP DATABASE a"),
        DatabaseSpec(name="b", character_set="latin1", collate="utf8mb4_bin"),
    ):
        with pytest.raises(InvalidRequest):
            driver.create_databases(running.server, [bad])
    assert [spec.name for spec in driver.databases(running.server)] == ["a"]


@pytest.mark.parametrize("name", ["", "mysql", "SYS", "Information_Schema", "x" * 65, "nul\0", "trailing ", "emoji 🙂"])
def test_names_that_no_database_may_have(driver: Datastore, running: MariaDBServer, name: str) -> None:
    with pytest.raises(InvalidRequest):
        driver.create_databases(running.server, [DatabaseSpec(name="good"), DatabaseSpec(name=name)])
    with pytest.raises(InvalidRequest):
        driver.drop_database(running.server, name)
    assert driver.databases(running.server) == []


def test_users_of_every_name_see_their_databases_only(driver: Datastore, running: MariaDBServer) -> None:
    server = running.server
    driver.create_databases(server, [DatabaseSpec(name=name) for name in NAMES] + [DatabaseSpec(name="underXscore")])
    names = [name for name in NAMES if driver.name == "mariadb" or (len(name) <= 32 and name[0] != " ")]
    specs = [UserSpec(name=name, password=f"p'\"\\%s{name}", databases=[name]) for name in names]
    driver.create_users(server, specs)
    listed = {user.name: user for user in driver.users(server)}
    assert set(listed) == set(names)
    for spec in specs:
        assert listed[spec.name] == UserSpec(name=spec.name, host="%", databases=spec.databases)
        assert visible(running, spec.name, spec.password or "") == {spec.name}
        with pytest.raises(AlreadyExists):
            driver.create_users(server, [spec])
    for spec in specs:
        driver.revoke(server, spec.name, "%", spec.name)
        assert visible(running, spec.name, spec.password or "") == set()
        with pytest.raises(NotFound):
            driver.revoke(server, spec.name, "%", spec.name)
        driver.drop_user(server, spec.name, "%")
        with pytest.raises(NotFound):
            driver.drop_user(server, spec.name, "%")
    assert driver.users(server) == []


def test_grant(driver: Datastore, running: MariaDBServer) -> None:
    server = running.server
    driver.create_databases(server, [DatabaseSpec(name="d1"), DatabaseSpec(name="d_2")])
    driver.create_users(server, [UserSpec(name="u", host="localhost", password="p")])
    driver.grant(server, "u", "localhost", ["d1", "d_2"])
    (user,) = driver.users(server)
    assert user == UserSpec(name="u", host="localhost", databases=["d1", "d_2"])
    with login(running, "u", "p") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE d_2.t (a INT)")
    with pytest.raises(NotFound, match="'u'"):
        driver.grant(server, "u", "%", ["d1"])
    with pytest.raises(NotFound, match="'nothing'"):
        driver.grant(server, "u", "localhost", ["d1", "nothing"])
    with pytest.raises(InvalidRequest):
        driver.grant(server, "u", "localhost", ["mysql"])
    with pytest.raises(NotFound):
        driver.create_users(server, [UserSpec(name="v", password="p", databases=["nothing"])])
    assert [user.name for user in driver.users(server)] == ["u"]


def test_a_grant_that_somebody_wrote_with_a_wildcard_can_be_revoked(driver: Datastore, running: MariaDBServer) -> None:
    running.sql("CREATE DATABASE d_1")
    driver.create_users(running.server, [UserSpec(name="u", password="p")])
    running.sql("GRANT SELECT ON `d_1`.* TO u")
    assert driver.users(running.server)[0].databases == ["d_1"]
    driver.revoke(running.server, "u", "%", "d_1")
    assert driver.users(running.server)[0].databases == []


@pytest.mark.parametrize(
    "name", ["root", "mysql", "strongroom", "mariadb.sys", "mysql.session", "", "x" * 200, "a\0b", "trailing "]
)
def test_names_that_no_user_may_have(driver: Datastore, running: MariaDBServer, name: str) -> None:
    for attempt in (
        lambda: driver.create_users(running.server, [UserSpec(name=name, password="p")]),
        lambda: driver.drop_user(running.server, name, "localhost"),
        lambda: driver.grant(running.server, name, "localhost", []),
    ):
        with pytest.raises(InvalidRequest):
            attempt()
    assert running.sql("SELECT 1") == [(1,)]


def test_users_hosts_and_passwords_are_checked(driver: Datastore, running: MariaDBServer) -> None:
    for bad in (
        UserSpec(name="u", password=""),
        UserSpec(name="u"),
        UserSpec(name="u", password="p", host="no host"),
        UserSpec(name="u", password="p", host="'; --"),
        UserSpec(name="u", password="p", host=""),
    ):
        with pytest.raises(InvalidRequest):
            driver.create_users(running.server, [bad])
    for host in ("10.%", "10.0.0.0/255.255.255.0", "db.example.org", "::1"):
        driver.create_users(running.server, [UserSpec(name="u", password="p", host=host)])
    assert {user.host for user in driver.users(running.server)} == {"10.%", "10.0.0.0/255.255.255.0", "db.example.org", "::1"}


def test_roles_and_system_accounts_are_hidden(driver: Datastore, running: MariaDBServer) -> None:
    running.sql("CREATE ROLE reader")
    assert driver.users(running.server) == []
    assert {"root", f"{driver.name}.sys", "strongroom"} <= {name for (name,) in running.sql("SELECT User FROM mysql.user")}


def test_a_user_changes_name_host_and_password_and_keeps_its_rights(driver: Datastore, running: MariaDBServer) -> None:
    server = running.server
    driver.create_databases(server, [DatabaseSpec(name="d_1"), DatabaseSpec(name="d2")])
    driver.create_users(server, [UserSpec(name="u", password="old", databases=["d_1"]), UserSpec(name="taken", password="p")])
    driver.change_user(server, "u", "%", UserChange(password="n'ew\"\\"))
    assert visible(running, "u", "n'ew\"\\") == {"d_1"}
    driver.change_user(server, "u", "%", UserChange(name="v`'w", host="localhost"))
    assert {(u.name, u.host, tuple(u.databases)) for u in driver.users(server)} == {
        ("v`'w", "localhost", ("d_1",)),
        ("taken", "%", ()),
    }
    driver.change_user(server, "v`'w", "localhost", UserChange(host="%", password="newest"))
    assert visible(running, "v`'w", "newest") == {"d_1"}
    with pytest.raises(AlreadyExists):
        driver.change_user(server, "v`'w", "%", UserChange(name="taken", password="lost"))
    assert visible(running, "v`'w", "newest") == {"d_1"}
    with pytest.raises(NotFound):
        driver.change_user(server, "nobody", "%", UserChange(password="p"))
    with pytest.raises(InvalidRequest):
        driver.change_user(server, "taken", "%", UserChange(name="root"))


def test_root_can_be_opened_and_closed(driver: Datastore, running: MariaDBServer) -> None:
    server = running.server
    assert not driver.superuser_enabled(server)
    with pytest.raises(NotFound):
        driver.disable_superuser(server)
    assert driver.enable_superuser(server, "first") == "root"
    assert driver.superuser_enabled(server)
    assert driver.enable_superuser(server, "se'cond") == "root"

    def login_as_root(password: str) -> None:
        with (
            pymysql.connect(host=server.address, port=server.port or 3306, user="root", password=password) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("CREATE DATABASE made_by_root")
            cursor.execute("CREATE USER u@localhost")
            cursor.execute("GRANT ALL ON made_by_root.* TO u@localhost")

    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        login_as_root("first")
    login_as_root("se'cond")
    assert [user.name for user in driver.users(server)] == ["u"]
    driver.disable_superuser(server)
    assert not driver.superuser_enabled(server)
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        login_as_root("se'cond")
    assert "root" in {name for (name,) in running.sql("SELECT User FROM mysql.user")}


def _logs(running: MariaDBServer) -> bytes:
    """Everything that the server writes down: binary logs, general log, error log."""
    running.sql("FLUSH LOGS")
    files = [*running.data_dir.glob("*.0*"), *running.server.base_dir.glob("log/*"), running.data_dir / "general.log"]
    return b"".join(path.read_bytes() for path in files if path.is_file())


def test_no_password_is_in_a_log_of_the_server(driver: Datastore, running: MariaDBServer) -> None:
    server = running.server
    running.sql("SET GLOBAL general_log_file = 'general.log'")
    running.sql("SET GLOBAL general_log = ON")
    try:
        driver.create_users(server, [UserSpec(name="u", password="Hush-1-secret")])
        assert visible(running, "u", "Hush-1-secret") == set()
        driver.change_user(server, "u", "%", UserChange(password="Hush-2-secret"))
        assert visible(running, "u", "Hush-2-secret") == set()
        driver.enable_superuser(server, "Hush-3-secret")
        driver.enable_superuser(server, "Hush-4-secret")
        written = _logs(running)
        assert b"`u`" in written or b"'u'" in written
        assert b"hush" not in written.lower()
    finally:
        running.sql("SET GLOBAL general_log = OFF")
        driver.disable_superuser(server)


@pytest.mark.skipif(not own_mariadb.have_plugins(), reason="scripts/setup found no plugins of MariaDB")
def test_plugins_of_the_owner_see_passwords_and_logs_do_not(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    options = ["log_bin=own-bin", "general_log=1", "general_log_file=general.log", "plugin_load_add=simple_password_check"]
    options += ["plugin_load_add=auth_ed25519", "strict_password_validation=1"]
    of = own_mariadb.with_plugins(place)
    try:
        with own_mariadb.running(place, of=of, options=options) as own:
            server, driver = own.server, get("mariadb")
            driver.create_users(server, [UserSpec(name="u", password="Hush-1-secret")])
            assert visible(own, "u", "Hush-1-secret") == set()
            driver.change_user(server, "u", "%", UserChange(password="Hush-2-secret"))
            for password in ("hush", "hushhushhush"):
                with pytest.raises(InvalidRequest):
                    driver.create_users(server, [UserSpec(name="weak", password=password)])
                with pytest.raises(InvalidRequest):
                    driver.change_user(server, "u", "%", UserChange(password=password))
            assert "weak" not in {user.name for user in driver.users(server)}
            assert visible(own, "u", "Hush-2-secret") == set()
            written = _logs(own)
            assert b"'u'" in written
            assert b"hush" not in written.lower()

            own.sql("CREATE USER curve@localhost IDENTIFIED VIA ed25519 USING PASSWORD('Curve-1-secret')")
            assert server.credentials_file is not None
            server.credentials_file.write_text("[client]\nuser=curve\npassword=Curve-1-secret\n")
            with pytest.raises(ConfigurationError, match="plugin that Strongroom does not have: ed25519"):
                driver.ready(server)
    finally:
        shutil.rmtree(place)


def test_a_login_that_fails_names_its_cause(driver: Datastore, running: MariaDBServer, tmp_path: Path) -> None:
    credentials = tmp_path / "keeper.cnf"
    theirs = running.server.model_copy(update={"runtime": "adopted", "credentials_file": credentials})

    def refusal(user: str, password: str = "p") -> tuple[type[Exception], str]:
        credentials.write_text(f"[client]\nuser={user}\npassword={password}\n")
        with pytest.raises((ConfigurationError, ServerFailed)) as error:
            driver.ready(theirs)
        assert error.value.remedy and "unexpected" not in error.value.message
        return type(error.value), error.value.message

    for name in ("expired", "locked", "busy"):
        running.sql("CREATE USER %s@localhost IDENTIFIED BY 'p'", name)
    assert refusal("expired", "wrong")[0] is ConfigurationError
    running.sql("ALTER USER expired@localhost PASSWORD EXPIRE")
    kind, said = refusal("expired")
    assert kind is ConfigurationError and "password has expired" in said
    running.sql("ALTER USER locked@localhost ACCOUNT LOCK")
    kind, said = refusal("locked")
    assert kind is ConfigurationError and "locked" in said
    running.sql("GRANT USAGE ON *.* TO busy@localhost WITH MAX_USER_CONNECTIONS 1" if driver.name == "mariadb"
                else "ALTER USER busy@localhost WITH MAX_USER_CONNECTIONS 1")  # fmt: skip
    with login(running, "busy", "p"):
        kind, said = refusal("busy")
    assert kind is NoConnections and "has no free connection" in said
    theirs = theirs.model_copy(update={"socket": tmp_path / "none.sock"})
    kind, said = refusal("expired")
    assert kind is ServerFailed and f"there is no socket {tmp_path / 'none.sock'}" in said
