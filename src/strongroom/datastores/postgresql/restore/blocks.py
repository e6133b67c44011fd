"""Restores a chain with incrementals of changed blocks: in one pass, newest first; each block is written once, nothing is staged.

Every file is verified by the list of files of its own backup while it is read. The result has no such list; if the database has
page checksums, they prove that each page is in its place.

Visibility maps of which only changed blocks are known are omitted if the server is older than 17.12 or 18.6. Such servers do not
report blocks of a map in which a change of rows cleared bits, or which a truncation changed while both checksums and
``wal_log_hints`` were off. With an outdated map, index-only scans return deleted rows, and VACUUM skips pages that it has to
freeze. Without a map, all rows are checked, and VACUUM recreates the map.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strongroom.artifact import Member, Pages
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.increment import (
    BLOCK,
    HEAD,
    MAP,
    Header,
    find_relation,
    find_whole_path,
    increment_path,
)
from strongroom.datastores.postgresql.files.manifest import MANIFEST, File, Manifest
from strongroom.datastores.postgresql.files.pages import find_wrong_pages, read_position
from strongroom.datastores.postgresql.files.tree import make_directory
from strongroom.datastores.postgresql.restore.content import Content, corrupt, read_verified
from strongroom.datastores.postgresql.server.versions import extract_series, make_sort_key
from strongroom.datastores.protocol.restores import ChainLink, Phase
from strongroom.datastores.toolkit.tar import TarReader
from strongroom.datastores.toolkit.writer import Writer
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, NotFound
from strongroom.system.direct import Output

Mask = NDArray[np.bool_]
Numbers = NDArray[np.uint32]

CONTROL = "global/pg_control"
_LABEL = "backup_label"
_SMALL = frozenset({CONTROL, _LABEL})
_TELL_MAPS = {"17": "17.12", "18": "18.6"}
"""The first version of each series that reports all changed blocks of visibility maps; later series do in every release."""
_MAX_SMALL = 64 * 1024


def is_blocks(link: ChainLink) -> bool:
    """Whether a backup consists of the blocks that changed since the previous one."""
    return link.positions.blocks_from is not None


def has_list(link: ChainLink) -> bool:
    """Whether its list of files can be read before the files, so that each is verified while it is written.

    If the index is missing or damaged, a full can still be restored from its complete stream.
    """
    try:
        return MANIFEST in link.files()
    except (ArtifactCorrupt, ArtifactMissing, NotFound):
        return False


@dataclass(frozen=True, slots=True)
class Merged:
    """What the newest backup of a chain records about its files."""

    manifest: Manifest
    left_out: int
    """Number of visibility maps that were omitted."""


def merge(chain: Sequence[ChainLink], target: Path, phase: Phase) -> Merged:
    """Write the state of the newest backup of ``chain`` into ``target``. A full alone is a chain, too.

    Memory use does not depend on the size of the database. ``pg_control`` is written last. Raises ArtifactCorrupt, StorageError,
    OSError.
    """
    _require_order(chain)
    held: set[Output] = set()
    try:
        with Writer() as writer:
            merger = _Merger(target, writer, held)
            *older, newest = chain
            manifest = _read_list(newest)
            phase(f"extract incremental {len(older)}" if older else "extract")
            merger.newest(newest, manifest)
            for number in reversed(range(len(older))):
                phase(f"extract incremental {number}" if number else "extract")
                merger.older(older[number])
    finally:
        for output in held:  # after an error
            output.close()
    left_out = 0 if all(reports_maps(link.server_version) for link in chain) else merger.leave_out_maps()
    merger.finish()
    return Merged(manifest, left_out)


def _require_order(chain: Sequence[ChainLink]) -> None:
    first, *rest = chain
    if first.kind != "full" or is_blocks(first):
        raise corrupt("the chain does not begin with a full backup")
    for before, after in zip(chain, rest, strict=False):
        if after.positions.blocks_from != before.positions.wal_start:
            raise corrupt(
                f"an incremental holds the blocks since {after.positions.blocks_from}, "
                f"and the backup before it begins at {before.positions.wal_start}"
            )
    systems = {link.positions.system_identifier for link in chain} - {None}
    if len(systems) > 1:
        raise corrupt("the backups of the chain are of different database systems")


def _read_list(link: ChainLink) -> Manifest:
    """The list of files of one backup, verified to belong to it."""
    tar = TarReader(link.extract([MANIFEST]))
    member = next(tar.members())
    data = b"".join(tar.data())
    wanted = link.positions.backup_manifest_sha256
    if member.path != MANIFEST or (wanted is not None and hashlib.sha256(data).hexdigest() != wanted):
        raise corrupt(f"{MANIFEST} is not that of the backup")
    manifest = Manifest.parse(data)
    newest = manifest.wal[-1]
    if (newest.start, newest.end) != (link.positions.wal_start, link.positions.wal_stop):
        raise corrupt(f"{MANIFEST} is of a backup from {newest.start} to {newest.end}")
    if manifest.system is not None and link.positions.system_identifier not in (None, str(manifest.system)):
        raise corrupt(f"{MANIFEST} is of database system {manifest.system}")
    return manifest


def reports_maps(number: str) -> bool:
    """Whether a server of this version reports every changed block of visibility maps."""
    return make_sort_key(number) >= make_sort_key(_TELL_MAPS.get(extract_series(number), f"{extract_series(number)}.0"))


@dataclass(frozen=True, slots=True)
class _Missing:
    """The blocks of a file that an older backup still has to provide. As bits, since there may be very many."""

    length: int
    bits: bytes

    @classmethod
    def of(cls, mask: Mask) -> _Missing | None:
        return cls(len(mask), np.packbits(mask).tobytes()) if mask.any() else None

    def mask(self) -> Mask:
        return np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.length).astype(np.bool_)


class _Merger:
    """The state of the target's files while the chain is read from its end to its beginning."""

    def __init__(self, target: Path, writer: Writer, held: set[Output]) -> None:
        """``held``: the open files."""
        self._target = target
        self._writer = writer
        self._missing: dict[str, _Missing] = {}
        self._maps: set[str] = set()
        """Visibility maps that are assembled from blocks."""
        self._control: bytes | None = None
        self._judged = False
        self._open = held

    def newest(self, link: ChainLink, manifest: Manifest) -> None:
        """Write the newest backup: its files are the files of the target."""
        self._judged = link.pages is not None
        files = {file.name: file for file in manifest.files}
        tar = TarReader(link.chunks())
        for member in tar.members():
            try:
                if member.kind == "directory":
                    if member.path:
                        make_directory(self._target, member.path)
                elif member.path != MANIFEST:
                    self._new(link, member, tar, self._expected(files, member))
            except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
                raise corrupt(f"the stream has {member.path!r} in a wrong place: {error.strerror}") from error
        if files:
            raise corrupt(f"{len(files)} files are missing: {', '.join(sorted(files)[:10])}")
        if self._control is None:
            raise corrupt("the stream holds no pg_control")

    def older(self, link: ChainLink) -> None:
        """Write the blocks of an older backup that no newer one has. A file that it contains completely is then complete."""
        if not self._missing:
            return
        held = {file.name: file for file in _read_list(link).files}
        names = {}
        for path in self._missing:
            name = next((name for name in (increment_path(path), path) if name in held), None)
            if name is None:
                raise corrupt(
                    f"no backup of the chain holds all blocks of {path}: it is not in the one at {link.positions.wal_start}"
                )
            names[name] = path
        tar = TarReader(link.extract(names))
        for member in tar.members():
            path = names.pop(member.path)
            if path != member.path and member.size == HEAD.size:
                self._unchanged(link, path, read_verified(member, tar, held[member.path]))
                if not names:
                    return
                continue
            output = self._output(self._target / path, os.O_WRONLY)
            blocks = _Blocks(self, link, path, output, self._missing.pop(path).mask())
            content = Content(self._writer, member, tar, held[member.path], output, self._open)
            if path == member.path:
                blocks.complete(content, member.size)
            else:
                self._remember(path, blocks.fill(content, member.size, self._limit(link, path)))
            if not names:
                return
        raise corrupt(f"the stream lacks {len(names)} files that its index names")

    def leave_out_maps(self) -> int:
        """Remove visibility maps that were assembled from blocks; their number."""
        for path in self._maps:
            (self._target / path).unlink()
        return len(self._maps)

    def finish(self) -> None:
        """Check that no block is missing, then write ``pg_control``, which makes the directory a database."""
        if self._missing:
            raise corrupt(
                f"no backup of the chain holds all blocks of {len(self._missing)} files: {', '.join(sorted(self._missing)[:10])}"
            )
        assert self._control is not None
        (self._target / CONTROL).write_bytes(self._control)
        (self._target / CONTROL).chmod(0o600)

    def _new(self, link: ChainLink, member: Member, tar: TarReader, expected: File | None) -> None:
        if member.path in _SMALL:
            self._small(member, tar, expected)
            return
        path = find_whole_path(member.path)
        output = self._output(self._target / (path or member.path), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        content = Content(self._writer, member, tar, expected, output, self._open)
        if path is None:
            content.copy()
        else:
            relation = find_relation(path)
            if relation is not None and relation[0].fork == MAP:
                self._maps.add(path)
            blocks = _Blocks(self, link, path, output, None)
            self._remember(path, blocks.fill(content, member.size, self._limit(link, path)))

    def _small(self, member: Member, tar: TarReader, expected: File | None) -> None:
        if member.size > _MAX_SMALL or expected is None:
            raise corrupt(f"the stream holds no usable {member.path}")
        data = read_verified(member, tar, expected)
        if member.path == CONTROL:
            self._control = data
            return
        lines = [line for line in data.splitlines(keepends=True) if not line.startswith(b"INCREMENTAL FROM ")]
        with closing(self._output(self._target / member.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)) as output:
            output.write(0, b"".join(lines))

    def _unchanged(self, link: ChainLink, path: str, head: bytes) -> None:
        """Handle a file of which an older incremental has no block, as is usual: it may record that the file was truncated."""
        if Header.count(head, path):
            raise corrupt(f"{increment_path(path)} is cut off")
        length = Header.parse(head, b"", path, len(head)).until(self._limit(link, path))
        missing = self._missing[path]
        if length < missing.length:
            del self._missing[path]
            mask = missing.mask()
            mask[length:] = False
            self._remember(path, mask)

    def _expected(self, files: dict[str, File], member: Member) -> File | None:
        """The entry for the file in the list; none for WAL, which is verified by its own checksums."""
        expected = files.pop(member.path, None)
        if expected is None and not member.path.startswith("pg_wal/"):
            raise corrupt(f"{member.path} is not in {MANIFEST}")
        return expected

    def _limit(self, link: ChainLink, path: str) -> int | None:
        """The number of blocks to which the file was truncated before this backup, if known."""
        relation = find_relation(path)
        cut = (link.positions.truncated or {}).get(str(relation[0])) if relation else None
        return None if cut is None or relation is None else max(0, cut - relation[1])

    def _remember(self, path: str, mask: Mask) -> None:
        if missing := _Missing.of(mask):
            self._missing[path] = missing

    def _output(self, path: Path, flags: int) -> Output:
        output = Output(os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        self._open.add(output)
        return output

    def judge(self, link: ChainLink, path: str, data: memoryview, numbers: Numbers, wanted: Mask | None = None) -> None:
        """Raises ArtifactCorrupt if one of the ``wanted`` pages does not belong in its place. Called in any thread.

        Pages that were damaged when the backup read them, and pages that the replay of its WAL rewrites, are not checked.
        """
        relation = find_relation(path)
        if not self._judged or relation is None:
            return
        blocks = numbers + np.uint32(relation[1])
        pages = link.pages or Pages(checked=0, damaged=0)
        replayed = range(lsn.parse_lsn(link.positions.wal_start or "0/0"), lsn.parse_lsn(link.positions.wal_stop or "0/0"))
        for n in find_wrong_pages(data, blocks):
            if wanted is not None and not wanted[n]:
                continue
            block = int(blocks[n])
            known = pages.damaged > len(pages.named) or any((page.path, page.block) == (path, block) for page in pages.named)
            if not known and read_position(data[n * BLOCK :]) not in replayed:
                raise corrupt(f"block {block} of {path} has a wrong checksum after the merge of the chain")


class _Blocks:
    """Writes blocks to the file ``path`` of the target. ``missing`` are the blocks to write; none if the file is new."""

    def __init__(self, merger: _Merger, link: ChainLink, path: str, output: Output, missing: Mask | None) -> None:
        self._merger = merger
        self._link = link
        self._path = path
        self._output = output
        self._missing = missing

    def fill(self, content: Content, size: int, limit: int | None) -> Mask:
        """Write the blocks of an incremental file; returns the blocks that are still missing.

        Older backups may only provide blocks below its length, even if a later incremental is longer: then the file was truncated
        and extended again, and blocks that no backup contains are empty.
        """
        head = content.exact(HEAD.size)
        numbers = content.exact(4 * Header.count(head, self._path))
        header = Header.parse(head, numbers, self._path, size)
        content.exact(header.size - len(head) - len(numbers))
        length = header.until(limit)
        if self._missing is None:
            total = max(header.length, int(header.blocks[-1]) + 1 if len(header.blocks) else 0)
            os.ftruncate(self._output.fileno(), total * BLOCK)
            self._missing = np.zeros(total, np.bool_)
            self._missing[:length] = True
            wanted = np.ones(len(header.blocks), np.bool_)
        else:
            wanted = header.blocks < len(self._missing)
            wanted[wanted] = self._missing[header.blocks[wanted]]
        content.each(partial(self._write, header.blocks, wanted))
        self._missing[header.blocks[wanted]] = False
        self._missing[length:] = False
        return self._missing

    def complete(self, content: Content, size: int) -> None:
        """Write the missing blocks from the complete file of an older backup. Blocks that it lacks are empty."""
        assert self._missing is not None
        count = size // BLOCK
        wanted = np.zeros(count, np.bool_)
        most = min(count, len(self._missing))
        wanted[:most] = self._missing[:most]
        content.each(partial(self._write, np.arange(count, dtype=np.uint32), wanted))

    def _write(self, numbers: Numbers, wanted: Mask, first: int, data: memoryview) -> None:
        """Write the blocks that start with number ``first`` of the content. Called in any thread."""
        here = slice(first, first + len(data) // BLOCK)
        chosen = np.flatnonzero(wanted[here])
        if not len(chosen):
            return
        to = numbers[here][chosen]
        breaks = np.flatnonzero((np.diff(chosen) != 1) | (np.diff(to) != 1)) + 1
        for start, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(chosen)], strict=True):
            begin = int(chosen[start]) * BLOCK
            self._output.write(int(to[start]) * BLOCK, data[begin : begin + (end - start) * BLOCK])
        if 2 * len(chosen) > len(data) // BLOCK:  # checking some extra pages costs less than copying the chosen ones
            self._merger.judge(self._link, self._path, data, numbers[here], wanted[here])
        else:
            data = np.frombuffer(data, np.uint8).reshape(-1, BLOCK)[chosen].reshape(-1).data
            self._merger.judge(self._link, self._path, data, to)
