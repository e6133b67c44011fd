"""One backup as bytes: segments, codec, manifest, writer, reader, verify.

It imports no database package, but its records have fields that only some databases use, such as positions in their logs.
"""

from strongroom.artifact.chain import BrokenLink, load_chain, open_chain, require_known_manifest, walk_chain
from strongroom.artifact.container import require_container
from strongroom.artifact.foreign.backups import (
    ForeignBackup,
    ForeignChain,
    Piece,
    Place,
    check_format,
    check_link,
    find_foreign,
    follow,
    locate,
)
from strongroom.artifact.foreign.reader import Contents, ForeignReader
from strongroom.artifact.joined import artifact_url, joined_keys
from strongroom.artifact.reader import Reader, open_artifact
from strongroom.artifact.records.intent import Intent
from strongroom.artifact.records.label import Label, LabelHold, delete_labels, load_label, put_label
from strongroom.artifact.records.load import load_manifest, read_manifest
from strongroom.artifact.records.location import ID_PATTERN, Location
from strongroom.artifact.records.manifest import Codec, Collation, DamagedPage, Index, Manifest, Pages, Parent, Positions, Segment
from strongroom.artifact.records.profile import Effect, Fact, Notice, Profile, Witness, describe_notices
from strongroom.artifact.records.seal import Verdict, check_seal, put_seal
from strongroom.artifact.records.verification import (
    LEVELS,
    PROVES_DAMAGE,
    Level,
    Verification,
    keep_verification,
    load_verification,
    supersedes,
)
from strongroom.artifact.report import Check, Report, compare_sizes, verify
from strongroom.artifact.segments.keys import check_recipients, load_identities, new_identity, recipients_of
from strongroom.artifact.source import Source
from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.artifact.streams.tar import Member
from strongroom.artifact.streams.walk import Format, Ranges, Tap
from strongroom.artifact.sweep import Problem, delete_artifact, list_artifacts, sweep_orphans
from strongroom.artifact.writer import Writer

__all__ = [
    "ID_PATTERN",
    "LEVELS",
    "PROVES_DAMAGE",
    "BrokenLink",
    "Check",
    "Codec",
    "Collation",
    "Contents",
    "DamagedPage",
    "Effect",
    "Fact",
    "ForeignBackup",
    "ForeignChain",
    "ForeignReader",
    "Format",
    "Index",
    "Intent",
    "Label",
    "LabelHold",
    "Level",
    "Location",
    "Manifest",
    "Mbstream",
    "Member",
    "Notice",
    "Pages",
    "Parent",
    "Piece",
    "Place",
    "Positions",
    "Problem",
    "Profile",
    "Ranges",
    "Reader",
    "Report",
    "Segment",
    "Source",
    "Tap",
    "Verdict",
    "Verification",
    "Witness",
    "Writer",
    "artifact_url",
    "check_format",
    "check_link",
    "check_recipients",
    "check_seal",
    "compare_sizes",
    "delete_artifact",
    "delete_labels",
    "describe_notices",
    "find_foreign",
    "follow",
    "joined_keys",
    "keep_verification",
    "list_artifacts",
    "load_chain",
    "load_identities",
    "load_label",
    "load_manifest",
    "load_verification",
    "locate",
    "new_identity",
    "open_artifact",
    "open_chain",
    "put_label",
    "put_seal",
    "read_manifest",
    "recipients_of",
    "require_container",
    "require_known_manifest",
    "supersedes",
    "sweep_orphans",
    "verify",
    "walk_chain",
]
