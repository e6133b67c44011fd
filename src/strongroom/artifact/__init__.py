"""One backup as bytes: segments, codec, manifest, writer, reader, verify.

It imports no database package, but its records have fields that only some databases use, such as positions in their logs.
"""

from strongroom.artifact._chain import BrokenLink, load_chain, open_chain, require_known_manifest, walk_chain
from strongroom.artifact._foreign import (
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
from strongroom.artifact._foreign_reader import Contents, ForeignReader
from strongroom.artifact._intent import Intent
from strongroom.artifact._joined import artifact_url, joined_keys
from strongroom.artifact._keys import check_recipients, load_identities, new_identity, recipients_of
from strongroom.artifact._load import load_manifest, read_manifest
from strongroom.artifact._location import ID_PATTERN, Location
from strongroom.artifact._manifest import Codec, Collation, DamagedPage, Index, Manifest, Pages, Parent, Positions, Segment
from strongroom.artifact._mbstream import Mbstream
from strongroom.artifact._profile import Effect, Fact, Notice, Profile, Witness, describe_notices
from strongroom.artifact._reader import Reader, open_artifact
from strongroom.artifact._seal import Verdict, check_seal, put_seal
from strongroom.artifact._source import Source
from strongroom.artifact._sweep import Problem, delete_artifact, list_artifacts, sweep_orphans
from strongroom.artifact._tar import Member
from strongroom.artifact._verification import (
    LEVELS,
    PROVES_DAMAGE,
    Level,
    Verification,
    keep_verification,
    load_verification,
    supersedes,
)
from strongroom.artifact._verify import Check, Report, compare_sizes, verify
from strongroom.artifact._walk import Format, Ranges, Tap
from strongroom.artifact._writer import Writer

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
    "describe_notices",
    "find_foreign",
    "follow",
    "joined_keys",
    "keep_verification",
    "list_artifacts",
    "load_chain",
    "load_identities",
    "load_manifest",
    "load_verification",
    "locate",
    "new_identity",
    "open_artifact",
    "open_chain",
    "put_seal",
    "read_manifest",
    "recipients_of",
    "require_known_manifest",
    "supersedes",
    "sweep_orphans",
    "verify",
    "walk_chain",
]
