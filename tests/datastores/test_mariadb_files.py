"""Option files, checkpoints, sockets, private files: what can be tested without a server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.datastores import get, list_names, socket_path
from strongroom.datastores.innodb import options
from strongroom.datastores.innodb.checkpoints import read_checkpoints, read_positions
from strongroom.datastores.mariadb.server import versions
from strongroom.datastores.protocol import clusters
from strongroom.errors import ConfigurationError, InvalidRequest
from support import mariadb
from support.identity import server_user

CHECKPOINTS = "backup_type = {type}\nfrom_lsn = 0\nto_lsn = 44404\nlast_lsn = 160070\nrecover_binlog_info = 0\n"
INFO = "tool_name = mariadb-backup\nbinlog_pos = filename 'binlog.000001', position '43345', GTID of the last change '0-7-5'\n"


def test_names() -> None:
    assert "mariadb" in list_names()
    assert get("mariadb").name == "mariadb"
    with pytest.raises(InvalidRequest, match="oracle") as caught:
        get("oracle")
    assert "mariadb" in caught.value.remedy


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0xFFFF, exclude_categories=["Cs", "Zl", "Zp", "Cc"]), max_size=40))
def test_option_values_survive(value: str) -> None:
    text = options.format_options("client", {"password": value})
    path = Path(f"/tmp/sr-options-{os.getpid()}.cnf")
    try:
        path.write_text(text)
        assert options.read_options(path)["password"] == value
    finally:
        path.unlink()


def test_option_files_of_users(place: Path) -> None:
    path = place / "my.cnf"
    path.write_text(
        "# c\n[mysqld]\nuser=no\n!include x\n"
        "[client]\nuser = bob  # who\npassword='a#b \\s'\nssl\nmax_allowed=1\n[client-mariadb]\nport=3\n"
    )
    read = options.read_options(path)
    assert read == {"user": "bob", "password": "a#b  ", "ssl": "", "max-allowed": "1", "port": "3"}
    with pytest.raises(ConfigurationError, match="does not exist"):
        options.read_options(place / "none")
    with pytest.raises(ConfigurationError):
        options.format_options("client", {"password": "a\nb"})


def test_socket_path_is_short(place: Path) -> None:
    assert socket_path(place) == place / "run" / "mysqld.sock"
    deep = place / ("d" * 90)
    assert len(os.fsencode(socket_path(deep))) <= 100
    assert socket_path(deep) != socket_path(place / ("d" * 91))
    assert socket_path(deep) == socket_path(deep)


@pytest.mark.parametrize("prefix", ["xtrabackup_", "mariadb_backup_"])
def test_checkpoints_of_both_prefixes(place: Path, prefix: str) -> None:
    (place / f"{prefix}checkpoints").write_text(CHECKPOINTS.format(type="full-backuped"))
    (place / f"{prefix}info").write_text(INFO)
    log = place / "log"
    log.write_text(
        "[00] 2026-11-21 Writing Galera info succeeded with 674f437b-e57c-11f1-9541-87b58c253d33:17 0\n[00] completed OK!\n"
    )
    found = read_checkpoints(place)
    assert found is not None
    assert (found.backup_type, found.from_lsn, found.to_lsn, found.last_lsn) == ("full-backuped", 0, 44404, 160070)
    at = read_positions(place, found, log)
    assert (at.to_lsn, at.binlog_file, at.binlog_position, at.gtid) == (44404, "binlog.000001", 43345, "0-7-5")
    assert at.galera == "674f437b-e57c-11f1-9541-87b58c253d33:17"


def test_an_incomplete_checkpoints_file_is_damaged(place: Path) -> None:
    assert read_checkpoints(place) is None
    (place / "xtrabackup_checkpoints").write_text("backup_type = log-applied\nfrom_l")
    found = read_checkpoints(place)
    assert found is not None and found.backup_type == "damaged"


def test_check_data(place: Path) -> None:
    driver, server = get("mariadb"), mariadb.describe(place, "x", None, user=server_user())

    def refused() -> str:
        with pytest.raises(Exception) as caught:
            driver.servers.check_data(server, place)
        return str(caught.value)

    assert "has no MariaDB" in refused()
    (place / "mysql").mkdir()
    driver.servers.check_data(server, place)
    for type in ("full-backuped", "incremental", "full-prepared"):
        (place / "xtrabackup_checkpoints").write_text(CHECKPOINTS.format(type=type))
        assert "not prepared" in refused()
    (place / "xtrabackup_checkpoints").write_text(CHECKPOINTS.format(type="log-applied"))
    driver.servers.check_data(server, place)
    (place / "strongroom_incomplete").touch()
    assert "unfinished" in refused()


def test_lineage(place: Path) -> None:
    driver = get("mariadb")
    first = driver.servers.ensure_lineage(place)
    assert driver.servers.ensure_lineage(place) == first
    path = place / "strongroom_lineage"
    assert path.stat().st_mode & 0o777 == 0o600
    second = driver.servers.ensure_lineage(place, renew=True)
    assert second != first and driver.servers.ensure_lineage(place) == second
    path.write_text("rubbish")
    assert driver.servers.ensure_lineage(place) not in (first, second, "rubbish")


def test_versions_compare_as_numbers() -> None:
    assert versions.make_sort_key("10.11.9") < versions.make_sort_key("10.11.19-MariaDB-log")
    assert versions.extract_series("10.11.19") == "10.11"
    assert versions.extract_number("11.8.3-MariaDB-0+deb13u1-log") == "11.8.3"


def test_only_complete_installations_are_discovered(place: Path) -> None:
    (version, *_) = versions.discover([])
    assert set(version.programs) - set(clusters.PROGRAMS) == {"server", "backup", "stream", "initialize"}
    assert version.number.startswith(version.series + ".")
    own = place / "own" / "bin"
    own.mkdir(parents=True)
    for role, name in versions.PROGRAMS.items():
        (own / name).symlink_to(version.programs[role])
    (found,) = [v for v in versions.discover([own]) if v.number == version.number]
    assert found.programs["server"] == own / "mariadbd"
    (own / "mbstream").unlink()
    (found,) = [v for v in versions.discover([own]) if v.number == version.number]
    assert found.programs["server"] != own / "mariadbd"


def test_bundled_scripts_of_nodes_are_found_if_servers_can_read_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/usr/bin/wsrep_sst_common").exists():
        pytest.skip("the system has them")
    folder = place / "libexec" / "galera"
    monkeypatch.setattr(sys, "prefix", str(place))
    assert "transfer" not in versions.discover([])[0].programs
    folder.mkdir(parents=True)
    (folder / "wsrep_sst_common").touch()
    assert versions.discover([])[0].programs["transfer"] == folder / "wsrep_sst_common"
    folder.chmod(0o700)
    (version, *_) = versions.discover([])
    assert "transfer" not in version.programs
    assert clusters.list_missing(version.programs)[-1] == "the scripts wsrep_sst_* of mariadb-server"
