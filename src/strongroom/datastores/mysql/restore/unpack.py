"""Unpacks the tar of a copy into the files of a data directory. It is read as hostile input."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from strongroom.artifact import Member
from strongroom.datastores.mysql.backup.archive import FACTS, NAMES, PAGES, RECORD, TOP
from strongroom.datastores.protocol.profiles import PROFILE
from strongroom.datastores.toolkit.tar import TarReader
from strongroom.datastores.toolkit.writer import Writer
from strongroom.errors import ArtifactCorrupt
from strongroom.system.direct import Output

_MAX_FACTS = 512 << 20
"""Maximum size of the facts. They contain paths too long for a tar: some hundred bytes for each partition with a long name."""
_MAX_PAGES = 1 << 30
_FORBIDDEN = {"auto.cnf", "mysqld-auto.cnf", "mysqld.my", PROFILE}
"""Copies never contain them. A server would take its identity, settings and components from them."""
_REMEDY = "The backup of MySQL is incomplete; restore another one."


def unpack(chunks: Iterator[bytes | memoryview], target: Path) -> dict[str, Any]:
    """Write the files below ``target``, then the records over them; returns the facts. Raises ArtifactCorrupt, OSError.

    No links are created, so no path leads outside.
    """
    tar = TarReader(chunks)
    facts: dict[str, Any] | None = None
    files: dict[str, Path] = {}
    with Writer() as writer:
        for member in tar.members():
            path = member.path
            try:
                _require_harmless(path)
                if member.kind == "directory":
                    (target / path).mkdir(mode=0o700, exist_ok=True)
                elif path == FACTS:
                    facts = _facts(_small(tar, member, _MAX_FACTS))
                elif path.startswith(f"{PAGES}/"):
                    writer.drain()
                    _apply(_small(tar, member, _MAX_PAGES), files)
                else:
                    files[path] = target / path
                    _copy(writer, tar, target / path)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise _corrupt(f"has {path!r} in a wrong place: {error.strerror}") from error
    if facts is None:
        raise _corrupt(f"has no {FACTS}")
    _rename(facts["names"], files, target)
    return facts


def _require_harmless(path: str) -> None:
    name = os.path.normpath(path)
    if name in _FORBIDDEN or (name.startswith("component_") and name.endswith(".cnf")):
        raise _corrupt(f"has {path!r}, which is not part of a copy")


def _copy(writer: Writer, tar: TarReader, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = writer.open(path)
    offset = 0
    for piece in tar.data():
        file.write(offset, piece)
        offset += len(piece)
    file.close()


def _small(tar: TarReader, member: Member, most: int) -> bytes:
    if member.size > most:
        raise _corrupt(f"has {member.path!r} of {member.size} bytes")
    return b"".join(tar.data())


def _apply(data: bytes, files: Mapping[str, Path]) -> None:
    """Write each record over the file that it names, which is complete by now."""
    view, at = memoryview(data), 0
    open_path, output = "", None
    try:
        while at < len(view):
            offset, size, length = RECORD.unpack_from(view, at)
            at += RECORD.size
            path = os.fsdecode(bytes(view[at : at + length]))
            at += length
            if path != open_path:
                if output:
                    output.close()
                if path not in files:
                    raise _corrupt(f"has a page of {path!r}, but not the file")
                open_path, output = path, Output(os.open(files[path], os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
            if output is None or at + size > len(view):
                raise _corrupt("has an incomplete page")
            output.write(offset, view[at : at + size])
            at += size
    except struct.error as error:
        raise _corrupt("has incomplete pages") from error
    finally:
        if output:
            output.close()


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
        names = facts["names"]
        settings = facts["settings"]
        keys = facts.setdefault("master_keys", [])
        if facts["format"] != 1 or not all(isinstance(text, str) for texts in (names, settings, keys) for text in texts):
            raise ValueError("it has another format")
        return dict(facts)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _corrupt(f"has an unreadable {FACTS}: {error}") from error


def _rename(names: Mapping[str, str], files: Mapping[str, Path], target: Path) -> None:
    for alias, path in names.items():
        parts = path.split("/")
        if alias not in files or not alias.startswith(f"{NAMES}/") or any(part in ("", ".", "..") for part in parts):
            raise _corrupt(f"has a wrong name, {alias!r} for {path!r}")
        _require_harmless(path)
        (target / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files[alias].rename(target / path)
    folder = target / TOP
    if (folder / "names").is_dir():
        (folder / "names").rmdir()
    if folder.is_dir():
        folder.rmdir()


def _corrupt(what: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"the stream {what}", remedy=_REMEDY)
