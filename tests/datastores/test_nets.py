"""The nets that catch what no list of settings names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.datastores import _nets


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
        found = _nets.open_files([os.getpid()], data)
    assert found is not None
    mine = {file.path: file.writes for file in found if _nets.is_below(file.path, tmp_path)}
    assert mine == {tmp_path / "database" / "outside": True, tmp_path / "read": False}


def test_a_process_that_cannot_be_looked_at_is_unknown(tmp_path: Path) -> None:
    assert _nets.open_files([2**22 + 1], tmp_path) is None


def test_odd_entries_of_a_data_directory_are_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "db").mkdir(parents=True)
    (data / "db" / "t.ibd").write_bytes(b"12345")
    (data / "link").symlink_to(tmp_path)
    os.mkfifo(data / "pipe")
    (data / "skipped").mkdir()
    (data / "skipped" / "file").write_text("x")
    walked = _nets.walk(data, skip=["skipped"])
    assert walked.files == {"db/t.ibd": 5}
    assert walked.directories == ["db"]
    assert set(walked.oddities) == {_nets.Oddity("link", "link", str(tmp_path)), _nets.Oddity("pipe", "special file")}


def test_a_file_that_goes_while_it_is_looked_at_is_not_called_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stays", "goes", "locked"):
        (tmp_path / name).write_text("x")

    def access(path: str, mode: int, **options: bool) -> bool:
        if path.endswith("goes"):
            Path(path).unlink()
        return path.endswith("stays")

    monkeypatch.setattr(os, "access", access)
    assert [oddity.path for oddity in _nets.walk(tmp_path).oddities if oddity.kind == "unreadable"] == ["locked"]


def test_files_that_a_stream_does_not_hold_are_left_behind() -> None:
    assert _nets.left_behind(["a", "b", "ib_logfile0"], {"a"}, known=["ib_logfile*"]) == ["b"]
