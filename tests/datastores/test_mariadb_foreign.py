"""What a stream that nobody vouches for says of itself."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.artifact import Positions
from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.datastores import StreamFacts
from strongroom.errors import ArtifactCorrupt, VersionMismatch
from support import mariadb
from support.identity import run_as, server_user
from support.mariadb import FileLink, driver

INFO, CHECKPOINTS = "xtrabackup_info", "xtrabackup_checkpoints"


@pytest.fixture
def link(place: Path) -> FileLink:
    """A full of a small real server."""
    with mariadb.running(place, None) as server:
        server.fill(10)
        return mariadb.backup(server, place, "full")


def describe(files: dict[str, bytes]) -> StreamFacts:
    return driver.backups.describe(files, {}, Positions())


def side_files(link: FileLink) -> dict[str, bytes]:
    walk = Mbstream(driver.capabilities.side_files)
    walk.feed(link.path.read_bytes())
    walk.finish()
    return {name: bytes(data) for name, data in walk.kept.items()}


def test_streams_are_described_and_false_descriptions_are_noticed(link: FileLink) -> None:
    files = side_files(link)
    facts = describe(files)
    assert (facts.kind, facts.server_version) == ("full", link.server_version)
    assert facts.positions == link.positions.model_copy(
        update={"galera": None, "server_uuid": None, "binlog_created": None, "binlog_upper": None}
    )
    renamed = {name.replace("xtrabackup_", "mariadb_backup_"): data for name, data in files.items()}
    assert describe(renamed) == facts

    def changed(name: str, pattern: bytes, text: bytes) -> dict[str, bytes]:
        data = re.sub(pattern, text, files[name])
        assert data != files[name]
        return {**files, name: data}

    incremental = changed(CHECKPOINTS, b"full-backuped", b"incremental")
    assert describe(incremental).kind == "incremental"
    bad: list[tuple[dict[str, bytes], type[Exception]]] = [
        ({}, ArtifactCorrupt),
        ({INFO: files[INFO]}, ArtifactCorrupt),
        ({CHECKPOINTS: files[CHECKPOINTS]}, ArtifactCorrupt),
        (changed(CHECKPOINTS, b"full-backuped", b"log-applied"), ArtifactCorrupt),
        (changed(CHECKPOINTS, rb"to_lsn = \d+", b"to_lsn = -1"), ArtifactCorrupt),
        (changed(CHECKPOINTS, rb"to_lsn = \d+", b"\xff\x00"), ArtifactCorrupt),
        (changed(INFO, b"compressed = N", b"compressed = Y"), ArtifactCorrupt),
        (changed(INFO, b"server_version = .*", b"server_version = 8.0.36"), VersionMismatch),
        (changed(INFO, b"server_version = .*", b""), VersionMismatch),
    ]
    for given, error in bad:
        with pytest.raises(error):
            describe(given)


def test_the_version_in_the_stream_has_precedence(place: Path, link: FileLink) -> None:
    """Metadata may say 10.11 of a backup of something newer: mariadb-backup must not touch it."""
    work = mariadb.scratch(place, "repack")
    subprocess.run(["mbstream", "-x", "-C", work], stdin=link.path.open("rb"), check=True)
    info = work / INFO
    text = info.read_text()
    info.write_text(re.sub(r"(?m)^server_version = .*$", "server_version = 11.4.2-MariaDB", text))
    names = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    lying = work / "stream"
    with lying.open("wb") as out:
        subprocess.run(["mbstream", "-c", *names], cwd=work, stdout=out, check=True)
    work.chmod(0o755)
    lying.chmod(0o644)
    run: Callable[..., object] = driver.restores.restore
    target, scratch = mariadb.scratch(place, "target"), mariadb.scratch(place, "scratch")
    with pytest.raises(VersionMismatch, match=r"MariaDB 11\.4\.2"):
        run_as(server_user(), run, mariadb.version(), [replace(link, path=lying)], target, scratch, print)
