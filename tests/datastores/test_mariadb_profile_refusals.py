"""What cannot be restored is refused when the backup is taken, or before a restore begins. Hostile profiles change nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import Notice, Profile
from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.datastores import (
    BackupRequest,
    GaleraMember,
    RestoredProfile,
    RestoreTarget,
    Server,
    Version,
    get,
    write_restored_profile,
)
from strongroom.datastores.innodb.connection import connect, query
from strongroom.datastores.mariadb.profile import rehearsal, tables
from strongroom.datastores.mariadb.restore import prepare
from strongroom.datastores.mariadb.restore import private as private_module
from strongroom.datastores.mariadb.server import config, plugins
from strongroom.datastores.mariadb.server import settings as settings_module
from strongroom.errors import ArtifactCorrupt, ConfigurationError, ToolFailed
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from support import mariadb, own_mariadb
from support.identity import run_as, server_user
from support.mariadb import FileLink
from support.own_mariadb import OwnServer
from support.sessions import pieces

driver = get("mariadb")
KEY = "1;770A8A65DA156D24EE2A093277530142770A8A65DA156D24EE2A093277530142\n"


def read(own: OwnServer) -> Profile:
    return run_as(own.server.user, driver.profiles.read, own.server)


def effects(profile: Profile) -> dict[str, str]:
    """The effect of each item that is not only a warning."""
    return {notice.item: notice.effect for notice in profile.notices if notice.effect != "warn"}


def restore(version: Version, chain: Sequence[FileLink], target: Path, work: Path, server: Server | None) -> Any:
    return driver.restores.restore(version, chain, target, work, lambda phase: None, server)


def put(own: OwnServer, path: Path, content: str = "x") -> None:
    path.write_text(content)
    if os.geteuid() == 0:
        os.chown(path, *find_user(own.server.user).owner)
    path.chmod(0o600)


def test_data_that_cannot_be_restored_is_refused(place: Path) -> None:
    version = own_mariadb.with_plugins(place) if own_mariadb.have_plugins() else mariadb.version()
    with own_mariadb.running(place, of=version) as own:
        own.sql("CREATE DATABASE d")
        own.sql("CREATE TABLE d.t (a INT)")
        assert effects(read(own)) == {}
        own.sql("CREATE USER strongroom@localhost REQUIRE X509 PASSWORD EXPIRE ACCOUNT LOCK")
        assert effects(read(own)) == {"account strongroom@localhost": "refuse_new"}
        own.sql("DROP USER strongroom@localhost")
        for made in ("d/notes.txt", "d/pipe", "xtrabackup_info/db.opt"):
            path = own.data_dir / made
            if made.endswith("pipe"):
                os.mkfifo(path)
            else:
                make_directory(path.parent, find_user(own.server.user).owner)
                put(own, path)
        for name in ("cert.pem", "notes"):
            put(own, own.data_dir / name)
        profile = read(own)
        assert effects(profile) == {
            "unknown files of a database": "refuse",
            "links and mount points": "refuse",
            "names of the backup tool": "refuse",
        }
        assert profile.left_behind == ["cert.pem", "notes"]
        for made in ("d/notes.txt", "d/pipe", "xtrabackup_info/db.opt"):
            (own.data_dir / made).unlink()
        (own.data_dir / "xtrabackup_info").rmdir()
        if own_mariadb.have_plugins():
            own.sql("INSTALL SONAME 'ha_federatedx'")
            own.sql("CREATE USER far@localhost IDENTIFIED BY 'secret'")
            own.sql("GRANT ALL ON d.* TO far@localhost")
            own.sql(
                "CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (SOCKET %s, USER 'far', PASSWORD 'secret', DATABASE 'd')",
                str(own.server.socket),
            )
            own.sql("CREATE TABLE d.f (a INT) ENGINE=FEDERATED CONNECTION='far/t'")
            profile = read(own)
            assert effects(profile) == {"engines that reach other servers": "refuse_new"}
            assert "secret" not in profile.model_dump_json()


def test_directories_outside_are_placed_by_a_restore_in_place(place: Path) -> None:
    names = {
        "innodb_undo_directory": "u",
        "innodb_log_group_home_dir": "r",
        "aria_log_dir_path": "a",
        "innodb_data_home_dir": "h",
    }
    options = [f"{name}={{place}}/{directory}" for name, directory in names.items()]
    with own_mariadb.running(place, options=options, directories=list("urah"), fresh=True) as own:
        profile = read(own)
        assert profile.outside.keys() == names.keys()
        target = RestoreTarget(own.server.version, own.server, in_place=True)
        assert {found.item: found.directory for found in driver.placement.places(own.server)} == {
            name: own.server.base_dir / directory for name, directory in names.items()
        }
        for _ in ("while it runs", "while it is stopped"):
            assert not [n for n in driver.profiles.compare(profile, target) if n.effect == "refuse_in_place"]
            own.stop()
        assert not driver.profiles.compare(profile, replace(target, in_place=False))


def test_a_different_layout_of_the_target_prevents_a_restore_in_place(place: Path) -> None:
    own = own_mariadb.make(place, options=["innodb_page_size=16k"])
    own.write_options()
    target = RestoreTarget(own.server.version, own.server, in_place=True)
    assert not driver.profiles.compare(Profile(settings={"innodb_page_size": "16384"}), target)
    (notice,) = driver.profiles.compare(Profile(settings={"innodb_page_size": "8192"}), target)
    assert notice.effect == "refuse_in_place" and "innodb_page_size = 8192" in notice.message
    (notice,) = driver.profiles.compare(Profile(settings={"lower_case_table_names": "1"}), target)
    assert notice.item == "lower_case_table_names"


@pytest.mark.skipif(not own_mariadb.have_plugins(), reason="scripts/setup could not get the plugins")
class TestEncryption:
    """Keys are never in a backup."""

    @pytest.fixture
    def own(self, place: Path) -> Iterator[OwnServer]:
        options = [
            "plugin_load_add=file_key_management",
            "file_key_management_filename={place}/k/keys",
            "innodb_encrypt_tables=ON",
        ]
        own = own_mariadb.make(
            place, options=[*options, "innodb_encrypt_log=ON"], directories="k", of=own_mariadb.with_plugins(place)
        )
        put(own, own.server.base_dir / "k/keys", KEY)
        try:
            own.start(first=True)
            own.sql("CREATE DATABASE d")
            own.sql("CREATE TABLE d.t (a VARCHAR(50))")
            own.sql("INSERT INTO d.t VALUES ('hidden')")
            yield own
        finally:
            own.kill()

    def test_encrypted_data_is_restored_only_where_its_keys_are(self, place: Path, own: OwnServer) -> None:
        profile = read(own)
        assert effects(profile) == {"encryption": "refuse_new"}
        link = replace(mariadb.backup(own, place, "full"), profile=profile)
        target, work = mariadb.scratch(place, "new"), mariadb.scratch(place, "work")
        with pytest.raises(ConfigurationError, match="no keys are known here"):
            run_as(
                server_user(), restore, own.server.version, [link], mariadb.scratch(place, "x"), mariadb.scratch(place, "y"), None
            )
        own.sql("DROP TABLE d.t")
        assert not driver.profiles.compare(profile, RestoreTarget(own.server.version, own.server, in_place=True))
        run_as(server_user(), restore, own.server.version, [link], target, work, own.server)
        assert not list(target.glob("*.cnf"))
        own.stop()
        own.data_dir.rename(place / "old")
        target.rename(own.data_dir)
        own.start()
        assert own.sql("SELECT a FROM d.t") == [("hidden",)]
        assert not driver.profiles.check(own.server, profile, isolated=False)

    def test_keys_in_the_data_directory_are_refused(self, own: OwnServer) -> None:
        own.stop()
        (own.server.base_dir / "k/keys").rename(own.data_dir / "keys")
        own.options = [option.replace("/k/", "/data/") for option in own.options]
        own.start()
        notices = [notice for notice in read(own).notices if notice.effect == "refuse"]
        assert "the keys are in the data directory" in notices[0].message

    def test_a_passphrase_in_the_option_file_is_refused(self, own: OwnServer) -> None:
        own.stop()
        own.options = [*own.options, "file_key_management_filekey=very_secret"]
        (own.server.base_dir / "k/keys").write_bytes(encrypt("very_secret"))
        own.start()
        profile = read(own)
        assert effects(profile)["encryption"] in ("refuse", "refuse_new")
        assert any(notice.effect == "refuse" and "unencrypted" in notice.message for notice in profile.notices)
        assert "very_secret" not in profile.model_dump_json()


def encrypt(passphrase: str) -> bytes:
    """A key file as ``openssl enc -aes-256-cbc -md sha1`` makes it."""
    command = ["openssl", "enc", "-aes-256-cbc", "-md", "sha1", "-pass", f"pass:{passphrase}"]
    return subprocess.run(command, input=KEY.encode(), capture_output=True, check=True).stdout


def test_damage_is_found_by_a_rehearsal(place: Path) -> None:
    with mariadb.running(place, None) as server:
        server.fill(300)
        server.sql("CREATE TABLE db1.m (a INT) ENGINE=MyISAM")
        server.sql("INSERT INTO db1.m VALUES (1), (2), (3)")
        with server.connect() as connection, connection.cursor() as cursor:
            for statement in ("XA START {}", "UPDATE db1.customers SET note = NULL", "XA END {}", "XA PREPARE {}"):
                cursor.execute(statement.format("X'61fe', 'b', 7"))
        profile = run_as(server.server.user, driver.profiles.read, server.server)
        link = replace(mariadb.backup(server, place, "full"), profile=profile)
        version = server.server.version
    damages = {
        "page": lambda data: flip(next(iter(sorted((data / "db1").glob("*.ibd"), key=lambda path: -path.stat().st_size)))),
        "rows": lambda data: (data / "db1/m.MYD").write_bytes(b""),
        "gone": lambda data: [path.unlink() for path in (data / "db1").glob("m.*")],
        "none": lambda data: None,
    }
    for name, damage in damages.items():
        target, work = mariadb.scratch(place, name), mariadb.scratch(place, f"{name}-work")
        run_as(server_user(), restore, version, [link], target, work, None)
        damage(target)
        if name == "none":
            run_as(server_user(), end_prepared, version, target, work)
            assert run_as(server_user(), driver.profiles.rehearse, version, target, work, profile).tables > 30
        else:
            with pytest.raises(ArtifactCorrupt, match="instead of" if name == "gone" else r"db1\."):
                run_as(server_user(), driver.profiles.rehearse, version, target, work, profile)


def test_tables_of_a_missing_engine_are_not_reported_as_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    connection: Any = None
    monkeypatch.setattr(rehearsal, "read_tables", lambda _: tables.Tables(broken=["db1.t"]))
    monkeypatch.setattr(plugins, "is_installed", lambda *_: False)
    with pytest.raises(ConfigurationError, match="not installed on this host: OQGRAPH"):
        list(rehearsal._compare_engines(connection, Profile(plugins=["OQGRAPH"]), mariadb.version()))
    with pytest.raises(ArtifactCorrupt, match="cannot be opened"):
        list(rehearsal._compare_engines(connection, Profile(), mariadb.version()))
    warnings = list(rehearsal._compare_engines(connection, Profile(tables={"CONNECT": 1}), mariadb.version()))
    assert warnings == ["Tables of engines that reach other servers were not opened: db1.t."]
    reaching = [Notice(item="engines that reach other servers", effect="refuse_new", message="m")]
    assert len(list(rehearsal._compare_engines(connection, Profile(tables=None, notices=reaching), mariadb.version()))) == 2


def end_prepared(version: Version, data_dir: Path, work_dir: Path) -> None:
    """What a rehearsal does first: nothing may hold locks while it reads tables."""
    with private_module.private_server(version, data_dir, work_dir, Profile()) as private, connect(private) as connection:
        assert len(query(connection, "XA RECOVER")) == 1
        rehearsal._end_prepared(connection)
        assert query(connection, "XA RECOVER") == []


def flip(path: Path) -> None:
    """Damage the middle of a tablespace: a page in use."""
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 16384):
        at = page * 16384 + 200
        data[at : at + 600] = bytes(byte ^ 0xFF for byte in data[at : at + 600])
    path.write_bytes(data)


def test_a_table_that_the_tool_omits_is_noticed(place: Path) -> None:
    with mariadb.running(place, None) as server:
        server.fill(10)
        with pytest.raises(ToolFailed, match=r"left out files of tables: db1/orders.frm, db1/orders.ibd"):
            run_as(server.server.user, take_without, server.server, mariadb.scratch(place, "work"), "db1/orders.ibd")


def take_without(server: Server, work: Path, left_out: str) -> None:
    """A backup in whose stream a temporary name was seen."""
    walk = Mbstream()

    def paths() -> list[str]:
        return [path for path, _ in walk.ranges() if not path.startswith(left_out.removesuffix(".ibd"))]

    session = driver.backups.begin(server, BackupRequest("full", None, work, paths=paths))
    try:
        for data in pieces(session.stdout):
            walk.feed(data)
        session.finish()
    finally:
        session.abort()


def test_a_hostile_profile_sets_nothing_but_listed_values(tmp_path: Path) -> None:
    hostile = {
        "plugin_load_add": "evil",
        "init_file": "/tmp/x",
        "innodb_data_file_path": "/dev/sda:1Graw",
        "sql_mode": "ANSI\nplugin_load_add=evil",
        "time_zone": "../../etc/passwd",
        "innodb_page_size": "8192",
        "lower_case_table_names": "1",
        "ft_boolean_syntax": '+ -><()~*:"\\&|',
    }
    carried = settings_module.select_carried(Profile(settings=hostile), isolated=True, galera=False)
    assert carried == {
        "innodb_page_size": "8192",
        "lower_case_table_names": "1",
        "loose-ft_boolean_syntax": '+ -><()~*:"\\&|',
    }


def test_options_of_a_stream_are_rewritten(tmp_path: Path) -> None:
    (tmp_path / prepare.FILE).write_text(
        "[mysqld]\ninnodb_page_size=8192\ninnodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend\nplugin_dir=/tmp/evil\n"
        "plugin_load=evil=evil;unknown\ninnodb_undo_directory=/srv/undo\nfile_key_management_filekey=secret\n!include /etc/x\n"
    )
    settings = prepare.rewrite_options(mariadb.version(), tmp_path, None, None)
    assert settings == {"innodb_page_size": "8192", "innodb_data_file_path": "ibdata1:12M;ibdata2:12M:autoextend"}
    text = (tmp_path / prepare.FILE).read_text()
    assert not any(word in text for word in ("evil", "plugin", "secret", "undo_directory", "include"))


def test_a_copy_is_isolated_until_it_is_activated(place: Path) -> None:
    profile = Profile(settings={"event_scheduler": "ON"}, facts={"replica of": ["db1:3306"]})
    server = mariadb.make(place, None)
    for isolated, scheduler in ((True, "OFF"), (False, "ON")):
        write_restored_profile(server.data_dir, RestoredProfile(profile=profile, isolated=isolated))
        server.start()
        try:
            assert server.sql("SELECT @@event_scheduler") == [(scheduler,)]
            server.sql("CREATE DATABASE IF NOT EXISTS d")
            server.sql("CREATE EVENT IF NOT EXISTS d.e ON SCHEDULE EVERY 1 SECOND DO SELECT 1")
            notices = driver.profiles.check(server.server, profile, isolated=isolated)
            assert [notice.item for notice in notices] == (["events", "replication"] if isolated else [])
        finally:
            server.stop()


def test_a_locked_account_of_the_same_name_becomes_usable(place: Path) -> None:
    """Data that Strongroom ran before may contain the account, changed by a user since."""
    server = mariadb.make(place, None)
    server.start()
    try:
        server.sql("ALTER USER strongroom@localhost REQUIRE X509 PASSWORD EXPIRE ACCOUNT LOCK")
        server.stop()
        server.start()
        assert server.sql("SELECT @@strict_password_validation, @@sql_mode <> ''") == [(1, 1)]
    finally:
        server.kill()


def test_nodes_that_are_sent_their_data_get_the_settings_of_the_backup(place: Path) -> None:
    server = mariadb.make(place, "127.0.0.0/24").server
    (server.data_dir / "ibdata1").unlink()
    member = GaleraMember(
        cluster="c", node="n", peers=["127.0.0.1"], settings={"innodb_page_size": "8192", "event_scheduler": "ON", "evil": "x"}
    )
    config.configure(server.model_copy(update={"galera": member}))
    text = (server.base_dir / "my.cnf").read_text()
    assert "innodb_page_size=8192\n" in text and "event_scheduler" not in text and "evil" not in text
