"""A chain: a full backup and its incrementals, each based on the previous one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from strongroom.artifact.foreign.backups import ForeignChain
from strongroom.artifact.foreign.reader import ForeignReader
from strongroom.artifact.reader import Reader, open_artifact
from strongroom.artifact.records.load import read_manifest
from strongroom.artifact.records.location import Location
from strongroom.artifact.records.manifest import Manifest, Parent
from strongroom.errors import ArtifactError, ArtifactMissing, ManifestInvalid
from strongroom.sections import Artifact
from strongroom.storage import Store

LONGEST = 10_000
_REMEDY = "The chain is broken from there on; restore a backup before it, and take a full."


def open_chain(
    store: Store,
    location: Location | ForeignChain,
    identities: Sequence[str] = (),
    *,
    settings: Artifact | None = None,
    sha256: str | None = None,
) -> list[Reader] | list[ForeignReader]:
    """Readers of the full and of its descendants up to ``location``, each checked before the first byte is read.

    Raises as ``load_chain``, ``open_artifact`` and ``ForeignReader.check`` do.
    """
    if isinstance(location, ForeignChain):
        readers = [ForeignReader(store, backup) for backup in location.backups]
        for reader in readers:
            reader.check()
        return readers
    chain = load_chain(store, location, sha256)
    return [open_artifact(store, link.location, identities, settings=settings, manifest=link) for link in chain]


class BrokenLink(Exception):
    """The chain cannot be followed: ``error`` is about the backup at ``location``."""

    def __init__(self, location: Location, error: ArtifactError) -> None:
        super().__init__(error.message)
        self.location = location
        self.error = error


def load_chain(store: Store, location: Location, sha256: str | None = None) -> list[Manifest]:
    """The manifests from the full backup to the one at ``location``, each verified as the child of the previous one.

    ``sha256`` is what the catalog knows of the newest manifest. Each manifest contains the hash of its parent's, so that
    no manifest can be replaced by someone with access to the store.

    Raises ArtifactMissing if one is missing; ManifestInvalid if one was changed, or they do not belong together
    (another project, instance, lineage, datastore or chain, or a gap between the LSNs).
    """
    try:
        return [manifest for manifest, _ in walk_chain(store, location, sha256)][::-1]
    except BrokenLink as broken:
        raise broken.error from broken.__cause__


def walk_chain(store: Store, location: Location, sha256: str | None = None) -> Iterator[tuple[Manifest, str]]:
    """Like ``load_chain``, from the newest to the full backup, with each manifest's SHA-256. Raises BrokenLink, StorageError."""
    try:
        child, found = read_manifest(store, location)
        require_known_manifest(child, found, sha256)
    except ArtifactError as error:
        raise BrokenLink(location, error) from error
    yield child, found
    seen = {location}
    while (link := child.parent) is not None:
        if link.location in seen or len(seen) >= LONGEST:
            circle = ManifestInvalid(f"the chain of backup {location.prefix} contains a cycle at {link.location.prefix}")
            raise BrokenLink(child.location, circle)
        seen.add(link.location)
        try:
            parent, found = _read_parent(store, child, link)
        except ArtifactError as error:
            raise BrokenLink(link.location, error) from error
        try:
            _check_link(parent, child)
        except ArtifactError as error:
            raise BrokenLink(child.location, error) from error
        yield parent, found
        child = parent


def _read_parent(store: Store, child: Manifest, link: Parent) -> tuple[Manifest, str]:
    try:
        manifest, sha256 = read_manifest(store, link.location)
    except ArtifactMissing as error:
        raise ArtifactMissing(
            f"backup {child.location.prefix} is based on {link.location.prefix}, which is missing", remedy=_REMEDY
        ) from error
    if sha256 != link.manifest_sha256:
        raise ManifestInvalid(
            f"backup {child.location.prefix} is based on {link.location.prefix}, whose manifest was replaced",
            remedy=_REMEDY,
        )
    return manifest, sha256


def require_known_manifest(manifest: Manifest, found: str, known: str | None) -> None:
    """Raise ManifestInvalid if the manifest, with the hash ``found``, is not the one in the catalog."""
    if known is not None and found != known:
        raise ManifestInvalid(
            f"the manifest of backup {manifest.location.prefix} is not the one that was written when it was taken",
            remedy="It was replaced in the store. Restore another backup, and find out who has write access.",
        )


def _check_link(parent: Manifest, child: Manifest) -> None:
    same = ("project", "instance_id", "lineage", "datastore", "datastore_version", "stream", "chain")
    wrong = [name for name in same if getattr(parent, name) != getattr(child, name)]
    if parent.positions.to_lsn != child.positions.from_lsn:
        wrong.append("LSN")
    if child.positions.wal_from not in (None, parent.positions.wal_stop):
        wrong.append("WAL location")
    if child.positions.blocks_from not in (None, parent.positions.wal_start):
        wrong.append("start WAL location")
    found = child.parent.token if child.parent else None
    if found is not None and (parent.witness is None or parent.witness.token != found):
        wrong.append("witness")
    if wrong:
        raise ManifestInvalid(
            f"backup {child.location.prefix} cannot be based on {parent.location.prefix}: they differ in {', '.join(wrong)}",
            remedy=_REMEDY,
        )
