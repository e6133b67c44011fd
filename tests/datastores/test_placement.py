"""Restored files are laid out where the server looks for them; modes and files of the owner stay."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from strongroom.datastores import Place
from strongroom.datastores.mariadb.server.outside import find_places
from strongroom.datastores.protocol.placement import EntryPlacement
from strongroom.datastores.toolkit.keep import copy_entries, keep_modes
from strongroom.errors import ConfigurationError
from support.identity import server_user
from support.mariadb import describe


def test_places_of_mariadb_by_its_settings(place: Path) -> None:
    data = place / "data"
    settings = {
        "innodb_log_group_home_dir": "./",
        "innodb_undo_directory": "undo",
        "innodb_data_home_dir": "",
        "innodb_data_file_path": f"{place}/far/ibdata1:12M;{place}/far/ibdata2:12M:autoextend",
        "aria_log_dir_path": str(data),
        "log_bin_basename": f"{place}/logs/own-bin",
        "log_bin_index": f"{place}/logs/own.index",
        "wsrep_provider_options": f"base_port = 4567; gcache.dir = {place}/cache; gcache.name = g.cache; gcache.size = 128M;",
    }
    found = find_places(settings, data)
    assert {(each.item, each.directory.relative_to(place).as_posix()) for each in found} == {
        ("innodb_undo_directory", "data/undo"),
        ("innodb_data_home_dir", "far"),
        ("log_bin", "logs"),
        ("wsrep_provider_options", "cache"),
    }
    owned = {(each.item, name) for each in found for name in _NAMES if each.owns(name)}
    assert owned == {
        ("innodb_undo_directory", "undo001"),
        ("innodb_data_home_dir", "ibdata1"),
        ("innodb_data_home_dir", "ibdata2"),
        ("log_bin", "own-bin.000001"),
        ("log_bin", "own.index"),
        ("wsrep_provider_options", "g.cache"),
    }


_NAMES = (
    "undo001",
    "ibdata1",
    "ibdata2",
    "ibdata12",
    "own-bin.000001",
    "own-binx.000001",
    "own.index",
    "g.cache",
    "gxcache",
    "t.log",
)


def test_files_are_moved_to_the_data_directory_or_to_staging_with_links(place: Path) -> None:
    server = describe(place, "s", None, user=server_user())
    restored, far, staged = place / "restored", place / "far", place / "far.new"
    for path in (restored / "pg_wal", far, staged):
        path.mkdir(parents=True)
    for name in ("undo001", "ibdata1", "pg_wal/seg"):
        (restored / name).write_text(name)
    places = [
        Place(item="undo", directory=server.data_dir / "deep" / "undo", entries=[r"undo\d+"]),
        Place(item="pg_wal", directory=far, entries=["seg"], source="pg_wal", link=True),
    ]
    said = EntryPlacement().lay_out(server, places, restored, {far: staged})
    assert said == [f"the server's files in {far} (pg_wal) become previous data and are replaced together with the data"]
    assert (restored / "deep" / "undo" / "undo001").read_text() == "undo001" and (restored / "ibdata1").exists()
    assert (restored / "pg_wal").readlink() == far and (staged / "seg").read_text() == "pg_wal/seg"

    (restored / "pg_wal").unlink()
    (restored / "pg_wal").mkdir()
    (restored / "pg_wal" / "strange").write_text("")
    with pytest.raises(ConfigurationError, match="holds strange, which does not belong in"):
        EntryPlacement().lay_out(server, places[1:], restored, {far: staged})
    with pytest.raises(ConfigurationError, match="no staging directory"):
        EntryPlacement().lay_out(server, places[1:], restored, {})


def test_modes_and_files_of_the_owner_are_kept(place: Path) -> None:
    old, new = place / "old", place / "new"
    for top, mode, more in ((old, 0o640, "a"), (new, 0o600, "b")):
        (top / "db").mkdir(parents=True, mode=0o700)
        for name in ("t", more):
            (top / "db" / name).write_text("")
            (top / "db" / name).chmod(mode)
    (old / "db").chmod(0o750)
    (old / "conf.d").mkdir()
    (old / "conf.d" / "x").write_bytes(b"\xff")
    (old / "conf.d" / "link").symlink_to("/etc/passwd")
    (old / "huge").write_bytes(bytes(5 << 20))
    keep_modes(old, new)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (new / "db").iterdir()} == {0o640}
    assert stat.S_IMODE((new / "db").stat().st_mode) == 0o750
    (new / "conf.d").mkdir()
    (new / "conf.d" / "x").symlink_to(place / "elsewhere")
    copy_entries(old, new, lambda name, _is_directory: name in ("conf.d", "huge"))
    assert (new / "conf.d" / "x").read_bytes() == b"\xff" and not (place / "elsewhere").exists()
    assert (new / "conf.d" / "link").readlink() == Path("/etc/passwd") and not (new / "huge").exists()
