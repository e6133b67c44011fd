"""The import job, in a worker process."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import ForeignBackup, ForeignChain, Piece, Positions
from strongroom.worker.spec import ImportJob
from support.artifacts import mb_end, mb_file, mb_payload, noise
from support.identity import server_user
from support.jobs import WorkerProcess, storage

INFO = b"tool_name = mariadb-backup\nserver_version = 10.11.6-MariaDB-log\ncompressed = N\nformat = xbstream\n"


def stream(kind: str, from_lsn: int, to_lsn: int, info: bytes = INFO) -> bytes:
    checkpoints = f"backup_type = {kind}\nfrom_lsn = {from_lsn}\nto_lsn = {to_lsn}\nlast_lsn = {to_lsn}\n".encode()
    return b"".join(
        [*mb_file("ibdata1", noise(50_000)), *mb_file("xtrabackup_checkpoints", checkpoints), *mb_file("xtrabackup_info", info)]
    )


FULL, CHILD = stream("full-backuped", 0, 100), stream("incremental", 100, 200)


def put(place: Path, name: str, data: bytes, **fields: Any) -> ForeignBackup:
    directory = place / "elsewhere"
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(data)
    return ForeignBackup(
        **{
            "directory": directory,
            "pieces": [Piece(key=name, size=len(data))],
            "kind": "full",
            "datastore": "mariadb",
            "datastore_version": "10.11",
            "server_version": "10.11",
            **fields,
        }
    )


def run(place: Path, *chain: ForeignBackup, name: str = "import") -> WorkerProcess:
    job = ImportJob(location=ForeignChain(backups=list(chain)), datastore="mariadb", storage=storage(place))
    return WorkerProcess(place, name, job, user=server_user())


def test_a_chain_is_read_and_described(place: Path) -> None:
    packed = gzip.compress(CHILD)
    worker = run(place, put(place, "one.xbs", FULL), put(place, "two.xbs.gz", packed))
    output = worker.succeed()
    one, two = (ForeignBackup.model_validate(found) for found in output["backups"])
    assert (one.kind, one.positions.to_lsn, one.raw_size, one.data_size) == ("full", 100, len(FULL), len(FULL))
    assert (two.kind, two.positions.from_lsn, two.raw_size, two.data_size) == ("incremental", 100, len(CHILD), len(FULL))
    assert two.server_version == "10.11.6"
    assert two.pieces[0].sha256 and two.pieces[0].md5
    assert output["files"] == 6
    assert [event.phase for event in worker.events()][-1] == "read incremental 1"


@pytest.mark.parametrize(
    ("data", "fields", "code"),
    [
        (FULL[:-30], {}, "ArtifactCorrupt"),
        (stream("full-backuped", 0, 100, INFO.replace(b"10.11.6", b"10.4.6")), {}, "VersionMismatch"),
        (stream("full-backuped", 0, 100, INFO.replace(b"-MariaDB", b"")), {}, "VersionMismatch"),
        (FULL, {"positions": Positions(to_lsn=99)}, "ArtifactCorrupt"),
        (b"".join(mb_file("ibdata1", b"x")), {}, "ArtifactCorrupt"),
        (b"".join([mb_payload("../x", b"x"), mb_end("../x")]), {}, "ArtifactCorrupt"),
    ],
)
def test_invalid_backups_are_refused_with_a_message(place: Path, data: bytes, fields: dict[str, Any], code: str) -> None:
    result = run(place, put(place, "one.xbs", data, **fields)).wait()
    assert result.failure is not None
    assert (result.status, result.failure.code) == ("failed", code)
    assert result.failure.message


def test_gap_between_two_backups_is_refused(place: Path) -> None:
    result = run(place, put(place, "one.xbs", FULL), put(place, "two.xbs", stream("incremental", 101, 200))).wait()
    assert result.failure is not None
    assert "begins at LSN 101, but the parent ends at 100" in result.failure.message


@pytest.mark.root
def test_files_that_the_database_user_cannot_read(place: Path) -> None:
    backup = put(place, "one.xbs", FULL)
    directory = place / "elsewhere"
    for path, mode in ((directory / "one.xbs", 0o600), (directory, 0o700)):
        path.chmod(mode)
        result = run(place, backup, name=path.stem).wait()
        path.chmod(0o755)
        assert result.failure is not None
        assert result.failure.code == "StorageDenied"
        assert result.failure.remedy


def test_import_can_be_cancelled(place: Path) -> None:
    head = b"XBSTCK01\0P" + struct.pack("<I7sQQI", 7, b"ibdata1", 64 << 26, 0, 0)  # one file of 4 GiB: a while to unpack
    worker = run(place, put(place, "big.xbs.gz", gzip.compress(head) + gzip.compress(bytes(1 << 26), 1) * 64))
    worker.wait_until(lambda: any(event.done for event in worker.events()))
    worker.interrupt()
    assert worker.wait().status == "cancelled"
