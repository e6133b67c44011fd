"""A chain: a full backup and the incrementals that stand on it, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.artifact._foreign import ForeignChain
from strongroom.artifact._foreign_reader import ForeignReader
from strongroom.artifact._load import read_manifest
from strongroom.artifact._location import Location
from strongroom.artifact._manifest import Manifest
from strongroom.artifact._reader import Reader, open_artifact
from strongroom.errors import ArtifactMissing, ManifestInvalid
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
    """Readers of the full and of its descendants up to ``location``, each looked at before the first byte is read.

    Raises as ``load_chain``, ``open_artifact`` and ``ForeignReader.check`` do.
    """
    if isinstance(location, ForeignChain):
        readers = [ForeignReader(store, backup) for backup in location.backups]
        for reader in readers:
            reader.check()
        return readers
    return [open_artifact(store, link.location, identities, settings=settings) for link in load_chain(store, location, sha256)]


def load_chain(store: Store, location: Location, sha256: str | None = None) -> list[Manifest]:
    """The manifests from the full to the one at ``location``, each proven to be the child of the one before.

    ``sha256`` is what the catalog knows of the newest manifest. As each manifest names the hash of its parent's, nobody who
    writes to the store can exchange any of them then.

    Raises ArtifactMissing when one of them is not there; ManifestInvalid when one was changed, or they do not belong together
    (another instance, lineage, datastore or chain, or a gap between the LSNs).
    """
    newest, found = read_manifest(store, location)
    require_known_manifest(newest, found, sha256)
    chain, seen = [newest], {location}
    while (parent := chain[-1].parent) is not None:
        child = chain[-1]
        if parent.location in seen or len(chain) >= LONGEST:
            raise ManifestInvalid(f"the chain of backup {location.prefix} goes in a circle at {parent.location.prefix}")
        seen.add(parent.location)
        try:
            manifest, sha256 = read_manifest(store, parent.location)
        except ArtifactMissing as error:
            raise ArtifactMissing(
                f"backup {child.location.prefix} stands on {parent.location.prefix}, which is missing", remedy=_REMEDY
            ) from error
        if sha256 != parent.manifest_sha256:
            raise ManifestInvalid(
                f"backup {child.location.prefix} stands on {parent.location.prefix}, whose manifest is another one now",
                remedy=_REMEDY,
            )
        _check_link(manifest, child)
        chain.append(manifest)
    return chain[::-1]


def require_known_manifest(manifest: Manifest, found: str, known: str | None) -> None:
    """Raise ManifestInvalid when the manifest, whose hash is ``found``, is another one than the catalog knows."""
    if known is not None and found != known:
        raise ManifestInvalid(
            f"the manifest of backup {manifest.location.prefix} is not the one that was written when it was taken",
            remedy="Somebody has exchanged it in the store. Restore another backup, and find out who can write there.",
        )


def _check_link(parent: Manifest, child: Manifest) -> None:
    same = ("instance_id", "lineage", "datastore", "datastore_version", "stream", "chain")
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
            f"backup {child.location.prefix} cannot stand on {parent.location.prefix}: they differ in {', '.join(wrong)}",
            remedy=_REMEDY,
        )
