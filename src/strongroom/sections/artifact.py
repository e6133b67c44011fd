"""The section ``[artifact]`` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from strongroom.sections.section import Section


class Artifact(Section):
    """How artifacts are written."""

    codec: Literal["zstd", "gzip"] = Field(
        "zstd", description="Compression. zstd is faster and smaller; Trove can restore only gzip."
    )
    level: int | None = Field(None, ge=1, le=19, description="Compression level. Default: 1 for zstd, 6 for gzip.")
    segment_size: int = Field(32 * 1024**2, ge=64 * 1024, le=1024**3, description="Uncompressed bytes per segment.")
    threads: int = Field(
        0, ge=0, le=256, description="Segments that are processed in parallel. 0: number of cores plus one, limited by `memory`."
    )
    memory: int = Field(
        256 * 1024**2,
        ge=1024**2,
        description="Bytes of memory for the segments of one worker. It limits the number of threads.",
    )
