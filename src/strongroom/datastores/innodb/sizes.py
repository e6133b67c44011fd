"""The disk usage of a server."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.protocol.servers import Sizes
from strongroom.system.disks import measure_files


def measure(data_dir: Path) -> Sizes:
    """The size of a data directory."""
    return Sizes(data_bytes=measure_files(data_dir))
