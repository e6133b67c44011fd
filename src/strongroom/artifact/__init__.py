"""One backup as bytes: segments, codec, manifest, writer, reader, verify. Knows no database."""

from strongroom.artifact._chain import load_chain
from strongroom.artifact._intent import Intent
from strongroom.artifact._keys import check_recipients, load_identities, new_identity
from strongroom.artifact._load import load_manifest, read_manifest
from strongroom.artifact._location import ID_PATTERN, Location
from strongroom.artifact._manifest import Codec, Index, Manifest, Parent, Positions, Segment
from strongroom.artifact._reader import Reader, open_artifact
from strongroom.artifact._sweep import Problem, delete_artifact, list_artifacts, sweep_orphans
from strongroom.artifact._verify import Report, verify
from strongroom.artifact._writer import Writer

__all__ = [
    "ID_PATTERN",
    "Codec",
    "Index",
    "Intent",
    "Location",
    "Manifest",
    "Parent",
    "Positions",
    "Problem",
    "Reader",
    "Report",
    "Segment",
    "Writer",
    "check_recipients",
    "delete_artifact",
    "list_artifacts",
    "load_chain",
    "load_identities",
    "load_manifest",
    "new_identity",
    "open_artifact",
    "read_manifest",
    "sweep_orphans",
    "verify",
]
