"""The nets that catch what no list of settings names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.datastores.mariadb.profile import layout
from strongroom.datastores.toolkit import nets


def test_open_files_outside_the_data_directory_are_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "database").mkdir()
    (tmp_path / "read").write_text("x")
    with (
        (data / "inside").open("w"),
        (tmp_path / "database" / "outside").open("w"),
        (tmp_path / "read").open(),
        (tmp_path / "gone").open("w"),
    ):
        (tmp_path / "gone").unlink()
        found = nets.find_open_files([os.getpid()], data)
    assert found is not None
    mine = {file.path: file.writes for file in found if nets.is_below(file.path, tmp_path)}
    assert mine == {tmp_path / "database" / "outside": True, tmp_path / "read": False}


def test_files_of_a_process_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    assert nets.find_open_files([2**22 + 1], tmp_path) is None


def test_odd_entries_of_a_data_directory_are_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "db").mkdir(parents=True)
    (data / "db" / "t.ibd").write_bytes(b"12345")
    (data / "link").symlink_to(tmp_path)
    os.mkfifo(data / "pipe")
    (data / "skipped").mkdir()
    (data / "skipped" / "file").write_text("x")
    walked = nets.walk(data, skip=["skipped"])
    assert walked.files == {"db/t.ibd": 5}
    assert walked.directories == ["db"]
    assert set(walked.oddities) == {nets.Oddity("link", "link", str(tmp_path)), nets.Oddity("pipe", "special file")}


def test_a_file_that_disappears_is_not_reported_as_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stays", "goes", "locked"):
        (tmp_path / name).write_text("x")

    def access(path: str, mode: int, **options: bool) -> bool:
        if path.endswith("goes"):
            Path(path).unlink()
        return path.endswith("stays")

    monkeypatch.setattr(os, "access", access)
    assert [oddity.path for oddity in nets.walk(tmp_path).oddities if oddity.kind == "unreadable"] == ["locked"]


def test_files_that_a_stream_lacks_are_found() -> None:
    assert nets.find_missing(["a", "b", "ib_logfile0"], {"a"}, known=["ib_logfile*"]) == ["b"]


def test_a_file_that_is_only_written_is_not_a_table(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with (tmp_path / "export.csv").open("w"), (tmp_path / "t.ibd").open("w+"):
        found = nets.find_open_files([os.getpid()], data)
    assert found is not None
    modes = {file.path.name: (file.writes, file.reads) for file in found if file.path.parent == tmp_path}
    assert modes == {"export.csv": (True, False), "t.ibd": (True, True)}


def test_temporary_files_of_a_busy_server_are_not_unknown(tmp_path: Path) -> None:
    for name in ("t.TRG~", "v.frm-", "t.CSN", "#sql-1a.frm", ".nfs0000001", "arc/v.frm-0001"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "d" / "t.frm").touch()
    assert list(layout.find_unknown_files(nets.walk(tmp_path), {"d"})) == []
    (tmp_path / "d" / "t.xyz").touch()
    assert list(layout.find_unknown_files(nets.walk(tmp_path), {"d"})) == ["d/t.xyz"]


def test_streams_may_lack_files_in_directories_that_are_not_databases(tmp_path: Path) -> None:
    for path in ("d/t.frm", "d/t#P#p0.ibd", "d/#sql-1a.ibd", "export/2026/report.CSV", "d/notes"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "d" / "remains_of_a_crash.ibd").touch()
    assert layout.walk_of(tmp_path).keys() == {"d/t.frm", "d/t#P#p0.ibd"}


THERE = {"d/t.ibd": (1, 1), "d/t.frm": (2, 1)}


@pytest.mark.parametrize(
    ("after", "paths", "missing"),
    [
        (THERE, ["d/t.ibd", "d/t.frm"], []),
        (THERE, ["d/t.ibd.delta", "d/t.frm"], []),
        (THERE, ["d/t.new", "d/t.frm"], []),
        (THERE, ["d/t.frm"], ["d/t.ibd"]),
        (THERE | {"d/t.ibd": (1, 9)}, ["d/t.frm"], ["d/t.ibd"]),  # rows were written
        ({}, ["d/u.frm"], []),
        ({"d/t.ibd": (7, 9), "d/t.frm": (8, 9)}, ["d/u.frm"], []),  # dropped, and made again when the backup had ended
        ({"d/t.ibd": (1, 9), "d/t.frm": (2, 9)}, ["d/u.frm"], []),  # the same, on inodes that were used again
        (THERE, ["d/t.del"], []),
        (THERE, ["d/t.ibd", "d/t.ren", "d/u.frm"], []),
        (THERE, ["d/t#P#p0.del"], []),
    ],
)
def test_streams_must_contain_tables_that_existed_all_the_time(
    after: dict[str, tuple[int, int]], paths: list[str], missing: list[str]
) -> None:
    assert layout.find_left_out(THERE, after, paths) == missing


def test_streams_may_lack_a_recreated_database() -> None:
    assert layout.find_left_out({"d/db.opt": (1, 1)}, {"d/db.opt": (1, 2)}, ["other"]) == []
    assert layout.find_left_out({"d/db.opt": (1, 1)}, {"d/db.opt": (1, 1)}, ["other"]) == ["d/db.opt"]
    assert layout.find_left_out({"d/FTS_1.ibd": (1, 1)}, {"d/FTS_1.ibd": (1, 2)}, ["other"]) == ["d/FTS_1.ibd"]
