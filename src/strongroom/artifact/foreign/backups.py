"""Backups that other programs wrote: mbstream or tar in gzip, as Trove and Kolla leave it. Found and described, never copied.

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
"""Backups of a chain that is followed."""
_MOST_PIECES = 10_000
_SIDE_CAR = ".meta.json"
_MAX_SIDE_CAR = 64 * 1024
_PLAIN = (".xbs", ".mbs", ".xbstream")
"""What Kolla's instructions leave: they unpack in place."""
_TROVES = {"mbstream": ".xbstream.gz", "tar": ".tar.gz"}
"""How the names of Trove's objects end."""
_SIZED = re.compile(r"(?P<id>.+)\.(xbstream|tar)\.gz")
_PIECE = re.compile(r"(?P<id>.+)_00000000")
_Texts = TypeAdapter(dict[str, str])


class Piece(BaseModel):
    """One object. The hashes are known once it was read; ``etag`` is what the store says, without quotes."""

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
        """What people know it by: the name of its first object."""
        return PurePosixPath(self.pieces[0].key).name

    @property
    def name(self) -> str:
        """As of a manifest; there is nothing but the name of the object."""
        return self.id

    @property
    def stream(self) -> Literal["mbstream", "tar"]:
        """The format of its stream."""
        return _stream_of(self.datastore)

    @property
    def packed(self) -> bool:
        """Whether it is in gzip."""
        return not self.id.endswith(_PLAIN)

    @property
    def stored_size(self) -> int:
        """Bytes in the store."""
        return sum(piece.size for piece in self.pieces)

    @property
    def checksum(self) -> str | None:
        """What Trove calls the checksum: the MD5 of one object, or that of the MD5s (hexadecimal) of all. Null when not known."""
        if self.etag:
            return self.etag
        if len(self.pieces) == 1:
            return self.pieces[0].etag or self.pieces[0].md5
        if any(piece.md5 is None for piece in self.pieces):
            return None
        return hashlib.md5("".join(piece.md5 or "" for piece in self.pieces).encode(), usedforsecurity=False).hexdigest()

    def url(self, store: Store) -> str:
        """Where it is, for people."""
        key = self.pieces[0].key
        return store.url(key) if self.directory is None else (self.directory / key).as_uri()


class ForeignChain(BaseModel):
    """A full and the incrementals on it, the oldest first: what a job restores. Stands where a Location of our own does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backups: list[ForeignBackup] = Field(min_length=1, max_length=LONGEST)

    @property
    def prefix(self) -> str:
        """Name of the newest, for messages."""
        return self.backups[-1].pieces[0].key


class Place(BaseModel):
    """An object that somebody named: ``key`` in the store, or below a ``directory`` of the host."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: Path | None = None
    key: str


def locate(store: Store, text: str, *, paths: bool = False) -> Place:
    """What a location names: a URL of this kind of store, ``container/object``, or, with ``paths``, a file of the host.

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
            raise InvalidRequest(f"location {text[:200]!r} leads upwards", remedy="Give the path as it is.")
        return Place(directory=Path(path.parent), key=path.name)
    if _kind(text) != scheme:
        raise InvalidRequest(
            f"location {text[:200]!r} is of another kind of store than ours, which is {top}",
            remedy="Copy the objects into a container of this store, and name that.",
        )
    return _in_store("/".join(unquote(url.path).split("/")[-2:]), text)


def _kind(url: str) -> str:
    scheme = url.partition(":")[0].lower()
    return "http" if scheme == "https" else scheme


def _in_store(key: str, text: str) -> Place:
    parts = key.split("/")
    if len(parts) < 2 or any(part in ("", ".", "..") or part.startswith(".") or not part.isprintable() for part in parts):
        raise InvalidRequest(f"location {text[:200]!r} does not name a container and an object in it")
    return Place(key=key)


def _stream_of(datastore: str) -> Literal["mbstream", "tar"]:
    return "tar" if datastore == "postgresql" else "mbstream"


def check_format(key: str, datastore: str) -> None:
    """Raise InvalidRequest, with a sentence, for what cannot be restored; only the name is looked at."""
    name = PurePosixPath(key).name
    if name.endswith(".enc"):
        raise InvalidRequest(
            f"{name} is encrypted in the way of Trove before Victoria, which is not read",
            remedy="Decrypt it first: openssl enc -d -aes-256-cbc -md sha512 -pbkdf2 -iter 10000 -in … -out ….",
        )
    stream = _stream_of(datastore)
    if stream == "tar" and not name.endswith(_TROVES[stream]) and not _PIECE.fullmatch(name):
        raise InvalidRequest(
            f"{name} is not named as a backup of PostgreSQL by Trove is",
            remedy="Names end in .tar.gz; the datastore of others is `--datastore mariadb`.",
        )
    if stream == "mbstream" and name.endswith((".tar.gz", ".tgz", ".tar")):
        raise InvalidRequest(
            f"{name} is an archive of PostgreSQL, and a backup of {datastore} is asked for",
            remedy="Name the datastore: `--datastore postgresql`.",
        )
    if stream == "mbstream" and not name.endswith((".gz", *_PLAIN)) and not _PIECE.fullmatch(name):
        raise InvalidRequest(
            f"{name} is not named as a backup of Trove or Kolla is",
            remedy="Names end in .xbstream.gz (Trove), .xbs.gz or .mbs.gz (Kolla), or so without .gz.",
        )


def store_of(store: Store, directory: Path | None) -> Store:
    """Where the pieces are read from. Raises ArtifactMissing, StorageDenied."""
    if directory is None:
        return store
    try:
        found = directory.is_dir()
    except PermissionError as error:
        raise StorageDenied(
            f"no permission for {directory}", remedy="Let the OS user of the database read it, or copy the files into the store."
        ) from error
    if not found:
        raise ArtifactMissing(f"there is no directory {directory}", remedy="Check the location.")
    return DirectoryStore(directory)


def check_link(parent: ForeignBackup, child: ForeignBackup) -> None:
    """Raise ArtifactCorrupt unless ``child`` is an incremental that begins where ``parent`` ends, as far as both were read."""
    if child.kind != "incremental":
        raise ArtifactCorrupt(
            f"{child.id} cannot stand on {parent.id}: it is a full backup", remedy="Import it without a parent."
        )
    for what, begins, ends in (
        ("LSN", child.positions.from_lsn, parent.positions.to_lsn),
        ("WAL location", child.positions.wal_from, parent.positions.wal_stop),
    ):
        if None not in (begins, ends) and begins != ends:
            raise ArtifactCorrupt(
                f"{child.id} cannot stand on {parent.id}: it begins at {what} {begins}, and that one ends at {ends}",
                remedy="Name the backup that it was taken on.",
            )


def follow(parent: ForeignBackup, child: ForeignBackup) -> ForeignBackup:
    """``child`` with where its WAL has to begin: where ``parent`` ends. Nothing in the child itself tells that."""
    if child.stream != "tar" or child.kind != "incremental":
        return child
    return child.model_copy(update={"positions": child.positions.model_copy(update={"wal_from": parent.positions.wal_stop})})


def find_foreign(store: Store, place: Place, *, datastore: str, datastore_version: str) -> ForeignChain:
    """The backup at ``place`` and, as its metadata tell, what it stands on. Looks at objects, does not read them.

    Without metadata the name tells whether it is an incremental. Raises InvalidRequest for a wrong kind of thing,
    ArtifactMissing, ArtifactCorrupt when a parent is not the one that was meant, StorageError.
    """
    chain: list[ForeignBackup] = []
    seen: set[str] = set()
    wanted: str | None = None
    while True:
        check_format(place.key, datastore)
        if place.key in seen or len(chain) >= LONGEST:
            raise ArtifactCorrupt(f"the chain of {chain[0].id} goes in a circle at {place.key}")
        seen.add(place.key)
        source = store_of(store, place.directory)
        pieces = _pieces(source, place.key)
        metadata = {**pieces[0][1], **_side_car(source, place.key, datastore)}
        backup = _describe(place, [piece for piece, _ in pieces], metadata, datastore, datastore_version)
        if wanted and backup.checksum and wanted != backup.checksum:
            raise ArtifactCorrupt(
                f"{chain[-1].id} stands on {backup.id} with checksum {wanted}, but that has {backup.checksum} now",
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
    """Beside the child in a directory of the host, container and object in a store."""
    if child.directory is not None:
        return child.model_copy(update={"key": unquote(location.rstrip("/").rpartition("/")[2])})
    last = [unquote(part) for part in location.split("/")[-2:]]
    return _in_store("/".join(last), location)


def _describe(
    place: Place, pieces: list[Piece], metadata: Mapping[str, str], datastore: str, datastore_version: str
) -> ForeignBackup:
    said = metadata.get("datastore", datastore)
    if said != datastore:
        raise InvalidRequest(f"{place.key} is of {said}, not of {datastore}")
    version = metadata.get("datastore-version", datastore_version)
    if not f"{version}.".startswith(f"{datastore_version}."):
        raise InvalidRequest(
            f"{place.key} is of {datastore} {version}, not of {datastore_version}", remedy="Name the version it was taken of."
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
    """What the metadata tell of where the backup begins and ends."""
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
        raise ArtifactCorrupt(f"the metadata of {place.key} tell WAL locations that are none") from error
    if incremental and None in (positions.wal_stop, positions.timeline):
        raise ArtifactCorrupt(
            f"the metadata of {place.key} do not tell where its WAL ends",
            remedy="Put them beside it: stop-segment and stop-wal-file of the object in Swift; see docs/import.md.",
        )
    return positions


def _pieces(store: Store, key: str) -> list[tuple[Piece, Mapping[str, str]]]:
    """The object, or the numbered segments that Trove cut it into and that are left without it."""
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
    return ArtifactMissing(
        f"there is no backup at {store.url(key)}", remedy="It was deleted, or is in another store or container."
    )


def _piece(stat: Stat) -> tuple[Piece, Mapping[str, str]]:
    etag = stat.etag.strip('"') if stat.etag else None
    return Piece(key=stat.key, size=stat.size, etag=etag, md5=stat.md5), stat.metadata


def _side_car(store: Store, key: str, datastore: str) -> dict[str, str]:
    """The metadata of an object that was copied out of a store that keeps them: ``<name>.meta.json`` beside it."""
    if numbered := _PIECE.fullmatch(key):
        key = f"{numbered['id']}{_TROVES[_stream_of(datastore)]}"
    try:
        data = store.get(f"{key}{_SIDE_CAR}", length=_MAX_SIDE_CAR + 1)
    except StorageNotFound:
        return {}
    try:
        if len(data) > _MAX_SIDE_CAR:
            raise ValueError("it is too long")
        return {name.lower().removeprefix("x-object-meta-"): value for name, value in _Texts.validate_json(data).items()}
    except (ValidationError, ValueError) as error:
        raise StorageError(
            f"{store.url(key)}{_SIDE_CAR} is not a JSON object of texts", remedy="Correct it, or remove it; see docs/import.md."
        ) from error
