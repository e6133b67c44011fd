"""Backups as OpenStack Trove and Kolla write them: by their own commands, from a server of a service under test."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from support.service import Service

ACCOUNT = "http://192.168.206.8:8080/v1/AUTH_055b2fb9a2264ae5a5f6b3cc066c4a1d"
"""Where Trove's own Swift was: nothing of it counts but container and object."""


class Source:
    """A server that backups are taken from, with the tools' options for it in a file."""

    def __init__(self, service: Service, instance: dict[str, Any]) -> None:
        base = service.data_dir / "instances" / instance["id"]
        self.socket = service.get(f"/instances/{instance['id']}")["instance"]["socket"]
        self.options = service.place / f"options-{instance['id']}.cnf"
        data = f"[mysqld]\ndatadir={base / 'data'}\nsocket={self.socket}\n"
        self.options.write_text(data + (base / "client.cnf").read_text())

    def stream(self, target: Path, *options: str, format: str = "xbstream") -> str:
        """``mariadb-backup … | gzip > target``; what the tool said."""
        target.parent.mkdir(parents=True, exist_ok=True)
        log = target.with_name(f".{target.name}.log")
        tool = ["mariadb-backup", f"--defaults-file={self.options}", "--backup", f"--stream={format}"]
        tool += [f"--socket={self.socket}", *options]
        with target.open("wb") as out, log.open("wb") as err:
            backup = subprocess.Popen(tool, stdout=subprocess.PIPE, stderr=err, cwd="/")
            packed = subprocess.run(["gzip"], stdin=backup.stdout, stdout=out, check=False)
            assert backup.stdout is not None
            backup.stdout.close()
            assert (backup.wait(), packed.returncode) == (0, 0), log.read_text()[-2000:]
        said = log.read_text()
        assert "completed OK!" in said.splitlines()[-1]
        log.unlink()
        target.chmod(0o644)
        target.parent.chmod(0o755)
        return said


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def trove(source: Source, container: Path, id: str, parent: Path | None = None, *, series: str = "10.11") -> Path:
    """A backup of Trove in ``container``, with the metadata of the object in a side-car."""
    target = container / f"{id}.xbstream.gz"
    metadata = {"datastore": "mariadb", "datastore-version": series}
    options = []
    if parent is not None:
        lsn = json.loads(side_car(parent).read_text())["lsn"]
        options.append(f"--incremental-lsn={lsn}")
        metadata["parent-location"] = f"{ACCOUNT}/{container.name}/{parent.name}"
        metadata["parent-checksum"] = json.loads(side_car(parent).read_text()).get("etag") or md5(parent)
    said = source.stream(target, *options)
    found = re.search(r"The latest check point \(for incremental\): '(\d+)'", said)
    assert found
    metadata["lsn"] = found[1]
    side_car(target).write_text(json.dumps(metadata))
    side_car(target).chmod(0o644)
    return target


def side_car(path: Path) -> Path:
    return path.with_name(f"{path.name}.meta.json")


def segmented(path: Path, size: int) -> list[Path]:
    """Cut the object into the segments that Trove makes, and remove it."""
    data = path.read_bytes()
    pieces = []
    for number, start in enumerate(range(0, len(data), size)):
        piece = path.with_name(f"{path.name.partition('.')[0]}_{number:08d}")
        piece.write_bytes(data[start : start + size])
        piece.chmod(0o644)
        pieces.append(piece)
    path.unlink()
    return pieces
