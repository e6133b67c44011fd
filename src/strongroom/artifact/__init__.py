"""One backup as bytes: segments, codec, manifest, writer, reader, verify. Knows no database."""

from strongroom.artifact._location import Location
from strongroom.artifact._manifest import Codec, Index, Manifest, Parent, Positions, Segment

__all__ = ["Codec", "Index", "Location", "Manifest", "Parent", "Positions", "Segment"]
