"""Chains of changed blocks, made up, against a model of what they mean."""

from __future__ import annotations

import hashlib
import os
import pwd
import random
import resource
import struct
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.artifact import DamagedPage, Pages, Positions
from strongroom.datastores.postgresql.files.increment import find_relation, increment_path
from strongroom.datastores.postgresql.files.pages import _checksums
from strongroom.datastores.postgresql.restore.blocks import has_list, merge
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, NotFound
from support.identity import run_as
from support.postgresql_streams import BLOCK, MemoryLink, archive, increment, link, listed

ZERO = bytes(BLOCK)


def restored(chain: list[MemoryLink], place: Path) -> dict[str, bytes]:
    """The files that come out, without WAL."""
    target = place / f"target-{random.randbytes(4).hex()}"
    target.mkdir()
    phases: list[str] = []
    merge(chain, target, phases.append)
    *older, last = [f"extract incremental {n}" if n else "extract" for n in range(len(chain))][::-1]
    assert phases == [*older, last]
    found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert not any(path.stat().st_mode & 0o077 for path in target.rglob("*"))
    assert found.pop("pg_wal/000000010000000000000001") == b"wal"
    return found


@pytest.mark.parametrize("error", [ArtifactCorrupt, ArtifactMissing, NotFound])
def test_a_full_with_an_unreadable_index_is_read_completely(error: type[Exception]) -> None:
    class Link:
        def files(self) -> Iterable[str]:
            raise error("no index")

    lost: Any = Link()
    assert not has_list(lost)


class Model:
    """A database as blocks, and the backups that a server would make of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.files: dict[str, list[bytes]] = {}
        self.links: list[MemoryLink] = []
        self._known: set[str] = set()
        self._changed: dict[str, set[int]] = {}
        self._cut: dict[str, int] = {}
        self._before_maps = seed % 5 == 0
        """One of the servers is of a version that does not report all changes of visibility maps."""
        self.doubtful: set[str] = set()
        """Maps that may be older than their tables."""

    def block(self) -> bytes:
        return self.random.randbytes(16) * (BLOCK // 16)

    def create(self) -> None:
        folder, segment = (
            self.random.choice(("base/5", "global", "pg_tblspc/16400/PG_18/5")),
            self.random.choice(("", "_vm", ".1")),
        )
        first = 16400 if segment == ".1" else 16384  # the second file of a relation is never there without a full first one
        path = f"{folder}/{self.random.randrange(first, first + 6)}{segment}"
        self.drop(path)
        self.files[path] = [self.block() for _ in range(self.random.randrange(6))]

    def drop(self, path: str | None = None) -> None:
        path = path or self.some()
        for known in (self.files, self._changed, self._cut):
            known.pop(path or "", None)
        self._known.discard(path or "")

    def some(self) -> str | None:
        return self.random.choice(sorted(self.files)) if self.files else None

    def write(self) -> None:
        if path := self.some():
            blocks = self.files[path]
            for _ in range(self.random.randrange(4)):
                number = self.random.randrange(len(blocks) + 1)
                blocks[number : number + 1] = [self.block()]
                self._changed.setdefault(path, set()).add(number)

    def extend(self) -> None:
        """By pages that are not written to the WAL."""
        if path := self.some():
            self.files[path] += [ZERO] * self.random.randrange(1, 4)

    def truncate(self) -> None:
        if path := self.some():
            length = self.random.randrange(len(self.files[path]) + 1)
            if length < len(self.files[path]):
                del self.files[path][length:]
                self._changed[path] = {number for number in self._changed.get(path, ()) if number < length}
                self._cut[path] = min(length, self._cut.get(path, length))

    def back_up(self) -> None:
        files: dict[str, bytes] = {"PG_VERSION": b"18\n", "base/5/pg_filenode.map": self.random.randbytes(524)}
        truncated = {}
        for path, blocks in self.files.items():
            whole = (
                not self.links or path not in self._known or not blocks or self._cut.get(path) == 0 or self.random.random() < 0.1
            )
            if whole:
                files[path] = b"".join(blocks)
                continue
            changed = {number: blocks[number] for number in self._changed.get(path, ()) if number < len(blocks)}
            files[increment_path(path)] = increment(changed, len(blocks))
            if path in self._cut:
                relation = find_relation(path)
                assert relation
                truncated[str(relation[0])] = relation[1] + self._cut[path]
        old = self._before_maps and not self.links
        self.links.append(link(len(self.links), files, truncated=truncated, server_version="18.4" if old else "18.6"))
        self._known, self._changed, self._cut = set(self.files), {}, {}
        if self._before_maps:
            self.doubtful = {path for path in self.files if path.endswith("_vm") and increment_path(path) in files}
        self.expected = {path: data for path, data in files.items() if "INCREMENTAL." not in path}
        self.expected |= {path: b"".join(blocks) for path, blocks in self.files.items()}


@pytest.mark.parametrize("seed", range(150))
def test_any_history_is_restored(seed: int, place: Path) -> None:
    model = Model(seed)
    steps: list[Callable[[], object]] = [model.create, model.write, model.write, model.extend, model.truncate, model.drop]
    for _ in range(5):
        model.create()
    for _ in range(model.random.randrange(2, 7)):
        for _ in range(model.random.randrange(25)):
            model.random.choice(steps)()
        model.back_up()
    found = restored(model.links, place)
    label = found.pop("backup_label").decode()
    assert "INCREMENTAL" not in label and f"START WAL LOCATION: 0/{len(model.links)}000028" in label
    assert found.pop("global/pg_control") == b"control %d" % (len(model.links) - 1)
    assert found == {path: data for path, data in model.expected.items() if path not in model.doubtful}


# --- what is read


def chain_of(count: int = 3) -> list[MemoryLink]:
    """A table that stays as it is, one of which a block changes each time, and a small file."""
    still, other = [bytes([n]) * BLOCK for n in (1, 2, 3)], [bytes([n]) * BLOCK for n in (4, 5, 6)]
    links = [link(0, {"base/5/1": b"".join(still), "base/5/2": b"".join(other), "PG_VERSION": b"18\n"})]
    for number in range(1, count):
        files = {
            "base/5/INCREMENTAL.1": increment({}, 3),
            "base/5/INCREMENTAL.2": increment({number % 3: bytes([9, number]) * (BLOCK // 2)}, 3),
            "PG_VERSION": b"18\n",
        }
        links.append(link(number, files))
    return links


def test_only_the_required_parts_of_older_backups_are_read(place: Path) -> None:
    chain = chain_of(6)
    found = restored(chain, place)
    assert found["base/5/1"] == b"".join(bytes([n]) * BLOCK for n in (1, 2, 3))
    assert found["base/5/2"] == b"".join(bytes([9, n]) * (BLOCK // 2) for n in (3, 4, 5))
    assert chain[4].read == ["backup_manifest", "base/5/INCREMENTAL.1", "base/5/INCREMENTAL.2"]
    assert chain[1].read == ["backup_manifest", "base/5/INCREMENTAL.1"]  # the other is complete
    assert chain[0].read == ["backup_manifest", "base/5/1"]


class Large(MemoryLink):
    """A full of one large file, which is nowhere as a whole."""

    piece = bytes(range(256)) * 4096
    size = 192 << 20

    def extract(self, paths: Iterable[str]) -> Iterator[bytes]:
        pieces = [self.piece] * (self.size // len(self.piece))
        info = tarfile.TarInfo("base/5/1")
        if list(paths) == ["backup_manifest"]:
            digest = hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
            data = listed({}, "0/1000028", "0/1000100", more={info.name: (self.size, digest.hexdigest())})
            info, pieces = tarfile.TarInfo("backup_manifest"), [data + bytes(-len(data) % 512)]
            info.size = len(data)
        else:
            info.size = self.size
        yield info.tobuf(tarfile.USTAR_FORMAT)
        yield from (bytes(bytearray(piece)) for piece in pieces)  # each in memory of its own


def test_memory_does_not_grow_with_the_database(place: Path) -> None:
    full = Large(b"", link(0, {}).positions.model_copy(update={"backup_manifest_sha256": None}))
    blocks = full.size // BLOCK
    chain = [full, link(1, {"base/5/INCREMENTAL.1": increment(dict.fromkeys(range(0, blocks, 100), b"\x01" * BLOCK), blocks)})]
    target = place / "target"
    target.mkdir()

    def grown() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        merge(chain, target, lambda phase: None)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert run_as(pwd.getpwuid(os.geteuid()).pw_name, grown) < full.size // 2 // 1024
    assert (target / "base/5/1").stat().st_size == full.size


# --- what must not be restored


def other_files(number: int, files: dict[str, bytes]) -> Callable[[list[MemoryLink]], None]:
    def change(chain: list[MemoryLink]) -> None:
        chain[number] = link(number, files)

    return change


def damaged(number: int, what: bytes) -> Callable[[list[MemoryLink]], None]:
    def change(chain: list[MemoryLink]) -> None:
        at = chain[number].stream.index(what)
        data = bytearray(chain[number].stream)
        data[at] ^= 1
        chain[number].stream = bytes(data)

    return change


def without(number: int) -> Callable[[list[MemoryLink]], None]:
    return lambda chain: chain.__delitem__(number)


def says(number: int, **positions: object) -> Callable[[list[MemoryLink]], None]:
    def change(chain: list[MemoryLink]) -> None:
        chain[number].positions = chain[number].positions.model_copy(update=positions)

    return change


SOME = increment({1: b"\1" * BLOCK}, 3)
PLAIN = {"PG_VERSION": b"18\n"}
NUMBERS = struct.Struct("<III2I")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(1), "holds the blocks since 0/2000028, and the backup before it begins at 0/1000028"),
        (without(0), "does not begin with a full"),
        (says(1, system_identifier="5"), "different database systems"),
        (says(0, backup_manifest_sha256="0" * 64), "backup_manifest is not that of the backup"),
        (says(2, wal_stop="0/9000000"), "is of a backup from 0/3000028 to 0/3000100"),
        (damaged(0, b"\1" * 100), "base/5/1 has a wrong size or SHA256"),
        (damaged(1, b"\x09\x01" * 50), "base/5/INCREMENTAL.2 has a wrong size or SHA256"),
        (damaged(2, b"18\n"), "PG_VERSION has a wrong size or SHA256"),
        (damaged(2, b"control 2"), "pg_control has a wrong"),
        (
            other_files(1, {"base/5/INCREMENTAL.2": SOME, **PLAIN}),
            "holds all blocks of base/5/1: it is not in the one at 0/2000028",
        ),
        (
            other_files(0, {"base/5/INCREMENTAL.1": SOME, "base/5/2": ZERO * 3, **PLAIN}),
            "no backup of the chain holds all blocks",
        ),
        (other_files(2, {"base/5/INCREMENTAL.1": SOME[:-1], **PLAIN}), "no incremental file"),
        (other_files(2, {"base/5/INCREMENTAL.1": b"\1" + SOME[1:], **PLAIN}), "no incremental file"),
        (other_files(2, {"base/5/INCREMENTAL.1": SOME + ZERO, **PLAIN}), "no incremental file"),
        (other_files(2, {"base/5/INCREMENTAL.1": SOME[:8], **PLAIN}), "is cut off"),
        (other_files(1, {"base/5/INCREMENTAL.1": SOME[:12], "base/5/INCREMENTAL.2": SOME, **PLAIN}), "is cut off"),
        (
            other_files(
                2, {"base/5/INCREMENTAL.1": NUMBERS.pack(0xD3AE1F0D, 2, 3, 2, 1).ljust(BLOCK, b"\0") + ZERO * 2, **PLAIN}
            ),
            "no incremental file",
        ),
        (
            other_files(
                2, {"base/5/INCREMENTAL.1": NUMBERS.pack(0xD3AE1F0D, 1, 3, 131072, 0).ljust(BLOCK, b"\0") + ZERO, **PLAIN}
            ),
            "no incremental file",
        ),
        (
            other_files(2, {"base/5/INCREMENTAL.1": struct.pack("<III", 0xD3AE1F0D, 131073, 3) + ZERO, **PLAIN}),
            "no incremental file",
        ),
        (other_files(2, {"base/5/INCREMENTAL.1": SOME, "base/5/1": ZERO, **PLAIN}), "in a wrong place"),
    ],
)
def test_inconsistent_chains_are_refused(place: Path, change: Callable[[list[MemoryLink]], None], said: str) -> None:
    chain = chain_of(3)
    change(chain)
    before = threading.active_count()
    with pytest.raises(ArtifactCorrupt, match=said):
        restored(chain, place)
    assert threading.active_count() <= before
    assert not list(place.glob("target-*/global/pg_control"))


def test_a_file_that_is_in_no_list_is_refused(place: Path) -> None:
    chain = chain_of(2)
    files = {path: chain[1].content(path) for path in chain[1].files()}
    chain[1].stream = archive({"base/5/9": b"smuggled", **files})
    with pytest.raises(ArtifactCorrupt, match="base/5/9 is not in backup_manifest"):
        restored(chain, place)
    del files["PG_VERSION"]
    chain[1].stream = archive(files)
    with pytest.raises(ArtifactCorrupt, match="1 files are missing: PG_VERSION"):
        restored(chain, place)


# --- pages


def page(block: int, fill: int, lsn: int = 0x0000_0000_0050_0000) -> bytes:
    """A page with its checksum, as block ``block`` of its relation."""
    data = bytearray([fill]) * BLOCK
    struct.pack_into("<IIHHHH", data, 0, lsn >> 32, lsn & 0xFFFFFFFF, 0, 0, 100, 8000)
    words = np.frombuffer(bytes(data), "<u4").reshape(1, 64, 32)
    scratch = [np.empty((1, 32), np.uint32) for _ in range(3)]
    struct.pack_into("<H", data, 8, int(_checksums(words, np.array([block], np.uint32), scratch)[0]))
    return bytes(data)


def paged(swap: bool = False, lsn: int = 0x500000, **more: object) -> list[MemoryLink]:
    """A second file of a relation, one block of it changed; or one that came to the place of another."""
    first = 131072
    whole = [page(first + n, n) for n in range(4)]
    changed = {2: page(first + (3 if swap else 2), 77, lsn)}
    good = Pages(checked=4, damaged=0)
    return [
        link(0, {"base/5/16400.1": b"".join(whole)}, pages=good),
        link(1, {"base/5/INCREMENTAL.16400.1": increment(changed, 4)}, **{"pages": good, **more}),  # type: ignore[arg-type]
    ]


def test_pages_of_a_second_file_are_checked_by_their_position_in_the_relation(place: Path) -> None:
    assert restored(paged(), place)["base/5/16400.1"] == b"".join(page(131072 + n, 77 if n == 2 else n) for n in range(4))


def test_a_misplaced_page_is_refused(place: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"block 131074 of base/5/16400.1 has a wrong checksum"):
        restored(paged(swap=True), place)


@pytest.mark.parametrize(
    "chain",
    [
        paged(swap=True, lsn=0x2000050),  # the replay of the WAL rewrites it
        paged(swap=True, pages=Pages(checked=1, damaged=1, named=[DamagedPage(path="base/5/16400.1", block=131074)])),
        paged(swap=True, pages=None),  # the database has no checksums
    ],
)
def test_a_page_that_was_already_damaged_when_read_is_restored(place: Path, chain: list[MemoryLink]) -> None:
    assert len(restored(chain, place)["base/5/16400.1"]) == 4 * BLOCK


def test_a_list_of_another_backup_is_refused(place: Path) -> None:
    chain = chain_of(2)
    files = {path: chain[0].content(path) for path in chain[0].files() if path != "backup_manifest"}
    listing = {path: data for path, data in files.items() if not path.startswith("pg_wal/")}
    chain[0].stream = archive({**files, "backup_manifest": listed(listing, "0/1000028", "0/1000100", system=5)})
    chain[0].positions = Positions(**{**chain[0].positions.model_dump(), "backup_manifest_sha256": None})
    with pytest.raises(ArtifactCorrupt, match="is of database system 5"):
        restored(chain, place)
