"""Backups by Trove and Kolla: mbstream or tar, usually in gzip. They are located and described, never copied.

``docs/import.md`` says for people what is taken. Names, metadata and content are hostile input.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from strongroom.artifact.records.manifest import Positions
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, InvalidRequest, StorageDenied, StorageError, StorageNotFound
from strongroom.storage import DirectoryStore, Stat, Store

LONGEST = 1_000
"""Maximum length of a chain."""
_MOST_PIECES = 10_000
_SIDE_CAR = ".meta.json"
_MAX_SIDE_CAR = 64 * 1024
_PLAIN = (".xbs", ".mbs", ".xbstream")
"""Unpacked files, as left by Kolla's instructions."""
_TROVES = {"mbstream": ".xbstream.gz", "tar": ".tar.gz"}
"""Suffixes of the names of Trove's objects."""
_SIZED = re.compile(r"(?P<id>.+)\.(xbstream|tar)\.gz")
_PIECE = re.compile(r"(?P<id>.+)_00000000")
_Texts = TypeAdapter(dict[str, str])


class Piece(BaseModel):
    """One object. The hashes are known after it was read; ``etag`` is reported by the store, without quotes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    size: int = Field(ge=0)
    etag: str | None = None
    md5: str | None = None
    sha256: str | None = None


class ForeignBackup(BaseModel):
    """One backup in the form ``mbstream | gzip`` (PostgreSQL: ``tar``), or without the gzip: one object, or numbered ones.

    Everything but where it is may be unknown until it was read: positions are null, sizes 0 then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: Path | None = Field(None, description="Absolute; the keys are below it. Null: they are in the store.")
    pieces: list[Piece] = Field(min_length=1, max_length=_MOST_PIECES)
    kind: Literal["full", "incremental"]
    datastore: str
    datastore_version: str
    server_version: str
    positions: Positions = Positions()
    raw_size: int = Field(0, ge=0, description="Bytes of the stream.")
    data_size: int = Field(0, ge=0, description="Bytes of the data directory, about.")
    etag: str | None = Field(None, description="Its checksum as its metadata tell it.")

    @field_validator("directory")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @property
    def id(self) -> str:
        """Its name for users: that of its first object."""
        return PurePosixPath(self.pieces[0].key).name

    @property
    def name(self) -> str:
        """As in a manifest; derived from the name of the object."""
        return self.id

    @property
    def stream(self) -> Literal["mbstream", "tar"]:
        """The format of its stream."""
        return _stream_of(self.datastore)

    @property
    def packed(self) -> bool:
        """Whether it is compressed with gzip."""
        return not self.id.endswith(_PLAIN)

    @property
    def stored_size(self) -> int:
        """Bytes in the store."""
        return sum(piece.size for piece in self.pieces)

    @property
    def checksum(self) -> str | None:
        """Trove's checksum: the MD5 of one object, or of the hexadecimal MD5s of all. None if unknown."""
        if self.etag:
            return self.etag
        if len(self.pieces) == 1:
            return self.pieces[0].etag or self.pieces[0].md5
        if any(piece.md5 is None for piece in self.pieces):
            return None
        return hashlib.md5("".join(piece.md5 or "" for piece in self.pieces).encode(), usedforsecurity=False).hexdigest()

    def url(self, store: Store) -> str:
        """Its location for messages."""
        key = self.pieces[0].key
        return store.url(key) if self.directory is None else (self.directory / key).as_uri()


class ForeignChain(BaseModel):
    """A full backup and its incrementals, oldest first. Used by jobs like a Location."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backups: list[ForeignBackup] = Field(min_length=1, max_length=LONGEST)

    @property
    def prefix(self) -> str:
        """Name of the newest, for messages."""
        return self.backups[-1].pieces[0].key


class Place(BaseModel):
    """The location of an object: ``key`` in the store, or below a ``directory`` of the host."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: Path | None = None
    key: str


def locate(store: Store, text: str, *, paths: bool = False) -> Place:
    """Parse a location: a URL in this kind of store, ``container/object``, or, with ``paths``, a file on the host.

    Of a URL only container and object count, host and account are those of our own store. Raises InvalidRequest.
    """
    top = store.url("").rstrip("/")
    scheme = _kind(top)
    if text.startswith("/"):
        text = Path(text).as_uri()
    if "://" not in text and not text.startswith("file:"):
        return _in_store(text, text)
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise InvalidRequest(f"location {text[:200]!r} is not a URL: {error}") from error
    if text.startswith(f"{top}/"):
        return _in_store(unquote(text.removeprefix(f"{top}/")), text)
    if url.scheme == "file" and paths and not url.netloc:
        path = PurePosixPath(unquote(url.path))
        if ".." in path.parts or "\0" in str(path):
            raise InvalidRequest(f"location {text[:200]!r} contains '..'", remedy="Use the real path.")
        return Place(directory=Path(path.parent), key=path.name)
    if _kind(text) != scheme:
        raise InvalidRequest(
            f"location {text[:200]!r} is not in this kind of store, which is {top}",
            remedy="Copy the objects into a container of this store, and use that location.",
        )
    return _in_store("/".join(unquote(url.path).split("/")[-2:]), text)


def _kind(url: str) -> str:
    scheme = url.partition(":")[0].lower()
    return "http" if scheme == "https" else scheme


def _in_store(key: str, text: str) -> Place:
    parts = key.split("/")
    if len(parts) < 2 or any(part in ("", ".", "..") or part.startswith(".") or not part.isprintable() for part in parts):
        raise InvalidRequest(f"location {text[:200]!r} does not contain a container and an object")
    return Place(key=key)


def _stream_of(datastore: str) -> Literal["mbstream", "tar"]:
    return "tar" if datastore == "postgresql" else "mbstream"


def check_format(key: str, datastore: str) -> None:
    """Raise InvalidRequest if the backup cannot be restored, judging by its name."""
    name = PurePosixPath(key).name
    if name.endswith(".enc"):
        raise InvalidRequest(
            f"{name} is encrypted by Trove before Victoria, which is not supported",
            remedy="Decrypt it first: openssl enc -d -aes-256-cbc -md sha512 -pbkdf2 -iter 10000 -in … -out ….",
        )
    stream = _stream_of(datastore)
    if stream == "tar" and not name.endswith(_TROVES[stream]) and not _PIECE.fullmatch(name):
        raise InvalidRequest(
            f"{name} does not have the name of a PostgreSQL backup by Trove",
            remedy="Such names end in .tar.gz; for others, use `--datastore mariadb`.",
        )
    if stream == "mbstream" and name.endswith((".tar.gz", ".tgz", ".tar")):
        raise InvalidRequest(
            f"{name} is a PostgreSQL backup, not one of {datastore}",
            remedy="Use `--datastore postgresql`.",
        )
    if stream == "mbstream" and not name.endswith((".gz", *_PLAIN)) and not _PIECE.fullmatch(name):
        raise InvalidRequest(
            f"{name} does not have the name of a backup by Trove or Kolla",
            remedy="Such names end in .xbstream.gz (Trove), .xbs.gz or .mbs.gz (Kolla), or the same without .gz.",
        )


def store_of(store: Store, directory: Path | None) -> Store:
    """The store of the pieces. Raises ArtifactMissing, StorageDenied."""
    if directory is None:
        return store
    try:
        found = directory.is_dir()
    except PermissionError as error:
        raise StorageDenied(
            f"no permission for {directory}",
            remedy="Grant read permission to the OS user of the database, or copy the files into the store.",
        ) from error
    if not found:
        raise ArtifactMissing(f"directory {directory} does not exist", remedy="Check the location.")
    return DirectoryStore(directory)


def check_link(parent: ForeignBackup, child: ForeignBackup) -> None:
    """Raise ArtifactCorrupt unless ``child`` is an incremental that begins where ``parent`` ends, as far as this is known."""
    if child.kind != "incremental":
        raise ArtifactCorrupt(
            f"{child.id} cannot be based on {parent.id}: it is a full backup", remedy="Import it without a parent."
        )
    for what, begins, ends in (
        ("LSN", child.positions.from_lsn, parent.positions.to_lsn),
        ("WAL location", child.positions.wal_from, parent.positions.wal_stop),
    ):
        if None not in (begins, ends) and begins != ends:
            raise ArtifactCorrupt(
                f"{child.id} cannot be based on {parent.id}: it begins at {what} {begins}, but the parent ends at {ends}",
                remedy="Specify the parent that it was based on.",
            )


def follow(parent: ForeignBackup, child: ForeignBackup) -> ForeignBackup:
    """``child`` with the start of its WAL, which is the end of ``parent``; the child does not contain it."""
    if child.stream != "tar" or child.kind != "incremental":
        return child
    return child.model_copy(update={"positions": child.positions.model_copy(update={"wal_from": parent.positions.wal_stop})})


def find_foreign(store: Store, place: Place, *, datastore: str, datastore_version: str) -> ForeignChain:
    """The backup at ``place`` and its ancestors, by their metadata. Objects are not read.

    Without metadata the name tells whether it is an incremental. Raises InvalidRequest for a wrong kind of thing,
    ArtifactMissing, ArtifactCorrupt when a parent is not the one that was meant, StorageError.
    """
    chain: list[ForeignBackup] = []
    seen: set[str] = set()
    wanted: str | None = None
    while True:
        check_format(place.key, datastore)
        if place.key in seen or len(chain) >= LONGEST:
            raise ArtifactCorrupt(f"the chain of {chain[0].id} contains a cycle at {place.key}")
        seen.add(place.key)
        source = store_of(store, place.directory)
        pieces = _pieces(source, place.key)
        metadata = {**pieces[0][1], **_side_car(source, place.key, datastore)}
        backup = _describe(place, [piece for piece, _ in pieces], metadata, datastore, datastore_version)
        if wanted and backup.checksum and wanted != backup.checksum:
            raise ArtifactCorrupt(
                f"{chain[-1].id} is based on {backup.id} with checksum {wanted}, but its checksum is now {backup.checksum}",
                remedy="The parent was replaced after the incremental was taken; restore another backup.",
            )
        chain.append(backup)
        parent = metadata.get("parent-location")
        if not parent:
            found = chain[-1:]
            for child in reversed(chain[:-1]):
                found.append(follow(found[-1], child))
            return ForeignChain(backups=found)
        wanted = metadata.get("parent-checksum", "").strip('"') or None
        place = _parent(store, place, parent)


def _parent(store: Store, child: Place, location: str) -> Place:
    """The parent's place: in the child's directory on the host, or a container and object in a store."""
    if child.directory is not None:
        return child.model_copy(update={"key": unquote(location.rstrip("/").rpartition("/")[2])})
    last = [unquote(part) for part in location.split("/")[-2:]]
    return _in_store("/".join(last), location)


def _describe(
    place: Place, pieces: list[Piece], metadata: Mapping[str, str], datastore: str, datastore_version: str
) -> ForeignBackup:
    said = metadata.get("datastore", datastore)
    if said != datastore:
        raise InvalidRequest(f"{place.key} is a backup of {said}, not of {datastore}")
    version = metadata.get("datastore-version", datastore_version)
    if not f"{version}.".startswith(f"{datastore_version}."):
        raise InvalidRequest(
            f"{place.key} is a backup of {datastore} {version}, not of {datastore_version}",
            remedy="Specify the version of the backed-up server.",
        )
    name = PurePosixPath(place.key).name
    by_name = name.startswith(("incremental-", "backup-incremental-"))
    return ForeignBackup(
        directory=place.directory,
        pieces=pieces,
        kind="incremental" if metadata.get("parent-location") or by_name else "full",
        datastore=datastore,
        datastore_version=datastore_version,
        server_version=version,
        positions=_said(place, metadata, datastore),
        etag=metadata.get("etag", "").strip('"') or None,
    )


def _said(place: Place, metadata: Mapping[str, str], datastore: str) -> Positions:
    """The positions of the backup's beginning and end, from its metadata."""
    lsn, incremental = metadata.get("lsn", ""), bool(metadata.get("parent-location"))
    if _stream_of(datastore) == "mbstream":
        return Positions(to_lsn=int(lsn) if lsn.isdecimal() and len(lsn) < 20 else None)
    file = metadata.get("stop-wal-file", "")
    said = {
        "wal_start": None if incremental else metadata.get("start-segment"),
        "wal_stop": metadata.get("stop-segment"),
        "timeline": int(file[:8], 16) if re.fullmatch("[0-9A-F]{24}", file) else None,
    }
    try:
        positions = Positions.model_validate(said)
    except ValidationError as error:
        raise ArtifactCorrupt(f"the metadata of {place.key} contain invalid WAL locations") from error
    if incremental and None in (positions.wal_stop, positions.timeline):
        raise ArtifactCorrupt(
            f"the metadata of {place.key} lack the end of its WAL",
            remedy="Add the metadata stop-segment and stop-wal-file of the object in Swift; see docs/import.md.",
        )
    return positions


def _pieces(store: Store, key: str) -> list[tuple[Piece, Mapping[str, str]]]:
    """The object, or the numbered segments that Trove made of it if only these exist."""
    try:
        numbered = _PIECE.fullmatch(key)
        if not numbered:
            return [_piece(store.head(key))]
    except StorageNotFound as error:
        numbered = _SIZED.fullmatch(key)
        if not numbered:
            raise _missing(store, key) from error
    found: list[tuple[Piece, Mapping[str, str]]] = []
    while len(found) <= _MOST_PIECES:
        try:
            found.append(_piece(store.head(f"{numbered['id']}_{len(found):08d}")))
        except StorageNotFound:
            break
    if not found:
        raise _missing(store, key)
    return found


def _missing(store: Store, key: str) -> ArtifactMissing:
    return ArtifactMissing(f"no backup found at {store.url(key)}", remedy="It was deleted, or is in another store or container.")


def _piece(stat: Stat) -> tuple[Piece, Mapping[str, str]]:
    etag = stat.etag.strip('"') if stat.etag else None
    return Piece(key=stat.key, size=stat.size, etag=etag, md5=stat.md5), stat.metadata


def _side_car(store: Store, key: str, datastore: str) -> dict[str, str]:
    """The metadata of a copied object, from ``<name>.meta.json`` in the same directory."""
    if numbered := _PIECE.fullmatch(key):
        key = f"{numbered['id']}{_TROVES[_stream_of(datastore)]}"
    try:
        data = store.get(f"{key}{_SIDE_CAR}", length=_MAX_SIDE_CAR + 1)
    except StorageNotFound:
        return {}
    try:
        if len(data) > _MAX_SIDE_CAR:
            raise ValueError("it is too large")
        return {name.lower().removeprefix("x-object-meta-"): value for name, value in _Texts.validate_json(data).items()}
    except (ValidationError, ValueError) as error:
        raise StorageError(
            f"{store.url(key)}{_SIDE_CAR} is not a JSON object of strings", remedy="Correct it, or remove it; see docs/import.md."
        ) from error
