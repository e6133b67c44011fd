"""The stream of a base backup proves itself: by its manifest, file by file, without a disk."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import pytest

from strongroom.artifact import Positions
from strongroom.artifact.streams.tar import Tar
from support import postgresql
from support.postgresql import driver


@pytest.fixture(scope="module")
def stream() -> bytes:
    with tempfile.TemporaryDirectory(prefix="sr-", dir="/tmp") as name, postgresql.running(Path(name)) as instance:
        return postgresql.backup(instance, Path(name)).path.read_bytes()


def problems(stream: bytes, step: int = 1_000_003) -> list[str]:
    check = driver.backups.stream_check(Positions(wal_start="0/1", wal_stop="0/2"))
    walk = Tar()
    walk.tap = check
    assert check is not None
    for at in range(0, len(stream), step):
        walk.feed(memoryview(stream)[at : at + step])
        assert check.take() is None
    walk.finish()
    return [error.message for error in check.problems()]


def rewritten(stream: bytes, drop: str = "", add: str = "", change: str = "", cut: str = "") -> bytes:
    """The same tar with one file dropped, added, changed or cut."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(stream)) as old, tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            if member.name == drop:
                continue
            if member.name == change:
                content = content[:-1] + bytes([content[-1] ^ 1])
            if member.name == cut:
                content = content[: len(content) // 2]
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
            if add:
                extra = tarfile.TarInfo(add)
                new.addfile(extra)
                add = ""
    return out.getvalue()


@pytest.mark.parametrize("step", [512, 100_000, 1 << 30])
def test_a_good_stream(stream: bytes, step: int) -> None:
    assert problems(stream, step) == []


def test_changed_files(stream: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        names = tar.getnames()
    wal = next(name for name in names if name.startswith("pg_wal/0"))
    table = next(name for name in names if name.startswith("base/") and name.endswith("/1259"))
    assert problems(rewritten(stream, change=table)) == [f"{table} has a wrong CRC32C"]
    assert problems(rewritten(stream, change="global/pg_control")) == ["global/pg_control has a wrong CRC32C"]
    (cut,) = problems(rewritten(stream, cut=table))
    assert f"{table} has " in cut
    assert problems(rewritten(stream, drop="PG_VERSION")) == ["PG_VERSION is missing in the stream"]
    assert problems(rewritten(stream, add="base/1/99999")) == ["base/1/99999 is not in backup_manifest"]
    assert problems(rewritten(stream, drop="backup_manifest")) == ["the stream holds no backup_manifest"]
    assert problems(rewritten(stream, change="backup_manifest")) != []
    assert "WAL" in problems(rewritten(stream, drop=wal))[0]
    assert "WAL" in problems(rewritten(stream, cut=wal))[0]


def test_wal_alone_has_no_manifest() -> None:
    assert driver.backups.stream_check(Positions(wal_from="0/1", wal_stop="0/2")) is None
