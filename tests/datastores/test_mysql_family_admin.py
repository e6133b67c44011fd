"""Databases and users of MariaDB and MySQL, with names that bite."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from strongroom.datastores import Administration, DatabaseSpec, UserChange, UserSpec, get
from strongroom.datastores.innodb.connection import quote_name
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
    for spec in get(server.server.datastore).require_administration().databases.list_all(server.server):
        server.sql(f"DROP DATABASE {quote_name(spec.name)}")
    for name, host in set(server.sql("SELECT User, Host FROM mysql.user")) - kept:
        if host:
            server.sql("DROP USER %s@%s", name, host)
        else:
            server.sql("DROP ROLE %s", name)  # of MariaDB


@pytest.fixture
def sql(server: MariaDBServer) -> Administration:
    return get(server.server.datastore).require_administration()


def login(running: MariaDBServer, user: str, password: str) -> pymysql.Connection:  # type: ignore[type-arg]
    return pymysql.connect(unix_socket=str(running.server.socket), user=user, password=password.encode(), charset="utf8mb4")


def visible(running: MariaDBServer, user: str, password: str) -> set[str]:
    with login(running, user, password) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        return {name for (name,) in cursor.fetchall()} - {"information_schema", "performance_schema"}


def test_databases_of_every_name(sql: Administration, running: MariaDBServer) -> None:
    server = running.server
    sql.databases.create(server, [DatabaseSpec(name=name) for name in NAMES])
    assert {spec.name for spec in sql.databases.list_all(server)} == set(NAMES)
    for name in NAMES:
        with pytest.raises(AlreadyExists):
            sql.databases.create(server, [DatabaseSpec(name=name)])
        sql.databases.drop(server, name)
        with pytest.raises(NotFound):
            sql.databases.drop(server, name)
    assert sql.databases.list_all(server) == []


def test_character_set_and_collation(sql: Administration, running: MariaDBServer) -> None:
    sql.databases.create(running.server, [DatabaseSpec(name="a", character_set="latin1", collate="latin1_german1_ci")])
    (spec,) = sql.databases.list_all(running.server)
    assert (spec.character_set, spec.collate) == ("latin1", "latin1_german1_ci")
    for bad in (
        DatabaseSpec(name="b", character_set="klingon"),
        DatabaseSpec(name="b", character_set="utf8mb4; DROP DATABASE a"),
        DatabaseSpec(name="b", character_set="latin1", collate="utf8mb4_bin"),
    ):
        with pytest.raises(InvalidRequest):
            sql.databases.create(running.server, [bad])
    assert [spec.name for spec in sql.databases.list_all(running.server)] == ["a"]


@pytest.mark.parametrize("name", ["", "mysql", "SYS", "Information_Schema", "x" * 65, "nul\0", "trailing ", "emoji 🙂"])
def test_names_that_no_database_may_have(sql: Administration, running: MariaDBServer, name: str) -> None:
    with pytest.raises(InvalidRequest):
        sql.databases.create(running.server, [DatabaseSpec(name="good"), DatabaseSpec(name=name)])
    with pytest.raises(InvalidRequest):
        sql.databases.drop(running.server, name)
    assert sql.databases.list_all(running.server) == []


def test_users_of_every_name_see_their_databases_only(sql: Administration, running: MariaDBServer) -> None:
    server = running.server
    sql.databases.create(server, [DatabaseSpec(name=name) for name in NAMES] + [DatabaseSpec(name="underXscore")])
    names = [name for name in NAMES if server.datastore == "mariadb" or (len(name) <= 32 and name[0] != " ")]
    specs = [UserSpec(name=name, password=f"p'\"\\%s{name}", databases=[name]) for name in names]
    sql.users.create(server, specs)
    listed = {user.name: user for user in sql.users.list_all(server)}
    assert set(listed) == set(names)
    for spec in specs:
        assert listed[spec.name] == UserSpec(name=spec.name, host="%", databases=spec.databases)
        assert visible(running, spec.name, spec.password or "") == {spec.name}
        with pytest.raises(AlreadyExists):
            sql.users.create(server, [spec])
    for spec in specs:
        sql.users.revoke(server, spec.name, "%", spec.name)
        assert visible(running, spec.name, spec.password or "") == set()
        with pytest.raises(NotFound):
            sql.users.revoke(server, spec.name, "%", spec.name)
        sql.users.drop(server, spec.name, "%")
        with pytest.raises(NotFound):
            sql.users.drop(server, spec.name, "%")
    assert sql.users.list_all(server) == []


def test_grant(sql: Administration, running: MariaDBServer) -> None:
    server = running.server
    sql.databases.create(server, [DatabaseSpec(name="d1"), DatabaseSpec(name="d_2")])
    sql.users.create(server, [UserSpec(name="u", host="localhost", password="p")])
    sql.users.grant(server, "u", "localhost", ["d1", "d_2"])
    (user,) = sql.users.list_all(server)
    assert user == UserSpec(name="u", host="localhost", databases=["d1", "d_2"])
    with login(running, "u", "p") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE d_2.t (a INT)")
    with pytest.raises(NotFound, match="'u'"):
        sql.users.grant(server, "u", "%", ["d1"])
    with pytest.raises(NotFound, match="'nothing'"):
        sql.users.grant(server, "u", "localhost", ["d1", "nothing"])
    with pytest.raises(InvalidRequest):
        sql.users.grant(server, "u", "localhost", ["mysql"])
    with pytest.raises(NotFound):
        sql.users.create(server, [UserSpec(name="v", password="p", databases=["nothing"])])
    assert [user.name for user in sql.users.list_all(server)] == ["u"]


def test_a_grant_with_a_wildcard_can_be_revoked(sql: Administration, running: MariaDBServer) -> None:
    running.sql("CREATE DATABASE d_1")
    sql.users.create(running.server, [UserSpec(name="u", password="p")])
    running.sql("GRANT SELECT ON `d_1`.* TO u")
    assert sql.users.list_all(running.server)[0].databases == ["d_1"]
    sql.users.revoke(running.server, "u", "%", "d_1")
    assert sql.users.list_all(running.server)[0].databases == []


@pytest.mark.parametrize(
    "name", ["root", "mysql", "strongroom", "mariadb.sys", "mysql.session", "", "x" * 200, "a\0b", "trailing "]
)
def test_names_that_no_user_may_have(sql: Administration, running: MariaDBServer, name: str) -> None:
    for attempt in (
        lambda: sql.users.create(running.server, [UserSpec(name=name, password="p")]),
        lambda: sql.users.drop(running.server, name, "localhost"),
        lambda: sql.users.grant(running.server, name, "localhost", []),
    ):
        with pytest.raises(InvalidRequest):
            attempt()
    assert running.sql("SELECT 1") == [(1,)]


def test_users_hosts_and_passwords_are_checked(sql: Administration, running: MariaDBServer) -> None:
    for bad in (
        UserSpec(name="u", password=""),
        UserSpec(name="u"),
        UserSpec(name="u", password="p", host="no host"),
        UserSpec(name="u", password="p", host="'; --"),
        UserSpec(name="u", password="p", host=""),
    ):
        with pytest.raises(InvalidRequest):
            sql.users.create(running.server, [bad])
    for host in ("10.%", "10.0.0.0/255.255.255.0", "db.example.org", "::1"):
        sql.users.create(running.server, [UserSpec(name="u", password="p", host=host)])
    assert {user.host for user in sql.users.list_all(running.server)} == {
        "10.%",
        "10.0.0.0/255.255.255.0",
        "db.example.org",
        "::1",
    }


def test_roles_and_system_accounts_are_hidden(sql: Administration, running: MariaDBServer) -> None:
    running.sql("CREATE ROLE reader")
    assert sql.users.list_all(running.server) == []
    assert {"root", f"{running.server.datastore}.sys", "strongroom"} <= {
        name for (name,) in running.sql("SELECT User FROM mysql.user")
    }


def test_a_user_changes_name_host_and_password_and_keeps_its_rights(sql: Administration, running: MariaDBServer) -> None:
    server = running.server
    sql.databases.create(server, [DatabaseSpec(name="d_1"), DatabaseSpec(name="d2")])
    sql.users.create(server, [UserSpec(name="u", password="old", databases=["d_1"]), UserSpec(name="taken", password="p")])
    sql.users.change(server, "u", "%", UserChange(password="n'ew\"\\"))
    assert visible(running, "u", "n'ew\"\\") == {"d_1"}
    sql.users.change(server, "u", "%", UserChange(name="v`'w", host="localhost"))
    assert {(u.name, u.host, tuple(u.databases)) for u in sql.users.list_all(server)} == {
        ("v`'w", "localhost", ("d_1",)),
        ("taken", "%", ()),
    }
    sql.users.change(server, "v`'w", "localhost", UserChange(host="%", password="newest"))
    assert visible(running, "v`'w", "newest") == {"d_1"}
    with pytest.raises(AlreadyExists):
        sql.users.change(server, "v`'w", "%", UserChange(name="taken", password="lost"))
    assert visible(running, "v`'w", "newest") == {"d_1"}
    with pytest.raises(NotFound):
        sql.users.change(server, "nobody", "%", UserChange(password="p"))
    with pytest.raises(InvalidRequest):
        sql.users.change(server, "taken", "%", UserChange(name="root"))


def test_root_can_be_enabled_and_disabled(sql: Administration, running: MariaDBServer) -> None:
    server = running.server
    assert not sql.superuser.is_enabled(server)
    with pytest.raises(NotFound):
        sql.superuser.disable(server)
    assert sql.superuser.enable(server, "first") == "root"
    assert sql.superuser.is_enabled(server)
    assert sql.superuser.enable(server, "se'cond") == "root"

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
    assert [user.name for user in sql.users.list_all(server)] == ["u"]
    sql.superuser.disable(server)
    assert not sql.superuser.is_enabled(server)
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        login_as_root("se'cond")
    assert "root" in {name for (name,) in running.sql("SELECT User FROM mysql.user")}


def _logs(running: MariaDBServer) -> bytes:
    """Everything that the server writes down: binary logs, general log, error log."""
    running.sql("FLUSH LOGS")
    files = [*running.data_dir.glob("*.0*"), *running.server.base_dir.glob("log/*"), running.data_dir / "general.log"]
    return b"".join(path.read_bytes() for path in files if path.is_file())


def test_no_password_is_in_a_log_of_the_server(sql: Administration, running: MariaDBServer) -> None:
    server = running.server
    running.sql("SET GLOBAL general_log_file = 'general.log'")
    running.sql("SET GLOBAL general_log = ON")
    try:
        sql.users.create(server, [UserSpec(name="u", password="Hush-1-secret")])
        assert visible(running, "u", "Hush-1-secret") == set()
        sql.users.change(server, "u", "%", UserChange(password="Hush-2-secret"))
        assert visible(running, "u", "Hush-2-secret") == set()
        sql.superuser.enable(server, "Hush-3-secret")
        sql.superuser.enable(server, "Hush-4-secret")
        written = _logs(running)
        assert b"`u`" in written or b"'u'" in written
        assert b"hush" not in written.lower()
    finally:
        running.sql("SET GLOBAL general_log = OFF")
        sql.superuser.disable(server)


@pytest.mark.skipif(not own_mariadb.have_plugins(), reason="scripts/setup found no plugins of MariaDB")
def test_plugins_of_the_owner_see_passwords_and_logs_do_not(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    options = ["log_bin=own-bin", "general_log=1", "general_log_file=general.log", "plugin_load_add=simple_password_check"]
    options += ["plugin_load_add=auth_ed25519", "strict_password_validation=1"]
    of = own_mariadb.with_plugins(place)
    try:
        with own_mariadb.running(place, of=of, options=options) as own:
            server, sql = own.server, get("mariadb").require_administration()
            sql.users.create(server, [UserSpec(name="u", password="Hush-1-secret")])
            assert visible(own, "u", "Hush-1-secret") == set()
            sql.users.change(server, "u", "%", UserChange(password="Hush-2-secret"))
            for password in ("hush", "hushhushhush"):
                with pytest.raises(InvalidRequest):
                    sql.users.create(server, [UserSpec(name="weak", password=password)])
                with pytest.raises(InvalidRequest):
                    sql.users.change(server, "u", "%", UserChange(password=password))
            assert "weak" not in {user.name for user in sql.users.list_all(server)}
            assert visible(own, "u", "Hush-2-secret") == set()
            written = _logs(own)
            assert b"'u'" in written
            assert b"hush" not in written.lower()

            own.sql("CREATE USER curve@localhost IDENTIFIED VIA ed25519 USING PASSWORD('Curve-1-secret')")
            assert server.credentials_file is not None
            server.credentials_file.write_text("[client]\nuser=curve\npassword=Curve-1-secret\n")
            with pytest.raises(ConfigurationError, match=r"plugin for .* that Strongroom does not support: ed25519"):
                get("mariadb").servers.read_facts(server)
    finally:
        shutil.rmtree(place)


def test_the_cause_of_a_failed_login_is_reported(running: MariaDBServer, tmp_path: Path) -> None:
    credentials = tmp_path / "keeper.cnf"
    theirs = running.server.model_copy(update={"runtime": "adopted", "credentials_file": credentials})

    def refusal(user: str, password: str = "p") -> tuple[type[Exception], str]:
        credentials.write_text(f"[client]\nuser={user}\npassword={password}\n")
        with pytest.raises((ConfigurationError, ServerFailed)) as error:
            get(theirs.datastore).servers.read_facts(theirs)
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
    running.sql("GRANT USAGE ON *.* TO busy@localhost WITH MAX_USER_CONNECTIONS 1" if running.server.datastore == "mariadb"
                else "ALTER USER busy@localhost WITH MAX_USER_CONNECTIONS 1")  # fmt: skip
    with login(running, "busy", "p"):
        kind, said = refusal("busy")
    assert kind is NoConnections and "has no free connection" in said
    theirs = theirs.model_copy(update={"socket": tmp_path / "none.sock"})
    kind, said = refusal("expired")
    assert kind is ServerFailed and f"there is no socket {tmp_path / 'none.sock'}" in said
